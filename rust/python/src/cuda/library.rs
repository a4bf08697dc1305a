//! Opens a shared library by the first of several names, and loads its functions into a table.

use libloading::Library;

use super::failure::{Failure, Result};

/// Opens the first library that exists. `what` describes it in the error message.
pub(super) fn open(what: &str, names: &[String]) -> Result<(Library, String)> {
    let mut reasons = Vec::new();
    for name in names {
        // SAFETY: the names are those of NVIDIA's libraries, whose initializers may run at any
        // time, or come from the user's environment.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok((library, name.clone())),
            Err(error) => reasons.push(reason(&error)),
        }
    }
    Err(Failure(format!("{what} was not found: {}", reasons.join("; "))))
}

/// Returns the reason that the system gives, which is the source of the error of `libloading`.
pub(super) fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Looks up a function that older libraries do not have.
///
/// # Safety
/// `F` must be the type of the function, and the library must stay open while it is used.
pub(super) unsafe fn optional<F: Copy>(library: &Library, symbol: &[u8]) -> Option<F> {
    // SAFETY: the caller promises the type.
    unsafe { library.get::<F>(symbol) }.ok().map(|found| *found)
}

/// Defines a struct of C functions, which are looked up by name when it is made. The library stays
/// open as long as the process runs.
macro_rules! functions {
    ($table:ident { $($field:ident = $symbol:literal ($($argument:ty),*);)* }) => {
        struct $table {
            $($field: unsafe extern "C" fn($($argument),*) -> std::ffi::c_int,)*
        }

        impl $table {
            fn load(library: libloading::Library, name: &str) -> super::failure::Result<Self> {
                let library = Box::leak(Box::new(library));
                Ok(Self {
                    $($field: {
                        // SAFETY: the type is that of the function in NVIDIA's header.
                        let found = unsafe { library.get::<unsafe extern "C" fn($($argument),*)
                            -> std::ffi::c_int>($symbol) };
                        *found.map_err(|error| super::failure::Failure(format!(
                            "{name} is too old or is a different library: {}",
                            super::library::reason(&error)
                        )))?
                    },)*
                })
            }
        }
    };
}
pub(super) use functions;
