//! One object, piece by piece: where a connection breaks, the next one goes on at the same byte.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt};

use super::again::pause;
use super::{Error, Store, path};

/// Connections in a row that bring nothing.
const BARREN: u32 = 5;

/// An object that is being read.
pub(crate) struct Reading<'a> {
    store: &'a Store,
    key: &'a str,
    location: Path,
    etag: Option<String>,
    at: u64,
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
            at: 0,
            size: got.meta.size,
            stream: got.into_stream(),
            barren: 0,
            location,
        }))
    }
}

impl Reading<'_> {
    /// The next piece, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let broke = match self.stream.next().await {
                Some(Ok(piece)) => {
                    self.at += piece.len() as u64;
                    self.barren = 0;
                    return Ok(Some(piece));
                }
                None => return Ok(None),
                Some(Err(_)) if self.at >= self.size => return Ok(None),
                Some(Err(source)) => Error::of("get", self.key, source),
            };
            self.barren += 1;
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
        }
    }
}
