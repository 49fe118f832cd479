//! What the modules have in common.

use burn::nn::GateController;
use burn::tensor::Tensor;

use crate::cell::Kind;
use crate::error::{Error, Result};

/// Burn's modules give tensors, not results.
pub(crate) fn expect<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Burn's `forward` has states without a dimension for layers.
pub(crate) fn one_layer(layers: usize) {
    assert!(layers == 1, "`forward` is for one layer, this has {layers}: `try_forward` takes and gives states of all layers");
}

/// Burn's modules have one layer.
pub(crate) fn one_layer_of_burn(layers: usize) -> Result<()> {
    if layers == 1 {
        return Ok(());
    }
    Err(Error::Unsupported(format!("Burn's module has one layer, this has {layers}")))
}

/// Burn's GRU and plain RNN may clip h.
pub(crate) fn no_clip(cell: &str, clip: Option<f64>) -> Result<()> {
    let Some(clip) = clip else { return Ok(()) };
    Err(Error::Unsupported(format!("the {cell} clips h at {clip}; tidegate's has no clip")))
}

/// `[1, B, H]` without its first dimension.
pub(crate) fn first_layer(state: Tensor<3>) -> Tensor<2> {
    state.squeeze_dim(0)
}

/// Layer by layer, forward first.
pub(crate) fn interleaved<'a>(
    forward: Vec<Vec<&'a GateController>>,
    reverse: Vec<Vec<&'a GateController>>,
) -> Vec<Vec<&'a GateController>> {
    forward.into_iter().zip(reverse).flat_map(|(forward, reverse)| [forward, reverse]).collect()
}

/// The two directions of one of Burn's modules, which may have options of their own there, but not here.
pub(crate) fn of_one_cell<B, M: TryFrom<B, Error = Error>>(
    forward: B,
    reverse: B,
    kind: fn(&M) -> Result<Kind>,
) -> Result<(M, M)> {
    let (forward, reverse) = (M::try_from(forward)?, M::try_from(reverse)?);
    let kinds = (kind(&forward)?, kind(&reverse)?);
    if kinds.0 == kinds.1 {
        return Ok((forward, reverse));
    }
    Err(Error::Unsupported(format!("the directions differ: {:?} and {:?}", kinds.0, kinds.1)))
}
