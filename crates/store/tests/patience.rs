//! Slow links, silent stores and connections that break: what counts is the last byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Request, Server, take};
use indexbuild_store::{
    CaCertificates, Connector, DownloadError, Fault, Patience, answer, download, download_bytes, is_changed,
};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig, UpdateVersion};

const SILENCE: Duration = Duration::from_secs(3);
/// Far longer than a store that is given up may take, on a machine that has other things to do.
const GIVEN_UP: Duration = Duration::from_secs(60);

fn patience() -> Patience {
    // An upload of 32 MiB has 16 seconds besides.
    Patience { silence: SILENCE, slowest: 2 << 20, fruitless: 3, long: Duration::from_millis(300), repeats: 3 }
}

fn builder(endpoint: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_bucket_name("lake")
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("id")
        .with_secret_access_key("secret")
        .with_retry(RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() })
}

/// A client without retries of its own.
fn store(endpoint: &str) -> impl ObjectStore {
    let connector = Connector::new(CaCertificates::default()).unwrap().with_patience(patience());
    builder(endpoint).with_http_connector(connector).build().unwrap()
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

const SIZE: usize = 400_000;

/// The head of an answer with the object from `from` on.
fn head(request: &Request, headers: &str) -> (usize, String) {
    let from = request.first_byte().unwrap_or(0);
    let status = match request.first_byte() {
        None => "200 OK".to_owned(),
        Some(from) => format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{SIZE}", SIZE - 1),
    };
    (from, format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", SIZE - from))
}

const MODIFIED: &str = "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";

fn tagged(tag: &str) -> String {
    format!("{MODIFIED}etag: \"{tag}\"\r\n")
}

/// Sends the object in `steps`, with as many pauses between them.
fn dribble(request: &Request, stream: &mut TcpStream, steps: usize, pause: Duration) {
    let (from, head) = head(request, &tagged("one"));
    let _ = stream.write_all(head.as_bytes());
    for part in content(SIZE)[from..].chunks((SIZE - from).div_ceil(steps)) {
        let _ = stream.write_all(part);
        std::thread::sleep(pause);
    }
}

/// Sends the object up to byte `until`, and no further.
fn part(request: &Request, stream: &mut TcpStream, headers: &str, until: usize) {
    let (from, head) = head(request, headers);
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&content(SIZE)[from..until.max(from)]);
}

async fn read(server: &Server) -> object_store::Result<Vec<u8>> {
    let read = download_bytes(&store(&server.url), &Path::from("a/b"), None, patience()).await;
    read.map(|(_, bytes)| bytes.to_vec())
}

#[tokio::test]
async fn a_slow_answer_whose_bytes_keep_coming_is_read_to_its_end() {
    let pause = SILENCE / 10;
    let server = Server::start(move |_, request, stream| dribble(request, stream, 25, pause));
    let begun = Instant::now();
    assert_eq!(read(&server).await.unwrap(), content(SIZE));
    assert!(begun.elapsed() > SILENCE * 2, "fast enough for anybody");
    assert_eq!(server.asked().len(), 1, "nothing was read twice");
    // The control: a client whose time runs from the beginning cuts it.
    let options = ClientOptions::new().with_timeout(SILENCE).with_allow_http(true);
    let hasty = builder(&server.url).with_client_options(options).build().unwrap();
    assert!(hasty.get(&Path::from("a/b")).await.unwrap().bytes().await.is_err());
}

/// A reader that takes its time is no silence of the store's.
#[tokio::test]
async fn a_reader_that_pauses_for_longer_than_the_bound_reads_on() {
    let server = Server::start(|_, request, stream| part(request, stream, &tagged("one"), SIZE));
    let mut paused = false;
    let mut read = 0;
    let take = |bytes: bytes::Bytes| {
        if !std::mem::replace(&mut paused, true) {
            std::thread::sleep(SILENCE * 2);
        }
        read += bytes.len();
        Ok::<(), ()>(())
    };
    download(&store(&server.url), &Path::from("a/b"), None, patience(), take).await.unwrap();
    assert_eq!((read, server.asked().len()), (SIZE, 1));
}

#[tokio::test]
async fn a_silent_store_is_given_up_after_the_bound() {
    // Before its answer, and in the midst of it.
    for until in [None, Some(SIZE / 2)] {
        let server = Server::start(move |_, request, stream| {
            if let Some(until) = until {
                part(request, stream, &tagged("one"), until);
            }
            std::thread::sleep(GIVEN_UP * 2);
        });
        let begun = Instant::now();
        let error = read(&server).await.unwrap_err();
        let took = begun.elapsed();
        assert!(took >= SILENCE && took < GIVEN_UP, "{until:?}: {took:?}");
        assert_eq!(Fault::of(&error), Fault::Outage, "{error:?}");
        assert!(answer(&error).contains(&format!("silent for {} s", SILENCE.as_secs())), "{}", answer(&error));
    }
}

#[tokio::test]
async fn a_download_whose_connection_breaks_goes_on_at_its_offset() {
    for (what, headers, condition) in [
        ("an etag", tagged("one"), Some("\"one\"")),
        ("a weak etag", format!("{MODIFIED}etag: W/\"one\"\r\n"), None),
        ("a time alone", MODIFIED.to_owned(), None),
    ] {
        // Each connection brings a further quarter.
        let sent = headers.clone();
        let server =
            Server::start(move |number, request, stream| part(request, stream, &sent, SIZE * (number + 1).min(4) / 4));
        if what == "a time alone" {
            // S3 has etags; the interface of web servers needs none.
            let connector = Connector::new(CaCertificates::default()).unwrap().with_patience(patience());
            let web = object_store::http::HttpBuilder::new()
                .with_url(&server.url)
                .with_client_options(ClientOptions::new().with_allow_http(true))
                .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
                .with_http_connector(connector)
                .build()
                .unwrap();
            let (_, bytes) = download_bytes(&web, &Path::from("a/b"), None, patience()).await.unwrap();
            assert_eq!(bytes, content(SIZE), "{what}");
        } else {
            assert_eq!(read(&server).await.unwrap(), content(SIZE), "{what}");
        }
        let asked = server.asked();
        let from: Vec<_> = asked.iter().map(Request::first_byte).collect();
        assert_eq!(from, [None, Some(SIZE / 4), Some(SIZE / 2), Some(SIZE * 3 / 4)], "{what}");
        for request in &asked[1..] {
            assert_eq!(request.header("if-match"), condition, "{what}");
        }
    }
}

#[tokio::test]
async fn an_object_that_changed_while_it_was_read_is_told_and_never_mixed() {
    type Second = fn(&Request, &mut TcpStream);
    let cases: [(&str, Second); 3] = [
        ("it refuses another etag", |_, stream| {
            let _ =
                stream.write_all(b"HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }),
        ("it does not look at the condition", |request, stream| part(request, stream, &tagged("two"), SIZE)),
        ("the object is longer", |request, stream| {
            let from = request.first_byte().unwrap();
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{}\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n",
                SIZE - 1,
                SIZE + 1,
                SIZE - from,
                tagged("one")
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&content(SIZE)[from..]);
        }),
    ];
    for (what, second) in cases {
        let server = Server::start(move |number, request, stream| match number {
            0 => part(request, stream, &tagged("one"), SIZE / 2),
            _ => second(request, stream),
        });
        let error = read(&server).await.unwrap_err();
        assert!(is_changed(&error), "{what}: {error:?}");
        assert!(indexbuild_text::chain(&error).contains("changed while it was being read"), "{what}: {error}");
        assert_eq!(Fault::of(&error), Fault::Final, "{what}");
    }
}

#[tokio::test]
async fn a_download_that_gets_no_further_is_given_up_and_a_taker_that_wants_no_more_ends_it() {
    let server = Server::start(|_, request, stream| part(request, stream, &tagged("one"), SIZE / 2));
    let error = read(&server).await.unwrap_err();
    assert_eq!(Fault::of(&error), Fault::Outage, "{error}");
    assert_eq!(server.asked().len(), 1 + patience().fruitless as usize);
    let take = |_| Err("enough");
    let ended = download(&store(&server.url), &Path::from("a/b"), None, patience(), take).await;
    assert!(matches!(ended, Err(DownloadError::Taker("enough"))));
}

/// More than kernels hold for one connection, so that what a server reads is what moves.
const UPLOAD: usize = 32 << 20;
const TAKEN: &str = "HTTP/1.1 200 OK\r\netag: \"one\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

async fn put(server: &Server, options: PutOptions) -> object_store::Result<()> {
    store(&server.url).put_opts(&Path::from("a/b"), content(UPLOAD).into(), options).await.map(drop)
}

#[tokio::test]
async fn an_upload_over_a_slow_link_has_the_time_that_its_bytes_take() {
    let server = Server::start(|_, request, stream| {
        let (mut left, step) = (request.length(), UPLOAD / 64);
        while left > 0 {
            left -= take(stream, step.min(left));
            std::thread::sleep(SILENCE / 20);
        }
        let _ = stream.write_all(TAKEN.as_bytes());
    });
    let begun = Instant::now();
    put(&server, PutOptions::default()).await.unwrap();
    assert!(begun.elapsed() > SILENCE * 2, "fast enough for anybody");
    assert_eq!(server.asked().len(), 1);
    // The control: who gives no time for its bytes gives it up on its way.
    let hasty = Patience { slowest: u64::MAX, ..patience() };
    let connector = Connector::new(CaCertificates::default()).unwrap().with_patience(hasty);
    let hasty = builder(&server.url).with_http_connector(connector).build().unwrap();
    let error = hasty.put(&Path::from("a/b"), content(UPLOAD).into()).await.unwrap_err();
    assert!(answer(&error).contains(&format!("silent for {} s", SILENCE.as_secs())), "{}", answer(&error));
}

#[tokio::test]
async fn a_store_that_takes_no_more_of_an_upload_is_given_up_after_the_bound() {
    let server = Server::start(|_, _, stream| {
        take(stream, UPLOAD / 8);
        std::thread::sleep(GIVEN_UP * 2);
    });
    let begun = Instant::now();
    let error = put(&server, PutOptions::default()).await.unwrap_err();
    let took = begun.elapsed();
    assert!(took >= SILENCE && took < GIVEN_UP, "{took:?}");
    assert_eq!(Fault::of(&error), Fault::Outage, "{error:?}");
}

/// The client's own retries are over by the time that a long upload breaks.
#[tokio::test]
async fn a_long_upload_that_breaks_is_sent_again_unless_it_has_a_condition() {
    let create = PutOptions::from(PutMode::Create);
    let update = PutMode::Update(UpdateVersion { e_tag: Some("\"one\"".to_owned()), version: None }).into();
    for (what, options, times) in [("plain", PutOptions::default(), 2), ("create", create, 1), ("update", update, 1)] {
        let server = Server::start(|number, request, stream| {
            if number == 0 {
                take(stream, UPLOAD / 8);
                std::thread::sleep(patience().long * 2);
                return;
            }
            assert_eq!(take(stream, request.length()), UPLOAD);
            let _ = stream.write_all(TAKEN.as_bytes());
        });
        assert_eq!(put(&server, options).await.is_ok(), times == 2, "{what}");
        assert_eq!(server.asked().len(), times, "{what}");
    }
}
