//! A server on loopback that answers as a test says.
#![allow(dead_code)] // Each test uses a part of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// What was asked: `GET /lake/a?x HTTP/1.1` and the headers, in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn length(&self) -> usize {
        self.header("content-length").map_or(0, |length| length.parse().unwrap())
    }

    /// The first byte that is asked for.
    pub(crate) fn first_byte(&self) -> Option<usize> {
        self.header("range").map(|range| range.trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap())
    }
}

pub(crate) struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// One that hands each request to `answer`, with its number from 0 and a connection from which the body is not read yet.
    /// The connection is closed then.
    pub(crate) fn start(answer: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        // On a thread of its own: its caller may be inside a runtime.
        let listener = std::thread::spawn(listen).join().unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let server = Self { url, asked: Arc::clone(&asked) };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, asked, answer) = (stream.unwrap(), Arc::clone(&asked), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let Some(request) = read(&mut stream) else { return };
                    let number = {
                        let mut asked = asked.lock().unwrap();
                        asked.push(request.clone());
                        asked.len() - 1
                    };
                    answer(number, &request, &mut stream);
                });
            }
        });
        server
    }

    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

/// With a small window: what a server does not read soon cannot be sent.
fn listen() -> std::net::TcpListener {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(64).unwrap().into_std().unwrap()
    });
    listener.set_nonblocking(false).unwrap();
    listener
}

/// Up to the end of the headers, and no byte of the body.
fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut lines = Vec::new();
    let mut reader = BufReader::with_capacity(1, stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let headers = lines.iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Request { line, headers })
}

/// Reads so many bytes of a body, or up to its end.
pub(crate) fn take(stream: &mut TcpStream, bytes: usize) -> usize {
    let mut buffer = vec![0; bytes];
    let mut read = 0;
    while read < bytes {
        match stream.read(&mut buffer[read..]) {
            Ok(0) | Err(_) => break,
            Ok(more) => read += more,
        }
    }
    read
}
