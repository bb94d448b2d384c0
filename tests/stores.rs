//! Whole commands against real object stores, each of which keeps its connections alive: versitygw and s3rver (S3), and
//! Azurite (Azure Blob Storage). What a store answers differs: in how it spells etags, and in which answers it has any.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "stores/servers.rs"]
mod servers;

use std::time::{Duration, Instant};

use common::{CommandOutput, Workspace};
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path as Key;
use servers::{Authority, Server};

const ROWS: u64 = 30_000;
const FILES: u32 = 3;

/// For so long a client waits for an answer on a connection that does not move; a command that asks its store a few dozen
/// questions takes less.
const HANGS: Duration = Duration::from_secs(30);

/// A build of a table in the server's bucket, which it reads by a pattern, into the same bucket.
fn workspace(server: &Server) -> Workspace {
    let at = format!("endpoint: \"{}\", region: us-east-1", server.endpoint());
    workspace_into(server, &format!("url: \"{}://lake/indexes\", {at}", server.scheme()))
}

/// The same into another output.
fn workspace_into(server: &Server, output: &str) -> Workspace {
    let workspace = Workspace::new();
    let files = FILES.to_string();
    let columns = ["--columns", "id,k,c", "--row-group-rows", "2000", "--files", &files];
    workspace.sample(ROWS, "part.parquet", &columns);
    let parts = std::fs::read_dir(workspace.path()).unwrap().map(|entry| entry.unwrap().path());
    let parts: Vec<_> = parts.filter(|path| path.extension().is_some_and(|kind| kind == "parquet")).collect();
    assert_eq!(parts.len(), FILES as usize);
    server.run(async |bucket| {
        for part in parts {
            let name = part.file_name().unwrap().to_str().unwrap();
            let content = std::fs::read(&part).unwrap();
            bucket.put(&Key::from(format!("orders/{name}")), content.into()).await.unwrap();
        }
    });
    let (scheme, endpoint) = (server.scheme(), server.endpoint());
    let at = format!("endpoint: \"{endpoint}\", region: us-east-1");
    // Small files, so that several are under way at once.
    workspace.write(
        "build.yaml",
        &format!(
            "apiVersion: indexbuild.dev/v1alpha1\nkind: IndexBuild\nmetadata: {{name: orders}}\nspec:\n  source:\n    parquet: {{urls: [\"{scheme}://lake/orders/*.parquet\"], {at}}}\n  rowId: {{columns: [id]}}\n  indexes:\n    - {{name: by_k, columns: [{{name: k}}], include: [c]}}\n    - {{name: by_c, columns: [{{name: c}}]}}\n  output: {{{output}, targetFileSize: 1Mi}}\n  parallelism: 3\n"
        ),
    );
    workspace
}

/// A command on the server's store, within the time that a request which hangs would take alone.
fn command(workspace: &Workspace, server: &Server, arguments: &[&str], more: &[&str]) -> CommandOutput {
    let mut all = arguments.to_vec();
    all.extend_from_slice(more);
    let environment: Vec<(&str, &str)> = server.environment().to_vec();
    let begun = Instant::now();
    let ran = workspace.indexbuild_with(&all, &environment);
    let took = begun.elapsed();
    assert!(took < HANGS, "{all:?} took {took:?}\n{}", ran.text());
    ran
}

fn build(workspace: &Workspace, server: &Server, state: &str, more: &[&str]) {
    command(workspace, server, &["run", "build.yaml", "--quiet", "--state", state], more).succeeded("the build");
}

/// Every way in which a finished index is read, each with as many threads as it has.
fn read_all_ways(workspace: &Workspace, server: &Server, more: &[&str]) {
    let place = format!("{}://lake/indexes/default/orders", server.scheme());
    let endpoint = server.endpoint();
    // An endpoint that is written with http:// needs no word more, as in the build's file.
    let mut store = vec!["--endpoint", endpoint.as_str(), "--region", "us-east-1"];
    store.extend_from_slice(more);
    let read = |arguments: &[&str]| command(workspace, server, arguments, &store);
    let verified = read(&["verify", &place, "--source", "build.yaml", "-o", "json"]).succeeded("verify").json();
    let files: u64 = verified["indexes"].as_array().unwrap().iter().map(|index| index["files"].as_u64().unwrap()).sum();
    assert!(files > 4, "fewer files than threads prove nothing: {verified}");
    let scanned = read(&["scan", &place, "--index", "by_k", "--limit", "5", "-o", "json"]).succeeded("scan").json();
    assert_eq!(scanned.as_array().unwrap().len(), 5);
    let key = scanned[0]["key"]["k"].to_string();
    let got = read(&["get", &place, "--index", "by_k", &key, "-o", "json"]).succeeded("get").json();
    assert!(got.as_array().unwrap().contains(&scanned[0]), "{got}");
    let database = format!("db-{}", more.len());
    let ingested = read(&["ingest", &place, "--index", "by_c", "--into", &database, "--create"]).succeeded("ingest");
    assert!(ingested.stdout.contains(&format!("ingested {ROWS} entries")), "{}", ingested.stdout);
}

/// The build that `LATEST` names.
fn latest(server: &Server) -> String {
    server.run(async |bucket| {
        let found = bucket.get(&Key::from("indexes/default/orders/LATEST")).await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&found).unwrap()["buildUid"].as_str().unwrap().to_owned()
    })
}

/// Builds, reads, and builds anew over it: `LATEST` is replaced on the condition that it is as the store said it was.
fn whole(server: &Server) {
    let workspace = workspace(server);
    build(&workspace, server, "first", &[]);
    read_all_ways(&workspace, server, &[]);
    let first = latest(server);
    build(&workspace, server, "second", &[]);
    assert_ne!(latest(server), first);
}

#[test]
fn versitygw_is_built_on_and_read_by_many_threads() {
    let Some(server) = Server::versitygw("versitygw, read by many threads", None) else { return };
    whole(&server);
}

/// It takes each condition and looks at none: of two commits the later one would stand.
#[test]
fn s3rver_is_refused_as_an_output_by_the_condition_that_does_not_hold_and_read_as_a_source() {
    let Some(server) = Server::s3rver("s3rver, as output and as source") else { return };
    let refused = workspace(&server);
    let ran =
        command(&refused, &server, &["run", "build.yaml", "--quiet", "--state", "state"], &[]).failed("the build");
    let said = ran.text();
    for part in [
        "the store of s3://lake/indexes/default/orders/",
        "cannot hold an index",
        "(If-None-Match: *) refuses a second creator",
        "docs/stores.md",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let left: Vec<String> = server.run(async |bucket| {
        let listed = bucket.list(Some(&Key::from("indexes")));
        listed.map_ok(|object| object.location.to_string()).try_collect().await.unwrap()
    });
    assert!(left.iter().all(|key| key.ends_with("/manifest.json")), "no probe, no plan: {left:?}");

    let read = workspace_into(&server, "url: indexes");
    build(&read, &server, "state", &[]);
    let verify = ["verify", "indexes/default/orders", "--source", "build.yaml"];
    command(&read, &server, &verify, &[]).succeeded("verify");
}

/// Azure's lists give etags without quotes, its headers with them.
#[test]
fn azurite_is_built_on_and_read_by_many_threads() {
    let Some(server) = Server::azurite("Azurite, read by many threads") else { return };
    whole(&server);
}

/// Files that stand in versitygw's folder and were not put through it have an etag in no answer, or in some.
#[test]
fn a_table_that_was_put_beside_its_store_is_read() {
    let Some(server) = Server::versitygw("versitygw, files put beside it", None) else { return };
    let workspace = workspace(&server);
    let folder = server.folder().join("lake/orders");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        // Another file of the same name: what the gateway noted of the former one goes with it.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    build(&workspace, &server, "state", &[]);
    read_all_ways(&workspace, &server, &[]);
}

/// A certificate that only an authority of the test's own vouches for.
#[test]
fn a_store_under_its_own_authority_is_used_by_those_who_are_told_of_it_and_by_no_others() {
    let ours = Authority::new("ours");
    let Some(server) = Server::versitygw("versitygw under an authority of its own", Some(&ours)) else { return };
    let workspace = workspace(&server);
    let others = Authority::new("others");
    let nothing = Authority::new("nothing");
    std::fs::write(nothing.file(), "not a certificate").unwrap();
    let bundle = workspace.join("bundle.pem");
    let both: String = [&others, &ours].map(|one| std::fs::read_to_string(one.file()).unwrap()).concat();
    std::fs::write(&bundle, both).unwrap();
    let path = |file: &std::path::Path| file.to_str().unwrap().to_owned();
    let (ours, others, nothing) = (path(ours.file()), path(others.file()), path(nothing.file()));

    build(&workspace, &server, "state", &["--ca-file", &ours]);
    // From the command's own folder, and as one of several in a bundle.
    read_all_ways(&workspace, &server, &["--ca-file", "bundle.pem"]);

    let place = "s3://lake/indexes/default/orders";
    let endpoint = server.endpoint();
    let store = ["--endpoint", endpoint.as_str(), "--region", "us-east-1"];
    let verify = |more: &[&str], environment: &[(&str, &str)]| {
        let mut arguments = vec!["verify", place, "--source", "build.yaml"];
        arguments.extend(store);
        arguments.extend_from_slice(more);
        let all: Vec<_> = server.environment().iter().chain(environment).copied().collect();
        workspace.indexbuild_with(&arguments, &all)
    };
    // The system's authorities are those that SSL_CERT_FILE names; --ca-file adds to them, and replaces none.
    verify(&[], &[("SSL_CERT_FILE", &ours)]).succeeded("with SSL_CERT_FILE alone");
    verify(&["--ca-file", &others], &[("SSL_CERT_FILE", &ours)]).succeeded("with another authority beside it");
    // The controls: nobody vouches for it, somebody else does, and a file that says nothing.
    for (what, more) in [("without an authority", &[][..]), ("with another one", &["--ca-file", others.as_str()][..])] {
        let said = verify(more, &[]).failed(what).text();
        assert!(said.contains("certificate"), "{what}: {said}");
    }
    let said = verify(&["--ca-file", &nothing], &[]).failed("with a file that holds none").text();
    assert!(said.contains(&nothing) && said.contains("holds no CA certificate"), "{said}");
    let ran = workspace.indexbuild(&["run", "build.yaml", "--state", "other", "--ca-file", &nothing]);
    assert_eq!(ran.code, Some(2), "{}", ran.text());
    assert!(ran.stderr.contains(&nothing) && ran.stderr.contains("holds no CA certificate"), "{}", ran.stderr);
    assert!(!workspace.join("other").exists(), "nothing was begun");
}
