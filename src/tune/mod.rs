//! What is fastest on a device: measured, stored, chosen again.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod strategies;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod tiles;
pub(crate) mod tuning;
