//! The CUDA driver: the calls that load machine code and launch it.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::failure::{Failure, Result};
use super::library::{functions, open};
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

const MULTIPROCESSORS: c_int = 16;
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;
const SHARED_PER_BLOCK: c_int = 97;
const MAX_DYNAMIC_SHARED: c_int = 8;

/// The driver, as opened by this process.
pub(super) struct Driver {
    calls: Calls,
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
        let calls = Calls::load(library, &name)?;
        let driver = Self { calls, process: std::process::id(), contexts: Mutex::default() };
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

    /// Launches a kernel without allocating device memory or waiting. From the second launch on,
    /// nothing is loaded either, so that a CUDA graph can capture the launch.
    ///
    /// `arguments` are the values of the parameters, each in the lowest bytes of a word.
    pub fn launch(
        &self,
        loaded: &Loaded,
        kernel: &str,
        shape: Shape,
        stream: u64,
        arguments: &mut [u64],
    ) -> Result<()> {
        self.within(loaded.context, || {
            let function = self.function(loaded, kernel, shape.shared_bytes)?;
            let mut addresses: Vec<*mut c_void> =
                arguments.iter_mut().map(|word| ptr::from_mut(word).cast()).collect();
            let ((gx, gy, gz), (bx, by, bz)) = (shape.grid, shape.block);
            // SAFETY: the function and the stream belong to the current context, and there is one
            // word for each parameter of the kernel, which the driver copies.
            let code = unsafe {
                (self.calls.launch)(
                    function as Handle,
                    gx,
                    gy,
                    gz,
                    bx,
                    by,
                    bz,
                    shape.shared_bytes,
                    stream as Handle,
                    addresses.as_mut_ptr(),
                    ptr::null_mut(),
                )
            };
            self.check(&format!("cuLaunchKernel of {kernel}"), code)
        })
    }

    fn function(&self, loaded: &Loaded, kernel: &str, shared_bytes: u32) -> Result<usize> {
        let mut functions = loaded.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let function = match functions.get_mut(kernel) {
            Some(function) => function,
            None => functions.entry(kernel.into()).or_insert(self.find(loaded, kernel)?),
        };
        if shared_bytes > function.shared_bytes {
            // SAFETY: the handle of the function was looked up above.
            let code = unsafe {
                (self.calls.function_attribute)(
                    function.handle as Handle,
                    MAX_DYNAMIC_SHARED,
                    shared_bytes as c_int,
                )
            };
            self.check(&format!("cuFuncSetAttribute of {kernel}"), code)?;
            function.shared_bytes = shared_bytes;
        }
        Ok(function.handle)
    }

    fn find(&self, loaded: &Loaded, kernel: &str) -> Result<Function> {
        let name = CString::new(kernel).map_err(|_| {
            Failure(format!(
                "the name of the kernel is {kernel:?}, expected one without a zero byte"
            ))
        })?;
        let mut handle = ptr::null_mut();
        // SAFETY: the module is loaded and never unloaded, and the name ends with a zero byte.
        let code = unsafe {
            (self.calls.module_function)(&raw mut handle, loaded.module as Handle, name.as_ptr())
        };
        self.check(&format!("cuModuleGetFunction of {kernel}"), code)?;
        // By default a kernel gets 48 KiB minus its static shared memory, so a launch with slightly
        // less than 48 KiB needs a request too.
        Ok(Function { handle: handle as usize, shared_bytes: 0 })
    }
}
