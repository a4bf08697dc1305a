//! Lets the caller of a long call stop it between two pieces of its work.
//!
//! A caller wraps the call in [`during`], with a question that is asked about every 0.1 s ("was
//! Ctrl-C pressed?"). Kernels call [`point`] between pieces that take less than a few milliseconds.
//! Without [`during`] a point costs a nanosecond, and a call that is shorter than 0.1 s never asks.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Time between two questions: 0.1 s, because an answer after 0.3 s feels slow, and because a
/// question may have to wait 5 ms for Python's lock.
const EVERY: Duration = Duration::from_millis(100);

/// Units of work, about as many bytes, between two looks at the clock, which takes 30 ns. The
/// slowest kernels need a few milliseconds for as many.
const GRAIN: usize = 1 << 20;

/// The question whether to stop. It is asked on the thread that called [`during`].
pub type Question = fn() -> bool;

thread_local! {
    static QUESTION: Cell<Option<Question>> = const { Cell::new(None) };
    static WORK: Cell<usize> = const { Cell::new(0) };
    static ASKED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// For a thread that works for another one: whether it should stop.
    static STOP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Runs `work`, which ends with [`Error::Interrupted`] at a [`point`] where `question` says yes.
pub fn during<T>(question: Question, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Question>);
    impl Drop for Restore {
        fn drop(&mut self) {
            QUESTION.set(self.0);
        }
    }
    let _restore = Restore(QUESTION.replace(Some(question)));
    WORK.set(0);
    ASKED.set(None);
    work()
}

/// Stops the call here if its caller wants that; `work` is roughly the number of bytes or elements
/// since the last point of this thread.
///
/// # Errors
/// [`Error::Interrupted`] if the call shall stop.
#[inline]
pub fn point(work: usize) -> Result<()> {
    let sum = WORK.get().saturating_add(work);
    if sum < GRAIN {
        WORK.set(sum);
        return Ok(());
    }
    WORK.set(0);
    look()
}

/// Collects the work of short pieces, so that a [`point`] of a microsecond's work costs nothing.
#[derive(Default)]
pub(crate) struct Pace(usize);

impl Pace {
    /// A [`point`] if enough work has come together.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the call shall stop.
    #[inline(always)]
    pub(crate) fn step(&mut self, work: usize) -> Result<()> {
        self.0 += work;
        if self.0 < GRAIN / 4 { Ok(()) } else { point(std::mem::take(&mut self.0)) }
    }
}

#[cold]
fn look() -> Result<()> {
    let stopped = STOP.with_borrow(|stop| stop.as_ref().is_some_and(|s| s.load(Ordering::Relaxed)));
    if stopped { Err(Error::Interrupted) } else { ask() }
}

/// Asks the question if it was last asked 0.1 s ago, or the call began that long ago.
fn ask() -> Result<()> {
    let Some(question) = QUESTION.get() else { return Ok(()) };
    let now = Instant::now();
    let Some(last) = ASKED.get() else {
        ASKED.set(Some(now));
        return Ok(());
    };
    if now.duration_since(last) < EVERY {
        return Ok(());
    }
    ASKED.set(Some(now));
    if question() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Whether the current call can be stopped at all.
pub(crate) fn possible() -> bool {
    QUESTION.get().is_some()
}

/// Runs `work` on a thread that helps another one, until the flag is set.
pub(crate) fn helping<T>(stop: Option<&Arc<AtomicBool>>, work: impl FnOnce() -> T) -> T {
    STOP.set(stop.cloned());
    work()
}

/// Waits until `finished`, and asks the question meanwhile; a yes sets the flag, on which the
/// helpers end at their next point.
pub(crate) fn wait(stop: &AtomicBool, mut finished: impl FnMut(Duration) -> bool) -> Result<()> {
    let mut result = Ok(());
    while !finished(EVERY / 2) {
        // After a yes the question is not asked again: the caller's own share may have asked it.
        if !stop.load(Ordering::Relaxed) {
            result = ask();
            stop.store(result.is_err(), Ordering::Relaxed);
        }
    }
    result
}

/// Appends bytes in pieces, with a [`point`] after each.
///
/// # Errors
/// [`Error::Interrupted`] if the call shall stop.
pub(crate) fn append(to: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    bytes.chunks(GRAIN).try_for_each(|piece| {
        to.extend_from_slice(piece);
        point(piece.len())
    })
}

/// The CRC32C of the bytes that follow those with the checksum `before`, with a [`point`] after
/// each piece.
///
/// # Errors
/// [`Error::Interrupted`] if the call shall stop.
pub(crate) fn checksum(before: u32, bytes: &[u8]) -> Result<u32> {
    bytes.chunks(GRAIN).try_fold(before, |crc, piece| {
        point(piece.len())?;
        Ok(crc32c::crc32c_append(crc, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::for_each;

    fn endless() -> Result<()> {
        loop {
            std::thread::sleep(Duration::from_millis(1));
            point(GRAIN)?;
        }
    }

    #[test]
    fn a_yes_stops_every_thread_and_a_no_none() {
        for threads in [1, 3] {
            let started = Instant::now();
            let result = during(|| true, || for_each(threads, vec![(); threads], |()| endless()));
            assert!(matches!(result, Err(Error::Interrupted)));
            assert!(started.elapsed() < Duration::from_secs(5));
            // The share of the caller ends first: it waits for the helpers, and asks meanwhile.
            let result = during(
                || true,
                || {
                    for_each(threads, (0..threads).collect(), |i| {
                        if i == 0 { Ok(()) } else { endless() }
                    })
                },
            );
            assert_eq!(result.is_err(), threads > 1);
        }
        let end = Instant::now() + Duration::from_millis(250);
        let until = || -> Result<()> {
            while Instant::now() < end {
                point(GRAIN)?;
            }
            Ok(())
        };
        assert!(during(|| false, until).is_ok());
        assert!(point(usize::MAX).is_ok(), "the question is forgotten after the call");
    }

    #[test]
    fn pieces_make_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..3 * GRAIN + 5).map(|i| ((i * i) >> 7) as u8).collect();
        let (head, tail) = bytes.split_at(99);
        assert_eq!(checksum(crc32c::crc32c(head), tail).unwrap(), crc32c::crc32c(&bytes));
        let mut copy = vec![1];
        append(&mut copy, &bytes).unwrap();
        assert_eq!(copy[1..], bytes);
    }
}
