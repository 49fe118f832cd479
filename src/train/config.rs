//! What a [`Trainer`](super::Trainer) is made of, and what it takes.

use super::{Clip, IGNORE, Objective, Readout};
use crate::error::{Error, Result};
use crate::network::config::{Direction, RnnConfig};
use crate::network::sequence::SeqShape;
use crate::rnn::Rnn;

/// What stands around the network, and how it is trained.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TrainConfig {
    /// T and B of every chunk.
    pub shape: SeqShape,
    /// V: how many tokens the embedding in front of the network knows; without one the network reads features.
    pub vocabulary: Option<usize>,
    /// C: classes, or features of a target.
    pub out_features: usize,
    /// What is made small.
    pub objective: Objective,
    /// Which outputs the head reads.
    pub readout: Readout,
    /// Whether the head has a bias.
    pub head_bias: bool,
    /// Whether rows have lengths of their own.
    pub ragged: bool,
    /// Whether rows are held at steps.
    pub holds: bool,
    /// Whether a chunk goes on with the states that the one before it left: truncated BPTT. Else each starts from zeros.
    pub carry_state: bool,
    /// A bound on the gradients.
    pub clip: Option<Clip>,
    /// How many losses are kept until they are read, and most steps that go into one submit.
    pub log_len: usize,
    /// Chooses the masks of dropout.
    pub dropout_seed: u64,
    /// What comes of a step whose loss or norm of gradients is NaN or infinite.
    pub non_finite: NonFinite,
    /// By what gradients are multiplied while they are f16: of a network of [`Dtype::F16`](crate::Dtype::F16) alone.
    pub loss_scale: LossScale,
}

/// A dynamic loss scale, as of `torch.amp.GradScaler`: gradients go through a network of f16 multiplied by it, so that small ones are not
/// lost. Where they overflow the step is skipped and the scale halved; after `growth_interval` steps without that it doubles. The GPU
/// sees to that within the step.
///
/// Unlike in PyTorch a loss that is NaN or infinite itself leaves the scale alone, which has no part in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    /// Where it starts: a power of two, from 2⁻²⁴ to 2⁶⁴, between which it stays. So neither way rounds.
    pub first: f32,
    /// Steps that it must stand before it doubles.
    pub growth_interval: u32,
}

impl LossScale {
    pub(super) const LEAST: f32 = 1.0 / (1 << 24) as f32;
    pub(super) const MOST: f32 = (1u128 << 64) as f32;

    pub(super) fn validate(self) -> Result<()> {
        let Self { first, growth_interval } = self;
        let is_power = first.to_bits() << 9 == 0 && (Self::LEAST..=Self::MOST).contains(&first);
        if !is_power {
            return Err(Error::Config(format!("`loss_scale.first` is {first}, must be a power of two from 2^-24 to 2^64")));
        }
        if growth_interval == 0 {
            let name = "loss_scale.growth_interval".into();
            return Err(Error::Range { name, value: 0, min: 1, max: u32::MAX.into() });
        }
        Ok(())
    }
}

impl Default for LossScale {
    /// PyTorch's: 65,536, which doubles after 2,000 steps.
    fn default() -> Self {
        Self { first: 65_536.0, growth_interval: 2000 }
    }
}

/// What comes of a step whose loss or norm of gradients is NaN or infinite. In either case it changes nothing of weights and moments,
/// which the GPU sees to within the step, and its entry in the log is NaN or infinite. What a [`LossScale`] above 1 makes overflow is that
/// scale's to mend: such a step is skipped and counted, its entry is its loss, and it is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// It is counted: see [`Trainer::skipped`](super::Trainer::skipped).
    #[default]
    Skip,
    /// [`Trainer::losses`](super::Trainer::losses) is an error that names the first such step.
    Error,
}

impl TrainConfig {
    /// Features in, predictions at every step through a head with a bias, full lengths, no state carried, no clipping.
    pub fn new(shape: SeqShape, objective: Objective, out_features: usize) -> Self {
        Self {
            shape,
            vocabulary: None,
            out_features,
            objective,
            readout: Readout::EveryStep,
            head_bias: true,
            ragged: false,
            holds: false,
            carry_state: false,
            clip: None,
            log_len: 128,
            dropout_seed: 0,
            non_finite: NonFinite::Skip,
            loss_scale: LossScale::default(),
        }
    }

    /// Puts an embedding of that many tokens in front; their features are the network's `input_size`.
    pub fn with_vocabulary(self, vocabulary: usize) -> Self {
        Self { vocabulary: Some(vocabulary), ..self }
    }

    /// Which outputs the head reads.
    pub fn with_readout(self, readout: Readout) -> Self {
        Self { readout, ..self }
    }

    /// The head's bias on or off.
    pub fn with_head_bias(self, head_bias: bool) -> Self {
        Self { head_bias, ..self }
    }

    /// Rows with lengths of their own: every batch gives them.
    pub fn with_ragged(self, ragged: bool) -> Self {
        Self { ragged, ..self }
    }

    /// Rows that are held at steps, as Keras' masks do it: every batch tells them.
    pub fn with_holds(self, holds: bool) -> Self {
        Self { holds, ..self }
    }

    /// Carries states from chunk to chunk. Needs a network that runs forward only.
    pub fn with_carry_state(self, carry_state: bool) -> Self {
        Self { carry_state, ..self }
    }

    /// Bounds the gradients.
    pub fn with_clip(self, clip: Clip) -> Self {
        Self { clip: Some(clip), ..self }
    }

    /// How many losses are kept until they are read.
    pub fn with_log_len(self, log_len: usize) -> Self {
        Self { log_len, ..self }
    }

    /// Chooses the masks of dropout.
    pub fn with_dropout_seed(self, dropout_seed: u64) -> Self {
        Self { dropout_seed, ..self }
    }

    /// What comes of a step whose loss or norm of gradients is NaN or infinite.
    pub fn with_non_finite(self, non_finite: NonFinite) -> Self {
        Self { non_finite, ..self }
    }

    /// Where the loss scale of a network of f16 starts, and when it grows.
    pub fn with_loss_scale(self, loss_scale: LossScale) -> Self {
        Self { loss_scale, ..self }
    }

    /// Predictions of one chunk: T·B, or B.
    pub fn predictions(&self) -> usize {
        if self.readout == Readout::EveryStep { self.shape.rows() } else { self.shape.batch_size }
    }

    pub(super) fn validate(&self, rnn: &Rnn) -> Result<()> {
        self.shape.validate()?;
        self.loss_scale.validate()?;
        if self.carry_state && rnn.config().direction != Direction::Forward {
            let direction = rnn.config().direction;
            return Err(Error::Config(format!("`carry_state` needs direction Forward, the network has {direction:?}")));
        }
        if self.log_len == 0 || self.log_len > MOST_LOGGED {
            return Err(Error::Range { name: "log_len".into(), value: self.log_len as u64, min: 1, max: MOST_LOGGED as u64 });
        }
        Ok(())
    }
}

/// So that the log is a small buffer.
const MOST_LOGGED: usize = 1 << 20;

/// What goes into the network.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// `[T, B]`, `[B, T]` if batch-first: of a model with an embedding.
    Tokens(&'a [u32]),
    /// `[T, B, I]`, `[B, T, I]` if batch-first: of a model without.
    Features(&'a [f32]),
}

/// What should come out: one for each prediction, in the order of the inputs, or `[B]` with [`Readout::Final`].
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// Labels below C, or [`IGNORE`], for [`Objective::CrossEntropy`].
    Labels(&'a [u32]),
    /// C features each, for [`Objective::MeanSquaredError`].
    Values(&'a [f32]),
}

/// Host data of one chunk.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// What goes in; past a length it may be anything.
    pub inputs: Inputs<'a>,
    /// What should come out; past a length it may be anything.
    pub targets: Targets<'a>,
    /// `[B]`, each in 0..=T: needed if the config is ragged, else refused. With [`Readout::EveryStep`] nothing past a length counts.
    pub lengths: Option<&'a [u32]>,
    /// `[T, B]`, always time-major: non-zero where a row is held, see [`Sequence::hold`](crate::Sequence::hold). Needed if the config has
    /// `holds`, else refused. With [`Readout::EveryStep`] nothing held counts; tokens there must be of the vocabulary all the same.
    pub hold: Option<&'a [u32]>,
    /// One for each prediction: 0 where it does not count.
    pub mask: Option<&'a [u32]>,
    /// `[T, B]`, always time-major: non-zero at t makes the state zero before step t, for the next step that is recorded. Needs carried
    /// states.
    pub reset: Option<&'a [u32]>,
}

impl<'a> Batch<'a> {
    /// Full lengths, all predictions count, no resets.
    pub fn new(inputs: Inputs<'a>, targets: Targets<'a>) -> Self {
        Self { inputs, targets, lengths: None, hold: None, mask: None, reset: None }
    }

    /// Ragged rows, `[B]`.
    pub fn with_lengths(self, lengths: &'a [u32]) -> Self {
        Self { lengths: Some(lengths), ..self }
    }

    /// Rows that are held, `[T, B]`.
    pub fn with_hold(self, hold: &'a [u32]) -> Self {
        Self { hold: Some(hold), ..self }
    }

    /// Which predictions count.
    pub fn with_mask(self, mask: &'a [u32]) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Resets within the chunk, `[T, B]`.
    pub fn with_reset(self, reset: &'a [u32]) -> Self {
        Self { reset: Some(reset), ..self }
    }

    /// Checks everything against the model, and writes into `counted` which predictions count.
    pub(super) fn check(&self, config: &TrainConfig, network: &RnnConfig, counted: &mut Vec<u32>) -> Result<()> {
        let shape = config.shape;
        self.check_lengths(config)?;
        let rows = [("T", shape.seq_len), ("B", shape.batch_size)];
        let predictions = if config.readout == Readout::EveryStep { &rows[..] } else { &rows[1..] };
        match self.hold {
            None if config.holds => return Err(Error::Config("the config has `holds`: a batch needs `hold`".into())),
            Some(_) if !config.holds => return Err(Error::Config("`hold` needs a config with `holds`".into())),
            Some(hold) => check_axes("hold", &rows, hold.len())?,
            None => {}
        }
        let is_valid = |t: usize, b: usize| self.lengths.is_none_or(|lengths| t < lengths[b] as usize);
        counted.clear();
        counted.resize(config.predictions(), 1);
        let check_below = |what: &str, row: usize, value: u32, count: usize| {
            let max = count as u64 - 1;
            if u64::from(value) <= max {
                return Ok(());
            }
            Err(Error::Range { name: format!("{what}[{row}]"), value: value.into(), min: 0, max })
        };
        match (self.inputs, config.vocabulary) {
            (Inputs::Tokens(tokens), Some(vocabulary)) => {
                check_axes("tokens", &rows, tokens.len())?;
                for (t, b) in steps(shape).filter(|&(t, b)| is_valid(t, b)) {
                    let row = shape.row(network.batch_first, t, b);
                    check_below("tokens", row, tokens[row], vocabulary)?;
                }
            }
            (Inputs::Features(given), None) => {
                check_axes("features", &[rows[0], rows[1], ("I", network.input_size)], given.len())?;
            }
            (Inputs::Features(_), Some(_)) => return Err(Error::Config("the model has an embedding: it takes tokens".into())),
            (Inputs::Tokens(_), None) => return Err(Error::Config("the model has no embedding: it takes features".into())),
        }
        if config.readout == Readout::EveryStep {
            for (t, b) in steps(shape) {
                let held = self.hold.is_some_and(|hold| hold[t * shape.batch_size + b] != 0);
                counted[shape.row(network.batch_first, t, b)] = (is_valid(t, b) && !held).into();
            }
        }
        if let Some(mask) = self.mask {
            check_axes("mask", predictions, mask.len())?;
            counted.iter_mut().zip(mask).for_each(|(counted, &mask)| *counted &= u32::from(mask != 0));
        }
        match (self.targets, config.objective) {
            (Targets::Labels(labels), Objective::CrossEntropy) => {
                check_axes("labels", predictions, labels.len())?;
                for (row, &label) in labels.iter().enumerate().filter(|&(row, &label)| counted[row] != 0 && label != IGNORE) {
                    check_below("labels", row, label, config.out_features)?;
                }
            }
            (Targets::Values(values), Objective::MeanSquaredError) => {
                check_axes("values", &[predictions, &[("C", config.out_features)]].concat(), values.len())?;
            }
            (Targets::Labels(_), _) => return Err(Error::Config("MeanSquaredError takes values as targets, not labels".into())),
            (Targets::Values(_), _) => return Err(Error::Config("CrossEntropy takes labels as targets, not values".into())),
        }
        match self.reset {
            Some(_) if !config.carry_state => Err(Error::Config("`reset` needs a config with `carry_state`".into())),
            Some(reset) => check_axes("reset", &rows, reset.len()),
            None => Ok(()),
        }
    }

    fn check_lengths(&self, config: &TrainConfig) -> Result<()> {
        match self.lengths {
            None if config.ragged => Err(Error::Config("the config is ragged: a batch needs `lengths`".into())),
            None => Ok(()),
            Some(_) if !config.ragged => Err(Error::Config("`lengths` need a config that is ragged".into())),
            Some(lengths) => {
                check_axes("lengths", &[("B", config.shape.batch_size)], lengths.len())?;
                let max = config.shape.seq_len as u64;
                match lengths.iter().position(|&length| u64::from(length) > max) {
                    Some(b) => Err(Error::Range { name: format!("lengths[{b}]"), value: lengths[b].into(), min: 0, max }),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Checks that a slice holds as many values as its axes ask for, and names them where it does not.
fn check_axes(name: &str, axes: &[(&str, usize)], actual: usize) -> Result<()> {
    let expected = axes.iter().map(|(_, size)| size).product();
    if expected == actual {
        return Ok(());
    }
    let join = |text: fn(&(&str, usize)) -> String| axes.iter().map(text).collect::<Vec<_>>().join("·");
    let (names, sizes) = (join(|(name, _)| (*name).into()), join(|(_, size)| size.to_string()));
    Err(Error::Length { name: format!("{name} [{names} = {sizes}]"), expected, actual })
}

/// All (t, b) of a chunk.
fn steps(shape: SeqShape) -> impl Iterator<Item = (usize, usize)> {
    (0..shape.seq_len).flat_map(move |t| (0..shape.batch_size).map(move |b| (t, b)))
}
