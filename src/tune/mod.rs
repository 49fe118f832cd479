//! What is fastest on a device: measured, stored, chosen again.

mod strategies;
pub(crate) mod tiles;
pub(crate) mod tuning;
