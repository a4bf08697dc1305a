//! Threads that exist for one call only: a forked child inherits no pool on which it could hang.

use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, scope};

use crate::{Result, memory};

/// Bytes of address space that a thread needs, beside what its work allocates: its stack, and the
/// first pages of its heap.
const ROOM: usize = (2 << 20) + (256 << 10);

/// Runs `work` on each item, with at most `num_threads` scoped threads.
///
/// Each thread takes a contiguous share of the items; the calling thread takes the first share, and
/// every share whose thread cannot be started. No thread is spawned for one thread or one item.
///
/// # Errors
/// The error of the first item that failed, in the order of the items.
pub fn for_each<T: Send>(
    num_threads: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let threads = num_threads.clamp(1, items.len().max(1));
    // Where memory is short, a thread starts and then fails inside the C library, which ends the
    // process.
    if threads == 1 || memory::expect(ROOM.saturating_mul(threads - 1)).is_err() {
        return items.into_iter().try_for_each(work);
    }
    let share = items.len().div_ceil(threads);
    let count = items.len().div_ceil(share);
    let mut items = items.into_iter();
    let mut shares = memory::with_room(count)?;
    for _ in 0..count {
        shares.push(Mutex::new(memory::collect(items.by_ref().take(share))?));
    }
    let run = |share: &Mutex<Vec<T>>| {
        let items = std::mem::take(&mut *share.lock().unwrap_or_else(PoisonError::into_inner));
        items.into_iter().try_for_each(&work)
    };
    let run = &run;
    scope(|scope| {
        let mut handles = memory::with_room(count)?;
        for share in &shares[1..] {
            handles.push(Builder::new().spawn_scoped(scope, move || run(share)).ok());
        }
        let mut result = run(&shares[0]);
        for (share, handle) in shares[1..].iter().zip(handles) {
            let other = match handle {
                Some(handle) => {
                    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                None => run(share),
            };
            result = result.and(other);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn every_item_is_done_once_at_any_thread_count() {
        for threads in [1, 2, 3, 7, 100] {
            let mut out = vec![0; 10];
            let items: Vec<_> = out.iter_mut().enumerate().collect();
            for_each(threads, items, |(i, slot)| {
                *slot += i;
                Ok(())
            })
            .unwrap();
            assert_eq!(out, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_comes_back() {
        let error = for_each(2, vec![1, 2, 3], |i| {
            if i == 3 { Err(Error::Shape("three".into())) } else { Ok(()) }
        });
        assert_eq!(error.unwrap_err().to_string(), "three");
    }
}
