//! Shapes and data of a network and of a call, without a device.

pub(crate) mod config;
pub(crate) mod dropout;
pub(crate) mod params;
pub(crate) mod sequence;
