//! An object, or a part of one, byte by byte in one state, however often its connection breaks.

use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use tokio_util::context::TokioContext;

use crate::fault::{Fault, is_silence};
use crate::patience::Patience;

/// The first pause before a download goes on that got no further; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Why a download ended early.
#[derive(Debug)]
pub enum DownloadError<E> {
    Store(object_store::Error),
    /// Whoever takes the bytes wants no more.
    Taker(E),
}

/// An object is another one than it was when its first bytes were read.
#[derive(Debug, thiserror::Error)]
#[error("it changed while it was being read: it had {was}, and has {is}; read it again")]
pub struct Changed {
    was: String,
    is: String,
}

/// Whether an error says that an object changed while it was read ([`download`]).
#[must_use]
pub fn is_changed(error: &object_store::Error) -> bool {
    indexbuild_text::causes(error).any(<dyn std::error::Error + 'static>::is::<Changed>)
}

/// Reads an object, or those bytes of it, and hands them over in their order, each once. Where the connection breaks, it goes
/// on at its offset, on the condition that the object is still the same.
///
/// # Errors
/// The store's, where nothing was read yet, or where going on did not help; one of [`is_changed`] where the object has
/// changed meanwhile: what was handed over belongs to the former one. Or the taker's.
pub async fn download<E>(
    store: &dyn ObjectStore,
    path: &Path,
    range: Option<Range<u64>>,
    patience: Patience,
    mut take: impl FnMut(Bytes) -> Result<(), E>,
) -> Result<ObjectMeta, DownloadError<E>> {
    let mut wanted = range;
    let mut first: Option<ObjectMeta> = None;
    let mut fruitless = 0;
    loop {
        let options = GetOptions {
            range: wanted.clone().map(GetRange::Bounded),
            // Whoever can refuse to read another object does; whoever cannot is found out below.
            if_match: first.as_ref().and_then(strong_tag),
            ..GetOptions::default()
        };
        let error = match store.get_opts(path, options).await {
            Err(object_store::Error::Precondition { .. }) if first.is_some() => {
                let was = first.as_ref().map(state).unwrap_or_default();
                return Err(DownloadError::Store(changed(path, was, "another etag".to_owned())));
            }
            Err(error) => error,
            Ok(found) => {
                match &first {
                    Some(first) if !same(first, &found.meta) => {
                        let (was, is) = (state(first), state(&found.meta));
                        return Err(DownloadError::Store(changed(path, was, is)));
                    }
                    Some(_) => {}
                    None => first = Some(found.meta.clone()),
                }
                let Range { mut start, end } = found.range.clone();
                let mut stream = found.into_stream();
                let outcome = loop {
                    match stream.next().await {
                        Some(Ok(bytes)) => {
                            start += bytes.len() as u64;
                            fruitless = 0;
                            take(bytes).map_err(DownloadError::Taker)?;
                        }
                        Some(Err(error)) => break Some(error),
                        None => break None,
                    }
                };
                wanted = Some(start..end);
                match first.clone() {
                    // Also where the connection broke after the last byte.
                    Some(meta) if start == end => return Ok(meta),
                    _ => outcome.unwrap_or_else(|| cut_off(start, end)),
                }
            }
        };
        let known_again = first.as_ref().is_some_and(is_known_again);
        // A store that is silent once more is not there: whoever asked is to hear of it.
        let most = if is_silence(&error) { patience.fruitless.min(1) } else { patience.fruitless };
        if !known_again || Fault::of(&error) != Fault::Outage || fruitless >= most {
            return Err(DownloadError::Store(error));
        }
        tracing::debug!(%path, %error, "a download broke off; it goes on where it was");
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(fruitless.min(4));
        fruitless += 1;
        if let Ok(runtime) = crate::runtime() {
            // Its timer: the caller's runtime may have none.
            TokioContext::new(async { tokio::time::sleep(pause).await }, runtime.clone()).await;
        }
    }
}

/// The whole of [`download`] in memory.
///
/// # Errors
/// As [`download`].
pub async fn download_bytes(
    store: &dyn ObjectStore,
    path: &Path,
    range: Option<Range<u64>>,
    patience: Patience,
) -> object_store::Result<(ObjectMeta, Bytes)> {
    let expected = range.as_ref().and_then(|range| usize::try_from(range.end.saturating_sub(range.start)).ok());
    let (mut only, mut whole) = (None, Vec::new());
    let keep = |bytes: Bytes| {
        if only.is_none() && whole.is_empty() {
            only = Some(bytes);
        } else {
            // No more than once in memory, beside the part that has just come.
            whole.reserve_exact(expected.unwrap_or_default().saturating_sub(whole.len()));
            whole.extend_from_slice(&only.take().unwrap_or_default());
            whole.extend_from_slice(&bytes);
        }
        Ok::<(), std::convert::Infallible>(())
    };
    let meta = match download(store, path, range, patience, keep).await {
        Ok(meta) => meta,
        Err(DownloadError::Store(error)) => return Err(error),
        Err(DownloadError::Taker(never)) => match never {},
    };
    Ok((meta, only.unwrap_or_else(|| whole.into())))
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

/// The etag by which a store can be asked for this very object: one in quotes, and not a weak one, which matches nothing.
fn strong_tag(meta: &ObjectMeta) -> Option<String> {
    meta.e_tag.clone().filter(|tag| tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'))
}

/// Whether another answer can be told to be about the same object: by an etag, or at least by a time.
fn is_known_again(meta: &ObjectMeta) -> bool {
    meta.e_tag.as_deref().is_some_and(|tag| !opaque(tag).is_empty()) || meta.last_modified.timestamp() != 0
}

fn same(was: &ObjectMeta, is: &ObjectMeta) -> bool {
    was.size == is.size
        && match (&was.e_tag, &is.e_tag) {
            (Some(was), Some(is)) => opaque(was) == opaque(is),
            (None, _) | (_, None) => was.last_modified == is.last_modified,
        }
}

fn state(meta: &ObjectMeta) -> String {
    let tag = meta.e_tag.as_ref().map_or_else(String::new, |tag| format!(", etag {tag}"));
    format!("{} bytes{tag}", meta.size)
}

fn changed(path: &Path, was: String, is: String) -> object_store::Error {
    object_store::Error::Precondition { path: path.to_string(), source: Box::new(Changed { was, is }) }
}

fn cut_off(at: u64, end: u64) -> object_store::Error {
    let why = format!("the answer ends at byte {at}, and was to end at byte {end}");
    let source = HttpError::new(HttpErrorKind::Interrupted, io::Error::new(io::ErrorKind::UnexpectedEof, why));
    object_store::Error::Generic { store: "download", source: Box::new(source) }
}
