//! The machine code of a source for an architecture: shipped, kept, or compiled now.

use std::path::{Path, PathBuf};

use super::nvrtc::nvrtc;
use super::sources::{HEADERS, source};
use super::{Result, cache};

/// Where machine code may come from.
pub(super) struct Places {
    /// Names of NVRTC, in the order in which they are tried.
    pub nvrtc: Vec<String>,
    /// The user's folder; none keeps nothing.
    pub cache: Option<PathBuf>,
    /// A filled folder that came with the package.
    pub shipped: Option<PathBuf>,
}

/// Machine code, and where it is from.
pub(super) struct Image {
    pub cubin: Vec<u8>,
    /// `"shipped"`, `"cache"`, `"compiled"`, or `"compiled; not kept: ..."`.
    pub origin: String,
}

/// Without contraction, so that a product and a sum are rounded as on the CPU.
const FLAGS: [&str; 3] = ["--std=c++17", "--fmad=false", "-ftz=false"];

fn flags_for(architecture: &str) -> Vec<String> {
    let mut flags: Vec<String> = FLAGS.map(String::from).to_vec();
    flags.push(format!("--gpu-architecture={architecture}"));
    flags
}

/// The images of a source, the ready ones first; each is looked for when the one before did not do.
pub(super) fn images<'a>(
    name: &'a str,
    architecture: &str,
    places: &'a Places,
) -> Result<impl Iterator<Item = Result<Image>> + 'a> {
    let (text, flags) = (source(name)?, flags_for(architecture));
    let of_shipped = cache::key(text, &HEADERS, &flags, "");
    let shipped = places.shipped.iter().filter_map(move |folder| {
        let cubin = cache::read(folder, &of_shipped)?;
        Some(Ok(Image { cubin, origin: "shipped".into() }))
    });
    let made = move |kept: bool| {
        let compiler = nvrtc(&places.nvrtc)?;
        let (major, minor) = compiler.version;
        let key = cache::key(text, &HEADERS, &flags, &format!("{major}.{minor}"));
        let folder = places.cache.as_deref();
        if kept {
            let found = folder.and_then(|folder| cache::read(folder, &key));
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
    Ok(shipped.chain([true, false].into_iter().filter_map(move |kept| made(kept).transpose())))
}

/// Fills a folder that is to be shipped.
///
/// # Errors
/// Of the compiler, and of the file system.
pub(super) fn fill(
    name: &str,
    architecture: &str,
    nvrtc_names: &[String],
    folder: &Path,
) -> Result<Image> {
    let (text, flags) = (source(name)?, flags_for(architecture));
    let cubin = nvrtc(nvrtc_names)?.compile(name, text, &HEADERS, &flags)?;
    cache::write(folder, &cache::key(text, &HEADERS, &flags, ""), &cubin)
        .map_err(|error| super::Failure(format!("{}: {error}", folder.display())))?;
    Ok(Image { cubin, origin: "compiled".into() })
}
