//! A file's way into the bucket: read once, hashed on the way, in parts when it is big, within bounded memory.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::{MultipartUpload, PutMultipartOptions, PutOptions, PutPayload, PutResult};
use stheno_md5::{Md5, md5};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Storage;
use crate::store::{ATTEMPTS, BRIEF, Error, Store, Tags, path, pause, unquoted};
use crate::throttle::Throttle;

mod blocks;
mod file;

use blocks::{BLOCK, Blocks, footprint};
pub(crate) use file::{base64, blocking, hex, md5_of, pump};
use file::{digest, open, short};

/// Bytes of files in memory at once, over all uploads of this process: four parts of our usual size, or one of Medusa's.
const BUFFER: u64 = 64 << 20;
/// Files above this go up in parts whatever the threshold says, so that the buffer holds at least two of them.
const LARGEST_PUT: u64 = BUFFER / 2;
/// The largest part.
const LARGEST_PART: u64 = 52 << 20;
/// S3's limit of parts.
const MOST_PARTS: u64 = 10_000;
/// S3's smallest part.
const SMALLEST_PART: u64 = 5 << 20;

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Bytes.
    pub size: u64,
    /// Hex md5 of the whole.
    pub md5: String,
    /// What the manifest calls MD5: the hex md5 on a local store, the ETag on S3, the md5 in base64 on others.
    pub tag: String,
}

/// The size of parts that the configuration leads to, in bytes.
pub(crate) fn part_size(config: &Storage) -> u64 {
    within(config.part_size)
}

/// The size of parts that this sidecar makes where so many bytes are configured. Medusa, and earlier versions of this
/// sidecar, have other limits.
pub(crate) fn within(configured: u64) -> u64 {
    configured.clamp(SMALLEST_PART, LARGEST_PART)
}

/// An object that was made of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What the manifest calls MD5.
    pub tag: String,
    /// Hex md5 of the content, where the tag says nothing of it.
    pub md5: Option<String>,
}

/// Uploads files, with limits that hold over all of them.
#[derive(Debug, Clone)]
pub struct Uploader {
    store: Store,
    buffer: Arc<Semaphore>,
    blocks: Arc<Blocks>,
    throttle: Option<Arc<Throttle>>,
    threshold: u64,
    part_size: u64,
    part_transfers: usize,
}

impl Uploader {
    /// Limits as the configuration has them.
    pub fn new(store: Store, config: &Storage) -> Self {
        Self {
            store,
            buffer: Arc::new(Semaphore::new(kib(BUFFER) as usize)),
            blocks: Arc::default(),
            throttle: config.bandwidth.map(|rate| Arc::new(Throttle::new(rate))),
            threshold: config.multipart_threshold.min(LARGEST_PUT),
            part_size: part_size(config),
            part_transfers: config.part_transfers,
        }
    }

    /// Uploads the file at `source` as `key`, replacing what is there.
    pub async fn upload(&self, source: &Path, size: u64, key: &str) -> Result<Stored, Error> {
        let staged = self.store.local_path(&format!(".staging/{}", hex(&md5(key.as_bytes()))));
        match staged.zip(self.store.local_path(key)) {
            Some((staged, target)) => {
                let sum = copy(source.to_owned(), staged, target, size).await?;
                Ok(Stored { tag: sum.tag, md5: None })
            }
            None if size >= self.threshold && size > 0 => self.parts(source, size, key).await,
            None => self.whole(source, size, key).await,
        }
    }

    /// What uploading the file would have made of it, and what an existing object with `etag` should be tagged with.
    pub async fn sum(&self, source: &Path, size: u64) -> Result<Sum, Error> {
        let parted = self.store.tags == Tags::Etag && size >= self.threshold && size > 0;
        let mut sum = digest(source.to_owned(), size, parted.then(|| self.part_of(size))).await?;
        if self.store.tags == Tags::Base64 {
            sum.tag = base64(&sum.md5);
        }
        Ok(sum)
    }

    /// The part size for a file: configured, but never more parts than S3 takes.
    fn part_of(&self, size: u64) -> u64 {
        self.part_size.max(size.div_ceil(MOST_PARTS))
    }

    async fn whole(&self, source: &Path, size: u64, key: &str) -> Result<Stored, Error> {
        let _room = self.room(size).await;
        let mut reader = self.reader(source, size).await?;
        let content = reader.next(size).await?;
        self.wait(size).await;
        let options = PutOptions { attributes: self.store.attributes.clone(), ..PutOptions::default() };
        let (objects, place) = (Arc::clone(&self.store.objects), path(key)?);
        // A task of its own: what is signed is hashed in one go, and other transfers go on meanwhile.
        let put = tokio::spawn(async move { objects.put_opts(&place, content, options).await });
        let lost = |error| Error::File { path: source.to_owned(), source: std::io::Error::other(error) };
        let put = AbortOnDropHandle::new(put).await.map_err(lost)?;
        self.uploaded(reader, put.map_err(|source| Error::of("put", key, source))?).await
    }

    /// Without an md5 of ours where the store says one: it has compared the content with its signature.
    async fn reader(&self, source: &Path, size: u64) -> Result<Reader, Error> {
        let hash = (self.store.tags != Tags::Etag || self.store.writes_opaque()).then(Md5::new);
        Reader::open(source.to_owned(), size, hash, Arc::clone(&self.blocks)).await
    }

    /// What an upload made of a file.
    async fn uploaded(&self, reader: Reader, put: PutResult) -> Result<Stored, Error> {
        let opaque = self.store.tags == Tags::Etag && self.store.is_opaque(&put);
        let md5 = match (reader.hash, &put.e_tag) {
            (Some(hash), _) => hex(&hash.finish()),
            (None, Some(etag)) if !opaque => return Ok(Stored { tag: unquoted(etag), md5: None }),
            (None, _) => md5_of(reader.source, reader.size).await?,
        };
        Ok(Stored { tag: self.store.tag(&md5, put.e_tag), md5: opaque.then_some(md5) })
    }

    /// In parts; from the beginning once more where the answer to the upload's begin or end broke off. Such an answer says
    /// nothing: the upload may be complete, and then it is gone, or it may not.
    async fn parts(&self, source: &Path, size: u64, key: &str) -> Result<Stored, Error> {
        let mut attempt = 1;
        loop {
            match self.parts_once(source, size, key).await {
                Err(Broken::Answer(error)) if attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "once more");
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                Err(Broken::Answer(error) | Broken::Other(error)) => return Err(error),
                Ok(stored) => return Ok(stored),
            }
        }
    }

    async fn parts_once(&self, source: &Path, size: u64, key: &str) -> Result<Stored, Broken> {
        let options =
            PutMultipartOptions { attributes: self.store.attributes.clone(), ..PutMultipartOptions::default() };
        let place = path(key).map_err(Broken::Other)?;
        let upload = answer(key, false, self.store.objects.put_multipart_opts(&place, options)).await?;
        let mut upload = Unfinished(Some(upload));
        let sent = self.send_parts(&mut upload, source, size, key).await;
        if sent.is_ok() {
            upload.0 = None;
        } else {
            upload.abort().await;
        }
        sent
    }

    async fn send_parts(&self, upload: &mut Unfinished, source: &Path, size: u64, key: &str) -> Result<Stored, Broken> {
        let failed = |source| Broken::Other(Error::of("put", key, source));
        let lost = |error| Broken::Other(Error::File { path: source.to_owned(), source: std::io::Error::other(error) });
        let changed = || Broken::Other(Error::Changed { path: source.to_owned() });
        let target = upload.0.as_mut().ok_or_else(changed)?;
        let mut reader = self.reader(source, size).await.map_err(Broken::Other)?;
        // Tasks of their own: a part must reach its end, and free its room, while this one waits for room.
        let mut in_flight = JoinSet::new();
        let part_size = self.part_of(size);
        let mut left = size;
        while left > 0 {
            let length = part_size.min(left);
            let room = self.room(length).await;
            let content = reader.next(length).await.map_err(Broken::Other)?;
            self.wait(length).await;
            let part = target.put_part(content);
            in_flight.spawn(async move {
                let _room = room;
                part.await
            });
            left -= length;
            while in_flight.len() >= self.part_transfers
                && let Some(part) = in_flight.join_next().await
            {
                part.map_err(lost)?.map_err(failed)?;
            }
        }
        while let Some(part) = in_flight.join_next().await {
            part.map_err(lost)?.map_err(failed)?;
        }
        let put = answer(key, true, target.complete()).await?;
        self.uploaded(reader, put).await.map_err(Broken::Other)
    }

    async fn room(&self, bytes: u64) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let wanted = kib(footprint(bytes).min(BUFFER)) as u32;
        // The semaphore is never closed.
        Arc::clone(&self.buffer).acquire_many_owned(wanted).await.ok()
    }

    /// Waits for the turn of so many bytes.
    pub(crate) async fn wait(&self, bytes: u64) {
        if let Some(throttle) = &self.throttle {
            throttle.wait(bytes).await;
        }
    }
}

/// Why an upload in parts did not come to its end.
enum Broken {
    /// An answer broke off, or speaks of an upload that is gone: of the same thing it may be another one.
    Answer(Error),
    /// All else: it was tried again below, where that may help.
    Other(Error),
}

/// The begin or the end of an upload. What failed at once was not tried again below; an upload that "is not found" at its end
/// was completed by a request whose answer was lost, and stores may take minutes before they answer.
async fn answer<T>(key: &str, end: bool, call: impl Future<Output = object_store::Result<T>>) -> Result<T, Broken> {
    let begun = tokio::time::Instant::now();
    call.await.map_err(|source| {
        let error = Error::of("put", key, source);
        let gone = end && matches!(error, Error::NoBucket { .. });
        let broke = matches!(error, Error::Failed { .. }) && begun.elapsed() < BRIEF;
        if gone || broke { Broken::Answer(error) } else { Broken::Other(error) }
    })
}

/// As semaphores count memory: in steps of which there are not too many.
pub(crate) fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024).max(1)
}

/// A multipart upload that is given back when it does not come to its end, so that S3 does not keep (and charge) its parts.
struct Unfinished(Option<Box<dyn MultipartUpload>>);

impl Unfinished {
    async fn abort(&mut self) {
        if let Some(mut upload) = self.0.take()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, "the parts of an interrupted upload stay in the bucket until its lifecycle rule removes them");
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Dropped by a cancellation: the runtime still runs for the seconds that a stop may take.
        if let Some(mut upload) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

/// Reads a file piece by piece off the async threads, hashing what it reads if need be.
struct Reader {
    source: PathBuf,
    size: u64,
    file: Option<File>,
    hash: Option<Md5>,
    blocks: Arc<Blocks>,
}

impl Reader {
    async fn open(source: PathBuf, size: u64, hash: Option<Md5>, blocks: Arc<Blocks>) -> Result<Self, Error> {
        blocking(source.clone(), move || {
            let file = open(&source, size)?;
            Ok(Self { source, size, file: Some(file), hash, blocks })
        })
        .await
    }

    async fn next(&mut self, length: u64) -> Result<PutPayload, Error> {
        let Some(mut file) = self.file.take() else {
            return Err(Error::Changed { path: self.source.clone() });
        };
        let (source, mut hash, blocks) = (self.source.clone(), self.hash.take(), Arc::clone(&self.blocks));
        let read = blocking(self.source.clone(), move || {
            let (mut content, mut left) = (Vec::new(), length as usize);
            while left > 0 {
                let mut block = blocks.take(left.min(BLOCK));
                file.read_exact(&mut block.content).map_err(|error| short(&source, error))?;
                let block = Bytes::from_owner(block);
                if let Some(hash) = &mut hash {
                    hash.update(block.clone());
                }
                left -= block.len();
                content.push(block);
            }
            Ok((file, hash, PutPayload::from_iter(content)))
        });
        let (file, hash, content) = read.await?;
        (self.file, self.hash) = (Some(file), hash);
        Ok(content)
    }
}

/// Copies within one machine: `staged` is outside of all that anybody lists, and becomes `target` when it is whole.
pub(crate) async fn copy(source: PathBuf, staged: PathBuf, target: PathBuf, size: u64) -> Result<Sum, Error> {
    let failed = source.clone();
    blocking(failed.clone(), move || {
        let io = |error| Error::File { path: failed.clone(), source: error };
        let mut input = open(&source, size)?;
        for dir in [&staged, &target].into_iter().filter_map(|path| path.parent()) {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        let copied = (|| {
            let mut output = File::create(&staged).map_err(io)?;
            let mut hash = Md5::new();
            let done = pump(&mut input, size, &source, |piece| {
                hash.update(piece.clone());
                output.write_all(&piece).map_err(io)
            });
            done.map(|()| hex(&hash.finish()))
        })();
        let renamed = copied.and_then(|md5| std::fs::rename(&staged, &target).map(|()| md5).map_err(io));
        match renamed {
            Ok(md5) => Ok(Sum { size, tag: md5.clone(), md5 }),
            Err(error) => {
                // The error is what matters; a stray staged file is overwritten by the next attempt.
                let _ = std::fs::remove_file(&staged);
                Err(error)
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_copy_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let [source, staged, target] = ["source", "staging/one", "deep/target"].map(|file| dir.path().join(file));
        std::fs::write(&source, vec![7; 600_000]).unwrap();
        let sum = copy(source.clone(), staged.clone(), target.clone(), 600_000).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), vec![7; 600_000]);
        assert_eq!(sum.md5, md5_of(source.clone(), 600_000).await.unwrap());
        std::fs::remove_file(&target).unwrap();
        assert!(matches!(copy(source, staged.clone(), target.clone(), 5).await, Err(Error::Changed { .. })));
        assert!(!target.exists() && !staged.exists());
    }

    /// Many big files at once want more memory than there is: each waits its turn, none for ever.
    #[tokio::test]
    async fn files_in_parts_share_the_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let uploader = Uploader {
            store: Store {
                objects: Arc::new(object_store::memory::InMemory::new()),
                root: None,
                attributes: Default::default(),
                tags: Tags::Etag,
                opaque: Arc::default(),
            },
            buffer: Arc::new(Semaphore::new(20)),
            blocks: Arc::default(),
            throttle: None,
            threshold: 1 << 10,
            part_size: 9 << 10,
            part_transfers: 4,
        };
        let mut uploads = Vec::new();
        for number in 0..8_u8 {
            let file = dir.path().join(number.to_string());
            std::fs::write(&file, vec![number; 50 << 10]).unwrap();
            let uploader = &uploader;
            uploads.push(async move {
                uploader.upload(&file, 50 << 10, &number.to_string()).await.unwrap();
            });
        }
        let all = futures::future::join_all(uploads);
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("the uploads wait for one another");
        for number in 0..8_u8 {
            let content = uploader.store.get(&number.to_string()).await.unwrap().unwrap();
            assert_eq!(content, vec![number; 50 << 10]);
        }
    }
}
