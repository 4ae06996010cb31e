//! One object, piece by piece: where a connection breaks, the next one goes on at the same byte.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt};
use tokio::time::Instant;

use super::again::pause;
use super::{Error, Opaque, Store, path};
use crate::upload::blocking;

/// Breaks in a row without progress in between.
const BARREN: u32 = 5;
/// A connection that lasted so long and brought less bytes than this a second was none either.
const LASTED: Duration = Duration::from_secs(30);
const PER_SECOND: u64 = 4 << 10;

/// An object that is being read.
pub(crate) struct Reading<'a> {
    store: &'a Store,
    key: &'a str,
    location: Path,
    etag: Option<String>,
    opaque: bool,
    at: u64,
    /// Where and when this connection began.
    from: (u64, Instant),
    size: u64,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    barren: u32,
}

impl Store {
    /// Begins to read an object; `None` only when the store says that it is not there.
    pub(crate) async fn read<'a>(&'a self, key: &'a str) -> Result<Option<Reading<'a>>, Error> {
        let location = path(key)?;
        let get = || {
            async {
                match self.objects.get(&location).await {
                    Ok(got) => Ok(Some(got)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(source) => Err(Error::of("get", key, source)),
                }
            }
            .boxed()
        };
        Ok(self.again(get).await?.map(|got| Reading {
            store: self,
            key,
            etag: got.meta.e_tag.clone(),
            opaque: got.extensions.get::<Opaque>().is_some(),
            at: 0,
            from: (0, Instant::now()),
            size: got.meta.size,
            stream: got.into_stream(),
            barren: 0,
            location,
        }))
    }
}

impl Store {
    /// Reads a whole object into a buffer that was used before, and gives that back: allocators keep what is freed, so that
    /// many big objects, each with memory of its own, take many times the memory of one.
    pub(crate) async fn get_into(&self, key: &str, mut buffer: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
        buffer.clear();
        if let Some(path) = self.local_path(key) {
            return blocking(path.clone(), move || {
                let read = std::fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut buffer));
                match read {
                    Ok(_) => Ok(Some(buffer)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(Error::File { path, source }),
                }
            })
            .await;
        }
        let Some(mut reading) = self.read(key).await? else {
            return Ok(None);
        };
        while let Some(piece) = reading.next().await? {
            buffer.extend_from_slice(&piece);
        }
        Ok(Some(buffer))
    }
}

impl Reading<'_> {
    /// Whether the object's tag is not made of its content.
    pub(crate) fn opaque(&self) -> bool {
        self.opaque
    }

    /// The next piece, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let broke = match self.stream.next().await {
                // Of nothing is no progress.
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => {
                    self.at += piece.len() as u64;
                    return Ok(Some(piece));
                }
                None => return Ok(None),
                Some(Err(_)) if self.at >= self.size => return Ok(None),
                Some(Err(source)) => Error::of("get", self.key, source),
            };
            let (came, lasted) = (self.at - self.from.0, self.from.1.elapsed());
            let barren = came == 0 || lasted >= LASTED && came < PER_SECOND * lasted.as_secs();
            self.barren = if barren { self.barren + 1 } else { 1 };
            if self.barren >= BARREN {
                return Err(broke);
            }
            tracing::debug!(error = %broke, key = self.key, at = self.at, "goes on where it broke");
            tokio::time::sleep(pause(self.barren)).await;
            // The same object only: another content under the key would not fit to what is read already.
            let options = GetOptions {
                range: Some(GetRange::Offset(self.at)),
                if_match: self.etag.clone(),
                ..GetOptions::default()
            };
            let got = self.store.objects.get_opts(&self.location, options).await;
            self.stream = got.map_err(|source| Error::of("get", self.key, source))?.into_stream();
            self.from = (self.at, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::ops::Range;
    use std::sync::Arc;
    use std::sync::Mutex;

    use futures::stream;
    use object_store::memory::InMemory;
    use object_store::{
        CopyOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
        PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    };

    use super::*;
    use crate::store::Tags;

    /// A store whose connections break after so many bytes each.
    #[derive(Debug)]
    struct Breaking {
        inner: InMemory,
        after: Mutex<Vec<usize>>,
        asked: Mutex<Vec<Range<u64>>>,
    }

    impl fmt::Display for Breaking {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("breaking")
        }
    }

    #[async_trait::async_trait]
    impl ObjectStore for Breaking {
        async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            self.inner.put_opts(at, payload, options).await
        }

        async fn put_multipart_opts(&self, at: &Path, o: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(at, o).await
        }

        async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
            let mut got = self.inner.get_opts(at, options).await?;
            self.asked.lock().unwrap().push(got.range.clone());
            let after = self.after.lock().unwrap().pop();
            if let Some(after) = after {
                let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
                let content = got.bytes().await?;
                let broke = object_store::Error::Generic { store: "breaking", source: "connection reset".into() };
                let pieces = [Ok(content.slice(..after.min(content.len()))), Err(broke)];
                let payload = GetResultPayload::Stream(stream::iter(pieces).boxed());
                got = GetResult { payload, meta, range, attributes, extensions: Default::default() };
            }
            Ok(got)
        }

        fn delete_stream(&self, all: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(all)
        }

        fn list(&self, root: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.inner.list(root)
        }

        async fn list_with_delimiter(&self, root: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(root).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    async fn read(content: &[u8], after: &[usize]) -> (std::result::Result<Vec<u8>, Error>, Vec<Range<u64>>) {
        let after = Mutex::new(after.iter().rev().copied().collect());
        let breaking = Arc::new(Breaking { inner: InMemory::new(), after, asked: Mutex::default() });
        let store = Store {
            tags: Tags::Etag,
            objects: breaking.clone(),
            root: None,
            attributes: Default::default(),
            opaque: Arc::default(),
        };
        store.put("k", content.to_vec()).await.unwrap();
        let mut reading = store.read("k").await.unwrap().unwrap();
        let mut all = Vec::new();
        let outcome = loop {
            match reading.next().await {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                Ok(None) => break Ok(all),
                Err(error) => break Err(error),
            }
        };
        let asked = breaking.asked.lock().unwrap().clone();
        (outcome, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_at_the_byte_where_it_broke() {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let (outcome, asked) = read(&content, &[100, 0, 0, 0, 250, 1]).await;
        assert_eq!(outcome.unwrap(), content);
        assert_eq!(asked, [0..1000, 100..1000, 100..1000, 100..1000, 100..1000, 350..1000, 351..1000]);
        // Broken behind its last byte, it is whole; of nothing comes nothing.
        assert_eq!(read(&content, &[1000]).await.0.unwrap(), content);
        assert!(read(&[], &[0]).await.0.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_bring_nothing_are_given_up() {
        let (outcome, asked) = read(&[7; 10], &[3, 0, 0, 0, 0, 0, 0, 0, 0]).await;
        assert!(outcome.unwrap_err().retryable());
        assert_eq!(asked.len(), 5);
    }
}
