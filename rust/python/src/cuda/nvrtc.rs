//! NVRTC, NVIDIA's run-time compiler: from text to the machine code of one architecture.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::failure::{Failure, Result};
use super::library::{functions, open};

type Program = *mut c_void;

functions! { Calls {
    version = b"nvrtcVersion" (*mut c_int, *mut c_int);
    create = b"nvrtcCreateProgram" (
        *mut Program, *const c_char, *const c_char, c_int, *const *const c_char,
        *const *const c_char
    );
    compile = b"nvrtcCompileProgram" (Program, c_int, *const *const c_char);
    cubin_size = b"nvrtcGetCUBINSize" (Program, *mut usize);
    cubin = b"nvrtcGetCUBIN" (Program, *mut c_char);
    log_size = b"nvrtcGetProgramLogSize" (Program, *mut usize);
    log = b"nvrtcGetProgramLog" (Program, *mut c_char);
    destroy = b"nvrtcDestroyProgram" (*mut Program);
} }

/// A compiler, opened from one library.
pub(super) struct Nvrtc {
    calls: Calls,
    /// The name by which the library was opened.
    pub path: String,
    /// The major and minor version.
    pub version: (i32, i32),
}

/// Returns the first compiler that exists under these names; each library is opened only once.
pub(super) fn nvrtc(names: &[String]) -> Result<Arc<Nvrtc>> {
    static OPEN: Mutex<Option<HashMap<Vec<String>, Arc<Nvrtc>>>> = Mutex::new(None);
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let all = all.get_or_insert_default();
    if let Some(found) = all.get(names) {
        return Ok(found.clone());
    }
    let found = Arc::new(Nvrtc::open(names)?);
    all.insert(names.to_vec(), found.clone());
    Ok(found)
}

impl Nvrtc {
    fn open(names: &[String]) -> Result<Self> {
        let what =
            "NVRTC (it is installed with torch for CUDA, or by pip install nvidia-cuda-nvrtc)";
        let (library, path) = open(what, names)?;
        let calls = Calls::load(library, &path)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two ints are written.
        check("nvrtcVersion", unsafe { (calls.version)(&raw mut major, &raw mut minor) })?;
        Ok(Self { calls, path, version: (major, minor) })
    }

    /// Compiles a source.
    ///
    /// # Errors
    /// If the source does not compile; the message contains the log of the compiler.
    pub fn compile(
        &self,
        name: &str,
        text: &str,
        headers: &[(&str, &str)],
        flags: &[String],
    ) -> Result<Vec<u8>> {
        let c = |text: &str| {
            CString::new(text)
                .map_err(|_| Failure(format!("{name}, a header or a flag contains a zero byte")))
        };
        let (name_c, text) = (c(name)?, c(text)?);
        let texts = headers.iter().map(|(_, text)| c(text)).collect::<Result<Vec<_>>>()?;
        let names = headers.iter().map(|(name, _)| c(name)).collect::<Result<Vec<_>>>()?;
        let flags = flags.iter().map(|flag| c(flag)).collect::<Result<Vec<_>>>()?;
        let pointers =
            |all: &[CString]| all.iter().map(|text| text.as_ptr()).collect::<Vec<*const c_char>>();
        let (texts, names, flags) = (pointers(&texts), pointers(&names), pointers(&flags));
        let mut program = ptr::null_mut();
        // SAFETY: all strings end with a zero byte, and there are `headers.len()` texts and names.
        let code = unsafe {
            (self.calls.create)(
                &raw mut program,
                text.as_ptr(),
                name_c.as_ptr(),
                headers.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        check("nvrtcCreateProgram", code)?;
        let result = self.compiled(program, name, &flags);
        // SAFETY: the program was made above and is not used after this.
        check("nvrtcDestroyProgram", unsafe { (self.calls.destroy)(&raw mut program) })?;
        result
    }

    fn compiled(&self, program: Program, name: &str, flags: &[*const c_char]) -> Result<Vec<u8>> {
        // SAFETY: the program exists, and there are `flags.len()` flags.
        let code = unsafe { (self.calls.compile)(program, flags.len() as c_int, flags.as_ptr()) };
        if code != 0 {
            let log = bytes_of(program, self.calls.log_size, self.calls.log)?;
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
            return Err(Failure(format!("{name} does not compile with {}: {log}", self.path)));
        }
        bytes_of(program, self.calls.cubin_size, self.calls.cubin)
    }
}

fn bytes_of(
    program: Program,
    size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    get: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
) -> Result<Vec<u8>> {
    let mut len = 0;
    // SAFETY: the program exists, and one size is written.
    check("NVRTC", unsafe { size(program, &raw mut len) })?;
    let mut bytes = vec![0u8; len];
    // SAFETY: NVRTC writes as many bytes as it reported above.
    check("NVRTC", unsafe { get(program, bytes.as_mut_ptr().cast()) })?;
    Ok(bytes)
}

fn check(call: &str, code: c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Failure(format!("{call} failed with error {code}"))) }
}
