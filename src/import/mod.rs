//! Networks and parameters from files of other programs.

mod family;
mod file;
mod foreign;
mod keras;
mod model;
#[cfg(feature = "onnx")]
pub mod onnx;
mod pytorch;
mod read;
mod safetensors;
mod tensors;

pub use family::name::Family;
pub use keras::masked_steps;
pub use model::{Model, Reading};
pub use safetensors::open_safetensors;
pub(crate) use safetensors::safetensors_metadata;
pub use tensors::{Tensor, read_tensors, values_of};
