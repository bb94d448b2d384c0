//! An object store over the network, through the `object_store` crate.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use indexbuild_durable as durable;
use indexbuild_durable::fault::{self, Op};
use indexbuild_store::{
    Asked, ClientError, DownloadError, Fault, Patience, Provider, Retries, client, download, download_bytes, is_changed,
};
use object_store::path::Path as ObjectPath;
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use tokio::io::AsyncReadExt;
use url::Url;

use super::{PutOutcome, StoreError, StoreOptions, Version};

/// Files up to this length go up in one piece. What goes up again after a break is one piece, or one part: on a link of
/// 200 KB/s a part takes 40 seconds. 10 000 parts, which stores take at most, are 78 GiB.
const WHOLE_BYTES: u64 = PART_BYTES as u64;
const PART_BYTES: usize = 8 << 20;
const PARTS_IN_FLIGHT: usize = 2;
/// How often a small object that is replaced while it is read is read anew.
const NEW_READS: usize = 3;

#[derive(Debug)]
pub(super) struct RemoteStore {
    store: Arc<dyn ObjectStore>,
    /// Scheme and host (bucket), without a path.
    base: String,
    /// Whether paths are percent-encoded in its URLs.
    encoded: bool,
    patience: Patience,
}

/// A bucket's URL, and the key behind it as it is written.
fn literal(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + "://".len());
    let end = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    let (base, key) = url.split_at(end);
    (base, key.trim_matches('/'))
}

impl RemoteStore {
    /// The store, and the prefix that the URL names in it.
    pub(super) fn open(url: &str, parsed: &Url, options: &StoreOptions) -> Result<(Self, String), StoreError> {
        let unknown = || StoreError::UnknownScheme { url: url.to_owned() };
        let remote = |source| StoreError::Remote { url: url.to_owned(), source: Box::new(source) };
        let encoded = matches!(parsed.scheme(), "http" | "https");
        let mut store = parsed.clone();
        if !encoded {
            store.set_path("");
            store.set_query(None);
            store.set_fragment(None);
        }
        let (scheme, decoded) = ObjectStoreScheme::parse(&store).map_err(|_| unknown())?;
        let (url, prefix, base) = if encoded {
            if parsed.query().is_some() || parsed.fragment().is_some() {
                let why =
                    "a URL with a query or fragment names no prefix; write % as %25, ? as %3F and # as %23".into();
                return Err(StoreError::InvalidUrl { url: url.to_owned(), why });
            }
            // As many parts as the prefix has are taken away, however they are encoded.
            let mut base = parsed[..url::Position::AfterPath].trim_end_matches('/');
            for _ in decoded.parts() {
                base = base.rsplit_once('/').map_or(base, |(base, _)| base);
            }
            (url, decoded.to_string(), base.trim_end_matches('/').to_owned())
        } else {
            // Not as the library reads it: that would decode it, and cut it at `?` and `#`.
            let (base, prefix) = literal(url);
            let key = ObjectPath::parse(prefix)
                .map_err(|error| StoreError::InvalidUrl { url: url.to_owned(), why: error.to_string() })?;
            (base, key.to_string(), base.to_owned())
        };
        let opened = match scheme {
            ObjectStoreScheme::AmazonS3 => client(Provider::S3, url, options, Retries::INDEX),
            ObjectStoreScheme::GoogleCloudStorage => client(Provider::Gcs, url, options, Retries::INDEX),
            ObjectStoreScheme::MicrosoftAzure => client(Provider::Azure, url, options, Retries::INDEX),
            ObjectStoreScheme::Http => {
                let allow_http = options.allow_http || parsed.scheme() == "http";
                let options = StoreOptions {
                    allow_http,
                    ca: options.ca.clone(),
                    patience: options.patience,
                    ..StoreOptions::default()
                };
                client(Provider::Http, &parsed[..url::Position::BeforePath], &options, Retries::WEB_SERVER)
            }
            _ => return Err(unknown()),
        };
        let store = opened.map_err(|error| match error {
            ClientError::Runtime(source) => StoreError::Io { url: url.to_owned(), source },
            ClientError::Store(source) => remote(source),
            error @ (ClientError::UnknownOption(_) | ClientError::Endpoint(_) | ClientError::Value(_)) => {
                StoreError::InvalidUrl { url: url.to_owned(), why: error.to_string() }
            }
        })?;
        Ok((Self { store, base, encoded, patience: options.patience }, prefix))
    }

    #[cfg(test)]
    pub(super) fn of(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, base: "memory://".into(), encoded: false, patience: Patience::default() }
    }

    pub(super) fn url(&self, path: &str) -> String {
        if path.is_empty() {
            return self.base.clone();
        }
        if self.encoded {
            let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20");
            return format!("{}/{path}", self.base);
        }
        format!("{}/{path}", self.base)
    }

    fn error(&self, asked: Asked, path: &str, source: object_store::Error) -> StoreError {
        StoreError::from_remote(self.url(path), asked, source)
    }

    /// Tells an absent object, which is an answer to a read, from the other errors, such as an absent bucket.
    fn absent(&self, asked: Asked, path: &str, source: object_store::Error) -> Result<(), StoreError> {
        match self.error(asked, path, source) {
            StoreError::NotFound { .. } => Ok(()),
            error => Err(error),
        }
    }

    /// The error of a write: what a store does not find is then the bucket.
    fn write_error(&self, path: &str, source: object_store::Error) -> StoreError {
        match Fault::of(&source) {
            Fault::NotFound | Fault::NoBucket => StoreError::NoBucket { url: self.url(path) },
            Fault::Outage | Fault::Refused | Fault::Final => self.error(Asked::Write, path, source),
        }
    }

    fn location(&self, path: &str) -> Result<ObjectPath, StoreError> {
        ObjectPath::parse(path).map_err(|source| self.error(Asked::Read, path, source.into()))
    }

    /// A point of a remote write, where tests break it.
    fn before(&self, op: Op, path: &str) -> Result<(), StoreError> {
        fault::before(op, Path::new(path)).map_err(|source| StoreError::from_io(self.url(path), source))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let location = self.location(path)?;
        let mut reads = 1;
        loop {
            match download_bytes(self.store.as_ref(), &location, None, self.patience).await {
                Ok((meta, bytes)) => return Ok(Some((bytes, Version { e_tag: meta.e_tag, version: meta.version }))),
                // What was replaced meanwhile is as good in its new state.
                Err(source) if is_changed(&source) && reads < NEW_READS => reads += 1,
                Err(source) => return self.absent(Asked::Read, path, source).map(|()| None),
            }
        }
    }

    pub(super) async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let Range { start, end } = range;
        if start == end {
            return Ok(Bytes::new());
        }
        let location = self.location(path)?;
        let received = match download_bytes(self.store.as_ref(), &location, Some(start..end), self.patience).await {
            Ok((_, bytes)) if bytes.len() as u64 == end.saturating_sub(start) => return Ok(bytes),
            Ok(_) => None,
            Err(source) => Some(source),
        };
        // Stores answer a range beyond the end in different ways; the size tells it from other failures.
        match self.size(path).await? {
            Some(size) if size < end || start > end => {
                Err(StoreError::OutOfRange { url: self.url(path), size, start, end })
            }
            None => Err(StoreError::NotFound { url: self.url(path) }),
            Some(_) => Err(received.map_or_else(
                || StoreError::Io { url: self.url(path), source: std::io::ErrorKind::UnexpectedEof.into() },
                |source| self.error(Asked::Read, path, source),
            )),
        }
    }

    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match self.store.head(&self.location(path)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(source) => self.absent(Asked::Read, path, source).map(|()| None),
        }
    }

    pub(super) async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.before(Op::Upload, path)?;
        let put = self.store.put(&self.location(path)?, PutPayload::from(bytes)).await;
        put.map_err(|source| self.write_error(path, source))?;
        fault::after(Op::Upload, Path::new(path));
        Ok(())
    }

    async fn put_conditionally(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.before(Op::ConditionalPut, path)?;
        let may_be_missing = matches!(mode, PutMode::Update(_));
        let options = PutOptions { mode, ..PutOptions::default() };
        let outcome = match self.store.put_opts(&self.location(path)?, PutPayload::from(bytes), options).await {
            Ok(_) => PutOutcome::Created,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                PutOutcome::Exists
            }
            // The object that was to be replaced is gone.
            Err(object_store::Error::NotFound { .. }) if may_be_missing => PutOutcome::Exists,
            Err(source) => return Err(self.write_error(path, source)),
        };
        fault::after(Op::ConditionalPut, Path::new(path));
        Ok(outcome)
    }

    pub(super) async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        self.put_conditionally(path, bytes, PutMode::Create).await
    }

    pub(super) async fn put_if_match(
        &self,
        path: &str,
        bytes: Bytes,
        version: &Version,
    ) -> Result<PutOutcome, StoreError> {
        let Version { e_tag, version } = version.clone();
        self.put_conditionally(path, bytes, PutMode::Update(UpdateVersion { e_tag, version })).await
    }

    pub(super) async fn put_file(&self, path: &str, file: &Path) -> Result<(), StoreError> {
        let io = |source| StoreError::from_io(file.display().to_string(), source);
        let mut source = tokio::fs::File::open(file).await.map_err(io)?;
        let size = source.metadata().await.map_err(io)?.len();
        if size <= WHOLE_BYTES {
            let mut content = Vec::new();
            source.read_to_end(&mut content).await.map_err(io)?;
            return self.put(path, content.into()).await;
        }
        self.before(Op::Upload, path)?;
        let begun = self.store.put_multipart(&self.location(path)?).await;
        let mut upload = begun.map_err(|source| self.write_error(path, source))?;
        let sent = match send_parts(&mut *upload, &mut source).await {
            Ok(()) => upload.complete().await.map(drop).map_err(|source| self.error(Asked::Write, path, source)),
            Err(Sending::File(source)) => Err(io(source)),
            Err(Sending::Store(source)) => Err(self.error(Asked::Write, path, source)),
        };
        if let Err(error) = sent {
            // Parts that stay behind are billed and invisible; a lifecycle rule of the bucket takes the rest.
            if let Err(error) = upload.abort().await {
                tracing::warn!(%path, %error, "an upload in parts could not be aborted");
            }
            return Err(error);
        }
        fault::after(Op::Upload, Path::new(path));
        Ok(())
    }

    pub(super) async fn fetch_to(&self, path: &str, target: &Path) -> Result<u64, StoreError> {
        let io = |source| StoreError::from_io(target.display().to_string(), source);
        // Made once there is something to write: one that was refused leaves nothing.
        let mut file = None;
        let write = |bytes: Bytes| {
            let file = match &mut file {
                Some(file) => file,
                none => none.insert(durable::DurableFile::create(target)?),
            };
            file.write_all(&bytes)
        };
        let fetched = download(self.store.as_ref(), &self.location(path)?, None, self.patience, write).await;
        let received = fetched.map(|meta| meta.size).map_err(|error| match error {
            DownloadError::Store(source) => self.error(Asked::Read, path, source),
            DownloadError::Taker(source) => io(source),
        })?;
        let file = match file {
            Some(file) => file,
            None => durable::DurableFile::create(target).map_err(io)?,
        };
        let sealed = tokio::task::spawn_blocking(move || file.seal()).await;
        sealed.map_err(|source| io(std::io::Error::other(source)))?.map_err(io)?;
        Ok(received)
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let location = if prefix.is_empty() { None } else { Some(self.location(prefix)?) };
        let listed = self.store.list(location.as_ref()).map_ok(|meta| (meta.location.to_string(), meta.size));
        listed.try_collect().await.map_err(|source| self.error(Asked::List, prefix, source))
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.before(Op::Delete, path)?;
        match self.store.delete(&self.location(path)?).await {
            Ok(()) => {}
            Err(source) => self.absent(Asked::Delete, path, source)?,
        }
        fault::after(Op::Delete, Path::new(path));
        Ok(())
    }
}

enum Sending {
    File(std::io::Error),
    Store(object_store::Error),
}

async fn send_parts(upload: &mut dyn MultipartUpload, source: &mut tokio::fs::File) -> Result<(), Sending> {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        let read = (&mut *source).take(PART_BYTES as u64).read_to_end(&mut part).await.map_err(Sending::File)?;
        if read == 0 {
            break;
        }
        if in_flight.len() >= PARTS_IN_FLIGHT {
            in_flight.next().await.transpose().map_err(Sending::Store)?;
        }
        in_flight.push(upload.put_part(part.into()));
    }
    while let Some(sent) = in_flight.next().await {
        sent.map_err(Sending::Store)?;
    }
    Ok(())
}
