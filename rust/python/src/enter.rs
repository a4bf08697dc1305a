//! The only way into the core: releases the GIL, lets Python's signals interrupt a long call, and
//! converts errors.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use metro_fast_core::{Result, interrupt};
use pyo3::marker::Ungil;
use pyo3::prelude::*;

use crate::error::{MetroFastError, to_python};

thread_local! {
    /// The exception of a signal handler, such as `KeyboardInterrupt`, until the call has ended.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
    /// Whether this thread runs Python's signal handlers: unknown until a call takes long.
    static HANDLES_SIGNALS: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs `work` without the GIL.
///
/// A call that takes longer than 0.1 s runs the handlers of signals that have arrived, and ends if
/// one of them raises an exception. A panic becomes a `MetroFastError`: `PanicException` is not an
/// `Exception`, so that a caller's `except` would not see it.
pub(crate) fn enter<T: Ungil + Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T> + Ungil + Send,
) -> PyResult<T> {
    let result = py.detach(|| {
        // What `work` may leave half changed is its output, which the caller knows to be incomplete.
        catch_unwind(AssertUnwindSafe(|| interrupt::during(stopped, work)))
    });
    match RAISED.take() {
        Some(raised) => Err(raised),
        None => match result {
            Ok(result) => result.map_err(to_python),
            Err(panic) => Err(panicked(&*panic)),
        },
    }
}

/// Whether a signal handler raised an exception. Only the main thread runs handlers, and the others
/// should not wait for the GIL in vain.
fn stopped() -> bool {
    if HANDLES_SIGNALS.get() == Some(false) {
        return false;
    }
    Python::attach(|py| {
        let main = HANDLES_SIGNALS.get().map_or_else(|| is_main_thread(py), Ok);
        if let Ok(main) = &main {
            HANDLES_SIGNALS.set(Some(*main));
        }
        // `threading` is written in Python, so that a handler may raise its exception there.
        let raised = main.err().or_else(|| py.check_signals().err());
        let stop = raised.is_some();
        if stop {
            RAISED.set(raised);
        }
        stop
    })
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    Ok(threading.call_method0("main_thread")?.is(&threading.call_method0("current_thread")?))
}

fn panicked(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    MetroFastError::new_err(format!(
        "the native module stopped ({text}): an array or a file was changed by another thread or \
         process during the call, or this is an error of metro_fast, which we would like to know of"
    ))
}
