//! The classes and functions for CUDA that Python calls.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::driver::{Loaded, Shape, driver};
use super::failure::{Failure, Result};
use super::image::{Image, Places, fill, images};
use super::nvrtc::nvrtc;

/// The kernels of one source, loaded into one device.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct CudaModule {
    loaded: Loaded,
    origin: String,
}

#[pymethods]
impl CudaModule {
    /// Finds or compiles the machine code, and loads it into the device.
    #[new]
    #[pyo3(signature = (source, device, *, nvrtc, cache, shipped))]
    fn new(
        py: Python<'_>,
        source: &str,
        device: i32,
        nvrtc: Vec<String>,
        cache: Option<PathBuf>,
        shipped: Option<PathBuf>,
    ) -> PyResult<Self> {
        let places = Places { nvrtc, cache, shipped };
        Ok(py.detach(|| Self::load(source, device, &places))?)
    }

    /// The origin of the machine code: `"shipped"`, `"cache"` or `"compiled"`.
    #[getter]
    fn origin(&self) -> &str {
        &self.origin
    }

    /// Launches a kernel on a stream. `arguments` are the bytes of all arguments, and `sizes` the
    /// number of bytes of each, 4 or 8.
    fn launch(
        &self,
        py: Python<'_>,
        kernel: &str,
        stream: u64,
        grid: (u32, u32, u32),
        block: (u32, u32, u32),
        shared_bytes: u32,
        arguments: &[u8],
        sizes: Vec<usize>,
    ) -> PyResult<()> {
        let mut words = words(arguments, &sizes)?;
        let shape = Shape { grid, block, shared_bytes };
        // The driver waits if the queue of launches is full, so the GIL is released.
        Ok(py
            .detach(|| driver()?.launch(&self.loaded, kernel, shape, stream, &mut words, &sizes))?)
    }
}

impl CudaModule {
    fn load(source: &str, index: i32, places: &Places) -> Result<Self> {
        let driver = driver()?;
        let (major, minor) = driver.device(index)?.capability;
        let mut reasons = Vec::new();
        for image in images(source, &format!("sm_{major}{minor}"), places)? {
            let Image { cubin, origin } = image?;
            // A driver may be too old for the code of a newer compiler.
            match driver.load(index, &cubin) {
                Ok(loaded) => return Ok(Self { loaded, origin }),
                Err(Failure(reason)) => reasons.push(format!("{origin}: {reason}")),
            }
        }
        Err(Failure(format!("{source} cannot be loaded: {}", reasons.join("; "))))
    }
}

/// Copies each argument to the lowest bytes of a word.
fn words(arguments: &[u8], sizes: &[usize]) -> Result<Vec<u64>> {
    let mismatch = || {
        Failure(format!(
            "the arguments have {} bytes, which does not match the sizes {sizes:?}, each 4 or 8",
            arguments.len()
        ))
    };
    let mut rest = arguments;
    let mut words = Vec::with_capacity(sizes.len());
    for size in sizes {
        let (4 | 8, Some((bytes, after))) = (*size, rest.split_at_checked(*size)) else {
            return Err(mismatch());
        };
        let mut word = [0; 8];
        word[..*size].copy_from_slice(bytes);
        words.push(u64::from_le_bytes(word));
        rest = after;
    }
    if rest.is_empty() { Ok(words) } else { Err(mismatch()) }
}

/// Finds or compiles the machine code of a source for an architecture. With `shipped`, always
/// compiles it and stores it in that folder.
#[pyfunction]
#[pyo3(signature = (source, architecture, *, nvrtc, cache, shipped))]
pub(crate) fn cuda_compile<'py>(
    py: Python<'py>,
    source: &str,
    architecture: &str,
    nvrtc: Vec<String>,
    cache: Option<PathBuf>,
    shipped: Option<PathBuf>,
) -> PyResult<(Bound<'py, PyBytes>, String)> {
    let places = Places { nvrtc, cache, shipped };
    let image = py.detach(|| {
        if let Some(folder) = &places.shipped {
            return fill(source, architecture, &places.nvrtc, folder);
        }
        let mut all = images(source, architecture, &places)?;
        all.next().unwrap_or_else(|| Err(Failure("nothing was compiled".into())))
    })?;
    Ok((PyBytes::new(py, &image.cubin), image.origin))
}

/// The properties of a device: name, compute capability, multiprocessors, and shared memory per
/// block.
type Properties = (String, (i32, i32), i32, i32);

/// Returns the version of the driver and the properties of all devices.
#[pyfunction]
pub(crate) fn cuda_devices() -> PyResult<(i32, Vec<Properties>)> {
    let driver = driver()?;
    let devices = driver.devices()?.into_iter();
    let properties = devices.map(|d| (d.name, d.capability, d.multiprocessors, d.shared_bytes));
    Ok((driver.version()?, properties.collect()))
}

/// Returns the path of NVRTC and its version.
#[pyfunction]
pub(crate) fn nvrtc_version(names: Vec<String>) -> PyResult<(String, (i32, i32))> {
    let found = nvrtc(&names)?;
    Ok((found.path.clone(), found.version))
}
