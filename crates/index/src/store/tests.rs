#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use object_store::memory::InMemory;

use super::*;

struct Case {
    name: &'static str,
    store: Store,
    folder: tempfile::TempDir,
}

fn cases() -> Vec<Case> {
    let folder = || tempfile::tempdir().unwrap();
    let local = folder();
    let url = format!("file://{}/a%20folder", local.path().display());
    let memory = Store {
        backend: Backend::Remote(Arc::new(RemoteStore::of(Arc::new(InMemory::new())))),
        prefix: "deep/prefix".into(),
    };
    vec![
        Case { name: "local", store: Store::open(&url, &StoreOptions::default()).unwrap(), folder: local },
        Case { name: "remote", store: memory, folder: folder() },
    ]
}

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

#[tokio::test]
async fn what_is_put_is_there_and_what_is_deleted_is_not() {
    for Case { name, store, .. } in cases() {
        assert_eq!(store.get("a/b").await.unwrap(), None, "{name}");
        assert_eq!(store.size("a").await.unwrap(), None);
        store.put("a/b", bytes("hello")).await.unwrap();
        store.put("a/c/d", bytes("x")).await.unwrap();
        store.put("z", bytes("")).await.unwrap();
        let (content, version) = store.get("a/b").await.unwrap().unwrap();
        assert_eq!(content, "hello");
        assert!(version.e_tag.is_some(), "{name}");
        assert_eq!(store.size("a/b").await.unwrap(), Some(5));
        assert_eq!(store.get_range("a/b", 1..4).await.unwrap(), "ell");
        assert!(matches!(store.get_range("a/b", 3..9).await, Err(StoreError::OutOfRange { size: 5, .. })), "{name}");
        assert!(matches!(store.get_range("no", 0..1).await, Err(StoreError::NotFound { .. })), "{name}");
        let all = [("a/b".to_owned(), 5), ("a/c/d".to_owned(), 1), ("z".to_owned(), 0)];
        assert_eq!(store.list("").await.unwrap(), all, "{name}");
        assert_eq!(store.list("a").await.unwrap(), all[..2]);
        assert_eq!(store.child("a").list("").await.unwrap(), [("b".to_owned(), 5), ("c/d".to_owned(), 1)]);
        assert_eq!(store.list("nothing").await.unwrap(), []);
        assert_eq!(store.child("/a/").child("").get("b").await.unwrap().unwrap().0, "hello");
        for path in ["a/b", "a/b", "a/c/d", "z", "never"] {
            store.delete(path).await.unwrap();
        }
        assert_eq!(store.list("").await.unwrap(), []);
    }
}

/// G6: the commit is such a put.
#[tokio::test(flavor = "multi_thread")]
async fn g6_of_all_who_create_an_object_one_succeeds() {
    for Case { name, store, .. } in cases() {
        let writers = (0..16).map(|n| {
            let store = store.clone();
            tokio::spawn(
                async move { (n, store.put_if_absent("m/manifest.json", bytes(&n.to_string())).await.unwrap()) },
            )
        });
        let outcomes: Vec<(i32, PutOutcome)> =
            futures::future::join_all(writers).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome == PutOutcome::Created).collect();
        assert_eq!(winners.len(), 1, "{name}");
        assert_eq!(store.get("m/manifest.json").await.unwrap().unwrap().0, winners[0].0.to_string());
        assert_eq!(store.list("").await.unwrap().len(), 1);
    }
}

/// Each adds one to a number until that worked: a lost update shows in the sum.
#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_among_those_who_replace_what_they_read() {
    for Case { name, store, .. } in cases() {
        store.put("n", bytes("0")).await.unwrap();
        let writers = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    loop {
                        let (content, version) = store.get("n").await.unwrap().unwrap();
                        let next = std::str::from_utf8(&content).unwrap().parse::<u32>().unwrap() + 1;
                        let put = store.put_if_match("n", bytes(&next.to_string()), &version).await.unwrap();
                        if put == PutOutcome::Created {
                            break;
                        }
                    }
                }
            })
        });
        futures::future::join_all(writers).await.into_iter().for_each(Result::unwrap);
        assert_eq!(store.get("n").await.unwrap().unwrap().0, "80", "{name}");
    }
}

#[tokio::test]
async fn nothing_is_replaced_that_changed_or_went() {
    for Case { name, store, .. } in cases() {
        store.put("o", bytes("1")).await.unwrap();
        let (_, old) = store.get("o").await.unwrap().unwrap();
        store.put("o", bytes("2")).await.unwrap();
        assert_eq!(store.put_if_match("o", bytes("3"), &old).await.unwrap(), PutOutcome::Exists, "{name}");
        let (content, version) = store.get("o").await.unwrap().unwrap();
        assert_eq!(content, "2");
        store.delete("o").await.unwrap();
        assert_eq!(store.put_if_match("o", bytes("3"), &version).await.unwrap(), PutOutcome::Exists, "{name}");
        assert_eq!(store.put_if_match("no/folder", bytes("3"), &version).await.unwrap(), PutOutcome::Exists);
        assert_eq!(store.get("o").await.unwrap(), None);
    }
}

#[tokio::test]
async fn files_go_up_and_come_down_whole() {
    for Case { name, store, folder } in cases() {
        // In one piece, and in parts with a last one that is short.
        for (n, size) in [0usize, 1000, 16 << 20, (33 << 20) + 7].into_iter().enumerate() {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let file = folder.path().join(format!("file{n}"));
            std::fs::write(&file, &content).unwrap();
            let path = format!("files/{n}");
            store.put_file(&path, &file).await.unwrap();
            // Again, as after a lost reply.
            store.put_file(&path, &file).await.unwrap();
            let target = folder.path().join(format!("fetched{n}"));
            assert_eq!(store.fetch_to(&path, &target).await.unwrap(), size as u64, "{name}");
            assert!(std::fs::read(&target).unwrap() == content, "{name} {size}");
        }
        assert!(matches!(store.fetch_to("no", &folder.path().join("no")).await, Err(StoreError::NotFound { .. })));
        let unfinished = std::fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = unfinished.map(|entry| entry.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| indexbuild_durable::is_temporary(name)), "{names:?}");
    }
}

#[tokio::test]
async fn a_file_put_where_another_stands_replaces_it() {
    for Case { name, store, folder } in cases() {
        let [one, other] = ["one", "other"].map(|text| {
            let path = folder.path().join(text);
            std::fs::write(&path, text).unwrap();
            path
        });
        store.put_file("f", &one).await.unwrap();
        store.put_file("f", &other).await.unwrap();
        assert_eq!(store.get("f").await.unwrap().unwrap().0, "other", "{name}");
        assert_eq!(std::fs::read_to_string(one).unwrap(), "one", "the first file itself is untouched");
    }
}

#[tokio::test]
async fn what_a_crash_left_is_not_listed_and_can_be_removed() {
    let Case { store, folder, .. } = cases().remove(0);
    let root = folder.path().join("a folder");
    store.put("b/c", bytes("kept")).await.unwrap();
    std::fs::write(root.join("b/.tmp-99-0-manifest.json"), "half").unwrap();
    std::fs::create_dir_all(root.join("empty/er")).unwrap();
    std::fs::write(root.join("empty/er/.tmp-99-1-x"), "half").unwrap();
    assert_eq!(store.list("").await.unwrap(), [("b/c".to_owned(), 4)]);
    assert!(matches!(store.get("b/.tmp-99-0-manifest.json").await, Err(StoreError::InvalidPath { .. })));
    assert_eq!(store.remove_unfinished("").await.unwrap(), 2);
    assert!(!root.join("empty").exists());
    store.delete("b/c").await.unwrap();
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "no empty folder stays behind");
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_is_refused() {
    for Case { store, .. } in cases() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/."] {
            assert!(matches!(store.get(path).await, Err(StoreError::InvalidPath { .. })), "{path}");
        }
    }
}

#[test]
fn an_unknown_scheme_is_refused_with_the_known_ones() {
    let open = |url: &str| Store::open(url, &StoreOptions::default());
    let error = open("hdfs://host/path").unwrap_err();
    assert!(matches!(error, StoreError::UnknownScheme { .. }));
    assert!(error.to_string().contains("hdfs://host/path") && error.to_string().contains("s3"), "{error}");
    assert!(open("/just/a/folder").unwrap_err().to_string().contains("file:///"));
    assert!(matches!(open("file://host/folder"), Err(StoreError::InvalidUrl { .. })));
    for error in [open("hdfs://host/path"), open("nonsense")] {
        assert!(!error.unwrap_err().is_retryable());
    }
}

/// The library panics where a request is signed for an address that is none.
#[test]
fn an_endpoint_that_is_none_is_refused_by_name() {
    for url in ["s3://bucket/p", "gs://bucket/p", "az://bucket/p"] {
        for endpoint in ["http://two words:9000", "http://", "ftp://store:9000", "store"] {
            let mut extra = BTreeMap::new();
            if url.starts_with("az") {
                extra.insert("azure_storage_account_name".to_owned(), "lake".to_owned());
            }
            let options = StoreOptions { endpoint: Some(endpoint.into()), extra, ..StoreOptions::default() };
            let error = Store::open(url, &options).unwrap_err();
            assert!(error.to_string().contains(&format!("`{endpoint}` is no endpoint")), "{url}: {error}");
            assert!(!error.is_retryable());
        }
    }
}

#[test]
fn a_url_names_store_and_prefix() {
    let options = StoreOptions { region: Some("eu-west-1".into()), ..StoreOptions::default() };
    for url in ["s3://bucket/some/prefix", "http://localhost:9/some/prefix", "file:///some/prefix"] {
        let store = Store::open(url, &options).unwrap();
        assert_eq!(store.url(), url);
        assert_eq!(store.child("x").url(), format!("{url}/x"));
    }
    assert_eq!(Store::open("s3://bucket", &options).unwrap().url(), "s3://bucket");
    let extra = [("no_such_option".to_owned(), String::new())].into();
    let error = Store::open("s3://bucket", &StoreOptions { extra, ..options }).unwrap_err();
    assert!(error.to_string().contains("no_such_option"), "{error}");
}

#[tokio::test]
async fn an_error_of_the_file_system_is_told_by_kind() {
    let Case { store, folder, .. } = cases().remove(0);
    std::fs::create_dir(folder.path().join("a folder")).unwrap();
    std::fs::write(folder.path().join("a folder/file"), "").unwrap();
    for error in [
        store.put("file/below", bytes("")).await.unwrap_err(),
        store.put_if_absent("file/below", bytes("")).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Io { .. }) && !error.is_retryable(), "{error:?}");
    }
    let full = StoreError::from_io("u".into(), io::Error::from_raw_os_error(28));
    assert!(matches!(full, StoreError::NoSpace { .. }) && full.is_retryable());
}

/// Letters that a URL library decodes, cuts at, or takes for others: an index whose folder is read as another is lost.
#[tokio::test]
async fn a_folder_is_the_one_whose_url_it_is_whatever_letters_its_name_has() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["%41", "a#b", "a?b", "*", "[a]", "a\\b", "a b", "~", "a:", "é", "日本", "🦀", "a%2520"] {
        let path = folder.path().join(name);
        let store = Store::open(&indexbuild_store::file_url(&path), &StoreOptions::default()).unwrap();
        store.child(name).put("x", bytes(name)).await.unwrap();
        assert_eq!(std::fs::read_to_string(path.join(name).join("x")).unwrap(), name);
        let again = Store::open(&store.child(name).url(), &StoreOptions::default()).unwrap();
        assert_eq!(again.get("x").await.unwrap().unwrap().0, name, "{}", store.url());
    }
}

#[test]
fn the_prefix_in_a_bucket_is_taken_literally_and_that_of_a_web_server_decoded_once() {
    let options = StoreOptions { region: Some("eu-west-1".into()), ..StoreOptions::default() };
    for url in ["s3://bucket/a%20b/%41", "s3://bucket/x#y", "s3://bucket/x?y", "s3://bucket/é [a]", "s3://bucket/a\\b"]
    {
        let store = Store::open(url, &options).unwrap();
        assert_eq!(store.url(), url);
        assert_eq!(store.prefix, url.strip_prefix("s3://bucket/").unwrap());
    }
    let store = Store::open("http://localhost:9/a%20b/%2541", &options).unwrap();
    assert_eq!((store.prefix.as_str(), store.url().as_str()), ("a b/%41", "http://localhost:9/a%20b/%2541"));
    for url in ["http://localhost:9/a?b", "https://localhost:9/a#b", "s3://bucket/a//b"] {
        assert!(matches!(Store::open(url, &options), Err(StoreError::InvalidUrl { .. })), "{url}");
    }
}
