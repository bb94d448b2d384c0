//! A plain web server over a folder, as a store that keeps its connections alive.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Answers `GET` and `HEAD`, whole or by one range, and leaves each connection open for the next request. It has no
/// faults; what is tested is what a client makes of connections that stay.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    connections: AtomicUsize,
    requests: AtomicUsize,
    ended: AtomicBool,
}

impl WebServer {
    /// Serves a folder on a loopback port, from threads of its own.
    ///
    /// # Errors
    /// The system's: no port, no thread.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::Builder::new().name("web-server".to_owned()).spawn(move || {
            for connection in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(connection) = connection else { continue };
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&serving);
                // A client that goes away ends its connection; nothing is to be told of that.
                std::thread::spawn(move || drop(serve(&shared, &connection)));
            }
        })?;
        Ok(Self { address, shared })
    }

    /// Its address: `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were made to it so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests were answered so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // The listener wakes up, sees that it is over, and closes.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(shared: &Shared, connection: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    loop {
        let Some(request) = lines.next().transpose()? else { return Ok(()) };
        let mut range = None;
        for header in lines.by_ref() {
            let header = header?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            range = range.or_else(|| parse_range(header.strip_prefix("range:")?));
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (head, body) = answer(&shared.folder, path, range);
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let mut to = connection;
        to.write_all(head.as_bytes())?;
        if method != "HEAD" {
            to.write_all(&body)?;
        }
    }
}

/// `bytes=4-9`: the first byte, and the one after the last.
fn parse_range(value: &str) -> Option<(usize, usize)> {
    let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<usize>().ok()?.checked_add(1)?))
}

fn answer(folder: &Path, path: &str, range: Option<(usize, usize)>) -> (String, Vec<u8>) {
    let Ok(content) = fs::read(folder.join(path.trim_start_matches('/'))) else {
        return ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(), Vec::new());
    };
    let whole = content.len();
    let (status, start, end, more) = match range {
        None => ("200 OK", 0, whole, String::new()),
        Some((start, end)) => {
            let end = end.min(whole);
            let last = end.saturating_sub(1);
            ("206 Partial Content", start.min(end), end, format!("content-range: bytes {start}-{last}/{whole}\r\n"))
        }
    };
    let body = content.get(start..end).unwrap_or_default().to_vec();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\naccept-ranges: bytes\r\n{more}\r\n",
        body.len()
    );
    (head, body)
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn a_range_is_read_as_it_is_sent() {
        assert_eq!(parse_range(" bytes=4-9"), Some((4, 10)));
        assert_eq!(parse_range("bytes=-5"), None);
    }
}
