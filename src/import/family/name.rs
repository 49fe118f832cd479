//! The families by name.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Who named and laid out the tensors of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// `weight_ih_l0`, or a cell module's `weight_ih`.
    PyTorch,
    /// `kernel`, `recurrent_kernel`, `bias` of Keras 2 and 3: see [`Model::from_keras`](crate::import::Model::from_keras).
    Keras,
    /// Keras 2's `CuDNNLSTM` and `CuDNNGRU`: as Keras, but with two biases in one row, and kernels as cuDNN keeps them.
    CuDnn,
    /// haste's `LSTM` and `GRU`: as one Keras layer by name and shape, but an LSTM's gates stand as i, g, f, o.
    Haste,
    /// Flax' `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`: a matrix for each gate.
    Flax,
    /// MLX' `LSTM`, `GRU` and `RNN`: `Wx`, `Wh`.
    Mlx,
    /// Equinox' `LSTMCell` and `GRUCell`: `weight_ih`, `weight_hh`, `bias`, `bias_n`.
    Equinox,
}

impl Family {
    const ALL: [Self; 7] = [Self::PyTorch, Self::Keras, Self::CuDnn, Self::Haste, Self::Flax, Self::Mlx, Self::Equinox];

    /// The name that the command and a file's metadata use.
    pub fn name(self) -> &'static str {
        match self {
            Self::PyTorch => "pytorch",
            Self::Keras => "keras",
            Self::CuDnn => "cudnn",
            Self::Haste => "haste",
            Self::Flax => "flax",
            Self::Mlx => "mlx",
            Self::Equinox => "equinox",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "family of files",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}
