//! MD5 of many contents at once: what stores call a hash, as fast as a backup needs it.
//!
//! A content is given piece by piece. Small pieces are hashed where they are given; big ones by threads of their own, beside
//! the reading and writing, and those of up to eight contents side by side (`lanes.rs`): one content after the other is
//! slower than a disk, eight at once are not.
//!
//! A crate of its own, so that a build for tests can have it optimised: nothing else of the sidecar is worth the time that takes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Buf as _, Bytes};

mod lanes;

use lanes::{BLOCK, LANES, START};

/// Pieces up to this many bytes are not worth the way to another thread.
const SMALL: usize = 16 << 10;
/// Bytes of one content that may wait, and with one piece more: they are memory that nobody else counts.
const WAITING: usize = 1 << 20;
/// From so many contents on they are hashed side by side: that costs what two of them cost alone.
const WORTH: usize = 3;
/// Threads at most: each does the work of several.
const THREADS: usize = 4;

/// The bytes of a hash.
pub type Sum = [u8; 16];

/// The hash of a small content.
pub fn md5(content: &[u8]) -> Sum {
    let mut core = Core::new();
    core.update(content);
    core.finish()
}

/// A content that is being hashed.
#[derive(Debug)]
pub struct Md5(Arc<Content>);

#[derive(Debug)]
struct Content {
    state: Mutex<State>,
    /// Told when less of it waits.
    less: Condvar,
}

#[derive(Debug)]
struct State {
    /// Of everything that was hashed; gone while a thread works on it.
    core: Option<Core>,
    waiting: VecDeque<Bytes>,
    /// Bytes that wait or are being hashed. As long as there are any, a thread has this content or will have it.
    left: usize,
}

impl Default for Md5 {
    fn default() -> Self {
        Self::new()
    }
}

impl Md5 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State { core: Some(Core::new()), waiting: VecDeque::new(), left: 0 };
        Self(Arc::new(Content { state: Mutex::new(state), less: Condvar::new() }))
    }

    /// Takes the next piece; waits while much of this content has not been hashed yet.
    pub fn update(&mut self, piece: Bytes) {
        let mut state = lock(&self.0.state);
        if state.left == 0
            && piece.len() <= SMALL
            && let Some(core) = &mut state.core
        {
            return core.update(&piece);
        }
        while state.left > WAITING {
            state = self.0.less.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let idle = state.left == 0;
        state.left += piece.len();
        state.waiting.push_back(piece);
        drop(state);
        if idle {
            give(Arc::clone(&self.0));
        }
    }

    /// The hash, when everything is hashed.
    pub fn finish(self) -> Sum {
        let mut state = lock(&self.0.state);
        while state.left > 0 {
            state = self.0.less.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.core.take().unwrap_or_else(Core::new).finish()
    }
}

/// Nothing panics while it is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Contents of which something waits, of the whole process.
static READY: Mutex<VecDeque<Arc<Content>>> = Mutex::new(VecDeque::new());
/// Told when there are some.
static SOME: Condvar = Condvar::new();
/// How many threads hash.
static AT_WORK: OnceLock<usize> = OnceLock::new();

/// Has a content hashed: by a thread, or here and now where the system gives us none.
fn give(content: Arc<Content>) {
    let at_work = AT_WORK.get_or_init(|| {
        let wanted = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let begun = |number: &usize| std::thread::Builder::new().name(format!("md5-{number}")).spawn(work).is_ok();
        (0..wanted).filter(begun).count()
    });
    if *at_work == 0 {
        return hash(vec![content]);
    }
    lock(&READY).push_back(content);
    SOME.notify_one();
}

/// A thread's work, for as long as the process lives.
fn work() {
    loop {
        let mut ready = lock(&READY);
        while ready.is_empty() {
            ready = SOME.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
        let count = ready.len().min(LANES);
        let contents = ready.drain(..count).collect();
        drop(ready);
        hash(contents);
    }
}

/// Hashes what waits of these contents; those of which more has come meanwhile go back into the line.
fn hash(contents: Vec<Arc<Content>>) {
    let mut lanes: Vec<Lane> = contents.iter().map(|content| Lane::of(&mut lock(&content.state))).collect();
    let waited: Vec<usize> = lanes.iter().map(|lane| lane.pieces.iter().map(Bytes::len).sum()).collect();
    loop {
        let mut busy: Vec<&mut Lane> = lanes.iter_mut().filter_map(|lane| lane.next().then_some(lane)).collect();
        match busy.len() {
            0 => break,
            1..WORTH => busy.iter_mut().for_each(|lane| lane.alone()),
            WORTH.. => side_by_side(&mut busy),
        }
    }
    for ((content, lane), waited) in contents.into_iter().zip(lanes).zip(waited) {
        let mut state = lock(&content.state);
        state.core = Some(lane.core);
        state.left -= waited;
        let more = state.left > 0;
        drop(state);
        content.less.notify_all();
        if more {
            give(content);
        }
    }
}

/// What is hashed of one content now.
struct Lane {
    core: Core,
    pieces: VecDeque<Bytes>,
    /// Of the first piece, what is not hashed yet. It begins where a block begins.
    now: Bytes,
}

impl Lane {
    fn of(state: &mut State) -> Self {
        let core = state.core.take().unwrap_or_else(Core::new);
        Self { core, pieces: std::mem::take(&mut state.waiting), now: Bytes::new() }
    }

    /// Goes on to where there are whole blocks; whether there are any.
    fn next(&mut self) -> bool {
        while self.now.len() < BLOCK {
            self.core.keep(&std::mem::take(&mut self.now));
            let Some(piece) = self.pieces.pop_front() else {
                return false;
            };
            self.now = piece;
            let used = self.core.fill(&self.now);
            self.now.advance(used);
        }
        true
    }

    fn blocks(&self) -> &[[u8; BLOCK]] {
        self.now.as_chunks().0
    }

    fn alone(&mut self) {
        let (blocks, rest) = self.now.as_chunks();
        lanes::one(&mut self.core.state, blocks);
        let used = self.now.len() - rest.len();
        self.core.length += used as u64;
        self.now.advance(used);
    }
}

/// As many blocks of each as the shortest has. Where there are less contents than lanes, the first one fills the others.
fn side_by_side(busy: &mut [&mut Lane]) {
    let count = busy.iter().map(|lane| lane.blocks().len()).min().unwrap_or(0);
    let of = |at: usize| busy.get(at).or(busy.first());
    let mut states = std::array::from_fn(|at| of(at).map_or(START, |lane| lane.core.state));
    lanes::several(&mut states, std::array::from_fn(|at| of(at).map_or(&[][..], |lane| &lane.blocks()[..count])));
    for (lane, state) in busy.iter_mut().zip(states) {
        lane.core.state = state;
        lane.core.length += (count * BLOCK) as u64;
        lane.now.advance(count * BLOCK);
    }
}

/// MD5 of what has come so far.
#[derive(Debug)]
struct Core {
    state: [u32; 4],
    length: u64,
    /// Behind the last whole block.
    tail: [u8; BLOCK],
}

impl Core {
    fn new() -> Self {
        Self { state: START, length: 0, tail: [0; BLOCK] }
    }

    /// Bytes of the tail.
    fn filled(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    /// Completes the tail's block; how many bytes that took.
    fn fill(&mut self, piece: &[u8]) -> usize {
        let filled = self.filled();
        if filled == 0 {
            return 0;
        }
        let used = piece.len().min(BLOCK - filled);
        self.tail[filled..filled + used].copy_from_slice(&piece[..used]);
        self.length += used as u64;
        if filled + used == BLOCK {
            lanes::one(&mut self.state, &[self.tail]);
        }
        used
    }

    /// Keeps what is less than a block, behind whole ones.
    fn keep(&mut self, rest: &[u8]) {
        let filled = self.filled();
        self.tail[filled..filled + rest.len()].copy_from_slice(rest);
        self.length += rest.len() as u64;
    }

    fn update(&mut self, piece: &[u8]) {
        let used = self.fill(piece);
        let (blocks, rest) = piece[used..].as_chunks();
        lanes::one(&mut self.state, blocks);
        self.length += (blocks.len() * BLOCK) as u64;
        self.keep(rest);
    }

    fn finish(mut self) -> Sum {
        let bits = self.length.wrapping_mul(8).to_le_bytes();
        let padding = BLOCK - (self.filled() + bits.len()) % BLOCK;
        let mut end = [0; 2 * BLOCK];
        end[0] = 0x80;
        end[padding..padding + bits.len()].copy_from_slice(&bits);
        self.update(&end[..padding + bits.len()]);
        let mut sum = [0; 16];
        for (bytes, word) in sum.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use md5::Digest as _;
    use proptest::prelude::*;

    use super::*;

    fn theirs(content: &[u8]) -> Sum {
        md5::Md5::digest(content).into()
    }

    #[test]
    fn small_contents_of_every_length() {
        for length in 0..300 {
            let content: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            assert_eq!(md5(&content), theirs(&content), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Of any lengths, in any pieces, beside any others.
        #[test]
        fn many_at_once(contents in prop::collection::vec((0_usize..200_000, 1_usize..70_000), 1..20), seed: u8) {
            let threads: Vec<_> = contents.into_iter().enumerate().map(|(number, (length, piece))| {
                std::thread::spawn(move || {
                    let noise = |at: usize| (at ^ at >> 8 ^ number).wrapping_mul(31) as u8 ^ seed;
                    let content = Bytes::from((0..length).map(noise).collect::<Vec<u8>>());
                    let mut sum = Md5::new();
                    for at in (0..length).step_by(piece) {
                        sum.update(content.slice(at..length.min(at + piece)));
                    }
                    (sum.finish(), theirs(&content))
                })
            }).collect();
            for thread in threads {
                let (ours, theirs) = thread.join().unwrap();
                prop_assert_eq!(ours, theirs);
            }
        }
    }

    /// Side by side without threads, so that the lanes are what is tested.
    #[test]
    fn side_by_side_each_gets_its_own() {
        for count in 1..=LANES {
            let contents: Vec<Bytes> =
                (0..count).map(|number| Bytes::from(vec![number as u8; 1000 * (number + 1) + number])).collect();
            let mut sums: Vec<Md5> = contents.iter().map(|_| Md5::new()).collect();
            for (sum, content) in sums.iter_mut().zip(&contents) {
                // As if it were given to a thread.
                let mut state = lock(&sum.0.state);
                state.core.as_mut().unwrap().update(b"abc");
                state.left = content.len();
                state.waiting.push_back(content.clone());
            }
            hash(sums.iter().map(|sum| Arc::clone(&sum.0)).collect());
            for (sum, content) in sums.into_iter().zip(contents) {
                assert_eq!(sum.finish(), theirs(&[b"abc", content.as_ref()].concat()), "{count}");
            }
        }
    }
}
