//! Shapes and data of a network and of a call, without a device.

#[cfg(feature = "ndarray")]
mod arrays;
pub(crate) mod config;
pub(crate) mod dropout;
mod init;
pub(crate) mod params;
pub(crate) mod sequence;
