//! [`Rnn::tune`]: runs every strategy on a shape, and on GPUs every tile of its products, holds them against each other, and times
//! those that agree.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgpu::{Backend, Buffer};

use crate::check::Tolerance;
use crate::error::{Error, Result};
use crate::network::config::{Gradients, Mode, SeqShape, Sequence, state_len};
use crate::network::params::Params;
use crate::plan::{Backward, Forward};
use crate::product::{Tile, Tiles};
use crate::rnn::{GradientBuffers, HostRun, Rnn};
use crate::schedule::{Recurrence, Strategy};
use crate::tune::tiles::{Orientation, fastest, median_time};
use crate::tune::tuning::{Choice, Tuning};

/// Workgroups to try side by side, in this order, until some do not run.
const WORKGROUPS: [u32; 10] = [4, 8, 16, 32, 64, 96, 128, 192, 256, 512];
/// A wider persistent dispatch that is slower by this factor than a narrower one ends the search.
const HOPELESS: f64 = 1.2;
/// A single step has nothing to choose, and what is found serves any T.
const LEAST_STEPS: usize = 16;
/// Fewer rows are no case for batched.
const LEAST_BATCH: usize = 3;
/// What the runs of one strategy may take together beyond the fewest.
const BUDGET: Duration = Duration::from_millis(200);

impl Rnn {
    /// Finds the fastest strategy for shapes like this one on this device, by running all: the same cell, H and directions, the
    /// same mode, B up to the next power of two, any T. Takes a few seconds, most of them for compiling, and memory of its own.
    ///
    /// On GPUs it also finds the fastest [`Tile`] of the bulk products, for every orientation that the mode has.
    ///
    /// Strategy persistent is tried on Vulkan alone, and taken only if nothing had to be repaired and its output, and in
    /// [`Mode::Training`] all gradients, agree with those of stepwise.
    pub async fn tune(&self, shape: SeqShape, mode: Mode) -> Result<Tuning> {
        let shape = SeqShape { seq_len: shape.seq_len.max(LEAST_STEPS), ..shape };
        // A shape that the device cannot hold ends here, before its data are made.
        self.clone().with_strategy(Strategy::Stepwise).plan(shape, mode)?;
        let data = Data::new(self, shape);
        let params = self.upload(&data.params)?;
        let mut truth = None;
        let mut best: Option<(f64, Strategy, u32)> = None;
        let mut fallback: Option<(f64, Strategy)> = None;
        let mut persistent = f64::INFINITY;
        for (strategy, workgroups) in self.candidates(shape.batch_size) {
            let rnn = self.clone().with_strategy(strategy).with_workgroups(workgroups);
            let time = match measure(&rnn, &params, &data, mode, &mut truth).await {
                // Too large for this strategy or the memory beside the others, or its shader for the driver.
                Err(error) if strategy != Strategy::Stepwise && !matches!(error, Error::DeviceLost) => None,
                time => time?,
            };
            let Some(time) = time else { if strategy == Strategy::Persistent { break } else { continue } };
            if strategy == Strategy::Persistent {
                if time > HOPELESS * persistent {
                    break;
                }
                persistent = persistent.min(time);
            } else if fallback.is_none_or(|(least, _)| time < least) {
                fallback = Some((time, strategy));
            }
            if best.is_none_or(|(least, ..)| time < least) {
                best = Some((time, strategy, workgroups));
            }
        }
        let (_, strategy, workgroups) = best.unwrap_or((0.0, Strategy::Stepwise, 1));
        let fallback = fallback.map_or(Strategy::Stepwise, |(_, strategy)| strategy);
        // A CPU adapter has a kernel of its own.
        let tiles = if self.context().is_software() { Tiles::default() } else { self.tune_tiles(shape, mode).await? };
        let choice = Choice { class: self.class(shape, mode), strategy, workgroups, fallback, tiles };
        Ok(Tuning::new(self.context(), choice))
    }

    /// The fastest tiles for the products of the layer with the widest input.
    async fn tune_tiles(&self, shape: SeqShape, mode: Mode) -> Result<Tiles> {
        let config = self.config();
        let rows = shape.rows() as u64;
        let gates = (self.cell().gates().len() * config.hidden_size) as u64;
        let input = (0..config.num_layers).map(|layer| config.layer_input_size(layer)).max().unwrap_or(config.input_size) as u64;
        let tiles = Tile::offered(self.context().adapter_info().vendor);
        let fastest = |orientation, shape| fastest(self.context(), tiles, orientation, shape);
        let mut tiles = Tiles { nt: fastest(Orientation::Nt, [rows, gates, input]).await?, ..Tiles::default() };
        if mode == Mode::Training {
            tiles.nn = fastest(Orientation::Nn, [rows, input, gates]).await?;
            tiles.tn = fastest(Orientation::Tn, [gates, input, rows]).await?;
        }
        Ok(tiles)
    }

    /// Strategies, and the workgroups of persistent; stepwise first, which the others are held against.
    fn candidates(&self, batch_size: usize) -> Vec<(Strategy, u32)> {
        let ctx = self.context();
        let mut candidates = vec![(Strategy::Stepwise, 1), (Strategy::Resident, 1)];
        if batch_size >= LEAST_BATCH {
            candidates.push((Strategy::Batched, 1));
        }
        if ctx.adapter_info().backend == Backend::Vulkan && Strategy::all(ctx).contains(&Strategy::Persistent) {
            // A CPU adapter's are its threads, the default.
            let workgroups = if ctx.is_software() { vec![Recurrence::new(ctx).workgroups] } else { WORKGROUPS.to_vec() };
            candidates.extend(workgroups.into_iter().map(|n| (Strategy::Persistent, n)));
        }
        candidates
    }
}

/// Seconds of a run of this strategy; nothing if it had to be repaired or does not agree with `truth`, which the first sets.
async fn measure(rnn: &Rnn, params: &Buffer, data: &Data, mode: Mode, truth: &mut Option<Vec<Vec<f32>>>) -> Result<Option<f64>> {
    let trial = Trial::new(rnn, params, data, mode)?;
    trial.run()?;
    let results = trial.results().await?;
    let truth = truth.get_or_insert_with(|| results.clone());
    if !agree(rnn, data.shape, mode, truth, &results) {
        return Ok(None);
    }
    let time = trial.time()?;
    Ok((trial.run.status().await?[1] == 0).then_some(time))
}

fn agree(rnn: &Rnn, shape: SeqShape, mode: Mode, truth: &[Vec<f32>], results: &[Vec<f32>]) -> bool {
    let tolerance = Tolerance::new(rnn.config(), shape, mode == Mode::Training).for_dtype(rnn.dtype());
    truth.iter().zip(results).all(|(truth, actual)| {
        let truth: Vec<f64> = truth.iter().map(|&v| v.into()).collect();
        tolerance.compare("a result", &truth, actual).is_ok()
    })
}

/// Random values of everything that a run reads.
struct Data {
    shape: SeqShape,
    params: Params,
    input: Vec<f32>,
    initial_state: Vec<f32>,
    d_output: Vec<f32>,
}

impl Data {
    fn new(rnn: &Rnn, shape: SeqShape) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut uniform = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..=1.0)).collect() };
        Self {
            shape,
            params: Params::uniform(rnn.param_layout(), 1),
            input: uniform(shape.rows().saturating_mul(rnn.config().input_size)),
            initial_state: uniform(state_len(rnn.cell(), rnn.config(), shape)),
            d_output: uniform(shape.rows().saturating_mul(rnn.config().output_size())),
        }
    }
}

/// One strategy on buffers of its own.
struct Trial<'a> {
    run: HostRun<'a>,
    forward: Forward,
    backward: Option<Backward>,
    gradients: Option<GradientBuffers>,
}

impl<'a> Trial<'a> {
    fn new(rnn: &'a Rnn, params: &'a Buffer, data: &Data, mode: Mode) -> Result<Self> {
        let seq = Sequence::new(data.shape, &data.input).with_initial_state(&data.initial_state);
        let run = HostRun::new(rnn, params, &seq, mode)?;
        let forward = run.plan().bind_forward(&run.forward_buffers())?;
        let (mut backward, mut gradients) = (None, None);
        if mode == Mode::Training {
            let results = GradientBuffers::new(&run)?;
            let d_output = rnn.upload_stored("d_output", &data.d_output)?;
            backward = Some(run.plan().bind_backward(&results.buffers(&run, &d_output))?);
            gradients = Some(results);
        }
        Ok(Self { run, forward, backward, gradients })
    }

    fn run(&self) -> Result<()> {
        let ctx = self.run.context();
        let mut encoder = self.run.encoder();
        self.forward.encode(&mut encoder);
        if let Some(backward) = &self.backward {
            backward.encode(&mut encoder);
        }
        ctx.submit(encoder)?;
        ctx.wait()
    }

    async fn results(&self) -> Result<Vec<Vec<f32>>> {
        let output = self.run.output().await?;
        let mut results = vec![output.output, output.final_state];
        if let Some(gradients) = &self.gradients {
            let Gradients { d_input, d_params, d_initial_state } = gradients.download(&self.run).await?;
            results.extend([d_input, d_params, d_initial_state]);
        }
        Ok(results)
    }

    /// The median in seconds.
    fn time(&self) -> Result<f64> {
        median_time(BUDGET, || self.run())
    }
}
