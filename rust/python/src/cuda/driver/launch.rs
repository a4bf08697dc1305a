//! Finds the kernels of loaded machine code, checks their arguments, and launches them.

use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::PoisonError;

use super::super::failure::{Failure, Result};
use super::super::sources::known_parameters;
use super::{Driver, Function, Handle, Loaded, Shape};

const MAX_DYNAMIC_SHARED: c_int = 8;
/// The answer for the parameter after the last.
const INVALID_VALUE: c_int = 1;

impl Driver {
    /// Launches a kernel without allocating device memory or waiting. From the second launch on,
    /// nothing is loaded either, so that a CUDA graph can capture the launch.
    ///
    /// `arguments` are the values of the parameters, each in the lowest bytes of a word, and `sizes`
    /// the number of bytes of each.
    ///
    /// # Errors
    /// If the sizes are not those of the kernel's parameters, or a call of the driver fails.
    pub fn launch(
        &self,
        loaded: &Loaded,
        kernel: &str,
        shape: Shape,
        stream: u64,
        arguments: &mut [u64],
        sizes: &[usize],
    ) -> Result<()> {
        self.within(loaded.context, || {
            let function = self.function(loaded, kernel, shape.shared_bytes, sizes)?;
            let mut addresses: Vec<*mut c_void> =
                arguments.iter_mut().map(|word| ptr::from_mut(word).cast()).collect();
            let ((gx, gy, gz), (bx, by, bz)) = (shape.grid, shape.block);
            // SAFETY: the function belongs to the current context, and `function` checked that there
            // is one word for each of its parameters, which the driver copies. What rests on the
            // caller, `metro_fast.ops.cuda.launch`, is what the driver cannot check: that the
            // stream is one of this context, and that addresses among the arguments are those of
            // live device memory of the size that the kernel uses.
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

    /// The handle of a kernel whose parameters have these sizes.
    fn function(
        &self,
        loaded: &Loaded,
        kernel: &str,
        shared_bytes: u32,
        sizes: &[usize],
    ) -> Result<usize> {
        let mut functions = loaded.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let function = match functions.get_mut(kernel) {
            Some(function) => function,
            None => functions.entry(kernel.into()).or_insert(self.find(loaded, kernel)?),
        };
        if sizes != function.parameters {
            return Err(Failure(format!(
                "the arguments of {kernel} have the sizes {sizes:?}, but its parameters have {:?}: \
                 give one argument for each",
                function.parameters
            )));
        }
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
        let parameters = self.parameters(handle, kernel)?;
        // By default a kernel gets 48 KiB minus its static shared memory, so a launch with slightly
        // less than 48 KiB needs a request too.
        Ok(Function { handle: handle as usize, parameters, shared_bytes: 0 })
    }

    /// The sizes of a kernel's parameters: those that the driver gives, or, before CUDA 12.4, those
    /// of the source. Not yet run on a GPU.
    fn parameters(&self, function: Handle, kernel: &str) -> Result<Vec<usize>> {
        let Some(param_info) = self.param_info else {
            return known_parameters(kernel);
        };
        let mut sizes = Vec::new();
        loop {
            let (mut offset, mut size) = (0, 0);
            // SAFETY: the function was looked up by the caller, and the driver writes two sizes.
            let code = unsafe { param_info(function, sizes.len(), &raw mut offset, &raw mut size) };
            match code {
                0 => sizes.push(size),
                INVALID_VALUE => return Ok(sizes),
                code => self.check(&format!("cuFuncGetParamInfo of {kernel}"), code)?,
            }
        }
    }
}
