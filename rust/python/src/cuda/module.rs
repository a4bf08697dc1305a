//! What Python sees of CUDA.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::driver::{Loaded, Shape, driver};
use super::image::{Image, Places, fill, images};
use super::nvrtc::nvrtc;
use super::{Failure, Result};

/// The kernels of one source in one device.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct CudaModule {
    loaded: Loaded,
    origin: String,
}

#[pymethods]
impl CudaModule {
    /// Finds or compiles the machine code and puts it into the device.
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

    /// `"shipped"`, `"cache"` or `"compiled"`.
    #[getter]
    fn origin(&self) -> &str {
        &self.origin
    }

    /// Launches a kernel on a stream; `sizes` are the bytes of each of the `arguments`, 4 or 8.
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
        // A full queue of launches makes the driver wait.
        Ok(py.detach(|| driver()?.launch(&self.loaded, kernel, shape, stream, &mut words))?)
    }
}

impl CudaModule {
    fn load(source: &str, index: i32, places: &Places) -> Result<Self> {
        let driver = driver()?;
        let (major, minor) = driver.device(index)?.capability;
        let mut refused = Vec::new();
        for image in images(source, &format!("sm_{major}{minor}"), places)? {
            let Image { cubin, origin } = image?;
            // A driver may be too old for what a newer compiler made.
            match driver.load(index, &cubin) {
                Ok(loaded) => return Ok(Self { loaded, origin }),
                Err(Failure(reason)) => refused.push(format!("{origin}: {reason}")),
            }
        }
        Err(Failure(format!("{source} cannot be loaded: {}", refused.join("; "))))
    }
}

/// Each argument in the lowest bytes of a word.
fn words(arguments: &[u8], sizes: &[usize]) -> Result<Vec<u64>> {
    let unfit = || Failure(format!("{} bytes of arguments of {sizes:?}", arguments.len()));
    let mut rest = arguments;
    let mut words = Vec::with_capacity(sizes.len());
    for size in sizes {
        let (4 | 8, Some((bytes, after))) = (*size, rest.split_at_checked(*size)) else {
            return Err(unfit());
        };
        let mut word = [0; 8];
        word[..*size].copy_from_slice(bytes);
        words.push(u64::from_le_bytes(word));
        rest = after;
    }
    if rest.is_empty() { Ok(words) } else { Err(unfit()) }
}

/// Compiles a source for an architecture; with `shipped`, keeps it there.
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

/// A device as Python gets it: name, compute capability, multiprocessors, shared memory of a block.
type Told = (String, (i32, i32), i32, i32);

/// The driver's version and all devices.
#[pyfunction]
pub(crate) fn cuda_devices() -> PyResult<(i32, Vec<Told>)> {
    let driver = driver()?;
    let devices = driver.devices()?.into_iter();
    let told = devices.map(|d| (d.name, d.capability, d.multiprocessors, d.shared_bytes));
    Ok((driver.version()?, told.collect()))
}

/// Where NVRTC was found, and its version.
#[pyfunction]
pub(crate) fn nvrtc_version(names: Vec<String>) -> PyResult<(String, (i32, i32))> {
    let found = nvrtc(&names)?;
    Ok((found.path.clone(), found.version))
}
