//! What is left on the stack. ring and scrypt work on keys by value: their copies lie in frames that nobody overwrites
//! when they return. This does, with a safe program's means.

use std::hint::black_box;

/// More than any call below [`scrubbed`] takes: ring's point tables come to some 20 KiB without optimization.
const SCRUB_BYTES: usize = 256 * 1024;

/// Runs `work`, and overwrites the stack that it used. What it returns must hold its secrets on the heap: a value that is
/// moved leaves a copy behind.
pub(crate) fn scrubbed<T>(work: impl FnOnce() -> T) -> T {
    let result = apart(work);
    overwrite();
    result
}

/// In a frame of its own, so that `work` is not inlined into one that outlives it.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Takes the frame's place, and more.
#[inline(never)]
fn overwrite() {
    let mut stack = [0_u8; SCRUB_BYTES];
    // Without it the array, which nobody reads, would not be written.
    black_box(&mut stack);
}
