//! The machine code of a source for an architecture: shipped with the package, cached, or compiled
//! now.

use std::path::{Path, PathBuf};

use super::cache;
use super::failure::{Failure, Result};
use super::nvrtc::nvrtc;
use super::sources::{HEADERS, source};

/// The places where machine code may come from.
pub(super) struct Places {
    /// The names of NVRTC, in the order in which they are tried.
    pub nvrtc: Vec<String>,
    /// The user's folder; without one, compiled code is not stored.
    pub cache: Option<PathBuf>,
    /// A folder with compiled code that is part of the package.
    pub shipped: Option<PathBuf>,
}

/// Machine code and its origin.
pub(super) struct Image {
    pub cubin: Vec<u8>,
    /// `"shipped"`, `"cache"`, `"compiled"`, or `"compiled; not kept: ..."`.
    pub origin: String,
}

/// Flags that disable contraction, so that products and sums are rounded as on the CPU.
const FLAGS: [&str; 3] = ["--std=c++17", "--fmad=false", "-ftz=false"];

fn flags_for(architecture: &str) -> Vec<String> {
    let mut flags: Vec<String> = FLAGS.map(String::from).to_vec();
    flags.push(format!("--gpu-architecture={architecture}"));
    flags
}

/// Iterates over the images of a source, those that are ready first. Each is made only if the
/// caller did not accept the one before.
pub(super) fn images<'a>(
    name: &'a str,
    architecture: &str,
    places: &'a Places,
) -> Result<impl Iterator<Item = Result<Image>> + 'a> {
    let (text, flags) = (source(name)?, flags_for(architecture));
    let shipped_key = cache::key(text, &HEADERS, &flags, "");
    let shipped = places.shipped.iter().filter_map(move |folder| {
        let cubin = cache::shipped(folder, &shipped_key)?;
        Some(Ok(Image { cubin, origin: "shipped".into() }))
    });
    let cached_or_compiled = move |cached: bool| {
        let compiler = nvrtc(&places.nvrtc)?;
        let (major, minor) = compiler.version;
        let key = cache::key(text, &HEADERS, &flags, &format!("{major}.{minor}"));
        let folder = places.cache.as_deref();
        if cached {
            // A folder that is refused has nothing to read; `write` then says why.
            let found = folder.and_then(|folder| cache::read(folder, &key).ok().flatten());
            return Ok(found.map(|cubin| Image { cubin, origin: "cache".into() }));
        }
        let cubin = compiler.compile(name, text, &HEADERS, &flags)?;
        let origin = match folder.map(|folder| (folder, cache::write(folder, &key, &cubin))) {
            Some((folder, Err(error))) => {
                format!("compiled; not kept: {}: {error}", folder.display())
            }
            _ => "compiled".into(),
        };
        Ok(Some(Image { cubin, origin }))
    };
    Ok(shipped.chain(
        [true, false].into_iter().filter_map(move |cached| cached_or_compiled(cached).transpose()),
    ))
}

/// Compiles a source into a folder that will be shipped.
///
/// # Errors
/// The errors of the compiler and of the file system.
pub(super) fn fill(
    name: &str,
    architecture: &str,
    nvrtc_names: &[String],
    folder: &Path,
) -> Result<Image> {
    let (text, flags) = (source(name)?, flags_for(architecture));
    let cubin = nvrtc(nvrtc_names)?.compile(name, text, &HEADERS, &flags)?;
    cache::write(folder, &cache::key(text, &HEADERS, &flags, ""), &cubin)
        .map_err(|error| Failure(format!("cannot write to {}: {error}", folder.display())))?;
    Ok(Image { cubin, origin: "compiled".into() })
}
