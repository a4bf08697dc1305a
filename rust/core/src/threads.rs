//! Threads that exist for one call only: a forked child inherits no pool on which it could hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use crate::interrupt::{self, point};
use crate::{Error, Result};

/// Work that one item stands for, in the units of [`point`]: most callers cut theirs into chunks of
/// about as many elements.
const ITEM: usize = 1 << 16;

/// Runs `work` on each item, with at most `num_threads` scoped threads.
///
/// Each thread takes a contiguous share of the items; the calling thread takes the first share. No
/// thread is spawned for one thread or one item.
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
    if threads == 1 {
        return items.into_iter().try_for_each(work);
    }
    let share = items.len().div_ceil(threads);
    let mut shares: Vec<Vec<T>> = Vec::with_capacity(threads);
    let mut items = items.into_iter();
    loop {
        let chunk: Vec<T> = items.by_ref().take(share).collect();
        if chunk.is_empty() {
            break;
        }
        shares.push(chunk);
    }
    let work = &work;
    let stop = interrupt::possible().then(Arc::<AtomicBool>::default);
    // Every helper holds a sender until it ends, so that the receiver notices the end of the last.
    let (sender, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let mut shares = shares.into_iter();
        let first = shares.next();
        let handles: Vec<_> = shares
            .map(|chunk| {
                let (stop, sender) = (stop.as_ref(), sender.clone());
                let run = move || {
                    let _sender = sender;
                    interrupt::helping(stop, || chunk.into_iter().try_for_each(work))
                };
                std::thread::Builder::new()
                    .spawn_scoped(scope, run)
                    .map_err(|e| Error::io("cannot start a thread", e))
            })
            .collect::<Result<_>>()?;
        drop(sender);
        let mut result = first.map_or(Ok(()), |chunk| chunk.into_iter().try_for_each(work));
        if let Some(stop) = &stop {
            if matches!(result, Err(Error::Interrupted)) {
                stop.store(true, Ordering::Relaxed);
            }
            let all = |time| {
                matches!(ended.recv_timeout(time), Err(mpsc::RecvTimeoutError::Disconnected))
            };
            result = result.and(interrupt::wait(stop, all));
        }
        for handle in handles {
            let other = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        result
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
