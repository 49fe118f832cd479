//! What a call works on ([`SeqShape`], [`Sequence`]) and what it returns.

use crate::cell::{Cell, CellSpec};
use crate::error::{Error, Limit, Result, check_len};
use crate::network::config::{RnnConfig, check_dimension};

/// Steps and rows of one call. Both are at least 1: T = 0 and B = 0 are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeqShape {
    /// T: time steps.
    pub seq_len: usize,
    /// B: independent sequences.
    pub batch_size: usize,
}

impl SeqShape {
    /// T steps of B rows.
    pub fn new(seq_len: usize, batch_size: usize) -> Self {
        Self { seq_len, batch_size }
    }

    /// T·B.
    pub fn rows(&self) -> usize {
        self.seq_len * self.batch_size
    }

    /// Row of `[T, B, ·]` data, or of `[B, T, ·]` if batch-first, that holds step `t` of batch row `b`.
    pub(crate) fn row(&self, batch_first: bool, t: usize, b: usize) -> usize {
        if batch_first { b * self.seq_len + t } else { t * self.batch_size + b }
    }

    /// Refuses a dimension of 0, and T·B above u32.
    pub fn validate(&self) -> Result<()> {
        check_dimension("seq_len", self.seq_len)?;
        check_dimension("batch_size", self.batch_size)?;
        let max = u64::from(u32::MAX);
        match (self.seq_len as u64).checked_mul(self.batch_size as u64) {
            Some(rows) if rows <= max => Ok(()),
            rows => Err(Error::Limit {
                limit: Limit::Index("T·B; take fewer rows, or the steps in chunks".into()),
                needed: rows.unwrap_or(u64::MAX),
                actual: max,
            }),
        }
    }
}

/// Whether forward keeps what backward needs, and whether dropout applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// No reserve, no dropout.
    Inference,
    /// Fills the reserve; dropout between layers if the config has it.
    Training,
}

/// Chooses the dropout mask of one call: the same key gives the same mask, on the GPU and in the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropoutKey {
    /// Chooses the sequence of masks.
    pub seed: u64,
    /// Number of this call; the GPU counts it up after every training forward.
    pub call: u32,
}

impl DropoutKey {
    /// What the GPU's `dropout_state` buffer holds: seed low, seed high, call, 0.
    pub fn words(self) -> [u32; 4] {
        [self.seed as u32, (self.seed >> 32) as u32, self.call, 0]
    }
}

/// Host data of one call, `f32` for the GPU and `f64` for the reference.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a, F = f32> {
    /// T and B.
    pub shape: SeqShape,
    /// `[T, B, I]`, or `[B, T, I]` if the config is batch-first.
    pub input: &'a [F],
    /// `[S, L·D, B, H]`, state 0 is h; zeros if absent. A projected h has P values a row, so that its part is `[L·D, B, P]`: here, in
    /// final states and in the gradients of both.
    pub initial_state: Option<&'a [F]>,
    /// `[B]`, each in 0..=T: as PyTorch's packed sequences. Output past a length is 0; a row of length 0 keeps its initial state and
    /// gives no gradient but that state's.
    pub lengths: Option<&'a [u32]>,
    /// `[T, B]`, always time-major: non-zero at t cuts the edge between t−1 and t in both directions.
    pub reset: Option<&'a [u32]>,
    /// `[T, B]`, always time-major: non-zero at t holds the row, in all layers and directions. A held step keeps the state, has no
    /// gradient but that state's, and reads nothing of its input. Its output is that of the step that the direction walked before
    /// it, or 0 if there is none since the sequence's start or a cut edge, whatever the initial state; or 0 in any case:
    /// [`RnnConfig::zero_output_for_mask`]. This is the opposite of Keras' mask, which is true where a step counts.
    pub hold: Option<&'a [u32]>,
    /// Used in training only, and only if the config has dropout.
    pub dropout: DropoutKey,
}

impl<'a, F> Sequence<'a, F> {
    /// A sequence with zero initial state, full lengths, no resets.
    pub fn new(shape: SeqShape, input: &'a [F]) -> Self {
        Self { shape, input, initial_state: None, lengths: None, reset: None, hold: None, dropout: DropoutKey::default() }
    }

    /// Starts from `[S, L·D, B, H]`.
    pub fn with_initial_state(self, initial_state: &'a [F]) -> Self {
        Self { initial_state: Some(initial_state), ..self }
    }

    /// Ragged rows, `[B]`.
    pub fn with_lengths(self, lengths: &'a [u32]) -> Self {
        Self { lengths: Some(lengths), ..self }
    }

    /// Cuts edges, `[T, B]`.
    pub fn with_reset(self, reset: &'a [u32]) -> Self {
        Self { reset: Some(reset), ..self }
    }

    /// Holds rows at steps, `[T, B]`.
    pub fn with_hold(self, hold: &'a [u32]) -> Self {
        Self { hold: Some(hold), ..self }
    }

    /// The key of this call.
    pub fn with_dropout(self, dropout: DropoutKey) -> Self {
        Self { dropout, ..self }
    }

    /// Checks every slice against the network and the shape.
    pub fn validate(&self, cell: &dyn Cell, config: &RnnConfig) -> Result<()> {
        self.shape.validate()?;
        check_len("input", self.shape.rows().saturating_mul(config.input_size), self.input.len())?;
        if let Some(state) = self.initial_state {
            check_len("initial_state", state_len(&cell.spec(), config, self.shape), state.len())?;
        }
        if let Some(lengths) = self.lengths {
            check_len("lengths", self.shape.batch_size, lengths.len())?;
            for (b, &length) in lengths.iter().enumerate() {
                if length as usize > self.shape.seq_len {
                    let max = self.shape.seq_len as u64;
                    return Err(Error::Range { name: format!("lengths[{b}]"), value: length.into(), min: 0, max });
                }
            }
        }
        if let Some(reset) = self.reset {
            check_len("reset", self.shape.rows(), reset.len())?;
        }
        if let Some(hold) = self.hold {
            check_len("hold", self.shape.rows(), hold.len())?;
        }
        Ok(())
    }
}

/// Values of one whole state block `[S, L·D, B, H]`, of which state 0 has P values a row where h is projected.
pub(crate) fn state_len(cell: &CellSpec, config: &RnnConfig, shape: SeqShape) -> usize {
    config.num_layers * config.num_directions() * shape.batch_size * state_widths(cell, config).sum::<usize>()
}

/// Values a row of each state: H, but P of state 0 where h is projected.
pub(crate) fn state_widths(cell: &CellSpec, config: &RnnConfig) -> impl Iterator<Item = usize> {
    let (h, hidden) = (config.h_size(), config.hidden_size);
    (0..cell.states.len()).map(move |state| if state == 0 { h } else { hidden })
}

/// What a forward pass gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output<F = f32> {
    /// `[T, B, D·H]` (or `[B, T, D·H]`): h of the last layer; 0 past a length; of a held step see [`Sequence::hold`].
    pub output: Vec<F>,
    /// `[S, L·D, B, H]`: the state after the last step that each direction processes.
    pub final_state: Vec<F>,
}

/// Gradients that come in from above.
#[derive(Debug, Clone, Copy)]
pub struct OutputGradients<'a, F = f32> {
    /// As `output`; ignored past a length, and where a held step puts out 0.
    pub d_output: &'a [F],
    /// As `final_state`; zeros if absent.
    pub d_final_state: Option<&'a [F]>,
}

/// What a backward pass gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients<F = f32> {
    /// As `input`; 0 past a length and at a held step.
    pub d_input: Vec<F>,
    /// As the flat parameter block.
    pub d_params: Vec<F>,
    /// As `initial_state`.
    pub d_initial_state: Vec<F>,
}
