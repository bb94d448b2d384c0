//! Where the indexes are written.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;
use crate::source::{Credentials, SecretRef};

/// Where the indexes are written, and how.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OutputSpec {
    /// The prefix under which the build writes `<namespace>/<name>/<UID>/`: an `s3://`, `gs://`, `az://`, `http(s)://` or, on one machine, `file://` URL.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^(file|s3|gs|az|http|https)://.+')")
            .message("the URL must begin with one of file://, s3://, gs://, az://, http://, https://: write the scheme of the store that takes the index"),
        validation = Rule::new("!self.contains('*') && !self.contains('?')")
            .message("the URL names one prefix: remove the wildcard")
    )]
    pub url: String,
    /// The store's endpoint, where it is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://.+"))]
    pub endpoint: Option<String>,
    /// The store's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// How to sign in to the store. Without it: workload identity, or the environment of a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// A secret whose key `ca.crt` holds CA certificates (PEM, one or several) that may vouch for the endpoint's certificate, beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretRef>,
    /// How the blocks of the index's files are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// The size of entries, uncompressed, at which a file is cut.
    #[serde(default = "default_target_file_size")]
    #[x_kube(
        validation = Rule::new("quantity(string(self)).compareTo(quantity('1Mi')) >= 0 && quantity(string(self)).compareTo(quantity('4Gi')) <= 0")
            .message("targetFileSize must be between 1Mi and 4Gi: 128Mi suits most readers")
    )]
    pub target_file_size: Quantity,
    /// Bits per key of a Bloom filter in each file of the unique indexes: a lookup of a key that is not there then reads no block of it, but for one in a hundred at 10. 0, or absent: no filter. The database that takes the files needs a filter policy of its own to use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 32))]
    pub bloom_bits_per_key: Option<u32>,
    /// What becomes of a committed index when the build is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl OutputSpec {
    /// The size of entries, in bytes, at which a file is cut.
    #[must_use]
    pub fn target_file_bytes(&self) -> u64 {
        self.target_file_size.ceil()
    }

    /// Bits per key of the filters of unique indexes; 0: none.
    #[must_use]
    pub fn bloom_bits_per_key(&self) -> u32 {
        self.bloom_bits_per_key.unwrap_or(0)
    }
}

impl Default for OutputSpec {
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: None,
            region: None,
            credentials: None,
            ca_secret: None,
            compression: Compression::default(),
            target_file_size: default_target_file_size(),
            bloom_bits_per_key: None,
            deletion_policy: DeletionPolicy::default(),
        }
    }
}

fn default_target_file_size() -> Quantity {
    Quantity::from_bytes(128 << 20)
}

/// How blocks of a file are compressed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast.
    #[default]
    Lz4,
    /// Zstandard: small.
    Zstd,
}

/// What becomes of an index when its build is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted, behind a tombstone.
    Delete,
}
