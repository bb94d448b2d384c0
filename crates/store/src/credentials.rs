//! What a secret must hold for a store's client to sign in with it.

use std::collections::BTreeMap;
use std::str::FromStr;

use object_store::aws::AmazonS3ConfigKey as S3;
use object_store::azure::AzureConfigKey as Azure;
use object_store::gcp::GoogleConfigKey as Google;

use crate::values::{trimmed, usable};

/// What is missing among the variables (by their lower-case names) to sign in to the store of `url`; `None` when there
/// is enough. `by` names where they come from.
///
/// Without this, a secret whose key has another name (`AWS_ACCESS_KEY`) makes the client ask the machine's metadata
/// service for credentials, which on most machines is a long silence.
#[must_use]
pub fn lacking(url: &str, variables: &BTreeMap<String, String>, by: &str) -> Option<String> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase())?;
    if let Some(bad) = variables.iter().find_map(|(name, value)| usable(name, value).err()) {
        return Some(format!("{by}: {bad}"));
    }
    match scheme.as_str() {
        "s3" | "s3a" => {
            let has = |key: &S3| has(variables, key);
            let (id, secret) = (has(&S3::AccessKeyId), has(&S3::SecretAccessKey));
            let other = [S3::SkipSignature, S3::WebIdentityTokenFile, S3::ContainerCredentialsRelativeUri];
            let other = other.iter().chain(&[S3::ContainerCredentialsFullUri]).any(has);
            match (id, secret) {
                (true, true) => None,
                (true, false) => Some(said(by, "no AWS_SECRET_ACCESS_KEY", variables)),
                (false, true) => Some(said(by, "no AWS_ACCESS_KEY_ID", variables)),
                (false, false) if other => None,
                (false, false) => Some(said(by, "neither AWS_ACCESS_KEY_ID nor AWS_SECRET_ACCESS_KEY", variables)),
            }
        }
        "gs" => {
            let any = [
                Google::ServiceAccount,
                Google::ServiceAccountKey,
                Google::ApplicationCredentials,
                Google::SkipSignature,
            ];
            let wanted =
                "none of GOOGLE_SERVICE_ACCOUNT_KEY, GOOGLE_SERVICE_ACCOUNT and GOOGLE_APPLICATION_CREDENTIALS";
            (!any.iter().any(|key| has(variables, key))).then(|| said(by, wanted, variables))
        }
        "az" | "azure" | "abfs" | "abfss" | "adl" => {
            let any = [
                Azure::AccessKey,
                Azure::SasKey,
                Azure::Token,
                Azure::ClientSecret,
                Azure::FederatedTokenFile,
                Azure::MsiEndpoint,
                Azure::ClientId,
                Azure::SkipSignature,
            ];
            let wanted = "none of AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN and AZURE_STORAGE_CLIENT_SECRET";
            (!any.iter().any(|key| has(variables, key))).then(|| said(by, wanted, variables))
        }
        _ => None,
    }
}

/// Whether any store's client knows a variable of this lower-case name: a secret may hold others, which are passed over.
#[must_use]
pub fn is_known(name: &str) -> bool {
    name.parse::<S3>().is_ok() || name.parse::<Google>().is_ok() || name.parse::<Azure>().is_ok()
}

/// Whether a variable sets this key, by whichever of its names, to something.
fn has<K: FromStr + PartialEq>(variables: &BTreeMap<String, String>, key: &K) -> bool {
    variables
        .iter()
        .any(|(name, value)| !trimmed(value).is_empty() && name.parse::<K>().is_ok_and(|parsed| parsed == *key))
}

fn said(by: &str, wanted: &str, variables: &BTreeMap<String, String>) -> String {
    let there: Vec<String> = variables.keys().map(|name| name.to_ascii_uppercase()).collect();
    let there = if there.is_empty() { "no variable of a store".to_owned() } else { there.join(", ") };
    format!("{by} has {wanted}; it has {there}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacks(url: &str, names: &[&str]) -> Option<String> {
        let variables = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        lacking(url, &variables, "secret lake")
    }

    #[test]
    fn what_a_secret_lacks_is_named_with_what_it_has() {
        assert_eq!(lacks("s3://lake/x", &["aws_access_key_id", "aws_secret_access_key", "aws_region"]), None);
        let said = lacks("s3://lake/x", &["aws_access_key", "aws_secret_access_key"]).unwrap();
        assert!(said.contains("secret lake has no AWS_ACCESS_KEY_ID") && said.contains("AWS_ACCESS_KEY,"), "{said}");
        assert!(lacks("s3://lake/x", &["aws_access_key_id"]).unwrap().contains("no AWS_SECRET_ACCESS_KEY"));
        assert!(lacks("s3://lake/x", &[]).unwrap().contains("no variable of a store"));
        assert_eq!(lacks("s3://lake/x", &["aws_skip_signature"]), None);
        assert!(lacks("gs://lake/x", &["aws_access_key_id"]).unwrap().contains("GOOGLE_SERVICE_ACCOUNT_KEY"));
        assert_eq!(lacks("gs://lake/x", &["google_service_account_key"]), None);
        assert!(lacks("az://lake/x", &["azure_storage_account_name"]).unwrap().contains("AZURE_STORAGE_ACCOUNT_KEY"));
        assert_eq!(lacks("az://lake/x", &["azure_storage_account_key"]), None);
        assert_eq!(lacks("https://example.org/x", &[]), None);
        assert_eq!(lacks("/a/folder", &[]), None);
    }

    #[test]
    fn an_empty_value_is_none() {
        let variables = BTreeMap::from([
            ("aws_access_key_id".to_owned(), "x".to_owned()),
            ("aws_secret_access_key".to_owned(), String::new()),
        ]);
        assert!(lacking("s3://lake/x", &variables, "secret lake").is_some());
        let blank = variables.into_iter().map(|(name, value)| (name, value + "\r\n")).collect();
        let said = lacking("s3://lake/x", &blank, "secret lake").unwrap();
        assert!(said.contains("no AWS_SECRET_ACCESS_KEY"), "a line break alone is nothing: {said}");
    }

    #[test]
    fn a_value_that_no_header_can_hold_is_named_with_the_secret() {
        let key = |value: &str| {
            BTreeMap::from([
                ("aws_access_key_id".to_owned(), value.to_owned()),
                ("aws_secret_access_key".to_owned(), "x".to_owned()),
            ])
        };
        assert_eq!(lacking("s3://lake/x", &key("x\r\n"), "secret lake"), None);
        let said = lacking("s3://lake/x", &key("x\ny"), "secret lake").unwrap();
        assert!(said.contains("secret lake: AWS_ACCESS_KEY_ID holds a line break"), "{said}");
    }
}
