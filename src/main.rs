//! The stheno binary: parse, dispatch.

fn main() {}
