//! How an executor signs in to the stores: each store's own credentials, from files that a pod mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the credentials of the source's and the output's store are: a folder each, `source` and `output`, one file
/// for each variable (`AWS_ACCESS_KEY_ID`, ...). A local run has none, and uses its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreAccess {
    folder: Option<PathBuf>,
}

/// What a store's variables begin with; a secret may hold other things too.
const KNOWN: [&str; 3] = ["aws_", "google_", "azure_"];

impl StoreAccess {
    /// With credentials in a folder.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// Whether credentials come from secrets, and not from the environment.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        self.folder.is_some()
    }

    /// The credentials of the source's store. Read anew for each store that is opened: secrets change.
    #[must_use]
    pub fn source(&self) -> BTreeMap<String, String> {
        self.of("source")
    }

    /// The credentials of the output's store.
    #[must_use]
    pub fn output(&self) -> BTreeMap<String, String> {
        self.of("output")
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
            let value = std::fs::read_to_string(entry.path())?;
            variables.insert(name, value.trim_end_matches('\n').to_owned());
        }
    }
    Ok(variables)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn each_store_has_its_own_credentials_and_a_local_run_has_none() {
        let folder = tempfile::tempdir().unwrap();
        for (store, key) in [("source", "reader"), ("output", "writer")] {
            std::fs::create_dir(folder.path().join(store)).unwrap();
            std::fs::write(folder.path().join(store).join("AWS_ACCESS_KEY_ID"), format!("{key}\n")).unwrap();
            std::fs::write(folder.path().join(store).join("comment"), "not a variable").unwrap();
        }
        let access = StoreAccess::in_folder(folder.path().to_owned());
        assert_eq!(access.source(), BTreeMap::from([("aws_access_key_id".to_owned(), "reader".to_owned())]));
        assert_eq!(access.output()["aws_access_key_id"], "writer");
        assert_eq!(StoreAccess::default().source(), BTreeMap::new());
        assert_eq!(StoreAccess::in_folder("/nowhere".into()).source(), BTreeMap::new());
    }
}
