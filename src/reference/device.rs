//! The float64 reference as a device: f32 in, float64 inside, f32 out.

use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::network::config::RnnConfig;
use crate::network::params::ParamLayout;
use crate::network::sequence::{Gradients, Mode, Output, OutputGradients, SeqShape, Sequence};
use crate::reference::{self, Trace};

/// A network and what it works on, widened. The gradients that come in tell whether backward runs too.
#[derive(Debug)]
pub struct CpuRun<'a> {
    /// The cell.
    pub cell: &'a dyn Cell,
    /// Shape and options.
    pub config: &'a RnnConfig,
    /// As [`ParamLayout`] orders them.
    pub params: Vec<f64>,
    /// T and B.
    pub shape: SeqShape,
    /// `[T, B, I]`, `[B, T, I]` if batch-first.
    pub input: Vec<f64>,
    /// `[S, L·D, B, H]`, else zeros.
    pub initial_state: Option<Vec<f64>>,
    /// `[B]`, else all T.
    pub lengths: Option<Vec<u32>>,
    /// `[T, B]`, else no resets.
    pub reset: Option<Vec<u32>>,
    /// `[T, B]`, else nothing is held.
    pub hold: Option<Vec<u32>>,
    /// As the output, if backward runs.
    pub d_output: Option<Vec<f64>>,
    /// As `initial_state`, else zeros.
    pub d_final_state: Option<Vec<f64>>,
}

impl CpuRun<'_> {
    /// Forward, and backward if there are gradients to go back with.
    pub fn run(&self) -> Result<(Output<f64>, Option<Gradients<f64>>)> {
        let mut seq = Sequence::new(self.shape, &self.input);
        (seq.initial_state, seq.lengths) = (self.initial_state.as_deref(), self.lengths.as_deref());
        (seq.reset, seq.hold) = (self.reset.as_deref(), self.hold.as_deref());
        let forward = |mode| reference::forward(self.cell, self.config, &self.params, &seq, mode);
        let Some(d_output) = &self.d_output else { return Ok((forward(Mode::Inference)?.output, None)) };
        let trace: Trace = forward(Mode::Training)?;
        let d = OutputGradients { d_output, d_final_state: self.d_final_state.as_deref() };
        let gradients = reference::backward(self.cell, self.config, &self.params, &seq, &trace, &d)?;
        Ok((trace.output, Some(gradients)))
    }

    /// One chunk of a stream: the next starts from the state that this one leaves.
    pub fn go_on(&mut self) -> Result<Output<f64>> {
        let (output, _) = self.run()?;
        self.initial_state = Some(output.final_state.clone());
        Ok(output)
    }
}

/// As the reference takes it.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

/// As a GPU would give it.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// Refuses what cannot fit into memory: the reference would be killed for it, without a word.
pub fn check_memory(cell: &dyn Cell, config: &RnnConfig, shape: SeqShape, backward: bool) -> Result<()> {
    let params = ParamLayout::new(cell, config)?.len() as f64;
    let [rows, batch] = [shape.seq_len as f64 * shape.batch_size as f64, shape.batch_size as f64];
    let [hidden, directions, states] = [config.hidden_size, config.num_directions(), cell.spec().states.len()].map(|n| n as f64);
    // Backward holds the gradients of all gates of one direction, twice, beside what forward kept of every step.
    let gates = cell.spec().gates.len() as f64 * hidden * if backward { 3.0 } else { 1.0 };
    let kept = directions * hidden * (2.0 * states + cell.spec().saved as f64);
    let layers = config.num_layers as f64;
    let kept = if backward { layers * (kept + config.output_size() as f64) } else { kept };
    let io = (2 * config.input_size + 3 * config.output_size()) as f64;
    // Parameters and their gradients in both types.
    let bytes = 8.0 * (rows * (gates + kept + io) + 2.0 * states * layers * directions * batch * hidden + 3.0 * params);
    let fits = bytes < isize::MAX as f64 && Vec::<u8>::new().try_reserve_exact(bytes as usize).is_ok();
    if fits { Ok(()) } else { Err(Error::Memory { gib: bytes / (1u64 << 30) as f64 }) }
}
