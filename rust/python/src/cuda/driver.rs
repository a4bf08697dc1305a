//! The CUDA driver: the calls that load machine code; `launch` has those that run it.

mod launch;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::failure::{Failure, Result};
use super::library::{functions, open, optional};
use crate::environment::text;

type Handle = *mut c_void;

functions! { Calls {
    init = b"cuInit" (c_uint);
    driver_version = b"cuDriverGetVersion" (*mut c_int);
    device_count = b"cuDeviceGetCount" (*mut c_int);
    device_get = b"cuDeviceGet" (*mut c_int, c_int);
    device_name = b"cuDeviceGetName" (*mut c_char, c_int, c_int);
    device_attribute = b"cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
    retain = b"cuDevicePrimaryCtxRetain" (*mut Handle, c_int);
    push = b"cuCtxPushCurrent_v2" (Handle);
    pop = b"cuCtxPopCurrent_v2" (*mut Handle);
    module_load = b"cuModuleLoadData" (*mut Handle, *const c_void);
    module_function = b"cuModuleGetFunction" (*mut Handle, Handle, *const c_char);
    function_attribute = b"cuFuncSetAttribute" (Handle, c_int, c_int);
    launch = b"cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void,
        *mut *mut c_void
    );
    error_string = b"cuGetErrorString" (c_int, *mut *const c_char);
} }

/// `cuFuncGetParamInfo`, which CUDA 12.4 introduced: function, index, offset and size.
type ParamInfo = unsafe extern "C" fn(Handle, usize, *mut usize, *mut usize) -> c_int;

const MULTIPROCESSORS: c_int = 16;
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;
const SHARED_PER_BLOCK: c_int = 97;

/// The driver, as opened by this process.
pub(super) struct Driver {
    calls: Calls,
    param_info: Option<ParamInfo>,
    process: u32,
    /// The primary context of each device, which is retained once and shared with torch.
    contexts: Mutex<HashMap<i32, usize>>,
}

/// The properties of a device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub name: String,
    pub capability: (i32, i32),
    pub multiprocessors: i32,
    pub shared_bytes: i32,
}

/// Machine code that was loaded into a device.
pub(super) struct Loaded {
    module: usize,
    context: usize,
    functions: Mutex<HashMap<String, Function>>,
}

struct Function {
    handle: usize,
    /// The number of bytes of each parameter.
    parameters: Vec<usize>,
    /// The most dynamic shared memory that was requested from the driver so far.
    shared_bytes: u32,
}

/// The grid, block and dynamic shared memory of a launch.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub grid: (u32, u32, u32),
    pub block: (u32, u32, u32),
    pub shared_bytes: u32,
}

/// Returns the driver, which is opened and initialized by the first call.
///
/// # Errors
/// If the driver is missing, or this process was forked from one that used CUDA, which is not
/// supported.
pub(super) fn driver() -> Result<&'static Driver> {
    static DRIVER: OnceLock<std::result::Result<Driver, String>> = OnceLock::new();
    let found = DRIVER.get_or_init(|| Driver::open().map_err(|failure| failure.0)).as_ref();
    let driver = found.map_err(|reason| Failure(reason.clone()))?;
    if driver.process != std::process::id() {
        return Err(Failure(
            "CUDA cannot be used in this process, because it was forked from a process that used CUDA: \
             start workers with the spawn method"
                .into(),
        ));
    }
    Ok(driver)
}

impl Driver {
    fn open() -> Result<Self> {
        let chosen = text("METRO_FAST_LIBCUDA").map_err(|error| Failure(error.to_string()))?;
        let names = chosen
            .map_or_else(|| vec!["libcuda.so.1".into(), "libcuda.so".into()], |path| vec![path]);
        let (library, name) =
            open("the CUDA driver (it is installed with the driver of the GPU)", &names)?;
        // SAFETY: the type is that of the function in NVIDIA's header, and the library stays open.
        let param_info = unsafe { optional(&library, b"cuFuncGetParamInfo") };
        let calls = Calls::load(library, &name)?;
        let (process, contexts) = (std::process::id(), Mutex::default());
        let driver = Self { calls, param_info, process, contexts };
        // SAFETY: cuInit takes no pointers.
        driver.check("cuInit", unsafe { (driver.calls.init)(0) })?;
        Ok(driver)
    }

    fn check(&self, call: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let mut text: *const c_char = ptr::null();
        // SAFETY: the driver writes either the address of a string that it owns, or nothing.
        let found = unsafe { (self.calls.error_string)(code, &raw mut text) };
        let text = if found == 0 && !text.is_null() {
            // SAFETY: `text` is the address of that string.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        } else {
            "unknown error".into()
        };
        Err(Failure(format!("{call} failed: {text} ({code})")))
    }

    /// The CUDA version that the driver supports: 13020 means 13.2.
    pub fn version(&self) -> Result<i32> {
        let mut version = 0;
        // SAFETY: the driver writes one int.
        let code = unsafe { (self.calls.driver_version)(&raw mut version) };
        self.check("cuDriverGetVersion", code)?;
        Ok(version)
    }

    /// Returns all devices that this process may use.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let mut count = 0;
        // SAFETY: the driver writes one int.
        let code = unsafe { (self.calls.device_count)(&raw mut count) };
        self.check("cuDeviceGetCount", code)?;
        (0..count).map(|index| self.device(index)).collect()
    }

    /// Returns the properties of one device.
    pub fn device(&self, index: i32) -> Result<Device> {
        let device = self.ordinal(index)?;
        let mut name = [0u8; 256];
        // SAFETY: the driver writes at most `name.len()` bytes.
        let code = unsafe {
            (self.calls.device_name)(name.as_mut_ptr().cast(), name.len() as c_int, device)
        };
        self.check("cuDeviceGetName", code)?;
        let name =
            CStr::from_bytes_until_nul(&name).map_or("unnamed".into(), CStr::to_string_lossy);
        let attribute = |which| {
            let mut value = 0;
            // SAFETY: the driver writes one int.
            let code = unsafe { (self.calls.device_attribute)(&raw mut value, which, device) };
            self.check("cuDeviceGetAttribute", code).map(|()| value)
        };
        Ok(Device {
            name: name.into_owned(),
            capability: (attribute(CAPABILITY_MAJOR)?, attribute(CAPABILITY_MINOR)?),
            multiprocessors: attribute(MULTIPROCESSORS)?,
            shared_bytes: attribute(SHARED_PER_BLOCK)?,
        })
    }

    fn ordinal(&self, index: i32) -> Result<c_int> {
        let mut device = 0;
        // SAFETY: the driver writes one int.
        self.check("cuDeviceGet", unsafe { (self.calls.device_get)(&raw mut device, index) })?;
        Ok(device)
    }

    fn context(&self, index: i32) -> Result<usize> {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = contexts.get(&index) {
            return Ok(*context);
        }
        let device = self.ordinal(index)?;
        let mut context = ptr::null_mut();
        // SAFETY: the driver writes one handle.
        let code = unsafe { (self.calls.retain)(&raw mut context, device) };
        self.check("cuDevicePrimaryCtxRetain", code)?;
        contexts.insert(index, context as usize);
        Ok(context as usize)
    }

    /// Makes a context current while `work` runs, and restores the caller's context afterwards.
    fn within<T>(&self, context: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // SAFETY: the context was retained and is never released.
        self.check("cuCtxPushCurrent", unsafe { (self.calls.push)(context as Handle) })?;
        let result = work();
        let mut popped = ptr::null_mut();
        // SAFETY: the driver writes one handle.
        let code = unsafe { (self.calls.pop)(&raw mut popped) };
        let after = self.check("cuCtxPopCurrent", code);
        let value = result?;
        after.map(|()| value)
    }

    /// Loads a cubin into a device.
    pub fn load(&self, index: i32, cubin: &[u8]) -> Result<Loaded> {
        let context = self.context(index)?;
        let module = self.within(context, || {
            let mut module = ptr::null_mut();
            // SAFETY: the bytes are a whole cubin, which contains its own length.
            let code = unsafe { (self.calls.module_load)(&raw mut module, cubin.as_ptr().cast()) };
            self.check("cuModuleLoadData", code)?;
            Ok(module as usize)
        })?;
        Ok(Loaded { module, context, functions: Mutex::default() })
    }
}
