//! A single step of a stream: T = 1 in inference.

pub(crate) mod by_products;
pub(crate) mod call;
pub(crate) mod fused;
