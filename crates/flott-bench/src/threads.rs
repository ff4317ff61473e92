//! The threads of the hand-written versions.

use std::thread;

use crate::scenario::Checksum;

/// Runs `work` on each input on a thread of its own and sums what they return up.
#[expect(clippy::disallowed_methods, reason = "a reference without the engine has threads of its own")]
pub(crate) fn run_on_threads<T: Send>(
    inputs: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Checksum + Copy + Send,
) -> Checksum {
    thread::scope(|scope| {
        let threads: Vec<_> = inputs.into_iter().map(|input| scope.spawn(move || work(input))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a bench thread panicked")).sum()
    })
}
