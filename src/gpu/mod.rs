//! The device: what it can do, what goes to it and comes back, its kernels and their recording.

pub(crate) mod context;
pub(crate) mod dtype;
pub(crate) mod element;
pub(crate) mod error_scopes;
pub(crate) mod kernel;
pub(crate) mod owned;
pub(crate) mod profile;
pub(crate) mod program;
pub(crate) mod residency;
pub(crate) mod shaders;
mod transfer;
