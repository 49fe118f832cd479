//! One network on one set of data: through the reference, and through the GPU into poisoned buffers.

use std::fmt;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgpu::Buffer;

use crate::cell::Cell;
use crate::check::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::owned::OwnedBuffers;
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, Params};
use crate::network::sequence::{DropoutKey, Gradients, Mode, Output, OutputGradients, SeqShape, Sequence, state_len};
use crate::plan::allocation::{Fill, GradientBuffers, PlanBuffers};
use crate::plan::{BackwardBuffers, ForwardBuffers};
use crate::product::Tile;
use crate::reference;
use crate::rnn::Rnn;
use crate::schedule::Strategy;
use crate::schedule::options::ScheduleOptions;

/// How clear of a cell's jumps the data of a case stay; far above what f32 rounds.
const MARGIN: f64 = 1e-5;
/// The same where what goes from layer to layer, and from step to step, is rounded to f16.
const MARGIN_F16: f64 = 2e-3;

/// One test case: a network, a shape, and which optional inputs it has. The data follow from the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The network.
    pub config: RnnConfig,
    /// T and B.
    pub shape: SeqShape,
    /// Whether it starts from random states, else zeros.
    pub initial_state: bool,
    /// Whether lengths are random in 1..=T, else all T.
    pub ragged: bool,
    /// Whether a fifth of all steps is reset.
    pub resets: bool,
    /// Whether a quarter of all steps is held, and the first steps of some rows.
    pub holds: bool,
    /// Whether it goes backward too, with forward in training; else forward in inference alone.
    pub backward: bool,
    /// Whether the final states have an incoming gradient.
    pub d_final_state: bool,
    /// Whether the GPU's `d_params` are added to what the buffer held.
    pub accumulate: bool,
    /// Bound on a workgroup's work in one dispatch, if not the default: see [`ScheduleOptions::with_dispatch_flops`].
    pub dispatch_flops: Option<u64>,
    /// Bound on the workspace for the input's products, if not the default: see [`ScheduleOptions::with_window_bytes`].
    pub window_bytes: Option<u64>,
    /// Tile of the bulk products, if it is forced: see [`Rnn::with_tile`].
    pub tile: Option<Tile>,
    /// Whether products of f16 go by cooperative matrices: see [`Rnn::with_cooperative_matrices`].
    pub cooperative: bool,
    /// How the GPU stores parameters, input and output; the data are numbers that it can store.
    pub dtype: Dtype,
    /// What strategy persistent counts on, if not the default: see [`ScheduleOptions::with_workgroups`].
    pub workgroups: Option<u32>,
    /// Its patience, if not the default: see [`ScheduleOptions::with_spin_limit`].
    pub spin_limit: Option<u32>,
    /// Layouts of strategy persistent that are forced, if any.
    #[doc(hidden)]
    pub layout: Option<String>,
    /// Makes weights and data.
    pub seed: u64,
}

/// What tells it from others: `7→9, 2 layers, forward, T=6 B=3, no bias, ragged, resets, initial state`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RnnConfig { input_size, hidden_size, num_layers, bias, direction, batch_first, dropout, .. } = self.config;
        write!(f, "{input_size}→{hidden_size}, {num_layers} layer{}", if num_layers == 1 { "" } else { "s" })?;
        write!(f, ", {direction}")?;
        if dropout > 0.0 {
            write!(f, ", dropout {dropout}")?;
        }
        write!(f, ", T={} B={}", self.shape.seq_len, self.shape.batch_size)?;
        if self.dtype != Dtype::F32 {
            write!(f, ", {}", self.dtype)?;
        }
        let options = [
            ("no bias", !bias),
            ("batch-first", batch_first),
            ("ragged", self.ragged),
            ("resets", self.resets),
            ("initial state", self.initial_state),
            ("gradient of the final state", self.d_final_state),
            ("accumulated", self.accumulate),
        ];
        options.into_iter().filter(|option| option.1).try_for_each(|(name, _)| write!(f, ", {name}"))
    }
}

/// What came of a case on the GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The largest relative L2 error of all results.
    pub max_rel_err: f64,
    /// Dispatches of strategy persistent.
    pub persistent: u32,
    /// How many of them failed and were repaired.
    pub repairs: u32,
}

impl Case {
    /// Everything optional on, but for `holds` and `accumulate`.
    pub fn new(config: RnnConfig, seq_len: usize, batch_size: usize) -> Self {
        let shape = SeqShape { seq_len, batch_size };
        Self {
            config,
            shape,
            initial_state: true,
            ragged: true,
            resets: true,
            holds: false,
            backward: true,
            d_final_state: true,
            accumulate: false,
            dispatch_flops: None,
            window_bytes: None,
            tile: None,
            cooperative: false,
            dtype: Dtype::F32,
            workgroups: None,
            spin_limit: None,
            layout: None,
            seed: 1,
        }
    }

    /// The case's data for a cell. If the cell has jumps, the first seed from `self.seed` on is taken whose every step stays
    /// clear of them by 1e-5 (with f16 storage 2e-3), so that f32 and f64 take the same side; if none of 50 does, an error.
    pub fn data(&self, cell: &dyn Cell) -> Result<CaseData> {
        for seed in self.seed..self.seed.saturating_add(50) {
            if let Some(data) = CaseData::new(self, cell, seed)? {
                return Ok(data);
            }
        }
        let what = format!("no seed from {} on keeps {:?} clear of the cell's jumps", self.seed, self.shape);
        Err(Error::Check { cell: cell.name().into(), what })
    }

    fn schedule(&self, strategy: Strategy) -> ScheduleOptions {
        let options = ScheduleOptions::default().with_strategy(strategy);
        let options = self.dispatch_flops.map_or(options, |flops| options.with_dispatch_flops(flops));
        let options = self.window_bytes.map_or(options, |bytes| options.with_window_bytes(bytes));
        let options = self.workgroups.map_or(options, |workgroups| options.with_workgroups(workgroups));
        self.spin_limit.map_or(options, |limit| options.with_spin_limit(limit))
    }

    /// Runs the case forward and, unless it is without, backward on the GPU, into poisoned buffers, and compares every result with the
    /// reference.
    pub async fn check_gpu(&self, ctx: &Context, cell: &Arc<dyn Cell>, strategy: Strategy) -> Result<Outcome> {
        let data = self.data(&**cell)?;
        let rnn =
            Rnn::new(ctx, cell.clone(), self.config.clone())?.with_schedule(self.schedule(strategy)).with_dtype(self.dtype)?;
        let rnn = self.tile.map_or(rnn.clone(), |tile| rnn.with_tile(tile));
        let rnn = rnn.with_cooperative_matrices(self.cooperative)?;
        let rnn = self.layout.as_ref().map_or(Ok(rnn.clone()), |layout| rnn.with_layout(layout))?;
        let owned = OwnedBuffers::default();
        let status = owned.keep(ctx.upload("status", &[0u32; 4]))?;
        let (inference, _) = run_poisoned(&rnn, &data, self, Mode::Inference, &status).await?;
        let forward = Tolerance::new(&self.config, self.shape, false).for_dtype(self.dtype);
        let truth = &data.inference;
        let mut worst = forward.compare("output in inference", &truth.output, &inference.output)?;
        worst = worst.max(forward.compare("final_state in inference", &truth.final_state, &inference.final_state)?);
        if self.backward {
            worst = worst.max(self.check_training(&rnn, &data, &status).await?);
        }
        let [status] = ctx.download([&status]).await?;
        Ok(Outcome { max_rel_err: worst, persistent: status[0].to_bits(), repairs: status[1].to_bits() })
    }

    /// The same of a forward pass in training and the backward pass behind it; gives the largest error.
    async fn check_training(&self, rnn: &Rnn, data: &CaseData, status: &Buffer) -> Result<f64> {
        let (training, gradients) = run_poisoned(rnn, data, self, Mode::Training, status).await?;
        let [forward, backward] =
            [false, true].map(|backward| Tolerance::new(&self.config, self.shape, backward).for_dtype(self.dtype));
        let truth = &data.trace.output;
        let mut worst = forward.compare("output", &truth.output, &training.output)?;
        worst = worst.max(forward.compare("final_state", &truth.final_state, &training.final_state)?);
        let (truth, actual) = (&data.gradients, gradients.unwrap_or_else(|| unreachable!("training gives gradients")));
        worst = worst.max(backward.compare("d_input", &truth.d_input, &actual.d_input)?);
        worst = worst.max(backward.compare("d_initial_state", &truth.d_initial_state, &actual.d_initial_state)?);
        for spec in rnn.param_layout().iter() {
            let name = format!("d_{}", spec.name);
            let range = spec.range.clone();
            let before = |index: usize| if self.accumulate { f64::from(data.params_f32[index]) } else { 0.0 };
            let truth: Vec<f64> = range.clone().map(|index| truth.d_params[index] + before(index)).collect();
            worst = worst.max(backward.compare(&name, &truth, &actual.d_params[range])?);
        }
        Ok(worst)
    }
}

/// Host data of a case, as stored (f32) and as the reference takes it (f64), with the reference's results.
#[derive(Debug, Clone)]
pub struct CaseData {
    /// The flat block.
    pub params: Vec<f64>,
    /// NaN past a length.
    pub input: Vec<f64>,
    /// `[S, L·D, B, H]`.
    pub initial_state: Option<Vec<f64>>,
    /// `[B]`.
    pub lengths: Option<Vec<u32>>,
    /// `[T, B]`.
    pub reset: Option<Vec<u32>>,
    /// `[T, B]`.
    pub hold: Option<Vec<u32>>,
    /// The key of this call.
    pub dropout: DropoutKey,
    /// NaN past a length.
    pub d_output: Vec<f64>,
    /// `[S, L·D, B, H]`.
    pub d_final_state: Option<Vec<f64>>,
    /// In training, so with dropout.
    pub trace: reference::Trace,
    /// Without dropout.
    pub inference: Output<f64>,
    /// The reference's, in training; empty of a case that does not go backward.
    pub gradients: Gradients<f64>,
    params_f32: Vec<f32>,
    shape: SeqShape,
}

impl CaseData {
    /// The data of one seed, or nothing if they come too close to a jump.
    fn new(case: &Case, cell: &dyn Cell, seed: u64) -> Result<Option<Self>> {
        let (config, shape) = (&case.config, case.shape);
        shape.validate()?;
        let layout = ParamLayout::new(cell, config)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform =
            |n: usize| -> Vec<f64> { (0..n).map(|_| f64::from(case.dtype.round(rng.random_range(-1.0f32..=1.0)))).collect() };
        let mut input = uniform(shape.rows() * config.input_size);
        let initial_state = case.initial_state.then(|| uniform(state_len(&cell.spec(), config, shape)));
        let mut d_output = uniform(shape.rows() * config.output_size());
        let d_final_state = case.d_final_state.then(|| uniform(state_len(&cell.spec(), config, shape)));
        let lengths: Option<Vec<u32>> =
            case.ragged.then(|| (0..shape.batch_size).map(|_| rng.random_range(1..=shape.seq_len as u32)).collect());
        let reset = case.resets.then(|| (0..shape.rows()).map(|_| u32::from(rng.random_bool(0.2))).collect());
        let hold = case.holds.then(|| holds(shape, &mut rng));
        let params_f32: Vec<f32> = Params::uniform(&layout, seed).values().iter().map(|&p| case.dtype.round(p)).collect();
        let params: Vec<f64> = params_f32.iter().map(|&p| p.into()).collect();
        // What is not read may be anything.
        let held = hold.iter().flatten().enumerate().filter(|&(_, &word)| word != 0);
        for row in held.map(|(at, _)| shape.row(config.batch_first, at / shape.batch_size, at % shape.batch_size)) {
            input[row * config.input_size..][..config.input_size].fill(f64::NAN);
            if config.zero_output_for_mask {
                d_output[row * config.output_size()..][..config.output_size()].fill(f64::NAN);
            }
        }
        for (b, &length) in lengths.iter().flatten().enumerate() {
            for t in length as usize..shape.seq_len {
                let row = shape.row(config.batch_first, t, b);
                input[row * config.input_size..][..config.input_size].fill(f64::NAN);
                d_output[row * config.output_size()..][..config.output_size()].fill(f64::NAN);
            }
        }
        let dropout = DropoutKey { seed, call: 5 };
        let mut seq = Sequence::new(shape, &input).with_dropout(dropout);
        (seq.initial_state, seq.lengths) = (initial_state.as_deref(), lengths.as_deref());
        (seq.reset, seq.hold) = (reset.as_deref(), hold.as_deref());
        let trace = reference::forward(cell, config, &params, &seq, Mode::Training)?;
        let (mut inference, mut margin) = (trace.output.clone(), trace.margin());
        if config.dropout > 0.0 {
            let without = reference::forward(cell, &config.clone().with_dropout(0.0), &params, &seq, Mode::Training)?;
            margin = margin.min(without.margin());
            inference = without.output;
        }
        if margin < if case.dtype == Dtype::F32 { MARGIN } else { MARGIN_F16 } {
            return Ok(None);
        }
        let d = OutputGradients { d_output: &d_output, d_final_state: d_final_state.as_deref() };
        let gradients = match case.backward {
            true => reference::backward(cell, config, &params, &seq, &trace, &d)?,
            false => Gradients { d_input: Vec::new(), d_params: Vec::new(), d_initial_state: Vec::new() },
        };
        Ok(Some(Self {
            params,
            input,
            initial_state,
            lengths,
            reset,
            hold,
            dropout,
            d_output,
            d_final_state,
            trace,
            inference,
            gradients,
            params_f32,
            shape,
        }))
    }

    /// The case as a call of the reference.
    pub fn sequence(&self) -> Sequence<'_, f64> {
        Sequence {
            shape: self.shape,
            input: &self.input,
            initial_state: self.initial_state.as_deref(),
            lengths: self.lengths.as_deref(),
            reset: self.reset.as_deref(),
            hold: self.hold.as_deref(),
            dropout: self.dropout,
        }
    }
}

/// A quarter of all steps, and the first half of every third row.
fn holds(shape: SeqShape, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let padded = |t: usize, b: usize| b.is_multiple_of(3) && t < shape.seq_len / 2;
    let steps = (0..shape.rows()).map(|row| (row / shape.batch_size, row % shape.batch_size));
    steps.map(|(t, b)| u32::from(rng.random_bool(0.25) || padded(t, b))).collect()
}

/// One pass (two in training) through the app's API, every buffer that is written filled with NaN beforehand.
async fn run_poisoned(
    rnn: &Rnn,
    data: &CaseData,
    case: &Case,
    mode: Mode,
    status: &Buffer,
) -> Result<(Output, Option<Gradients>)> {
    let ctx = rnn.context();
    let plan = rnn.plan(case.shape, mode)?;
    let sizes = plan.sizes();
    let buffers = PlanBuffers::new(ctx, &sizes, Fill::Poison)?;
    let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let f32s = |label, values: &[f64]| buffers.keep(ctx.upload(label, &narrow(values)));
    let stored = |label, values: &[f64]| buffers.keep(rnn.upload_stored(label, &narrow(values)));
    let words = |label, values: &[u32]| buffers.keep(ctx.upload(label, values));
    let whole = Buffer::as_entire_buffer_binding;
    let params = buffers.keep(rnn.upload_stored("params", &data.params_f32))?;
    let input = stored("input", &data.input)?;
    let initial_state = data.initial_state.as_ref().map(|s| f32s("initial_state", s)).transpose()?;
    let lengths = data.lengths.as_ref().map(|l| words("lengths", l)).transpose()?;
    let reset = data.reset.as_ref().map(|r| words("reset", r)).transpose()?;
    let hold = data.hold.as_ref().map(|h| words("hold", h)).transpose()?;
    let dropout_state = words("dropout_state", &data.dropout.words())?;
    let forward = ForwardBuffers {
        initial_state: initial_state.as_deref().map(whole),
        lengths: lengths.as_deref().map(whole),
        reset: reset.as_deref().map(whole),
        hold: hold.as_deref().map(whole),
        dropout_state: Some(whole(&dropout_state)),
        status: Some(whole(status)),
        ..buffers.forward(&params, &input)
    };
    let mut encoder = ctx.encoder("tidegate check");
    plan.bind_forward(&forward)?.encode(&mut encoder);
    if mode == Mode::Inference {
        ctx.submit(encoder)?;
        return Ok((download_output(rnn, case, &buffers).await?, None));
    }

    let d_output = stored("d_output", &data.d_output)?;
    let d_final_state = data.d_final_state.as_ref().map(|d| f32s("d_final_state", d)).transpose()?;
    let gradients = GradientBuffers::new(ctx, &sizes, Fill::Poison)?;
    if case.accumulate {
        ctx.write(&gradients.d_params, 0, &data.params_f32)?;
    }
    // Nothing may flow from forward to backward but by the reserve and the output.
    let poison = buffers.keep(ctx.upload("poison", &vec![u32::MAX; (sizes.workspace / 4) as usize]))?;
    encoder.copy_buffer_to_buffer(&poison, 0, &buffers.workspace, 0, sizes.workspace);
    let backward = BackwardBuffers {
        d_final_state: d_final_state.as_deref().map(whole),
        accumulate: case.accumulate,
        ..gradients.backward(forward, &d_output)
    };
    plan.bind_backward(&backward)?.encode(&mut encoder);
    ctx.submit(encoder)?;
    let output = download_output(rnn, case, &buffers).await?;
    let [d_input, d_params, d_initial_state] =
        ctx.download([&gradients.d_input, &gradients.d_params, &gradients.d_initial_state]).await?;
    let d_input = case.dtype.decode(d_input, case.shape.rows() * case.config.input_size);
    Ok((output, Some(Gradients { d_input, d_params, d_initial_state })))
}

async fn download_output(rnn: &Rnn, case: &Case, buffers: &PlanBuffers) -> Result<Output> {
    let [output, final_state] = rnn.context().download([&buffers.output, &buffers.final_state]).await?;
    let output = case.dtype.decode(output, case.shape.rows() * case.config.output_size());
    Ok(Output { output, final_state })
}
