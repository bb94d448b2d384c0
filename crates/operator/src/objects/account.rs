//! What an executor may do: speak for its build's slots, and read its build's stages.

use indexbuild_api::{IndexBuild, labels, names};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::Owner;

/// The service account of a build's executors: the user's own, or the one made for the build.
pub fn account_name(build: &IndexBuild, owner: &Owner) -> String {
    let named = build.spec.executor.as_ref().and_then(|executor| executor.service_account_name.clone());
    named.unwrap_or_else(|| names::executor_account(&owner.name, &owner.uid))
}

/// The service account made for the build; `None`: the user named one.
pub fn service_account(build: &IndexBuild, owner: &Owner) -> Option<ServiceAccount> {
    let named = build.spec.executor.as_ref().is_some_and(|executor| executor.service_account_name.is_some());
    (!named).then(|| ServiceAccount {
        metadata: owner.owned(names::executor_account(&owner.name, &owner.uid)),
        ..ServiceAccount::default()
    })
}

/// The role of a build's executors. Every object is named: no executor reads or writes what is another build's.
pub fn role(owner: &Owner, slots: impl Iterator<Item = u32>, stages: &[String]) -> Role {
    let directories: Vec<String> = slots.map(|slot| names::directory(&owner.name, &owner.uid, slot)).collect();
    let maps = stages.iter().map(|stage| names::config_map(&owner.name, &owner.uid, stage)).collect();
    let rule = |group: &str, resource: &str, verbs: &[&str], resource_names| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        resource_names: Some(resource_names),
        ..PolicyRule::default()
    };
    Role {
        metadata: owner.owned(names::executor_account(&owner.name, &owner.uid)),
        rules: Some(vec![
            rule(labels::GROUP, "enginedirectories", &["get", "watch"], directories.clone()),
            rule(labels::GROUP, "enginedirectories/status", &["patch"], directories),
            rule("", "configmaps", &["get"], maps),
        ]),
    }
}

/// Gives the role to the executors' account.
pub fn role_binding(build: &IndexBuild, owner: &Owner) -> RoleBinding {
    let name = names::executor_account(&owner.name, &owner.uid);
    RoleBinding {
        metadata: owner.owned(name.clone()),
        role_ref: RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: "Role".to_owned(), name },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account_name(build, owner),
            namespace: Some(owner.namespace.clone()),
            ..Subject::default()
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::build;
    use super::*;

    #[test]
    fn every_rule_of_an_executor_names_its_objects_and_none_has_a_wildcard() {
        let build = build("");
        let owner = Owner::of(&build);
        let role = role(&owner, 0..4, &["plan".to_owned(), "encode-r1".to_owned()]);
        for rule in role.rules.unwrap() {
            let named = rule.resource_names.unwrap();
            assert!(!named.is_empty() && named.iter().all(|name| name.starts_with("orders-0b7e1c9a-")), "{named:?}");
            let all = rule.verbs.iter().chain(rule.resources.iter().flatten()).chain(rule.api_groups.iter().flatten());
            assert!(all.into_iter().all(|text| !text.contains('*')));
        }
    }

    #[test]
    fn an_account_that_the_user_named_is_bound_and_not_made() {
        let named = build("  executor: {serviceAccountName: mine}\n");
        let owner = Owner::of(&named);
        assert!(service_account(&named, &owner).is_none());
        assert_eq!(role_binding(&named, &owner).subjects.unwrap()[0].name, "mine");
        assert!(service_account(&build(""), &owner).is_some());
    }
}
