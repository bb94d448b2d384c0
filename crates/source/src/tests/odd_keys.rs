//! Keys that consoles and tools leave in buckets beside a table's files, and stores that refuse, as a store's own answers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;
use crate::files::{Stores, list};

/// A store that gives these answers to lists and to all else, and closes its connections.
fn serving(on_list: String, otherwise: &'static str) -> StoreOptions {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8192];
            let read = stream.read(&mut request).unwrap_or(0);
            let listed = String::from_utf8_lossy(&request[..read]).contains("list-type=2");
            let _ = stream.write_all(if listed { on_list.as_bytes() } else { otherwise.as_bytes() });
        }
    });
    let extra = [("aws_skip_signature".to_owned(), "true".to_owned())].into();
    StoreOptions { endpoint: Some(endpoint), region: Some("us-east-1".to_owned()), extra, ..StoreOptions::default() }
}

const DENIED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn listing(objects: &[(&str, u64)]) -> String {
    let objects: String = objects
        .iter()
        .map(|(key, size)| {
            format!("<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag></Contents>")
        })
        .collect();
    let body = format!("<?xml version=\"1.0\"?><ListBucketResult>{objects}</ListBucketResult>");
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

const BUCKET: [(&str, u64); 13] = [
    ("t/", 0),
    ("t/a.csv", 3),
    ("t//b.csv", 3),
    ("t/./c.csv", 3),
    ("t/year=2024/", 0),
    ("t/year=2024", 0),
    ("t/year=2024/d.csv", 3),
    ("t/year=2024/month=1", 0),
    ("t/year=2024/month=1/e.csv", 3),
    ("t/year=2025_$folder$", 0),
    ("t/empty", 0),
    ("t/full_$folder$", 3),
    ("t/year=2024/month=1//f.csv", 3),
];

#[test]
fn a_pattern_finds_what_can_be_read_and_no_mark_of_a_folder() {
    let settings = serving(listing(&BUCKET), DENIED);
    for (pattern, expected) in [
        ("t/*.csv", vec!["t/a.csv"]),
        ("t/**/*.csv", vec!["t/a.csv", "t/year=2024/d.csv", "t/year=2024/month=1/e.csv"]),
        ("t/*", vec!["t/a.csv", "t/empty", "t/full_$folder$"]),
        ("t/*/*", vec!["t/year=2024/d.csv"]),
        ("t/**", vec!["t/a.csv", "t/empty", "t/full_$folder$", "t/year=2024/d.csv", "t/year=2024/month=1/e.csv"]),
    ] {
        let found = list(&[format!("s3://lake/{pattern}")], &Stores::new(&settings)).unwrap();
        let keys: Vec<_> =
            found.files.iter().map(|file| file.url.strip_prefix("s3://lake/").unwrap().to_owned()).collect();
        assert_eq!(keys, expected, "{pattern}");
    }
}

#[test]
fn a_key_that_cannot_be_read_is_said_by_name_where_a_url_or_pattern_has_it() {
    let settings = serving(listing(&BUCKET), DENIED);
    for scheme in ["s3", "gs", "az"] {
        for key in ["t//b.csv", "t//*.csv", "t/./c.csv", "t/../c.csv", "/t/a.csv", "t/*//f.csv", "t/a\tb.csv"] {
            let url = format!("{scheme}://lake/{key}");
            let error = list(std::slice::from_ref(&url), &Stores::new(&settings)).unwrap_err();
            assert!(matches!(error, SourceError::InvalidUrl { .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains(&format!("{key:?}")) && said.contains("cannot be read; copy the object"), "{said}");
        }
    }
}

#[test]
fn a_store_that_refuses_is_told_with_the_right_that_is_missing_and_what_it_is_for() {
    for (key, rights) in [
        // There is no such object perhaps: without the right to list, the answer is the same.
        ("t/a.csv", &["s3:GetObject for t/a.csv", "no such object", "s3:ListBucket for bucket lake"][..]),
        ("t/year=*/*.csv", &["s3:ListBucket for bucket lake, prefix t/"][..]),
        ("*.csv", &["s3:ListBucket for bucket lake"][..]),
    ] {
        let settings = serving(DENIED.to_owned(), DENIED);
        let error = list(&[format!("s3://lake/{key}")], &Stores::new(&settings)).unwrap_err();
        assert!(matches!(error, SourceError::Denied { .. }), "{error}");
        let said = error.to_string();
        for right in rights {
            assert!(said.contains(right), "{right} in {said}");
        }
        assert!(!said.contains("can be reached"), "{said}");
    }
}
