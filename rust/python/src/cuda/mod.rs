//! CUDA without linking to it: the driver and NVRTC are opened when they are first used.
//!
//! `sources` holds the text of the kernels, `nvrtc` compiles it, `cache` stores the compiled code,
//! `image` finds the machine code for a device, and `driver` loads and launches it. All `unsafe`
//! code of this crate is in this folder.

mod cache;
#[allow(unsafe_code)]
mod driver;
mod failure;
mod image;
#[allow(unsafe_code)]
mod library;
mod module;
#[allow(unsafe_code)]
mod nvrtc;
#[cfg_attr(not(unix), path = "plain_folder.rs")]
mod own_folder;
mod sources;

pub(crate) use module::{CudaModule, cuda_compile, cuda_devices, nvrtc_version};
