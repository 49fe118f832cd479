//! What a network is: [`RnnConfig`].

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::error::{Error, Result};

/// Shape and options of a recurrent network, with PyTorch's names and meanings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RnnConfig {
    /// I: features of one input step.
    pub input_size: usize,
    /// H: units of each layer and direction.
    pub hidden_size: usize,
    /// L: layers stacked on each other; layer l > 0 reads the D·H outputs of layer l−1.
    pub num_layers: usize,
    /// Whether every layer has `bias_ih` and `bias_hh`.
    pub bias: bool,
    /// Which way each layer runs through the sequence, or both.
    pub direction: Direction,
    /// Whether `input`, `output` and their gradients are `[B, T, ·]` instead of `[T, B, ·]`. States stay `[S, L·D, B, H]`.
    pub batch_first: bool,
    /// Probability that an output of a layer other than the last is zeroed before the next layer, in training only.
    pub dropout: f32,
    /// P: values of h where it is projected, with a matrix `weight_hr` `[P, H]` of each layer and direction (`nn.LSTM`'s `proj_size`; Sak
    /// 2014), 0 where it isn't. Only of a cell whose units don't read h by themselves: lstm.
    pub proj_size: usize,
    /// Whether the output of a held step is 0, as with Keras' argument of this name, instead of the output of the step before:
    /// see [`Sequence::hold`](crate::Sequence::hold).
    pub zero_output_for_mask: bool,
}

/// Which way a layer runs through time. With ragged lengths the reverse direction starts at each row's last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From the first step to the last.
    #[default]
    Forward,
    /// From the last step to the first, with parameters and states named as those of a forward network (D = 1).
    Reverse,
    /// Both (D = 2); outputs are concatenated, forward first.
    Bidirectional,
}

impl Direction {
    const ALL: [Self; 3] = [Self::Forward, Self::Reverse, Self::Bidirectional];

    /// Its name: `forward`, `reverse` or `bidirectional`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Bidirectional => "bidirectional",
        }
    }
}

impl Display for Direction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Direction {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|direction| direction.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "direction",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

impl RnnConfig {
    /// One layer, one direction, biases on, time-major, no dropout.
    pub fn new(input_size: usize, hidden_size: usize) -> Self {
        Self {
            input_size,
            hidden_size,
            num_layers: 1,
            bias: true,
            direction: Direction::Forward,
            batch_first: false,
            dropout: 0.0,
            proj_size: 0,
            zero_output_for_mask: false,
        }
    }

    /// Stacks L layers.
    pub fn with_num_layers(self, num_layers: usize) -> Self {
        Self { num_layers, ..self }
    }

    /// Biases on or off.
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Both directions, or forward alone.
    pub fn with_bidirectional(self, bidirectional: bool) -> Self {
        self.with_direction(if bidirectional { Direction::Bidirectional } else { Direction::Forward })
    }

    /// Forward, from the end to the start, or both.
    pub fn with_direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// `[B, T, ·]`, or `[T, B, ·]`.
    pub fn with_batch_first(self, batch_first: bool) -> Self {
        Self { batch_first, ..self }
    }

    /// Drops outputs between layers in training, with this probability in 0..1.
    pub fn with_dropout(self, dropout: f32) -> Self {
        Self { dropout, ..self }
    }

    /// Projects h to that many values; 0 for no projection.
    pub fn with_proj_size(self, proj_size: usize) -> Self {
        Self { proj_size, ..self }
    }

    /// What a held step puts out: 0, or the output of the step before.
    pub fn with_zero_output_for_mask(self, zero_output_for_mask: bool) -> Self {
        Self { zero_output_for_mask, ..self }
    }

    /// D: 2 if bidirectional, else 1.
    pub fn num_directions(&self) -> usize {
        if self.direction == Direction::Bidirectional { 2 } else { 1 }
    }

    /// Whether the direction of that index, below D, runs from the end to the start.
    pub(crate) fn runs_back(&self, direction: usize) -> bool {
        direction + usize::from(self.direction == Direction::Reverse) == 1
    }

    /// Values of h: H, or P where it is projected.
    pub fn h_size(&self) -> usize {
        if self.proj_size > 0 { self.proj_size } else { self.hidden_size }
    }

    /// Features of one output step: D·H, or D·P.
    pub fn output_size(&self) -> usize {
        self.num_directions() * self.h_size()
    }

    /// Features of one input step of a layer: I for the first, those of an output step above.
    pub fn layer_input_size(&self, layer: usize) -> usize {
        if layer == 0 { self.input_size } else { self.output_size() }
    }

    /// Refuses a config that means nothing.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("input_size", self.input_size), ("hidden_size", self.hidden_size), ("num_layers", self.num_layers)]
        {
            check_dimension(name, value)?;
        }
        if self.num_layers > MAX_LAYERS {
            let (value, max) = (self.num_layers as u64, MAX_LAYERS as u64);
            return Err(Error::Range { name: "num_layers".into(), value, min: 1, max });
        }
        if self.proj_size >= self.hidden_size {
            let (value, max) = (self.proj_size as u64, self.hidden_size as u64 - 1);
            return Err(Error::Range { name: "proj_size".into(), value, min: 0, max });
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::Config(format!("`dropout` is {}, must lie in 0..1", self.dropout)));
        }
        Ok(())
    }
}

/// Far above any network, far below what a list of its tensors would fill memory with.
const MAX_LAYERS: usize = 65_536;

/// Dimensions are u32 on the GPU; zero is refused rather than treated as "nothing to do".
pub(super) fn check_dimension(name: &str, value: usize) -> Result<()> {
    let max = u64::from(u32::MAX);
    if value == 0 || value as u64 > max {
        return Err(Error::Range { name: name.into(), value: value as u64, min: 1, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Strategy};

    #[test]
    fn names_are_read_as_they_are_shown() {
        for direction in Direction::ALL {
            assert_eq!(direction.to_string().parse::<Direction>().unwrap(), direction);
        }
        for strategy in [Strategy::Auto, Strategy::Stepwise, Strategy::Batched, Strategy::Resident, Strategy::Persistent] {
            assert_eq!(strategy.to_string().parse::<Strategy>().unwrap(), strategy);
        }
        for dtype in [Dtype::F32, Dtype::F16] {
            assert_eq!(format!("{dtype:>4}").trim().parse::<Dtype>().unwrap(), dtype);
        }
        let error = "both".parse::<Direction>().unwrap_err().to_string();
        assert!(error.contains("`both`") && error.contains("forward, reverse, bidirectional"), "{error}");
    }
}
