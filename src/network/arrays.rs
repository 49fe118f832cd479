//! Arrays of the crate ndarray in and out, behind feature `ndarray`.

use ndarray::{ArrayView3, ArrayView4};

use crate::error::{Error, Result, check_len};
use crate::network::config::RnnConfig;
use crate::network::sequence::{Gradients, Output, SeqShape, Sequence};

impl<'a, F> Sequence<'a, F> {
    /// A sequence of `[T, B, I]`, `[B, T, I]` if batch-first, in row-major order. Anything else is refused: `as_standard_layout` gives such a copy.
    pub fn from_array(config: &RnnConfig, input: ArrayView3<'a, F>) -> Result<Self> {
        let (first, second, features) = input.dim();
        if features != config.input_size {
            let expected = vec![first, second, config.input_size];
            return Err(Error::Shape { name: "input".into(), expected, actual: input.shape().to_vec() });
        }
        let shape = if config.batch_first { SeqShape::new(second, first) } else { SeqShape::new(first, second) };
        let strides = input.strides().to_vec();
        let values = input.to_slice().ok_or_else(|| {
            Error::Config(format!(
                "`input` has strides {strides:?}, not those of row-major order: take `as_standard_layout` of it"
            ))
        })?;
        Ok(Self::new(shape, values))
    }
}

impl<F> Output<F> {
    /// The output `[T, B, D·H]`, `[B, T, D·H]` if batch-first.
    pub fn output_array(&self, config: &RnnConfig, shape: SeqShape) -> Result<ArrayView3<'_, F>> {
        steps("output", &self.output, config, shape, config.output_size())
    }

    /// The final state `[S, L·D, B, H]`. Refused where h is projected: then h is `[L·D, B, P]`, see `Rnn::state_of`.
    pub fn state_array(&self, config: &RnnConfig, shape: SeqShape) -> Result<ArrayView4<'_, F>> {
        states("final_state", &self.final_state, config, shape)
    }
}

impl<F> Gradients<F> {
    /// The gradient of the input, in its shape.
    pub fn d_input_array(&self, config: &RnnConfig, shape: SeqShape) -> Result<ArrayView3<'_, F>> {
        steps("d_input", &self.d_input, config, shape, config.input_size)
    }

    /// The gradient of the initial state `[S, L·D, B, H]`.
    pub fn d_initial_state_array(&self, config: &RnnConfig, shape: SeqShape) -> Result<ArrayView4<'_, F>> {
        states("d_initial_state", &self.d_initial_state, config, shape)
    }
}

fn steps<'a, F>(name: &str, values: &'a [F], config: &RnnConfig, shape: SeqShape, size: usize) -> Result<ArrayView3<'a, F>> {
    check_len(name, shape.rows() * size, values.len())?;
    let SeqShape { seq_len: t, batch_size: b } = shape;
    let dim = if config.batch_first { (b, t, size) } else { (t, b, size) };
    ArrayView3::from_shape(dim, values).map_err(|error| Error::Config(format!("`{name}`: {error}")))
}

fn states<'a, F>(name: &str, values: &'a [F], config: &RnnConfig, shape: SeqShape) -> Result<ArrayView4<'a, F>> {
    let (layers, b, h) = (config.num_layers * config.num_directions(), shape.batch_size, config.hidden_size);
    if config.proj_size > 0 {
        let p = config.proj_size;
        let why = format!(
            "`{name}`: h is [L·D, B, P] with P = {p}, the other states are [L·D, B, H] with H = {h}, which is no one array"
        );
        return Err(Error::Config(why + ": take each by `Rnn::state_of`"));
    }
    let states = (values.len() / (layers * b * h).max(1)).max(1);
    check_len(name, states * layers * b * h, values.len())?;
    ArrayView4::from_shape((states, layers, b, h), values).map_err(|error| Error::Config(format!("`{name}`: {error}")))
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::{Direction, Lstm, Mode, ParamLayout, Params, reference};

    #[test]
    fn arrays_go_in_and_come_out() {
        for batch_first in [false, true] {
            let config = RnnConfig::new(3, 4).with_direction(Direction::Bidirectional).with_batch_first(batch_first);
            let (t, b) = (5, 2);
            let dim = if batch_first { (b, t, 3) } else { (t, b, 3) };
            let input = Array3::from_shape_fn(dim, |(i, j, k)| (i * 7 + j * 3 + k) as f64 / 10.0 - 1.0);
            let seq = Sequence::from_array(&config, input.view()).unwrap();
            assert_eq!(seq.shape, SeqShape::new(t, b));
            let layout = ParamLayout::new(&Lstm::default(), &config).unwrap();
            let params: Vec<f64> = Params::uniform(&layout, 1).values().iter().map(|&v| v.into()).collect();
            let output = reference::forward(&Lstm::default(), &config, &params, &seq, Mode::Inference).unwrap().output;
            let (y, state) = (output.output_array(&config, seq.shape).unwrap(), output.state_array(&config, seq.shape).unwrap());
            assert_eq!((y.dim().2, state.dim()), (8, (2, 2, b, 4)));
            // h of the forward direction is its output at the last step.
            let last = if batch_first { y[[1, t - 1, 2]] } else { y[[t - 1, 1, 2]] };
            assert_eq!(last, state[[0, 0, 1, 2]]);

            let error = Sequence::from_array(&config, input.view().reversed_axes()).unwrap_err().to_string();
            assert!(error.contains("`input`: expected shape"), "{error}");
            let turned = input.view().permuted_axes([1, 0, 2]);
            let error = Sequence::from_array(&config, turned).unwrap_err().to_string();
            assert!(error.contains("as_standard_layout"), "{error}");
            let error = output.output_array(&config, SeqShape::new(t + 1, b)).unwrap_err().to_string();
            assert!(error.contains("`output`: expected 96 values, got 80"), "{error}");
            let error = output.state_array(&config.with_proj_size(2), seq.shape).unwrap_err().to_string();
            assert!(error.contains("`final_state`: h is [L·D, B, P] with P = 2"), "{error}");
        }
    }
}
