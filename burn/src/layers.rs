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

/// Both directions of a network are of one cell.
pub(crate) fn same_options(forward: &Kind, reverse: &Kind) -> Result<()> {
    if forward == reverse {
        return Ok(());
    }
    Err(Error::Unsupported(format!("the directions differ: {forward:?} and {reverse:?}")))
}
