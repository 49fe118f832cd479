//! What can go wrong before anything runs.

use burn::tensor::wgpu::WgpuInitError;

/// Why a module cannot be made or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tensor lives where tidegate cannot run.
    #[error(
        "the tensor is on {device}; tidegate runs on Burn's wgpu devices alone: make one with `tidegate_burn::init` and move the model there"
    )]
    NotWgpu {
        /// As Burn writes it.
        device: String,
    },
    /// Burn does not give out the adapter of a device that it opened by itself.
    #[error(
        "{device} is not known to tidegate: open it with `tidegate_burn::init`, or call `tidegate_burn::register` with its `WgpuSetup`"
    )]
    Unregistered {
        /// As Burn writes it.
        device: String,
    },
    /// Two tensors of one call live apart.
    #[error("`{name}` is on {actual}, the input on {expected}: move one of them")]
    Devices {
        /// The tensor.
        name: &'static str,
        /// Where the input is.
        expected: String,
        /// Where the tensor is.
        actual: String,
    },
    /// A tensor of the wrong shape.
    #[error("`{name}` is {actual:?}, needed is {expected:?}: {layout}")]
    Shape {
        /// The tensor.
        name: &'static str,
        /// What the dimensions are.
        layout: &'static str,
        /// What is needed.
        expected: Vec<usize>,
        /// What was given.
        actual: Vec<usize>,
    },
    /// A tensor of another type than f32.
    #[error("`{name}` is {actual}, tidegate in Burn computes in f32: cast it")]
    DType {
        /// The tensor.
        name: &'static str,
        /// Its type.
        actual: String,
    },
    /// An option of Burn that tidegate's cells do not have.
    #[error("{0}")]
    Unsupported(String),
    /// tidegate's own.
    #[error(transparent)]
    Tidegate(#[from] tidegate::Error),
    /// Burn's own.
    #[error(transparent)]
    Burn(#[from] WgpuInitError),
    /// cubecl's own.
    #[error("cubecl: {0}")]
    Server(String),
}

/// A result, with this crate's error if no other is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;
