//! What the chart renders, without a cluster.

use std::collections::BTreeSet;

use indexbuild_testbed::tools_or_skip;
use serde_json::{Value, json};

use super::support::{chart, documents, helm, of_kind, root, template, texts};

/// Values of all kinds of installations.
pub(super) const INSTALLATIONS: [(&str, &[&str]); 8] = [
    ("as it comes", &[]),
    ("two namespaces alone", &["--set", "watchNamespaces={shop,search}"]),
    (
        "all that there is",
        &[
            "--set",
            "metrics.serviceMonitor.enabled=true",
            "--set",
            "metrics.prometheusRule.enabled=true",
            "--set",
            "metrics.dashboard.enabled=true",
            "--set",
            "networkPolicy.enabled=true",
            "--set-json",
            r#"networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]"#,
            "--set-json",
            r#"tolerations=[{"key":"infra","operator":"Exists","effect":"NoSchedule"}]"#,
            "--set-json",
            r#"affinity={"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[]}}"#,
            "--set-json",
            r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"}]"#,
            "--set",
            "priorityClassName=system-cluster-critical",
            "--set-json",
            r#"env=[{"name":"A","value":"b"}]"#,
            "--set",
            "nodeSelector.disk=ssd",
            "--set",
            "commonLabels.team=search",
            "--set",
            "podLabels.a=b",
            "--set",
            "podAnnotations.c=d",
            "--set",
            "serviceAccount.annotations.e=f",
            "--set-json",
            r#"rbac.leaseReaders=[{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"data-team"}]"#,
        ],
    ),
    (
        "an image by its digest, from a registry that wants a password",
        &[
            "--set",
            "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "--set-json",
            r#"imagePullSecrets=[{"name":"registry"}]"#,
            "--set",
            "executor.imagePullSecrets={registry}",
        ],
    ),
    (
        "nothing for the whole cluster",
        &[
            "--set",
            "watchNamespaces={shop}",
            "--set",
            "rbac.readCluster=false",
            "--set",
            "rbac.aggregateToUserRoles=false",
            "--set",
            "crds.install=false",
            "--set",
            "admissionPolicies.create=false",
        ],
    ),
    (
        "one replica with an account made before",
        &["--set", "replicas=1", "--set", "serviceAccount.create=false", "--set", "serviceAccount.name=mine"],
    ),
    (
        "on OpenShift, for tenants",
        &[
            "--set",
            "securityContext.runAsUser=null",
            "--set",
            "securityContext.fsGroup=null",
            "--set",
            "tenantPolicy.create=true",
            "--set",
            "tenantPolicy.serviceAccounts={shop/reader}",
        ],
    ),
    ("another name", &["--set", "fullnameOverride=builder", "--set", "podDisruptionBudget.enabled=false"]),
];

#[test]
fn helm_finds_nothing_to_say_about_the_chart_and_renders_each_kind_of_installation() {
    let Some(tools) = tools_or_skip("the chart, rendered") else { return };
    for (name, values) in INSTALLATIONS {
        let mut arguments = vec!["lint", "--strict", "charts/indexbuild"];
        arguments.extend_from_slice(values);
        helm(&tools, &arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = template(&tools, values).unwrap_or_else(|error| panic!("{name}: {error}"));
        let all = documents(&text);
        assert_eq!(of_kind(&all, "Deployment").len(), 1, "{name}");
        for object in &all {
            let named = object["apiVersion"].is_string() && object["metadata"]["name"].is_string();
            assert!(named, "{name}: {object}");
        }
    }
}

/// OpenShift's restricted-v2 refuses any user and group but those that it gives itself.
#[test]
fn the_operators_user_and_group_are_numbers_or_left_to_the_platform() {
    let Some(tools) = tools_or_skip("the operator's user and group") else { return };
    let context = |values: &[&str]| {
        let all = documents(&template(&tools, values).unwrap());
        of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"]["securityContext"].clone()
    };
    let usual = context(&[]);
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(usual[field], 65_532, "{usual}");
    }
    let own = context(&["--set", "securityContext.runAsUser=1000", "--set", "securityContext.fsGroup=2000"]);
    assert_eq!((&own["runAsUser"], &own["fsGroup"]), (&1000.into(), &2000.into()), "{own}");
    let (_, values) = INSTALLATIONS.iter().find(|(name, _)| name.contains("OpenShift")).unwrap();
    let platforms = context(values);
    assert!(platforms["runAsUser"].is_null() && platforms["fsGroup"].is_null(), "{platforms}");
    assert_eq!(platforms["runAsNonRoot"], true, "and never root");
    for value in ["securityContext.runAsUser=0", "securityContext.privileged=true"] {
        template(&tools, &["--set", value]).expect_err(value);
    }
}

/// `kubectl indexbuild status` says when no operator runs to whoever may know it: not to everybody who has signed in.
#[test]
fn the_operators_lease_is_read_by_those_who_view_its_namespace_and_by_others_only_where_values_name_them() {
    let Some(tools) = tools_or_skip("who may read the Lease") else { return };
    let of_lease = |values: &[&str]| -> Vec<(String, Value)> {
        let all = documents(&template(&tools, values).unwrap());
        let roles = ["Role", "ClusterRole"].into_iter().flat_map(|kind| of_kind(&all, kind));
        let named = |role: &Value| role["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let rules = roles.flat_map(|role| {
            let rules = role["rules"].as_array().cloned().unwrap_or_default();
            rules.into_iter().map(move |rule| (named(role), rule))
        });
        rules.filter(|(name, rule)| rule["resources"][0] == "leases" && name.ends_with("view")).collect()
    };
    let bindings = |values: &[&str]| -> Vec<Value> {
        let all = documents(&template(&tools, values).unwrap());
        let bound = ["RoleBinding", "ClusterRoleBinding"].into_iter().flat_map(|kind| of_kind(&all, kind));
        bound.filter(|binding| binding["subjects"][0]["kind"] == "Group").cloned().collect()
    };
    let named = of_lease(&[]);
    assert_eq!(named.len(), 1, "the aggregated role alone: {named:?}");
    assert_eq!(bindings(&[]), Vec::<Value>::new(), "no group is given anything as it comes");
    let team = r#"rbac.leaseReaders=[{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"data-team"}]"#;
    let wider = of_lease(&["--set-json", team]);
    assert_eq!(wider.len(), 2, "{wider:?}");
    for (name, rule) in wider {
        assert_eq!(
            (&rule["verbs"], &rule["resourceNames"]),
            (&json!(["get"]), &json!(["indexbuild-operator"])),
            "{name}"
        );
    }
    let bound = bindings(&["--set-json", team]);
    assert_eq!(
        (bound.len(), &bound[0]["subjects"][0]["name"], &bound[0]["kind"]),
        (1, &json!("data-team"), &json!("RoleBinding"))
    );
    template(&tools, &["--set-json", r#"rbac.leaseReaders=[{"name":"everybody"}]"#]).expect_err("of no kind");
}

#[test]
fn an_installation_of_some_namespaces_asks_for_nothing_in_the_whole_cluster() {
    let Some(tools) = tools_or_skip("the chart for some namespaces") else { return };
    let (_, values) = INSTALLATIONS[4];
    let all = documents(&template(&tools, values).unwrap());
    let of_the_cluster: Vec<_> = all.iter().filter(|object| object["metadata"]["namespace"].is_null()).collect();
    assert!(of_the_cluster.is_empty(), "{of_the_cluster:?}");
    let (_, values) = INSTALLATIONS[1];
    let all = documents(&template(&tools, values).unwrap());
    let places: BTreeSet<_> =
        of_kind(&all, "Role").iter().map(|role| role["metadata"]["namespace"].to_string()).collect();
    assert!(places.contains("\"shop\"") && places.contains("\"search\""), "{places:?}");
    // Where another operator looks for builds, its own rules hold.
    for binding in of_kind(&all, "ValidatingAdmissionPolicyBinding") {
        let everywhere = binding["spec"]["matchResources"].is_null();
        let guard = binding["metadata"]["name"] == "indexbuild-guard";
        assert_eq!(everywhere, guard, "{binding}");
    }
}

#[test]
fn a_value_that_the_chart_does_not_know_or_that_cannot_be_is_refused_by_its_name() {
    let Some(tools) = tools_or_skip("values that the chart refuses") else { return };
    for (value, told) in [
        ("replica=3", "replica"),
        ("image.tagg=1", "tagg"),
        ("metrics.serviceMonitor.enable=true", "enable"),
        ("resources.limits.memmory=1Gi", "memmory"),
        ("executor.pullSecrets={a}", "pullSecrets"),
        ("image.digest=latest", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("replicas=many", "replicas"),
        ("concurrency=0", "concurrency"),
        ("port=80", "port"),
        ("logLevel=loud", "logLevel"),
        ("watchNamespaces={Shop}", "watchNamespaces"),
        ("evidence.detachingDriver={ebs.csi.aws.com}", "detachingDriver"),
        ("evidence.detachingDrivers={ebs csi}", "detachingDrivers"),
        ("evidence.detachingDrivers=ebs.csi.aws.com", "detachingDrivers"),
    ] {
        let error = template(&tools, &["--set", value]).expect_err(value);
        assert!(error.contains(told), "{value}: {error}");
    }
    let error = template(&tools, &["--kube-version", "1.29.9"]).expect_err("an older Kubernetes has no such policies");
    assert!(error.contains(">=1.30"), "{error}");
}

/// Whose detach is proof is said by the administrator alone: the operator has no list of its own.
#[test]
fn the_operator_is_told_the_drivers_whose_detach_cuts_a_node_off_and_no_others() {
    let Some(tools) = tools_or_skip("drivers whose detach is proof") else { return };
    let told = |values: &[&str]| -> Vec<String> {
        let all = documents(&template(&tools, values).unwrap());
        let arguments = of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let arguments = arguments.as_array().unwrap().iter().filter_map(Value::as_str);
        arguments.filter_map(|argument| argument.strip_prefix("--detaching-driver=")).map(str::to_owned).collect()
    };
    assert_eq!(
        told(&[]),
        [
            "ebs.csi.aws.com",
            "pd.csi.storage.gke.io",
            "disk.csi.azure.com",
            "cinder.csi.openstack.org",
            "csi.vsphere.vmware.com"
        ]
    );
    assert_eq!(told(&["--set", "evidence.detachingDrivers={rbd.csi.ceph.com}"]), ["rbd.csi.ceph.com"]);
    assert_eq!(told(&["--set-json", "evidence.detachingDrivers=[]"]), [""; 0]);
}

#[test]
fn each_value_is_explained_and_has_its_default_in_the_schema() {
    fn agree(path: &str, values: &Value, schema: &Value) {
        let Value::Object(values) = values else { return };
        let Some(properties) = schema["properties"].as_object() else { return };
        assert_eq!(schema["additionalProperties"], false, "{path} takes any name");
        let known: BTreeSet<&String> = properties.keys().filter(|key| *key != "global").collect();
        for (key, value) in values {
            let inner = properties.get(key).unwrap_or_else(|| panic!("the schema does not know {path}{key}"));
            agree(&format!("{path}{key}."), value, inner);
        }
        if path.matches('.').count() < 2 && !path.starts_with("resources") && !path.starts_with("affinity") {
            let missing: Vec<_> = known.into_iter().filter(|key| !values.contains_key(*key)).collect();
            assert!(missing.is_empty(), "values.yaml lacks {path}{missing:?}");
        }
    }
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap();
    agree("", &values, &schema);
}

#[test]
fn the_charts_definitions_are_those_of_the_types_and_outlive_the_release() {
    let Some(tools) = tools_or_skip("the chart's definitions") else { return };
    let all = documents(&template(&tools, &[]).unwrap());
    let rendered = of_kind(&all, "CustomResourceDefinition");
    let files = indexbuild_api::crd_yaml().unwrap();
    assert_eq!(rendered.len(), files.len());
    for (name, text) in files {
        let copy = std::fs::read_to_string(chart().join("files/crds").join(&name)).unwrap_or_default();
        assert!(copy == text, "charts/indexbuild/files/crds/{name} is stale: run make generated");
        let wanted: Value = serde_saphyr::from_str(&text).unwrap();
        let object = &wanted["metadata"]["name"];
        let mut found = (*rendered.iter().find(|found| found["metadata"]["name"] == *object).unwrap()).clone();
        let annotations = found["metadata"].as_object_mut().unwrap().remove("annotations").unwrap();
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn the_manifests_without_helm_are_the_chart_with_its_defaults() {
    let Some(tools) = tools_or_skip("the raw manifests") else { return };
    let output = std::process::Command::new(root().join("scripts/manifests.sh"))
        .env("INDEXBUILD_TOOLS", tools.bin())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = String::from_utf8(output.stdout).unwrap();
    let kept = std::fs::read_to_string(root().join("deploy/indexbuild.yaml")).unwrap_or_default();
    assert!(kept == made, "deploy/indexbuild.yaml is stale: run make generated");
    let with_helm = documents(&template(&tools, &["--skip-tests"]).unwrap());
    let names = |all: &[Value]| -> BTreeSet<String> {
        all.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
    };
    let mut expected = names(&with_helm);
    expected.insert("\"Namespace\" \"indexbuild-system\"".to_owned());
    assert_eq!(names(&documents(&kept)), expected);
}

/// The operator's pods, and the one of `helm test`.
#[test]
fn pods_of_the_chart_meet_pod_security_restricted_with_a_read_only_root() {
    let Some(tools) = tools_or_skip("pods of the chart") else { return };
    let all = documents(&template(&tools, &[]).unwrap());
    let deployment = of_kind(&all, "Deployment")[0]["spec"]["template"]["spec"].clone();
    let test = of_kind(&all, "Pod")[0]["spec"].clone();
    for spec in [deployment, test] {
        let pod = &spec["securityContext"];
        assert_eq!((&pod["runAsNonRoot"], &pod["runAsUser"]), (&Value::Bool(true), &65532.into()));
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
        for container in spec["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"][0], "ALL");
            assert!(container["resources"]["limits"]["memory"].is_string());
        }
    }
}

#[test]
fn dashboard_and_alerts_ask_for_nothing_that_the_operator_does_not_count() {
    use indexbuild_operator::metrics::{Code, Metrics, ReconcileResult, Verb};
    let metrics = Metrics::new();
    metrics.reconciled(ReconcileResult::Error, std::time::Duration::from_millis(5));
    metrics.acted(&indexbuild_lifecycle::Action::AddFinalizer);
    metrics.set_stalled([indexbuild_api::Reason::WaitingForVolume]);
    metrics.api_request(Verb::Get, "pods", Code::Status(200));
    let counted = metrics.text().unwrap();
    let mut asked = 0;
    for (path, text) in texts(&chart().join("files"), &["json", "yaml"]) {
        if path.components().any(|part| part.as_os_str() == "crds") {
            continue;
        }
        for (at, _) in text.match_indices("indexbuild_") {
            let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len() - at);
            let name = &text[at..at + end];
            let known = counted
                .lines()
                .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
            assert!(known, "{}: {name} is counted by nobody", path.display());
            asked += 1;
            // Values of labels, as they are written in both formats.
            let rest = text[at + end..].replace("\\\"", "\"");
            let Some(selector) = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()) else { continue };
            for matcher in selector.split(',').filter(|matcher| matcher.contains("=\"") && !matcher.contains("!=")) {
                assert!(counted.contains(matcher), "{}: nothing has {matcher}", path.display());
            }
        }
    }
    assert!(asked > 20, "{asked}");
}

#[test]
fn the_image_is_made_by_the_compiler_that_the_workspace_names_and_runs_as_its_own_user() {
    let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(text.contains(&format!("ARG RUST={version}\n")), "the Dockerfile is for another Rust than {version}");
    let left_out = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    assert!(
        left_out.lines().any(|line| line == "rust-toolchain.toml"),
        "rustup would download another Rust than {version}"
    );
    assert!(text.contains("\nUSER 65532:65532\n"));
    let last = text.rsplit("\nFROM ").next().unwrap();
    assert!(!last.contains("\nRUN "), "the last stage is assembled for other architectures without running anything");
    let chart = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"))));
}
