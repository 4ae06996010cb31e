//! The compression function of MD5 (RFC 1321, section 3.4), for one content or for several side by side.
//!
//! Every step waits for the one before it, so that one content leaves most of a processor idle. The same step of several
//! contents is one instruction on a vector of them, and takes hardly longer.

use wide::u32x8;

/// Contents side by side: what the registers of every processor of ours hold without spilling.
pub(super) const LANES: usize = 8;
/// Bytes that are hashed at once.
pub(super) const BLOCK: usize = 64;

/// Where every content begins (section 3.3).
pub(super) const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// `floor(2^32 * abs(sin(i + 1)))`, i in radians.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// A word of one content, or one of each of several.
trait Word: Copy {
    fn all(word: u32) -> Self;
    fn plus(self, other: Self) -> Self;
    fn turned<const BY: u32>(self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn not(self) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn all(word: u32) -> Self {
        word
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    #[inline(always)]
    fn turned<const BY: u32>(self) -> Self {
        self.rotate_left(BY)
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self & other
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self | other
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self ^ other
    }
    #[inline(always)]
    fn not(self) -> Self {
        !self
    }
}

impl Word for u32x8 {
    #[inline(always)]
    fn all(word: u32) -> Self {
        u32x8::splat(word)
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn turned<const BY: u32>(self) -> Self {
        (self << BY) | (self >> (32 - BY))
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self & other
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self | other
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self ^ other
    }
    #[inline(always)]
    fn not(self) -> Self {
        !self
    }
}

#[inline(always)]
fn step<W: Word, const BY: u32>([a, b, c, d]: [W; 4], word: W, sine: u32, mixed: W) -> [W; 4] {
    let sum = a.plus(word.plus(W::all(sine))).plus(mixed);
    [d, b.plus(sum.turned::<BY>()), b, c]
}

macro_rules! round {
    ($now:ident, $words:ident, $from:expr, $by:expr, $plus:expr, [$s0:literal, $s1:literal, $s2:literal, $s3:literal], $mix:expr) => {
        for i in (0..16).step_by(4) {
            let mix = $mix;
            let at = |i: usize| ($by * i + $plus) % 16;
            $now = step::<W, $s0>($now, $words[at(i)], SINES[$from + i], mix($now[1], $now[2], $now[3]));
            $now = step::<W, $s1>($now, $words[at(i + 1)], SINES[$from + i + 1], mix($now[1], $now[2], $now[3]));
            $now = step::<W, $s2>($now, $words[at(i + 2)], SINES[$from + i + 2], mix($now[1], $now[2], $now[3]));
            $now = step::<W, $s3>($now, $words[at(i + 3)], SINES[$from + i + 3], mix($now[1], $now[2], $now[3]));
        }
    };
}

/// Hashes one block of each content.
#[inline(always)]
fn block<W: Word>(state: &mut [W; 4], words: &[W; 16]) {
    let mut now = *state;
    round!(now, words, 0, 1, 0, [7, 12, 17, 22], |b: W, c: W, d: W| d.xor(b.and(c.xor(d))));
    round!(now, words, 16, 5, 1, [5, 9, 14, 20], |b: W, c: W, d: W| b.and(d).plus(c.and(d.not())));
    round!(now, words, 32, 3, 5, [4, 11, 16, 23], |b: W, c: W, d: W| b.xor(c).xor(d));
    round!(now, words, 48, 7, 0, [6, 10, 15, 21], |b: W, c: W, d: W| c.xor(b.or(d.not())));
    for (sum, now) in state.iter_mut().zip(now) {
        *sum = sum.plus(now);
    }
}

fn word(block: &[u8; BLOCK], at: usize) -> u32 {
    block.as_chunks::<4>().0.get(at).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Hashes whole blocks of one content.
pub(super) fn one(state: &mut [u32; 4], blocks: &[[u8; BLOCK]]) {
    for content in blocks {
        block(state, &std::array::from_fn(|at| word(content, at)));
    }
}

/// Hashes as many blocks of each content as the shortest has.
pub(super) fn several(states: &mut [[u32; 4]; LANES], blocks: [&[[u8; BLOCK]]; LANES]) {
    let mut state: [u32x8; 4] = std::array::from_fn(|word| u32x8::new(states.map(|state| state[word])));
    let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let blocks = blocks.map(|blocks| &blocks[..count]);
    for at in 0..count {
        let now = blocks.map(|blocks| &blocks[at]);
        let words = std::array::from_fn(|i| u32x8::new(now.map(|block| word(block, i))));
        block(&mut state, &words);
    }
    for (lane, own) in states.iter_mut().enumerate() {
        *own = state.map(|word| word.to_array()[lane]);
    }
}
