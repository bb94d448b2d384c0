//! What real answers, over a real connection, are taken for: the library's errors show their status in their text alone, so
//! that another version of it must fail here first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use indexbuild_store::{Fault, answer};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, RetryConfig};

/// A store that gives the same answer to whatever it is asked.
fn answering(head: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8192];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

fn store(endpoint: &str) -> impl ObjectStore {
    let retry = RetryConfig { max_retries: 1, retry_timeout: Duration::from_secs(5), ..RetryConfig::default() };
    AmazonS3Builder::new()
        .with_bucket_name("lake")
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("id")
        .with_secret_access_key("secret")
        .with_retry(retry)
        .build()
        .unwrap()
}

async fn asked(endpoint: &str) -> (Fault, String) {
    let error = store(endpoint).get(&Path::from("a/b")).await.unwrap_err();
    (Fault::of(&error), answer(&error))
}

fn xml(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>17</RequestId></Error>"
    )
}

#[tokio::test]
async fn an_answer_is_sorted_by_what_ends_it_and_told_in_words_that_stay() {
    let cases = [
        (
            "401 Unauthorized",
            xml("InvalidAccessKeyId", "no such key"),
            Fault::Refused,
            "InvalidAccessKeyId: no such key",
        ),
        (
            "403 Forbidden",
            xml("AccessDenied", "Access Denied."),
            Fault::Refused,
            "403 Forbidden: AccessDenied: Access Denied.",
        ),
        ("403 Forbidden", String::new(), Fault::Refused, "403 Forbidden"),
        ("400 Bad Request", xml("ExpiredToken", "it has expired"), Fault::Refused, "ExpiredToken"),
        ("400 Bad Request", xml("AuthorizationHeaderMalformed", "wrong region"), Fault::Final, "wrong region"),
        ("400 Bad Request", xml("RequestTimeout", "too slow"), Fault::Outage, "RequestTimeout"),
        ("400 Bad Request", xml("XMinioAdminBucketQuotaExceeded", "no more"), Fault::Refused, "QuotaExceeded"),
        ("403 Forbidden", xml("QuotaExceeded", "no more"), Fault::Refused, "QuotaExceeded"),
        ("507 Insufficient Storage", xml("XMinioStorageFull", "no more"), Fault::Outage, "XMinioStorageFull"),
        ("404 Not Found", xml("NoSuchBucket", "no bucket"), Fault::NoBucket, "NoSuchBucket"),
        ("404 Not Found", xml("NoSuchKey", "no key"), Fault::NotFound, "NoSuchKey"),
        ("404 Not Found", xml("XAdminUserNotFound", "no such user"), Fault::Refused, "XAdminUserNotFound"),
        ("405 Method Not Allowed", String::new(), Fault::Final, "405"),
        ("408 Request Timeout", String::new(), Fault::Outage, "408 Request Timeout"),
        ("429 Too Many Requests", String::new(), Fault::Outage, "429 Too Many Requests"),
        ("500 Internal Server Error", xml("InternalError", "try again"), Fault::Outage, "InternalError: try again"),
        (
            "501 Not Implemented",
            xml("NotImplemented", "no such header"),
            Fault::Final,
            "501 Not Implemented: NotImplemented",
        ),
        ("502 Bad Gateway", "<html>nginx</html>".to_owned(), Fault::Outage, "502 Bad Gateway: <html>nginx</html>"),
        ("503 Service Unavailable", xml("SlowDown", "reduce your rate"), Fault::Outage, "SlowDown: reduce your rate"),
    ];
    for (head, body, expected, words) in cases {
        let endpoint = answering(head, &body);
        let (fault, said) = asked(&endpoint).await;
        assert_eq!(fault, expected, "{head} {body}: {said}");
        assert!(said.contains(words), "{words:?} in {said:?}");
        assert!(!said.contains("17") && !said.contains("retries"), "it stays the same from try to try: {said}");
        assert_eq!(asked(&endpoint).await, (fault, said), "{head}");
    }
}

#[tokio::test]
async fn no_connection_is_an_outage() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (fault, said) = asked(&format!("http://{free}")).await;
    assert_eq!(fault, Fault::Outage, "{said}");
    assert!(said.to_lowercase().contains("refused"), "{said}");
    let (fault, said) = asked("http://store.invalid:9000").await;
    assert_eq!(fault, Fault::Outage, "a name that is not known today: {said}");
}

/// The library asks for the rest of an answer that broke off, and that breaks off too.
#[tokio::test]
async fn an_answer_that_breaks_off_is_an_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8192];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
            let asked = request.lines().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
            let from = asked.map(|(from, _)| from.parse::<u64>().unwrap());
            let (status, part) = match from {
                None => ("200 OK", String::new()),
                Some(from) => ("206 Partial Content", format!("content-range: bytes {from}-99/100\r\n")),
            };
            let length = 100 - from.unwrap_or(0);
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{part}last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\netag: \"x\"\r\n\r\nonly"
            );
            let _ = stream.write_all(head.as_bytes());
        }
    });
    let found = store(&endpoint).get(&Path::from("a/b")).await.unwrap();
    let error = found.bytes().await.unwrap_err();
    assert_eq!(Fault::of(&error), Fault::Outage, "{error}: {}", answer(&error));
}

#[tokio::test]
async fn plain_http_where_it_is_not_allowed_is_no_outage() {
    let endpoint = answering("200 OK", "");
    let store = AmazonS3Builder::new()
        .with_bucket_name("lake")
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_access_key_id("id")
        .with_secret_access_key("secret")
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap();
    let error = store.get(&Path::from("a/b")).await.unwrap_err();
    assert_eq!(Fault::of(&error), Fault::Final, "{error:?}");
}
