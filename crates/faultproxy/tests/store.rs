//! A real object_store client and a real S3 server, with the proxy between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use indexbuild_faultproxy::{StoreEffect, StoreMatch, StoreOp, StoreProxy, StoreRule, Times};
use object_store::{
    Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};

fn client(url: &str, retries: usize) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(url)
        .with_allow_http(true)
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("testtest")
        .with_retry(RetryConfig {
            max_retries: retries,
            retry_timeout: Duration::from_secs(30),
            ..RetryConfig::default()
        })
        .build()
        .unwrap()
}

fn create() -> PutOptions {
    PutOptions::from(PutMode::Create)
}

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_there_although_the_client_was_told_otherwise() {
    let Some(store) = common::Store::start("lost reply") else { return };
    let proxy = StoreProxy::start(&store.url).await.unwrap();
    let through = client(proxy.url(), 0);
    let direct = client(&store.url, 0);
    through.put_opts(&Path::from("control"), "c".into(), create()).await.unwrap();

    let which = StoreMatch::op(StoreOp::Put);
    let rule = StoreRule { which, times: Times::Nth(1), effect: StoreEffect::LoseReply };
    let lost = proxy.add_rule(rule);
    let path = Path::from("once");
    assert!(through.put_opts(&path, "mine".into(), create()).await.is_err());
    assert_eq!(lost.fired(), 1);
    assert_eq!(proxy.log()[0].withheld, Some(200));
    assert_eq!(direct.get(&path).await.unwrap().bytes().await.unwrap(), "mine");
    let again = through.put_opts(&path, "mine".into(), create()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(proxy.counts().get("PUT"), Some(&3));
}

#[tokio::test]
async fn slow_down_is_retried_by_a_client_that_retries_and_seen_by_one_that_does_not() {
    let Some(store) = common::Store::start("slow down") else { return };
    let proxy = StoreProxy::start(&store.url).await.unwrap();
    let slow =
        || StoreRule { which: StoreMatch::op(StoreOp::Put), times: Times::First(2), effect: StoreEffect::SlowDown };
    let first = proxy.add_rule(slow());
    client(proxy.url(), 5).put(&Path::from("x"), "x".into()).await.unwrap();
    assert_eq!(first.fired(), 2);
    first.lift();
    let second = proxy.add_rule(slow());
    let refused = client(proxy.url(), 0).put(&Path::from("y"), "y".into()).await.unwrap_err();
    assert!(format!("{refused:?}").contains("SlowDown"), "{refused:?}");
    assert_eq!(second.fired(), 1);
}

#[tokio::test]
async fn a_cut_transfer_is_noticed_and_a_cut_put_leaves_nothing() {
    let Some(store) = common::Store::start("cut transfer") else { return };
    let proxy = StoreProxy::start(&store.url).await.unwrap();
    let through = client(proxy.url(), 0);
    let direct = client(&store.url, 0);
    let content = vec![7_u8; 1 << 20];
    let path = Path::from("big");
    let cut =
        |op| StoreRule { which: StoreMatch::op(op), times: Times::UntilLifted, effect: StoreEffect::CutAfter(100_000) };
    let put = proxy.add_rule(cut(StoreOp::Put));
    assert!(through.put(&path, content.clone().into()).await.is_err());
    assert_eq!(put.fired(), 1);
    assert!(matches!(direct.head(&path).await, Err(Error::NotFound { .. })));
    put.lift();
    through.put(&path, content.clone().into()).await.unwrap();
    let get = proxy.add_rule(cut(StoreOp::Get));
    let read = async { through.get(&path).await?.bytes().await };
    assert!(read.await.is_err());
    assert!(get.fired() >= 1);
    get.lift();
    assert_eq!(through.get(&path).await.unwrap().bytes().await.unwrap(), content);
}
