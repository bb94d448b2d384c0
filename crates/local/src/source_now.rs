//! Whether a build that is complete is still over the table that its source names: the same command given again says so.

use std::time::Duration;

use indexbuild_executor::definitions::output_options;
use indexbuild_executor::{SourceChanges, StoreAccess, source_changes};
use indexbuild_index::manifest::{Document, MANIFEST, SourceFile};
use indexbuild_index::store::Store;
use indexbuild_text::chain;

use crate::build::StoredBuild;

/// Nobody waits longer for an answer that changes nothing.
const WITHIN: Duration = Duration::from_secs(20);

/// What a person should know of the source of a complete build; nothing where it is the same.
pub(crate) async fn remark(build: &StoredBuild, access: StoreAccess) -> Option<String> {
    let answer = match tokio::time::timeout(WITHIN, changes(build, access)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("there was no answer within {} s", WITHIN.as_secs())),
    };
    match answer {
        Ok(changes) if changes.is_empty() => None,
        Ok(changes) => Some(format!(
            "the source is another one now than the index was built from: {changes}; the index stays as it is, --fresh builds it anew"
        )),
        Err(why) => Some(format!(
            "whether the source is still the one that the index was built from cannot be told: {why}; the index stays as it is"
        )),
    }
}

async fn changes(build: &StoredBuild, access: StoreAccess) -> Result<SourceChanges, String> {
    let files = built_from(build, &access).await?;
    let spec = build.spec.clone();
    let listing = tokio::task::spawn_blocking(move || source_changes(&spec, &access, &files));
    listing.await.map_err(|error| error.to_string())?
}

/// The files of the manifest.
async fn built_from(build: &StoredBuild, access: &StoreAccess) -> Result<Vec<SourceFile>, String> {
    let StoredBuild { namespace, name, uid, spec, .. } = build;
    let options = output_options(spec, access).map_err(|error| chain(&error))?;
    let store = Store::open(&spec.output.url, &options).map_err(|error| chain(&error))?;
    let store = store.child(&format!("{namespace}/{name}/{uid}"));
    let Some((bytes, _)) = store.get(MANIFEST).await.map_err(|error| chain(&error))? else {
        return Err(format!("{}/{MANIFEST} is not there any more", store.url()));
    };
    match Document::parse(&bytes).map_err(|error| chain(&error))? {
        Document::Manifest(manifest) => Ok(manifest.source.files),
        Document::Tombstone(_) => Err(format!("{} was deleted", store.url())),
    }
}
