//! A store in memory whose answers a test changes.

use std::fmt;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// How a store's answers differ from those of a plain one.
pub(super) trait StoreBehaviour: fmt::Debug + Clone + Send + Sync + 'static {
    /// Called before each read and each list.
    fn refuses(&self) -> Result<()> {
        Ok(())
    }

    fn listed(&self, meta: ObjectMeta) -> ObjectMeta {
        meta
    }

    /// An object as the answer to a read has it.
    fn read(&self, meta: ObjectMeta) -> ObjectMeta {
        meta
    }
}

#[derive(Debug, Default)]
pub(super) struct TestStore<O> {
    objects: InMemory,
    oddity: O,
}

impl<O> TestStore<O> {
    pub(super) fn new(oddity: O) -> Self {
        Self { objects: InMemory::new(), oddity }
    }
}

impl<O: StoreBehaviour> fmt::Display for TestStore<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.oddity)
    }
}

#[async_trait]
impl<O: StoreBehaviour> ObjectStore for TestStore<O> {
    async fn put_opts(&self, location: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.oddity.refuses()?;
        let mut found = self.objects.get_opts(location, options).await?;
        found.meta = self.oddity.read(found.meta);
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.oddity.refuses() {
            return stream::once(async move { Err(error) }).boxed();
        }
        let oddity = self.oddity.clone();
        self.objects.list(prefix).map(move |meta| meta.map(|meta| oddity.listed(meta))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
