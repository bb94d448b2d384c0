//! An executor's pod: made for one slot and one epoch, never started again (G8, G10).

use std::collections::BTreeMap;

use indexbuild_api::names::{CA_KEY, OUTPUT_SECRETS, SOURCE_SECRETS, StoreSecrets};
use indexbuild_api::{
    ALLOCATOR, Credentials, EnvVar, Epoch, ExecutorSecurityContext, ExecutorSpec, IndexBuild, SecretRef, TaintEffect,
    Toleration, TolerationOperator, TopologySpreadConstraint, WhenUnsatisfiable, labels, names,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::build_file::BUILD;
use super::{BUILD_KEY, Owner, account_name, with_label};

/// Where the slot's volume is mounted.
const VOLUME: &str = "/var/lib/indexbuild";
/// Where the build's file is mounted.
const BUILD_FOLDER: &str = "/etc/indexbuild/build";
/// Below which secrets are mounted.
const CREDENTIALS: &str = "/etc/indexbuild/credentials";
/// The user and group that executors run as where the build names none: one for all, so that the next owner reads what the
/// last one wrote.
const USUAL: ExecutorSecurityContext = ExecutorSecurityContext { run_as_user: Some(65_532), fs_group: Some(65_532) };
/// The port of the liveness probe.
const PORT: u16 = 8_081;
/// What a pod has between SIGTERM and SIGKILL: the run in hand is sealed in it.
const GRACE_SECONDS: i64 = 30;
/// Tells autoscalers that the pod works on a volume that they must not pull away (failure-modes.md #28).
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Only the operator decides when patience has ended: without these the taint manager deletes the owner at its
/// own time, and it can never return.
const TOLERATED: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

/// The image that executors run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub reference: String,
    /// `IfNotPresent`, `Always`, `Never`.
    pub pull_policy: String,
    /// Secrets to pull it with, beside the build's own.
    pub pull_secrets: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlace {
    pub slot: u32,
    pub epoch: Epoch,
    /// The pod's name: contains the epoch.
    pub name: String,
    pub claim: String,
}

/// A part of the spec that is passed on unread does not have the form that Kubernetes knows.
#[derive(Debug, thiserror::Error)]
#[error("spec.executor.{field} is not understood: {source}; correct it, the next pod is made with it")]
pub struct BadPodPart {
    field: &'static str,
    source: serde_json::Error,
}

pub fn pod(build: &IndexBuild, owner: &Owner, image: &Image, place: PodPlace) -> Result<core::Pod, BadPodPart> {
    let mut pod = unmarked(build, owner, image, place)?;
    let digest = (labels::POD_DIGEST.to_owned(), pod_digest(build, owner, image)?);
    pod.metadata.annotations.get_or_insert_default().extend([digest]);
    Ok(pod)
}

/// A digest of what any pod of the build is made from now, whatever its slot and epoch: one that was made from something else
/// and has not begun is replaced.
pub(crate) fn pod_digest(build: &IndexBuild, owner: &Owner, image: &Image) -> Result<String, BadPodPart> {
    let nowhere = PodPlace { slot: 0, epoch: Epoch::NONE, name: String::new(), claim: String::new() };
    let pod = unmarked(build, owner, image, nowhere)?;
    // It is made of texts, numbers and maps of texts: nothing that JSON cannot say.
    let text = serde_json::to_vec(&pod).unwrap_or_default();
    Ok(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&text)))
}

fn unmarked(build: &IndexBuild, owner: &Owner, image: &Image, place: PodPlace) -> Result<core::Pod, BadPodPart> {
    let PodPlace { slot, epoch, name, claim } = place;
    let executor = build.spec.executor_or_default();
    let mut metadata = with_label(owner.owned(name), labels::SLOT, slot);
    metadata = with_label(metadata, labels::EPOCH, epoch);
    let wished = executor.pod_metadata.clone().unwrap_or_default();
    let ours = metadata.labels.take().unwrap_or_default();
    // The user's own first: what the operator finds pods by takes precedence.
    metadata.labels = Some(wished.labels.into_iter().chain(ours).collect());
    let keep = (SAFE_TO_EVICT.to_owned(), "false".to_owned());
    metadata.annotations = Some(std::iter::once(keep).chain(wished.annotations).collect());

    let secrets = secrets(build);
    let ExecutorSecurityContext { run_as_user, fs_group } = executor.security_context.unwrap_or(USUAL);
    let volumes = volumes(owner, claim, &secrets, fs_group);
    let pull_secrets = image.pull_secrets.iter().cloned();
    let pull_secrets = pull_secrets.chain(executor.image_pull_secrets.iter().map(|secret| secret.name.clone()));
    let pull_secrets: Vec<_> = pull_secrets.map(|name| core::LocalObjectReference { name }).collect();
    let spec = core::PodSpec {
        affinity: Some(affinity(&executor, owner)?),
        containers: vec![container(build, &executor, image, slot, &secrets)],
        enable_service_links: Some(false),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        node_selector: (!executor.node_selector.is_empty()).then(|| executor.node_selector.clone()),
        priority_class_name: executor.priority_class_name.clone(),
        restart_policy: Some("Never".to_owned()),
        security_context: Some(core::PodSecurityContext {
            fs_group,
            fs_group_change_policy: fs_group.map(|_| "OnRootMismatch".to_owned()),
            run_as_group: run_as_user.and(fs_group.or(run_as_user)),
            run_as_non_root: Some(true),
            run_as_user,
            seccomp_profile: Some(core::SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..core::PodSecurityContext::default()
        }),
        service_account_name: Some(account_name(build, owner)),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        tolerations: Some(tolerations(&executor.tolerations)),
        topology_spread_constraints: spread(&executor.topology_spread_constraints, owner)?,
        volumes: Some(volumes),
        ..core::PodSpec::default()
    };
    Ok(core::Pod { metadata, spec: Some(spec), status: None })
}

/// A secret that is mounted: below which folder, which secret, which of its keys.
struct Mounted {
    folder: &'static str,
    secret: String,
    key: Option<&'static str>,
}

/// Secrets are mounted and never read by the operator.
fn secrets(build: &IndexBuild) -> Vec<Mounted> {
    let mut mounted = Vec::new();
    let mut add = |folders: StoreSecrets, credentials: Option<&Credentials>, ca: Option<&SecretRef>| {
        if let Some(Credentials { secret_name }) = credentials {
            mounted.push(Mounted { folder: folders.credentials, secret: secret_name.clone(), key: None });
        }
        if let Some(SecretRef { name }) = ca {
            mounted.push(Mounted { folder: folders.ca, secret: name.clone(), key: Some(CA_KEY) });
        }
    };
    for files in build.spec.source.files() {
        add(SOURCE_SECRETS, files.credentials, files.ca_secret);
    }
    let output = &build.spec.output;
    add(OUTPUT_SECRETS, output.credentials.as_ref(), output.ca_secret.as_ref());
    mounted
}

fn volumes(owner: &Owner, claim: String, secrets: &[Mounted], fs_group: Option<i64>) -> Vec<core::Volume> {
    let volume = |name: &str| core::Volume { name: name.to_owned(), ..core::Volume::default() };
    let mut volumes = vec![
        core::Volume {
            persistent_volume_claim: Some(core::PersistentVolumeClaimVolumeSource {
                claim_name: claim,
                read_only: None,
            }),
            ..volume("engine")
        },
        core::Volume {
            config_map: Some(core::ConfigMapVolumeSource {
                name: indexbuild_api::names::config_map(&owner.name, &owner.uid, BUILD),
                ..core::ConfigMapVolumeSource::default()
            }),
            ..volume("build")
        },
        core::Volume { empty_dir: Some(core::EmptyDirVolumeSource::default()), ..volume("tmp") },
    ];
    volumes.extend(secrets.iter().map(|Mounted { folder, secret, key }| core::Volume {
        secret: Some(core::SecretVolumeSource {
            secret_name: Some(secret.clone()),
            // Readable by the one group that the pod runs as; where there is none, by whoever the pod runs as, who is alone in it.
            default_mode: Some(if fs_group.is_some() { 0o440 } else { 0o444 }),
            items: key.map(|key| vec![core::KeyToPath { key: key.to_owned(), path: key.to_owned(), mode: None }]),
            optional: None,
        }),
        ..volume(folder)
    }));
    volumes
}

fn container(
    build: &IndexBuild,
    executor: &ExecutorSpec,
    image: &Image,
    slot: u32,
    secrets: &[Mounted],
) -> core::Container {
    let mount = |name: &str, path: String, read_only: bool| core::VolumeMount {
        name: name.to_owned(),
        mount_path: path,
        read_only: read_only.then_some(true),
        ..core::VolumeMount::default()
    };
    let mut mounts = vec![
        mount("engine", VOLUME.to_owned(), false),
        mount("build", BUILD_FOLDER.to_owned(), true),
        mount("tmp", "/tmp".to_owned(), false),
    ];
    mounts.extend(secrets.iter().map(|secret| mount(secret.folder, format!("{CREDENTIALS}/{}", secret.folder), true)));
    let arguments = [
        "--log-format=json".to_owned(),
        "executor".to_owned(),
        "--kubernetes".to_owned(),
        format!("--build={BUILD_FOLDER}/{BUILD_KEY}"),
        format!("--slot={slot}"),
        "--pod-name=$(POD_NAME)".to_owned(),
        "--pod-uid=$(POD_UID)".to_owned(),
        format!("--volume={VOLUME}"),
        format!("--threads={}", build.spec.threads()),
        format!("--memory-limit={}", build.spec.memory_limit_bytes()),
        format!("--credentials={CREDENTIALS}"),
        format!("--bind=[::]:{PORT}"),
    ];
    core::Container {
        name: names::CONTAINER.to_owned(),
        image: Some(image.reference.clone()),
        image_pull_policy: Some(image.pull_policy.clone()),
        args: Some(arguments.to_vec()),
        env: Some(environment(&executor.env)),
        liveness_probe: Some(core::Probe {
            http_get: Some(core::HTTPGetAction {
                path: Some("/livez".to_owned()),
                port: IntOrString::Int(i32::from(PORT)),
                ..core::HTTPGetAction::default()
            }),
            // The process, not its work: a minute without a sign of life ends it, which is proof of its end.
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(6),
            ..core::Probe::default()
        }),
        ports: Some(vec![core::ContainerPort {
            name: Some("livez".to_owned()),
            container_port: i32::from(PORT),
            ..core::ContainerPort::default()
        }]),
        resources: Some(resources(build, executor)),
        security_context: Some(core::SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(core::Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            read_only_root_filesystem: Some(true),
            ..core::SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..core::Container::default()
    }
}

fn environment(wished: &[EnvVar]) -> Vec<core::EnvVar> {
    let field = |name: &str, path: &str| core::EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(core::EnvVarSource {
            field_ref: Some(core::ObjectFieldSelector { field_path: path.to_owned(), api_version: None }),
            ..core::EnvVarSource::default()
        }),
    };
    let mut variables = vec![field("POD_NAME", "metadata.name"), field("POD_UID", "metadata.uid")];
    if wished.iter().all(|variable| variable.name != ALLOCATOR.0) {
        let (name, value) = ALLOCATOR;
        variables.push(core::EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None });
    }
    let wished = wished.iter().filter(|variable| !variable.is_the_operators());
    variables.extend(wished.map(|EnvVar { name, value, secret }| core::EnvVar {
        name: name.clone(),
        value: value.clone(),
        value_from: secret.as_ref().map(|secret| core::EnvVarSource {
            secret_key_ref: Some(core::SecretKeySelector {
                name: secret.name.clone(),
                key: secret.key.clone(),
                optional: None,
            }),
            ..core::EnvVarSource::default()
        }),
    }));
    variables
}

fn resources(build: &IndexBuild, executor: &ExecutorSpec) -> core::ResourceRequirements {
    let wished = executor.resources.clone().unwrap_or_default();
    let amounts = |amounts: Option<indexbuild_api::ResourceAmounts>| {
        let amounts = amounts.unwrap_or_default();
        let quantity = |quantity: indexbuild_api::Quantity| Quantity(quantity.as_str().to_owned());
        let cpu = amounts.cpu.map(|cpu| ("cpu".to_owned(), quantity(cpu)));
        let memory = amounts.memory.map(|memory| ("memory".to_owned(), quantity(memory)));
        cpu.into_iter().chain(memory).collect::<BTreeMap<_, _>>()
    };
    let limit = Quantity(build.spec.memory_limit_bytes().to_string());
    let mut limits = amounts(wished.limits);
    // The one memory figure: what the process keeps to is what the kernel allows it.
    limits.entry("memory".to_owned()).or_insert_with(|| limit.clone());
    let mut requests = amounts(wished.requests);
    requests.entry("memory".to_owned()).or_insert_with(|| limits.get("memory").cloned().unwrap_or(limit));
    requests.entry("cpu".to_owned()).or_insert_with(|| Quantity("100m".to_owned()));
    core::ResourceRequirements { limits: Some(limits), requests: Some(requests), claims: None }
}

fn tolerations(wished: &[Toleration]) -> Vec<core::Toleration> {
    let users: Vec<_> = wished
        .iter()
        .map(|Toleration { key, operator, value, effect, toleration_seconds }| core::Toleration {
            key: key.clone(),
            operator: operator.map(|operator| {
                match operator {
                    TolerationOperator::Exists => "Exists",
                    TolerationOperator::Equal => "Equal",
                }
                .to_owned()
            }),
            value: value.clone(),
            effect: effect.map(|effect| {
                match effect {
                    TaintEffect::NoSchedule => "NoSchedule",
                    TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                    TaintEffect::NoExecute => "NoExecute",
                }
                .to_owned()
            }),
            toleration_seconds: *toleration_seconds,
        })
        .collect();
    let unset = TOLERATED.into_iter().filter(|key| wished.iter().all(|user| user.key.as_deref() != Some(key)));
    let ours = unset.map(|key| core::Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..core::Toleration::default()
    });
    ours.chain(users.iter().cloned()).collect()
}

/// The user's own affinity; else executors of a build keep apart where they can.
fn affinity(executor: &ExecutorSpec, owner: &Owner) -> Result<core::Affinity, BadPodPart> {
    if let Some(affinity) = &executor.affinity {
        let value = serde_json::Value::Object(affinity.0.clone());
        return serde_json::from_value(value).map_err(|source| BadPodPart { field: "affinity", source });
    }
    let term = core::PodAffinityTerm {
        label_selector: Some(of_build(owner)),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..core::PodAffinityTerm::default()
    };
    let apart = core::WeightedPodAffinityTerm { pod_affinity_term: term, weight: 100 };
    Ok(core::Affinity {
        pod_anti_affinity: Some(core::PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![apart]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        ..core::Affinity::default()
    })
}

fn of_build(owner: &Owner) -> LabelSelector {
    let uid = (labels::BUILD_UID.to_owned(), owner.uid.clone());
    LabelSelector { match_labels: Some(BTreeMap::from([uid])), match_expressions: None }
}

fn spread(
    wished: &[TopologySpreadConstraint],
    owner: &Owner,
) -> Result<Option<Vec<core::TopologySpreadConstraint>>, BadPodPart> {
    let constraints = wished
        .iter()
        .map(|TopologySpreadConstraint { max_skew, topology_key, when_unsatisfiable, label_selector }| {
            let selector = match label_selector {
                Some(selector) => serde_json::from_value(serde_json::Value::Object(selector.0.clone()))
                    .map_err(|source| BadPodPart { field: "topologySpreadConstraints[].labelSelector", source })?,
                None => of_build(owner),
            };
            Ok(core::TopologySpreadConstraint {
                label_selector: Some(selector),
                max_skew: i32::try_from(*max_skew).unwrap_or(i32::MAX),
                topology_key: topology_key.clone(),
                when_unsatisfiable: match when_unsatisfiable {
                    WhenUnsatisfiable::DoNotSchedule => "DoNotSchedule",
                    WhenUnsatisfiable::ScheduleAnyway => "ScheduleAnyway",
                }
                .to_owned(),
                ..core::TopologySpreadConstraint::default()
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok((!constraints.is_empty()).then_some(constraints))
}

#[cfg(test)]
mod tests {
    use super::super::tests::build;
    use super::*;

    fn made(more: &str) -> core::Pod {
        let build = build(more);
        let image = Image {
            reference: "example.com/indexbuild:1".to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secrets: Vec::new(),
        };
        let place = PodPlace {
            slot: 2,
            epoch: Epoch::new(7),
            name: "orders-0b7e1c9a-2-e7".to_owned(),
            claim: "orders-0b7e1c9a-2-v1".to_owned(),
        };
        pod(&build, &Owner::of(&build), &image, place).unwrap()
    }

    /// G8, G10.
    #[test]
    fn a_pod_is_never_started_again_and_says_which_epoch_it_was_made_for() {
        let mut pod = made("");
        assert_eq!(pod.spec.as_ref().unwrap().restart_policy.as_deref(), Some("Never"));
        pod.metadata.uid = Some("u".to_owned());
        let view = crate::views::pod(&pod, "0b7e1c9a-3f52-4b8e-9d60-1f2a3b4c5d6e").unwrap();
        assert_eq!((view.slot, view.epoch, view.foreign), (2, Epoch::new(7), false));
    }

    #[test]
    fn making_a_pod_again_gives_the_same_pod() {
        assert_eq!(made(""), made(""));
    }

    #[test]
    fn a_pods_digest_is_of_what_it_is_made_from_and_of_no_slot_or_epoch() {
        let digest = |more: &str| made(more).metadata.annotations.unwrap()[labels::POD_DIGEST].clone();
        let build = build("");
        let image = |reference: &str| Image {
            reference: reference.to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secrets: Vec::new(),
        };
        let asked = |reference: &str| pod_digest(&build, &Owner::of(&build), &image(reference)).unwrap();
        assert_eq!(digest(""), asked("example.com/indexbuild:1"));
        assert_ne!(digest(""), asked("example.com/indexbuild:2"), "an operator that was upgraded");
        for edit in [
            "{nodeSelector: {disk: fast}}",
            "{tolerations: [{operator: Exists}]}",
            "{resources: {limits: {memory: 1Gi}}}",
            "{priorityClassName: high}",
            "{imagePullSecrets: [{name: registry}]}",
            "{podMetadata: {annotations: {a: b}}}",
            "{env: [{name: A, value: b}]}",
            "{serviceAccountName: mine}",
        ] {
            assert_ne!(digest(&format!("  executor: {edit}\n")), digest(""), "{edit}");
        }
        let own = format!("  executor: {{podMetadata: {{annotations: {{{}: x}}}}}}\n", labels::POD_DIGEST);
        assert_ne!(digest(&own), "x", "nobody else says it");
    }

    #[test]
    fn only_the_operator_decides_when_patience_with_a_node_has_ended() {
        let tolerations = made("").spec.unwrap().tolerations.unwrap();
        for key in TOLERATED {
            let toleration = tolerations.iter().find(|toleration| toleration.key.as_deref() == Some(key)).unwrap();
            assert_eq!(toleration.toleration_seconds, None);
        }
        let own = made(
            "  executor: {tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, tolerationSeconds: 60}]}\n",
        );
        let own: Vec<_> = own.spec.unwrap().tolerations.unwrap();
        let seconds: Vec<_> = own
            .iter()
            .filter(|toleration| toleration.key.as_deref() == Some(TOLERATED[0]))
            .map(|toleration| toleration.toleration_seconds)
            .collect();
        assert_eq!(seconds, [Some(60)], "the user's own word holds");
    }

    #[test]
    fn a_pod_meets_pod_security_restricted() {
        let spec = made("").spec.unwrap();
        let pod = spec.security_context.unwrap();
        assert_eq!(pod.run_as_non_root, Some(true));
        assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
        let container = spec.containers[0].security_context.clone().unwrap();
        assert_eq!(container.allow_privilege_escalation, Some(false));
        assert_eq!(container.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(container.read_only_root_filesystem, Some(true));
    }

    /// OpenShift's restricted-v2 refuses any user and group but those that it gives itself.
    #[test]
    fn user_and_group_are_ours_or_the_builds_or_left_to_the_platform_and_never_root() {
        let of = |more: &str| {
            let spec = made(more).spec.unwrap();
            let context = spec.security_context.unwrap();
            assert_eq!(context.run_as_non_root, Some(true));
            let modes = spec.volumes.unwrap().into_iter().filter_map(|volume| volume.secret?.default_mode);
            let modes: std::collections::BTreeSet<_> = modes.collect();
            (context.run_as_user, context.run_as_group, context.fs_group, modes.into_iter().collect::<Vec<_>>())
        };
        let own = |fields: &str| of(&format!("  executor: {{securityContext: {{{fields}}}}}\n"));
        assert_eq!(of(""), (Some(65_532), Some(65_532), Some(65_532), vec![0o440]));
        assert_eq!(own(""), (None, None, None, vec![0o444]), "all is the platform's");
        assert_eq!(own("runAsUser: 1000"), (Some(1000), Some(1000), None, vec![0o444]));
        assert_eq!(own("fsGroup: 2000"), (None, None, Some(2000), vec![0o440]));
        assert_eq!(own("runAsUser: 1000, fsGroup: 2000"), (Some(1000), Some(2000), Some(2000), vec![0o440]));
    }

    #[test]
    fn the_users_labels_never_replace_those_that_pods_are_found_by() {
        let pod = made(
            "  executor: {podMetadata: {labels: {team: search, indexbuild.dev/slot: '9'}, annotations: {a: b}}}\n",
        );
        let found = pod.metadata.labels.unwrap();
        assert_eq!((found["team"].as_str(), found[labels::SLOT].as_str()), ("search", "2"));
        assert_eq!(pod.metadata.annotations.unwrap()[SAFE_TO_EVICT], "false");
    }

    #[test]
    fn secrets_are_mounted_one_folder_for_each_store() {
        let spec = made("").spec.unwrap();
        let mounted: Vec<_> = spec
            .volumes
            .unwrap()
            .into_iter()
            .filter_map(|volume| Some((volume.name, volume.secret?.secret_name?)))
            .collect();
        let expected = [("source", "lake"), ("source-ca", "lake-ca"), ("output", "out")];
        assert_eq!(mounted, expected.map(|(name, secret)| (name.to_owned(), secret.to_owned())));
        let paths: Vec<_> =
            spec.containers[0].volume_mounts.clone().unwrap().into_iter().map(|mount| mount.mount_path).collect();
        assert!(paths.contains(&"/etc/indexbuild/credentials/source-ca".to_owned()), "{paths:?}");
    }

    #[test]
    fn the_memory_that_the_process_keeps_to_is_the_limit_of_its_pod() {
        let spec = made("  executor: {resources: {limits: {memory: 256Mi}}}\n").spec.unwrap();
        let container = &spec.containers[0];
        assert_eq!(container.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0, "256Mi");
        assert!(container.args.as_ref().unwrap().contains(&format!("--memory-limit={}", 256 << 20)));
    }

    #[test]
    fn an_affinity_that_is_not_one_is_named() {
        let build = build("  executor: {affinity: {nodeAffinity: 7}}\n");
        let image = Image { reference: "i".to_owned(), pull_policy: "Never".to_owned(), pull_secrets: Vec::new() };
        let place = PodPlace { slot: 0, epoch: Epoch::new(1), name: "p".to_owned(), claim: "c".to_owned() };
        let error = pod(&build, &Owner::of(&build), &image, place).unwrap_err().to_string();
        assert!(error.contains("spec.executor.affinity"), "{error}");
    }
}
