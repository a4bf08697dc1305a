//! A shared library by the first of its names that opens, and its functions as a table.

use libloading::Library;

use super::{Failure, Result};

/// Opens the first library that there is.
pub(super) fn open(what: &str, names: &[String]) -> Result<(Library, String)> {
    let mut reasons = Vec::new();
    for name in names {
        // SAFETY: the names are those of NVIDIA's own libraries, whose initializers may run at any
        // time, or what the user set in the environment.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok((library, name.clone())),
            Err(error) => reasons.push(told(&error)),
        }
    }
    Err(Failure(format!("{what} was not found: {}", reasons.join("; "))))
}

/// What the system says: the library's own error is its source.
pub(super) fn told(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A struct of C functions, looked up by name when it is made. The library stays open for as long as
/// the process runs.
macro_rules! functions {
    ($table:ident { $($field:ident = $symbol:literal ($($argument:ty),*);)* }) => {
        struct $table {
            $($field: unsafe extern "C" fn($($argument),*) -> std::ffi::c_int,)*
        }

        impl $table {
            fn load(library: libloading::Library, name: &str) -> super::Result<Self> {
                let library = Box::leak(Box::new(library));
                Ok(Self {
                    $($field: {
                        // SAFETY: the type is that of the function in NVIDIA's header.
                        let found = unsafe { library.get::<unsafe extern "C" fn($($argument),*)
                            -> std::ffi::c_int>($symbol) };
                        *found.map_err(|error| super::Failure(format!(
                            "{name} is too old or no such library: {}", super::library::told(&error)
                        )))?
                    },)*
                })
            }
        }
    };
}
pub(super) use functions;
