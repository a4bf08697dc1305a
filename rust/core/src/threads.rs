//! Threads that exist for one call only: a forked child inherits no pool on which it could hang.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{Builder, scope};

use crate::interrupt::{self, point};
use crate::{Error, Result, memory};

/// Bytes of address space that a thread needs, beside what its work allocates: its stack, and the
/// first pages of its heap.
const ROOM: usize = (2 << 20) + (256 << 10);

/// Work that one item stands for, in the units of [`point`]: most callers cut theirs into chunks of
/// about as many elements.
const ITEM: usize = 1 << 16;

/// Runs `work` on each item, with at most `num_threads` scoped threads.
///
/// Each thread takes a contiguous share of the items; the calling thread takes the first share, and
/// every share whose thread cannot be started. No thread is spawned for one thread or one item.
///
/// Before each item the caller may stop the call: see [`interrupt`].
///
/// # Errors
/// The error of the first item that failed, in the order of the items.
pub fn for_each<T: Send>(
    num_threads: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let threads = num_threads.clamp(1, items.len().max(1));
    let work = |item| {
        point(ITEM)?;
        work(item)
    };
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
    run_all(&shares, &run)
}

/// Runs all shares, each on a thread of its own where one can be started.
fn run_all<S: Sync>(shares: &[S], run: &(impl Fn(&S) -> Result<()> + Sync)) -> Result<()> {
    let stop = interrupt::possible().then(Arc::<AtomicBool>::default);
    // Every helper holds a sender until it ends, so that the receiver notices the end of the last.
    let (sender, ended) = mpsc::channel::<()>();
    scope(|scope| {
        let mut handles = memory::with_room(shares.len())?;
        for share in &shares[1..] {
            let (stop, sender) = (stop.as_ref(), sender.clone());
            let help = move || {
                let _sender = sender;
                interrupt::helping(stop, || run(share))
            };
            handles.push(Builder::new().spawn_scoped(scope, help).ok());
        }
        drop(sender);
        let mut own = memory::with_room(shares.len())?;
        let mine = shares[1..].iter().zip(&handles).filter(|(_, handle)| handle.is_none());
        for share in std::iter::once(&shares[0]).chain(mine.map(|(share, _)| share)) {
            own.push(run(share));
            if matches!(own.last(), Some(Err(Error::Interrupted))) {
                break;
            }
        }
        let mut waited = Ok(());
        if let Some(stop) = &stop {
            let interrupted = matches!(own.last(), Some(Err(Error::Interrupted)));
            stop.store(interrupted, Ordering::Relaxed);
            waited = interrupt::wait(stop, |time| {
                matches!(ended.recv_timeout(time), Err(mpsc::RecvTimeoutError::Disconnected))
            });
        }
        let mut own = own.into_iter();
        let mut next = || own.next().unwrap_or(Ok(()));
        let mut result = next();
        for handle in handles {
            let other = match handle {
                Some(handle) => {
                    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                None => next(),
            };
            result = result.and(other);
        }
        result.and(waited)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
