//! What clients of each provider send, and make of what they are answered: settings with line breaks around them, lists with
//! keys that cannot be read, refusals by right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;

use common::Server;
use futures::TryStreamExt as _;
use indexbuild_store::{Asked, ClientError, Provider, Retries, StoreOptions, answer, client, missing_right};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

const PROVIDERS: [(Provider, &str); 3] = [(Provider::S3, "s3"), (Provider::Gcs, "gs"), (Provider::Azure, "az")];

/// Base64, as Azure's keys are.
const KEY: &str = "c2VjcmV0";

fn answering(head: &str, body: String) -> Server {
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    Server::start(move |_, _, stream| {
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// Settings by which nobody signs, and those by which each provider does.
fn settings(provider: Provider, signed: bool) -> Vec<(&'static str, &'static str)> {
    match (provider, signed) {
        (Provider::S3, false) => vec![("aws_skip_signature", "true")],
        (Provider::S3, true) => {
            vec![("aws_access_key_id", "id"), ("aws_secret_access_key", KEY), ("aws_session_token", "token")]
        }
        (Provider::Azure, false) => vec![("azure_storage_account_name", "acc"), ("azure_skip_signature", "true")],
        (Provider::Azure, true) => vec![("azure_storage_account_name", "acc"), ("azure_storage_account_key", KEY)],
        (Provider::Gcs | Provider::Http, _) => vec![("google_skip_signature", "true")],
    }
}

fn options(server: &Server, settings: &[(&str, &str)], around: &str) -> StoreOptions {
    let extra: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), format!("{around}{value}{around}"))).collect();
    StoreOptions {
        endpoint: Some(format!("{around}{}{around}", server.url)),
        region: Some(format!("{around}eu-west-1{around}")),
        extra,
        ..StoreOptions::default()
    }
}

/// Without `allow_http`: an endpoint that is written with `http://` is meant so.
fn open(
    provider: Provider,
    scheme: &str,
    options: &StoreOptions,
) -> Result<std::sync::Arc<dyn ObjectStore>, ClientError> {
    client(provider, &format!("{scheme}://lake"), options, Retries::INDEX)
}

#[tokio::test]
async fn settings_with_line_breaks_around_them_sign_as_those_without() {
    for (provider, scheme) in PROVIDERS {
        for around in ["", "\n", "\r\n", "\r", " \t", "\u{feff}"] {
            let server = answering("404 Not Found", String::new());
            let store = open(provider, scheme, &options(&server, &settings(provider, true), around)).unwrap();
            let error = store.get(&Path::from("a/b")).await.unwrap_err();
            assert!(matches!(error, object_store::Error::NotFound { .. }), "{scheme} {around:?}: {error}");
            let asked = server.asked().remove(0);
            let signed = asked.header("authorization").unwrap_or_default();
            match provider {
                Provider::S3 => {
                    assert!(signed.contains("Credential=id/") && signed.contains("/eu-west-1/s3/"), "{signed}");
                    assert_eq!(asked.header("x-amz-security-token"), Some("token"));
                }
                Provider::Azure => assert!(signed.starts_with("SharedKey acc:"), "{signed}"),
                Provider::Gcs | Provider::Http => {}
            }
        }
    }
}

#[test]
fn a_setting_with_something_within_it_that_no_header_holds_is_refused_by_name_and_not_told() {
    let server = answering("404 Not Found", String::new());
    for (provider, scheme) in PROVIDERS {
        for signed in [false, true] {
            for (name, value) in settings(provider, signed) {
                let bad = format!("{value}\r\n{value}");
                let mut options = options(&server, &settings(provider, signed), "");
                options.extra.insert(name.to_owned(), bad.clone());
                let error = open(provider, scheme, &options).unwrap_err();
                assert!(matches!(error, ClientError::Value(_)), "{name}: {error}");
                let said = error.to_string();
                assert!(said.contains(&name.to_ascii_uppercase()) && said.contains("line break"), "{said}");
                assert!(!said.contains(&bad) && !said.contains(KEY), "{said}");
            }
        }
        let mut bad = options(&server, &settings(provider, true), "");
        bad.endpoint = Some("http://127.0.0.1\n:80".to_owned());
        assert!(open(provider, scheme, &bad).unwrap_err().to_string().contains("ENDPOINT"));
    }
}

/// What consoles, tools and slips of the pen leave in buckets, beside two objects.
#[tokio::test]
async fn a_list_with_keys_that_cannot_be_read_has_the_others() {
    let keys =
        ["t/a.csv", "t//b.csv", "t/./c.csv", "t/../d.csv", "/t/e.csv", "t/year=2024/", "t/", "t/year=2024/f.csv"];
    for (provider, scheme) in PROVIDERS {
        let body = if provider == Provider::Azure {
            let date = "Thu, 01 Jan 2026 00:00:00 GMT";
            let blob = |key: &&str| {
                format!(
                    "<Blob><Name>{key}</Name><Properties><Last-Modified>{date}</Last-Modified><Content-Length>1</Content-Length><Content-Type>x</Content-Type><Etag>1</Etag></Properties></Blob>"
                )
            };
            let blobs: String = keys.iter().map(blob).collect();
            format!(
                "<?xml version=\"1.0\"?><EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
            )
        } else {
            let object = |key: &&str| {
                format!(
                    "<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag></Contents>"
                )
            };
            let objects: String = keys.iter().map(object).collect();
            format!("<?xml version=\"1.0\"?><ListBucketResult>{objects}</ListBucketResult>")
        };
        let server = answering("200 OK", body);
        let store = open(provider, scheme, &options(&server, &settings(provider, false), "")).unwrap();
        let listed: Vec<_> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert_eq!(listed, ["t/a.csv", "t/year=2024/f.csv"], "{scheme}");
    }
}

async fn refused(store: &dyn ObjectStore, asked: Asked) -> object_store::Error {
    let path = Path::from("t/a.csv");
    match asked {
        Asked::Read => store.get(&path).await.map(drop),
        Asked::List => store.list(Some(&Path::from("t"))).try_next().await.map(drop),
        Asked::Write => store.put(&path, "x".into()).await.map(drop),
        Asked::Delete => store.delete(&path).await,
    }
    .unwrap_err()
}

#[tokio::test]
async fn a_refusal_names_the_right_and_what_it_is_for_unless_it_is_about_the_credentials() {
    let rights = [
        (Asked::Read, ["s3:GetObject for t/a.csv", "storage.objects.get for t/a.csv", "SAS: r) for t/a.csv"]),
        (Asked::List, ["s3:ListBucket for bucket lake", "storage.objects.list for bucket lake", "for container lake"]),
        (Asked::Write, ["s3:PutObject", "storage.objects.create", "blobs/write"]),
        (Asked::Delete, ["s3:DeleteObject", "storage.objects.delete", "blobs/delete"]),
    ];
    let coded = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    for (about_right, body) in [
        (true, coded("AccessDenied")),
        (true, coded("AuthorizationPermissionMismatch")),
        (true, String::new()),
        (false, coded("InvalidAccessKeyId")),
        (false, coded("SignatureDoesNotMatch")),
        (false, coded("AuthenticationFailed")),
        (false, coded("QuotaExceeded")),
    ] {
        let server = answering("403 Forbidden", body.clone());
        for (at, (provider, scheme)) in PROVIDERS.into_iter().enumerate() {
            let store = open(provider, scheme, &options(&server, &settings(provider, false), "")).unwrap();
            for (asked, names) in &rights {
                // Its client signs what it writes whatever it is told, and there is no account to sign with.
                if provider == Provider::Gcs && matches!(asked, Asked::Write | Asked::Delete) {
                    continue;
                }
                let error = refused(store.as_ref(), *asked).await;
                let url = if *asked == Asked::List { "://lake/t" } else { "://lake/t/a.csv" };
                let said = missing_right(&format!("{scheme}{url}"), *asked, &error);
                assert_eq!(said.is_some(), about_right, "{scheme} {asked:?} {body}: {said:?} of {}", answer(&error));
                if let Some(said) = said {
                    assert!(said.contains(names[at]), "{said}");
                    assert_eq!(said.contains("no such object"), *asked == Asked::Read, "{said}");
                }
            }
        }
    }
    let server = answering("401 Unauthorized", String::new());
    let (provider, scheme) = PROVIDERS[0];
    let store = open(provider, scheme, &options(&server, &settings(provider, false), "")).unwrap();
    let error = refused(store.as_ref(), Asked::Read).await;
    assert_eq!(missing_right("s3://lake/t/a.csv", Asked::Read, &error), None);
}
