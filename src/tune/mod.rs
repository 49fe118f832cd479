//! What is fastest on a device: measured, stored, chosen again.

pub(crate) mod strategies;
pub(crate) mod tiles;
pub(crate) mod tuning;
