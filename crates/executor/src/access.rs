//! How an executor signs in to the stores, and whom it trusts to be them: each store's own credentials and CA
//! certificates, from files that a pod mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexbuild_api::names::{CA_KEY, OUTPUT_SECRETS, SOURCE_SECRETS};
use indexbuild_api::{IndexBuildSpec, SecretRef};
use indexbuild_store::{BadCaFile, CaCertificates};

/// Where the credentials of the source's and the output's store are: a folder each, `source` and `output`, one file
/// for each variable (`AWS_ACCESS_KEY_ID`, ...), and beside them `source-ca` and `output-ca` with a `ca.crt`. A local run
/// has none of these: it uses its environment, and one file of CA certificates for both stores, if it was given one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreAccess {
    folder: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// What a store's variables begin with; a secret may hold other things too.
const KNOWN: [&str; 3] = ["aws_", "google_", "azure_"];

/// CA certificates that were named for a store and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCa {
    #[error("{field} names secret {secret:?}, whose key {CA_KEY} is to hold CA certificates in PEM form: {source}")]
    Secret {
        field: String,
        /// The secret, in the build's namespace.
        secret: String,
        /// What is wrong with the file that the key is mounted as.
        source: BadCaFile,
    },
    #[error(transparent)]
    File(#[from] BadCaFile),
}

impl StoreAccess {
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder), ca_file: None }
    }

    /// With the environment's credentials, and a file of CA certificates for both stores where there is one.
    #[must_use]
    pub fn of_this_machine(ca_file: Option<PathBuf>) -> Self {
        Self { folder: None, ca_file }
    }

    /// The CA certificates that may vouch for the source's store. Read anew for each store that is opened.
    pub fn source_ca(&self, spec: &IndexBuildSpec) -> Result<CaCertificates, BadCa> {
        let files = spec.source.files().next();
        let field = files.map(|files| format!("spec.source.{}.caSecret", files.field)).unwrap_or_default();
        self.ca(SOURCE_SECRETS.ca, &field, files.and_then(|files| files.ca_secret))
    }

    /// The CA certificates that may vouch for the output's store.
    pub fn output_ca(&self, spec: &IndexBuildSpec) -> Result<CaCertificates, BadCa> {
        self.ca(OUTPUT_SECRETS.ca, "spec.output.caSecret", spec.output.ca_secret.as_ref())
    }

    fn ca(&self, mounted: &str, field: &str, secret: Option<&SecretRef>) -> Result<CaCertificates, BadCa> {
        match (&self.folder, secret, &self.ca_file) {
            // One that is named and not there is an error: without it, the store's word would count that was not meant to.
            (Some(folder), Some(SecretRef { name }), _) => {
                let read = CaCertificates::read(&folder.join(mounted).join(CA_KEY));
                read.map_err(|source| BadCa::Secret { field: field.to_owned(), secret: name.clone(), source })
            }
            (None, _, Some(file)) => Ok(CaCertificates::read(file)?),
            (Some(_), None, _) | (None, _, None) => Ok(CaCertificates::default()),
        }
    }

    /// Whether credentials come from secrets, and not from the environment.
    pub fn has_secrets(&self) -> bool {
        self.folder.is_some()
    }

    /// The credentials of the source's store. Read anew for each store that is opened: secrets change.
    pub fn source(&self) -> BTreeMap<String, String> {
        self.of(SOURCE_SECRETS.credentials)
    }

    /// The credentials of the output's store.
    pub fn output(&self) -> BTreeMap<String, String> {
        self.of(OUTPUT_SECRETS.credentials)
    }

    fn of(&self, store: &str) -> BTreeMap<String, String> {
        let Some(folder) = &self.folder else {
            return BTreeMap::new();
        };
        variables(&folder.join(store)).unwrap_or_else(|error| {
            // Without them the store refuses, and says so: that is what a person has to read.
            tracing::warn!(store, %error, "the credentials of the store cannot be read");
            BTreeMap::new()
        })
    }
}

fn variables(folder: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(variables),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        if KNOWN.iter().any(|prefix| name.starts_with(prefix)) {
            // One that is no text (UTF-16) is named when it is used, and hides no other.
            let value = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
            variables.insert(name, indexbuild_store::trimmed(&value).to_owned());
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as a pod has it.
    fn mounted(files: &[(&str, &str)]) -> (tempfile::TempDir, StoreAccess) {
        let folder = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let file = folder.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        let access = StoreAccess::in_folder(folder.path().to_owned());
        (folder, access)
    }

    fn spec(source: &str, source_ca: Option<&str>, output_ca: Option<&str>) -> IndexBuildSpec {
        let named = |name: Option<&str>| name.map(|name| serde_json::json!({"name": name}));
        serde_json::from_value(serde_json::json!({
            "source": {source: {"urls": ["s3://lake/t"], "caSecret": named(source_ca)}},
            "indexes": [],
            "output": {"url": "s3://indexes/shop", "caSecret": named(output_ca)},
        }))
        .unwrap()
    }

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn each_store_has_its_own_ca_certificates_read_anew_each_time() {
        let (lakes, indexes) = (authority(), authority());
        let (folder, access) = mounted(&[("source-ca/ca.crt", &lakes), ("output-ca/ca.crt", &indexes)]);
        let alone = |pem: &str| {
            let (folder, _) = mounted(&[("ca.crt", pem)]);
            CaCertificates::read(&folder.path().join("ca.crt")).unwrap()
        };
        for kind in ["parquet", "csv"] {
            let spec = spec(kind, Some("lake-ca"), Some("index-ca"));
            assert_eq!(access.source_ca(&spec).unwrap(), alone(&lakes), "{kind}");
            assert_eq!(access.output_ca(&spec).unwrap(), alone(&indexes), "{kind}");
        }
        // A secret that is renewed reaches the file; what is opened next goes by it.
        let renewed = authority();
        std::fs::write(folder.path().join("source-ca/ca.crt"), &renewed).unwrap();
        let both = spec("csv", Some("lake-ca"), Some("index-ca"));
        assert_eq!(access.source_ca(&both).unwrap(), alone(&renewed));
        // What the spec does not name is not used, whatever is mounted.
        let none = spec("parquet", None, None);
        assert!(access.source_ca(&none).unwrap().is_empty() && access.output_ca(&none).unwrap().is_empty());
    }

    #[test]
    fn a_secret_without_usable_ca_certificates_is_named_with_field_key_and_file() {
        let (_folder, access) = mounted(&[("output-ca/ca.crt", "not a certificate")]);
        let spec = spec("csv", Some("lake-ca"), Some("index-ca"));
        let source = access.source_ca(&spec).unwrap_err().to_string();
        for part in ["spec.source.csv.caSecret", "\"lake-ca\"", "source-ca/ca.crt cannot be read"] {
            assert!(source.contains(part), "{part} in {source}");
        }
        let output = access.output_ca(&spec).unwrap_err().to_string();
        for part in ["spec.output.caSecret", "\"index-ca\"", "output-ca/ca.crt holds no CA certificate"] {
            assert!(output.contains(part), "{part} in {output}");
        }
    }

    #[test]
    fn a_local_run_goes_by_its_own_file_for_both_stores_and_by_no_secret() {
        let (folder, _) = mounted(&[("bundle.pem", &format!("{}{}", authority(), authority()))]);
        let spec = spec("parquet", Some("lake-ca"), Some("index-ca"));
        let access = StoreAccess::of_this_machine(Some(folder.path().join("bundle.pem")));
        assert_eq!(access.source_ca(&spec).unwrap().len(), 2);
        assert_eq!(access.source_ca(&spec).unwrap(), access.output_ca(&spec).unwrap());
        assert!(StoreAccess::default().source_ca(&spec).unwrap().is_empty());
        let missing = StoreAccess::of_this_machine(Some("/nowhere/ca.pem".into())).output_ca(&spec).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
    }

    #[test]
    fn each_store_has_its_own_credentials_and_a_local_run_has_none() {
        let folder = tempfile::tempdir().unwrap();
        for (store, key) in [("source", "reader"), ("output", "writer")] {
            std::fs::create_dir(folder.path().join(store)).unwrap();
            std::fs::write(folder.path().join(store).join("AWS_ACCESS_KEY_ID"), format!("{key}\r\n")).unwrap();
            std::fs::write(folder.path().join(store).join("comment"), "not a variable").unwrap();
        }
        let access = StoreAccess::in_folder(folder.path().to_owned());
        assert_eq!(access.source(), BTreeMap::from([("aws_access_key_id".to_owned(), "reader".to_owned())]));
        assert_eq!(access.output()["aws_access_key_id"], "writer");
        assert_eq!(StoreAccess::default().source(), BTreeMap::new());
        assert_eq!(StoreAccess::in_folder("/nowhere".into()).source(), BTreeMap::new());
    }
}
