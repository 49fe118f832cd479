//! The truth: plain float64 forward and backpropagation through time for any [`Cell`].
//!
//! Everything inside is time-major; `batch_first` matters only where input and output are read and written. Arrays are
//! flat, row-major, their shapes in the comments, with T = `seq_len`, B = `batch_size`, I_l = input size of the layer,
//! H = `hidden_size`, G = gates, S = states, D = directions, K = saved values. The step of a row is *active* if it
//! lies within the row's length and isn't held.

#[cfg(feature = "tools")]
pub mod device;

mod arrays;
mod backward_pass;
mod call;
mod forward_pass;
mod trace;

use call::Call;
pub use trace::Trace;

use crate::cell::Cell;
use crate::error::{Result, check_len};
use crate::network::config::RnnConfig;
use crate::network::sequence::{Gradients, Mode, OutputGradients, Sequence, state_len};

/// Runs the network; `params` is the flat block that [`ParamLayout`](crate::ParamLayout) describes.
pub fn forward(cell: &dyn Cell, config: &RnnConfig, params: &[f64], seq: &Sequence<'_, f64>, mode: Mode) -> Result<Trace> {
    Call::new(cell, config, params, seq)?.forward(mode, None)
}

/// As [`forward`], with [`Cell::surrogate`] in place of [`Cell::forward`]: the function whose true derivative
/// [`backward`] computes, for finite differences around `frozen`, the training trace of the unperturbed call.
pub fn forward_surrogate(
    cell: &dyn Cell,
    config: &RnnConfig,
    params: &[f64],
    seq: &Sequence<'_, f64>,
    mode: Mode,
    frozen: &Trace,
) -> Result<Trace> {
    let call = Call::new(cell, config, params, seq)?;
    call.check_trace(frozen)?;
    call.forward(mode, Some(frozen))
}

/// Gradients of any loss, from its gradients `d` in the output of the training forward that gave `trace`.
pub fn backward(
    cell: &dyn Cell,
    config: &RnnConfig,
    params: &[f64],
    seq: &Sequence<'_, f64>,
    trace: &Trace,
    d: &OutputGradients<'_, f64>,
) -> Result<Gradients<f64>> {
    let call = Call::new(cell, config, params, seq)?;
    call.check_trace(trace)?;
    check_len("d_output", call.rows * config.output_size(), d.d_output.len())?;
    if let Some(d_final_state) = d.d_final_state {
        check_len("d_final_state", state_len(&cell.spec(), config, seq.shape), d_final_state.len())?;
    }
    Ok(call.backward(trace, d))
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::registry;
    use crate::network::dropout;
    use crate::network::params::ParamLayout;
    use crate::network::sequence::DropoutKey;
    use crate::network::sequence::SeqShape;

    /// Dropout, the order of layers and the concatenation of directions: two layers are two networks of one layer.
    #[test]
    fn layers_are_networks_on_top_of_each_other() {
        for cell in registry() {
            let shape = SeqShape { seq_len: 4, batch_size: 2 };
            let config = RnnConfig::new(3, 5).with_num_layers(2).with_bidirectional(true).with_dropout(0.4);
            let params: Vec<f64> =
                (0..ParamLayout::new(&cell, &config).unwrap().len()).map(|k| (k as f64 * 0.7).sin() * 0.5).collect();
            let input: Vec<f64> = (0..shape.rows() * 3).map(|k| (k as f64).cos()).collect();
            let key = DropoutKey { seed: 3, call: 9 };
            let seq = Sequence::new(shape, &input).with_dropout(key);
            let both = forward(&cell, &config, &params, &seq, Mode::Training).unwrap();
            let plain = forward(&cell, &config, &params, &seq, Mode::Inference).unwrap();
            assert_ne!(both.output, plain.output, "{}", cell.name());

            let lower = config.clone().with_num_layers(1);
            let (lower_params, upper_params) = params.split_at(ParamLayout::new(&cell, &lower).unwrap().len());
            let y = forward(&cell, &lower, lower_params, &seq, Mode::Training).unwrap().output.output;
            let dropped: Vec<f64> = y.iter().enumerate().map(|(k, y)| y * dropout::scale(key, 0, k, 0.4)).collect();
            let upper = RnnConfig::new(10, 5).with_bidirectional(true);
            let y = forward(&cell, &upper, upper_params, &Sequence::new(shape, &dropped), Mode::Training).unwrap();
            assert_eq!(both.output.output, y.output.output, "{}", cell.name());
        }
    }
}
