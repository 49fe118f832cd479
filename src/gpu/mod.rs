//! The device: what it can do, what goes to it and comes back, its kernels and their recording.

pub(crate) mod buffer;
pub(crate) mod capabilities;
pub(crate) mod context;
pub(crate) mod dtype;
pub(crate) mod element;
pub(crate) mod error_scopes;
pub(crate) mod kernel;
pub(crate) mod owned;
mod pipelines;
pub(crate) mod profile;
pub(crate) mod program;
pub(crate) mod residency;
pub(crate) mod shaders;
pub(crate) mod side_by_side;
pub(crate) mod step_table;
mod transfer;
mod watch;
