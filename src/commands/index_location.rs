//! Which index a command reads, and how its store is reached.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use indexbuild_executor::StoreAccess;
use indexbuild_index::reader::{Index, IndexSet};
use indexbuild_index::store::{BadCaFile, CaCertificates, Patience, StoreOptions};

use super::cleanup::TemporaryCache;

/// The finished build that a command reads.
#[derive(Debug, Args)]
pub(super) struct IndexLocation {
    /// The build: OUTPUT/NAMESPACE/NAME, a path or a URL (its LATEST says which build), or one build's prefix or
    /// manifest.json
    #[arg(value_name = "INDEX")]
    place: OsString,
    /// Where fetched files are kept; by default a temporary folder
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// The object store's address, where it is not the provider's own
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The object store's region
    #[arg(long)]
    region: Option<String>,
    /// Allow plain HTTP, as to an endpoint that is written with http://
    #[arg(long)]
    allow_http: bool,
    #[command(flatten)]
    ca: CaFile,
}

/// The authorities, beside the system's, that a store is trusted by.
#[derive(Debug, Args)]
pub(super) struct CaFile {
    /// CA certificates (PEM, one or several) that may vouch for a store's certificate, beside those of the system
    /// (SSL_CERT_FILE names others than the system's own)
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub ca_file: Option<PathBuf>,
}

/// For processes that work in other folders.
fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(indexbuild_store::trimmed(text)).map_err(|error| error.to_string())
}

/// An open build, and the temporary cache that goes with it.
pub(super) struct OpenBuild {
    pub set: IndexSet,
    _cache: Option<TemporaryCache>,
}

impl CaFile {
    /// The certificates in the file, if one was named.
    pub(super) fn read(&self) -> Result<CaCertificates, BadCaFile> {
        self.ca_file.as_deref().map(CaCertificates::read).transpose().map(Option::unwrap_or_default)
    }
}

impl IndexLocation {
    /// How the stores of a build's file are reached: as this one.
    pub(super) fn access(&self) -> StoreAccess {
        StoreAccess::of_this_machine(self.ca.ca_file.clone())
    }

    pub(super) fn open(&self) -> anyhow::Result<OpenBuild> {
        let Self { place, cache, endpoint, region, allow_http, ca } = self;
        let url = crate::build_yaml::resolve_here(place)?;
        let options = StoreOptions {
            endpoint: endpoint.clone(),
            region: region.clone(),
            allow_http: *allow_http,
            extra: BTreeMap::new(),
            ca: ca.read()?,
            patience: Patience::default(),
        };
        let (folder, temporary) = match cache {
            Some(folder) => (std::path::absolute(folder)?, None),
            None => {
                let folder = TemporaryCache::create()?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        Ok(OpenBuild { set: IndexSet::open(&url, &options, &folder)?, _cache: temporary })
    }
}

impl OpenBuild {
    /// The index of that name; without a name, the only one.
    pub(super) fn index(&self, name: Option<&str>) -> anyhow::Result<Index> {
        if let Some(name) = name {
            return Ok(self.set.index(name)?);
        }
        let mut indexes = self.set.indexes()?;
        if indexes.len() == 1 {
            return Ok(indexes.remove(0));
        }
        let names: Vec<_> = indexes.iter().map(|index| index.definition().name.clone()).collect();
        anyhow::bail!("this build has {} indexes; say which one with --index: {}", names.len(), names.join(", "))
    }
}
