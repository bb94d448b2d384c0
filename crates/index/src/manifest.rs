//! The document at `manifest.json`, whose creation commits an index, and `LATEST` that points to it.
//!
//! A document is JSON with a `version`; its schema is `docs/manifest.schema.json`.
//!
//! ```text
//! <output>/<namespace>/<name>/
//! ├─ LATEST                 version, buildUid, created ─────────────┐
//! └─ <build UID>/  ◀────────────────────────────────────────────────┘
//!    ├─ manifest.json       kind Manifest: version, putId, build, planDigest, source, indexes, works
//!    │                      kind Tombstone: version, putId, build, reason
//!    ├─ plan.json           ◀─ planDigest
//!    └─ attempts/<work>/<epoch>-<boot nonce>/
//!       ├─ result.json      ◀─ works[]: workId, epoch, bootNonce, digest
//!       └─ r….sst           ◀─ indexes[].files[]: path, in key order
//! ```

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::definition::IndexDefinition;
use crate::digest::digest_bytes;

/// The version of the documents and of the files they name.
pub const FORMAT_VERSION: u32 = 1;
/// The document's name under a build's prefix `<output>/<namespace>/<name>/<uid>/`.
pub const MANIFEST: &str = "manifest.json";
/// The pointer's name under `<output>/<namespace>/<name>/`.
pub const LATEST: &str = "LATEST";

/// What may stand at `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
pub enum Document {
    /// The build is committed: these are its files.
    Manifest(Manifest),
    /// The build is aborted or deleted, and can never be committed.
    Tombstone(Tombstone),
}

/// A committed build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// Identifies the write, so that a writer whose reply was lost knows its own.
    pub put_id: String,
    /// The build.
    pub build: BuildRef,
    /// XXH3-128 of `plan.json`, 32 hex digits.
    pub plan_digest: String,
    /// What was indexed.
    pub source: SourceSummary,
    /// The indexes, in the order of the build's spec.
    pub indexes: Vec<IndexManifest>,
    /// The one attempt per piece of work whose result counts (I1).
    pub works: Vec<ChosenWork>,
}

/// A build that never is, or no longer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// Identifies the write, so that a writer whose reply was lost knows its own.
    pub put_id: String,
    /// The build.
    pub build: BuildRef,
    /// Why, for people.
    pub reason: String,
}

/// Which build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: a name may be used again, a UID never.
    pub uid: String,
}

/// What was indexed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceSummary {
    /// The source's files; a row id by position counts them from 0 in this order.
    pub files: Vec<SourceFile>,
    /// Rows read, which is also the number of entries of every index (I6).
    pub rows: u64,
}

/// A file of the source as it was when the build was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceFile {
    /// Where it stands.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// Its entity tag, where the store has one, as the store spelled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was last modified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<String>,
}

/// One index of the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexManifest {
    /// What it is.
    pub definition: IndexDefinition,
    /// Entries in all files.
    pub entries: u64,
    /// Order-independent hash of all entries: the sum modulo 2¹²⁸ of their hashes, 32 hex digits.
    pub hash: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Its files, in the order of their keys; they do not overlap.
    pub files: Vec<IndexFile>,
}

/// One SST file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexFile {
    /// Its path relative to the build's prefix.
    pub path: String,
    /// The range of the plan that it belongs to.
    pub range: u32,
    /// Its least stored key, hex.
    pub first_key: String,
    /// Its greatest stored key, hex.
    pub last_key: String,
    /// Its entries, at least one.
    pub entries: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes of its entries' keys and values, before compression.
    pub entry_bytes: u64,
    /// XXH3-128 over its frames `[u32 LE key length][key][u32 LE value length][value]`, 32 hex
    /// digits. It depends on nothing but the entries (I10).
    pub content_digest: String,
    /// XXH3-128 of its bytes, 32 hex digits. Of two builds of one snapshot and spec it is the same, if both files have
    /// the same `writerVersion` (I10).
    pub file_digest: String,
    /// The version of the writer that decided its bytes: another one may lay out the same entries differently. It is absent
    /// where nothing is promised about bytes: in files of releases that did not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_version: Option<u32>,
}

/// The attempt at a piece of work whose result counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChosenWork {
    /// The work.
    pub work_id: String,
    /// The epoch of its owner.
    pub epoch: u64,
    /// The boot nonce of its owner's process.
    pub boot_nonce: String,
    /// The digest of its result.
    pub digest: String,
}

/// The content of `LATEST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latest {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// The build it points to. Empty: to none, as the last one was deleted with its index.
    pub build_uid: String,
    /// When that build was created, RFC 3339. `LATEST` never goes back to an earlier one. Empty where it names none.
    pub created: String,
}

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON, or lacks something.
    #[error("this is no document of indexbuild: {source}; is it the right path?")]
    Malformed {
        /// Where and what.
        #[source]
        source: serde_json::Error,
    },
    /// A later version wrote it.
    #[error(
        "the document has format version {found}, and this program reads version {FORMAT_VERSION}; \
         use the release of indexbuild that wrote it, or a later one"
    )]
    UnknownVersion {
        /// Its version.
        found: u64,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    let malformed = |source| DocumentError::Malformed { source };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(malformed)?;
    if version != u64::from(FORMAT_VERSION) {
        return Err(DocumentError::UnknownVersion { found: version });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

fn render<T: Serialize>(document: &T) -> Result<Vec<u8>, DocumentError> {
    let mut bytes = serde_json::to_vec_pretty(document).map_err(|source| DocumentError::Malformed { source })?;
    bytes.push(b'\n');
    Ok(bytes)
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// [`DocumentError`]: not a document, or of a version that this program does not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        parse(bytes)
    }

    /// Its bytes: the same for the same document.
    ///
    /// # Errors
    /// Never for a document made of this module's types.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DocumentError> {
        render(self)
    }

    /// The build that it is about.
    #[must_use]
    pub fn build(&self) -> &BuildRef {
        match self {
            Self::Manifest(manifest) => &manifest.build,
            Self::Tombstone(tombstone) => &tombstone.build,
        }
    }

    /// What identifies the write of it.
    #[must_use]
    pub fn put_id(&self) -> &str {
        match self {
            Self::Manifest(manifest) => &manifest.put_id,
            Self::Tombstone(tombstone) => &tombstone.put_id,
        }
    }
}

impl Manifest {
    /// Digest of what it says, whoever put it: of its JSON with an empty put-id. Two manifests that
    /// are equal in this describe the same index.
    ///
    /// # Errors
    /// Never for a manifest made of this module's types.
    pub fn content_digest(&self) -> Result<String, DocumentError> {
        render(&Self { put_id: String::new(), ..self.clone() }).map(|bytes| digest_bytes(&bytes))
    }
}

impl Latest {
    /// What takes the place of a `LATEST` whose build was deleted with its index. Object stores delete without a
    /// condition: deleted, it could be that of the next build, written a moment before.
    #[must_use]
    pub const fn none() -> Self {
        Self { version: FORMAT_VERSION, build_uid: String::new(), created: String::new() }
    }

    /// Whether it names no build.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.build_uid.is_empty()
    }

    /// Reads the content of `LATEST`.
    ///
    /// # Errors
    /// [`DocumentError`]: not such content, or of a version that this program does not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        parse(bytes)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// Never.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DocumentError> {
        render(self)
    }
}

/// The JSON schema of [`Document`], as it stands in `docs/manifest.schema.json`.
///
/// # Errors
/// Never.
pub fn schema() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Document))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone() -> Document {
        Document::Tombstone(Tombstone {
            version: FORMAT_VERSION,
            put_id: "p".into(),
            build: BuildRef { namespace: "default".into(), name: "orders".into(), uid: "u".into() },
            reason: "deleted".into(),
        })
    }

    #[test]
    fn a_document_reads_back_as_it_was_written() {
        let bytes = tombstone().to_bytes().unwrap();
        assert_eq!(Document::parse(&bytes).unwrap(), tombstone());
        let latest = Latest { version: 1, build_uid: "u".into(), created: "2026-01-02T03:04:05Z".into() };
        assert_eq!(Latest::parse(&latest.to_bytes().unwrap()).unwrap(), latest);
    }

    #[test]
    fn a_version_that_is_not_known_is_refused_by_name_whatever_else_the_document_holds() {
        let error = Document::parse(br#"{"version": 7, "kind": "Something", "new": []}"#).unwrap_err();
        assert!(matches!(error, DocumentError::UnknownVersion { found: 7 }), "{error}");
        assert!(error.to_string().contains("format version 7"), "{error}");
        assert!(matches!(Document::parse(b"<html>").unwrap_err(), DocumentError::Malformed { .. }));
        assert!(matches!(
            Document::parse(br#"{"version": 1, "kind": "Other"}"#).unwrap_err(),
            DocumentError::Malformed { .. }
        ));
    }

    /// `make generated` writes it anew.
    #[test]
    fn the_schema_in_the_docs_is_the_types_schema() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manifest.schema.json");
        let schema = schema().unwrap();
        if std::env::var_os("INDEXBUILD_UPDATE").is_some() {
            std::fs::write(path, &schema).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == schema, "docs/manifest.schema.json is stale: run make generated");
    }
}
