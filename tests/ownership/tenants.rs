//! The chart's example of a policy that narrows what a build may reach: whoever has rights on builds alone names no secret
//! that he could not read, no account and no endpoint that is not known.

use indexbuild_testbed::{Cluster, Options, Tools, tools_or_skip};
use serde_json::{Value, json};

use super::support::{self, Answer, Caller, NAMESPACE, SYSTEM, call, small_build, template, until_refused};

/// He may make builds in the namespace, and get the one secret `own`.
const TENANT: Caller<'static> = Caller { user: "tenant", pod_uid: "" };
/// May do anything.
const ADMINISTRATOR: Caller<'static> = Caller { user: "administrator", pod_uid: "" };

fn install(tools: &Tools, cluster: &Cluster, create: bool) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chart.yaml");
    let lists = "tenantPolicy.endpoints={default,https://s3.example.com},tenantPolicy.variables={RUST_LOG,V0,V1,V2,V3,V4,V5,V6,V7,V8,V9,V10,V11,V12},tenantPolicy.serviceAccounts={shop/reader}";
    let create = format!("tenantPolicy.create={create}");
    let text = template(tools, &["--set", "replicas=0", "--set", &create, "--set", lists]);
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file]).unwrap();
}

fn rights(cluster: &Cluster) {
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "tenant", "namespace": NAMESPACE},
        "rules": [
            {"apiGroups": ["indexbuild.dev"], "resources": ["indexbuilds"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["own"], "verbs": ["get"]},
        ],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "tenant", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "tenant"},
        "subjects": [{"kind": "User", "apiGroup": group, "name": TENANT.user}],
    });
    cluster.apply(&[role, binding]).unwrap();
    support::allow_everything(cluster, &[ADMINISTRATOR.user]);
}

fn path(query: &str) -> String {
    format!("/apis/indexbuild.dev/v1alpha1/namespaces/{NAMESPACE}/indexbuilds{query}")
}

/// A build that names something: in each place where a build can.
fn naming(change: impl Fn(&mut Value)) -> Value {
    let mut build = small_build("orders");
    change(&mut build["spec"]);
    build
}

async fn tried(client: &kube::Client, caller: Caller<'_>, build: &Value) -> Answer {
    call(client, caller, "POST", &path("?dryRun=All"), build).await
}

/// All places in which a build names a secret.
fn with_secret(name: &str) -> Vec<Value> {
    let csv = json!({"csv": {"urls": ["s3://lake/a.csv"], "credentials": {"secretName": name}}});
    vec![
        naming(|spec| spec["source"]["parquet"]["credentials"] = json!({"secretName": name})),
        naming(|spec| spec["source"]["parquet"]["caSecret"] = json!({"name": name})),
        naming(|spec| spec["source"] = csv.clone()),
        naming(|spec| spec["output"]["credentials"] = json!({"secretName": name})),
        naming(|spec| spec["output"]["caSecret"] = json!({"name": name})),
        naming(|spec| spec["executor"]["imagePullSecrets"] = json!([{"name": name}])),
        naming(|spec| {
            spec["executor"]["env"] = json!([{"name": "RUST_LOG", "secret": {"name": name, "key": "k"}}]);
        }),
    ]
}

#[test]
fn a_tenant_names_only_secrets_that_he_may_get_and_accounts_and_endpoints_that_are_known() {
    let Some(tools) = tools_or_skip("the policy for tenants") else { return };
    let cluster = support::cluster(&tools, Options { nodes: 0, ..Options::default() });
    rights(&cluster);
    let forward = cluster.forward_api().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(support::client(&forward));
    let others: [(Value, &str); 5] = [
        (
            naming(|spec| spec["output"]["endpoint"] = json!("https://evil.example.com")),
            "endpoint https://evil.example.com",
        ),
        (
            naming(|spec| spec["source"]["parquet"]["endpoint"] = json!("https://evil.example.com")),
            "endpoint https://evil",
        ),
        (naming(|spec| spec["executor"]["serviceAccountName"] = json!("admin")), "service account shop/admin"),
        (
            naming(|spec| {
                spec["executor"]["env"] = json!([{"name": "AWS_ENDPOINT_URL", "value": "https://evil.example.com"}]);
            }),
            "variable AWS_ENDPOINT_URL",
        ),
        (
            naming(|spec| {
                let pull: Vec<_> = (0..8).map(|_| json!({"name": "own"})).collect();
                let env: Vec<_> =
                    (0..13).map(|n| json!({"name": format!("V{n}"), "secret": {"name": "own", "key": "k"}})).collect();
                (spec["executor"]["imagePullSecrets"], spec["executor"]["env"]) = (json!(pull), json!(env));
            }),
            "at most 20 secrets",
        ),
    ];

    // The control: as the chart comes, whoever has rights on builds alone names all of it.
    runtime.block_on(async {
        for caller in [TENANT, ADMINISTRATOR] {
            until_refused(
                &client,
                false,
                caller,
                "POST",
                &path("?dryRun=All"),
                &small_build("orders"),
                "cannot create",
            )
            .await;
        }
        for build in with_secret("others").iter().chain(others.iter().map(|(build, _)| build)) {
            tried(&client, TENANT, build).await.unwrap();
        }
    });

    install(&tools, &cluster, true);
    runtime.block_on(async {
        let probe = &with_secret("others")[0];
        until_refused(&client, true, TENANT, "POST", &path("?dryRun=All"), probe, "secret others").await;
        for build in with_secret("others") {
            let (code, said) = tried(&client, TENANT, &build).await.expect_err("he may not get it");
            assert_eq!(code, 403, "{said}");
            assert!(said.contains("secret others may be named by whoever may get it himself"), "{said}");
            tried(&client, ADMINISTRATOR, &build).await.unwrap();
        }
        for build in with_secret("own") {
            tried(&client, TENANT, &build).await.unwrap();
        }
        for (build, told) in &others {
            let (code, said) = tried(&client, TENANT, build).await.expect_err(told);
            assert!(code == 403 && said.contains(told), "{said}");
        }
        // What is known is taken, and as many secrets as are asked about.
        let known = naming(|spec| {
            spec["output"]["endpoint"] = json!("https://s3.example.com");
            spec["executor"]["serviceAccountName"] = json!("reader");
            spec["executor"]["env"] = json!([{"name": "RUST_LOG", "value": "debug"}]);
            spec["executor"]["imagePullSecrets"] = json!((0..8).map(|_| json!({"name": "own"})).collect::<Vec<_>>());
            for store in ["output", "source"] {
                let place = if store == "source" { &mut spec["source"]["parquet"] } else { &mut spec[store] };
                place["credentials"] = json!({"secretName": "own"});
                place["caSecret"] = json!({"name": "own"});
            }
        });
        tried(&client, TENANT, &known).await.unwrap();

        // An edit is asked about as a new build is; what touches no spec is not, whoever writes it.
        let of_an_administrator = &with_secret("others")[3];
        call(&client, ADMINISTRATOR, "POST", &path(""), of_an_administrator).await.unwrap();
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        call(&client, TENANT, "PATCH", &path("/orders"), &label).await.unwrap();
        let edit = json!({"spec": {"parallelism": 2}});
        let (code, said) =
            call(&client, TENANT, "PATCH", &path("/orders"), &edit).await.expect_err("it names a secret");
        assert!(code == 403 && said.contains("secret others"), "{said}");
        call(&client, ADMINISTRATOR, "PATCH", &path("/orders"), &edit).await.unwrap();
    });

    // Without its parameters it refuses, rather than to let everything pass.
    cluster.kubectl(&["delete", "configmap", "indexbuild-tenants", "-n", SYSTEM]).unwrap();
    runtime.block_on(async {
        let build = small_build("other");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while tried(&client, TENANT, &build).await.is_ok() {
            assert!(std::time::Instant::now() < deadline, "nothing is refused without parameters");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
}
