//! Bulk products and sums: everything that is not the recurrence itself.

mod bounds;
#[cfg(not(target_arch = "wasm32"))]
mod cooperative;
mod kernel;
mod layout;
mod matmul;
mod operands;
mod sources;
mod sums;
#[cfg(all(feature = "tools", not(target_arch = "wasm32")))]
pub mod sweep;
#[cfg(test)]
pub(crate) mod tests;
mod tile;
mod tiled;

pub(crate) use matmul::{matmuls, rounded_splits, splits};
pub(crate) use operands::{Matrix, Product, Splits};
pub(crate) use sources::sources;
pub(crate) use sums::{ColumnSum, reduce};
pub use tile::Tile;
pub(crate) use tile::Tiles;
