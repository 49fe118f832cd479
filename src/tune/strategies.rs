//! [`Rnn::tune`]: runs every strategy on a shape, and on GPUs every tile of its products, checks them against each other, and times
//! those that agree, in turns on a warm device.

#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgpu::Buffer;

use crate::check::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::context::IN_BROWSER;
use crate::gpu::element::Element;
use crate::network::params::Params;
use crate::network::sequence::{Gradients, Mode, SeqShape, Sequence, state_len};
use crate::plan::allocation::GradientBuffers;
use crate::plan::{Backward, Forward};
use crate::product::{Tile, Tiles};
use crate::rnn::Rnn;
use crate::rnn::calls::HostRun;
use crate::schedule::{Candidate, Strategy};
use crate::timing::clock::{self, milliseconds};
use crate::timing::{Turns, WarmUp};
use crate::tune::tiles::{Orientation, Stored, fastest};
use crate::tune::tuning::{Choice, Tried, Tuning};

/// A single step has nothing to choose, and what is found serves any T.
const LEAST_STEPS: usize = 16;
/// What the runs of one strategy may take together beyond the fewest.
const BUDGET: Duration = Duration::from_millis(200);
/// In browsers an answer may take longer than a run: so long runs go on before one is waited for, but no more of them than so many.
const ANSWERED: Duration = Duration::from_millis(20);
const MOST_REPEATS: f64 = 64.0;
/// Strategies are timed in turns as far as the buffers of all of them take no more bytes.
const MOST_BYTES: u64 = 1 << 30;

/// Builds the pipelines of all of these side by side. What does not fit the device says so when it is its turn.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn build_all(rnns: &[Rnn], shape: SeqShape, mode: Mode) {
    let (next, threads) = (AtomicUsize::new(0), std::thread::available_parallelism().map_or(1, usize::from));
    let work = || {
        while let Some(rnn) = rnns.get(next.fetch_add(1, Ordering::Relaxed)) {
            let _: Result<()> = rnn.plan(shape, mode).map(drop);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(rnns.len()) {
            scope.spawn(work);
        }
        work();
    });
}

impl Rnn {
    /// Finds the fastest strategy for shapes like this one on this device, by running all: the same cell, H and directions, the
    /// same mode, B up to the next power of two, any T. Takes a few seconds, most of them for compiling, and memory of its own.
    ///
    /// On GPUs it also finds the fastest [`Tile`] of the bulk products, for every orientation that the mode has.
    ///
    /// In browsers some runs go by before one is waited for, as their answers take long and their clocks tick coarsely.
    ///
    /// Strategy persistent is tried on Vulkan alone, and taken only if nothing had to be repaired and its output, and in
    /// [`Mode::Training`] all gradients, agree with those of stepwise.
    pub async fn tune(&self, shape: SeqShape, mode: Mode) -> Result<Tuning> {
        let shape = SeqShape { seq_len: shape.seq_len.max(LEAST_STEPS), ..shape };
        // A shape that the device cannot hold ends here, before its data are made.
        self.clone().with_strategy(Strategy::Stepwise).plan(shape, mode)?;
        self.measure_residency().await?;
        let data = Data::new(self, shape);
        let params = self.upload(&data.params)?;
        self.context().measure_residency().await?;
        let candidates = self.candidates(shape, mode)?;
        let tried = self.try_all(&candidates, &params, &data, mode).await?;
        let timed = || tried.iter().filter_map(|tried| Some((tried.ms?, tried)));
        let best = timed().min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, tried)| tried);
        let none = (Strategy::Stepwise, 1, String::new());
        let (strategy, workgroups, layout) = best.map_or(none, |best| (best.strategy, best.workgroups, best.layout.clone()));
        let others = timed().filter(|(_, tried)| tried.strategy != Strategy::Persistent);
        let fallback = others.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(Strategy::Stepwise, |(_, tried)| tried.strategy);
        // A CPU adapter has a kernel of its own.
        let tiles = if self.context().is_software() { Tiles::default() } else { self.tune_tiles(shape, mode).await? };
        let choice = Choice { class: self.class(shape, mode), strategy, workgroups, layout, fallback, tiles, tried };
        Ok(Tuning::new(self.context(), choice))
    }

    /// Builds and checks the candidates, then warms the device up and times them in turns. Those that take too much memory beside each
    /// other go in groups.
    async fn try_all(&self, candidates: &[Candidate], params: &Buffer, data: &Data, mode: Mode) -> Result<Vec<Tried>> {
        let rnns: Vec<Rnn> = candidates.iter().map(|&candidate| self.clone().with_candidate(candidate)).collect();
        // A software adapter compiles at the first run, and browsers have one thread here.
        #[cfg(not(target_arch = "wasm32"))]
        if !self.context().is_software() {
            build_all(&rnns, data.shape, mode);
        }
        let together = (MOST_BYTES / self.trial_bytes(data.shape, mode)?.max(1)).max(1) as usize;
        // The fewest workgroups that had to be repaired.
        let (mut truth, mut all, mut repaired) = (None, Vec::new(), u32::MAX);
        for (rnns, candidates) in rnns.chunks(together).zip(candidates.chunks(together)) {
            let mut trials = Vec::new();
            for (rnn, &Candidate { strategy, workgroups, .. }) in rnns.iter().zip(candidates) {
                if strategy == Strategy::Persistent && workgroups >= repaired {
                    trials.push(Err("as many workgroups or fewer had to be repaired".into()));
                    continue;
                }
                trials.push(match prepare(rnn, params, data, mode, &mut truth).await {
                    // Too large for this strategy or the memory beside the others, or its shader for the driver.
                    Err(error) if strategy != Strategy::Stepwise && !matches!(error, Error::DeviceLost) => Err(error.to_string()),
                    trial => trial?,
                });
                if matches!(trials.last(), Some(Err(why)) if why == REPAIRED) {
                    repaired = workgroups;
                }
            }
            let working: Vec<&Trial> = trials.iter().flatten().collect();
            let turns = Turns { warm_up: WarmUp::of(self.context()), budget: BUDGET };
            let times = turns
                .time(&clock::host(), working.len(), async |of| working[of].run().await.map(|()| working[of].repeats))
                .await?;
            let mut times = times.into_iter();
            for (trial, &candidate) in trials.iter().zip(candidates) {
                let time = match trial {
                    Err(why) => Err(why.clone()),
                    Ok(trial) => {
                        let time = times.next().unwrap_or(Err(Error::DeviceLost)).map_err(|error| error.to_string());
                        if trial.run.status().await?[1] > 0 { Err(REPAIRED.into()) } else { time }
                    }
                };
                all.push(Tried::new(candidate, time));
            }
        }
        Ok(all)
    }

    /// Bytes of the buffers of one strategy.
    fn trial_bytes(&self, shape: SeqShape, mode: Mode) -> Result<u64> {
        let sizes = self.clone().with_strategy(Strategy::Stepwise).plan(shape, mode)?.sizes();
        let gradients = if mode == Mode::Training { sizes.d_params + sizes.input + sizes.output } else { 0 };
        Ok(sizes.input + sizes.output + sizes.reserve + sizes.workspace + gradients)
    }

    /// The fastest tiles for the products of the layer with the widest input.
    async fn tune_tiles(&self, shape: SeqShape, mode: Mode) -> Result<Tiles> {
        let config = self.config();
        let rows = shape.rows() as u64;
        let gates = (self.cell_spec().gates.len() * config.hidden_size) as u64;
        let input = (0..config.num_layers).map(|layer| config.layer_input_size(layer)).max().unwrap_or(config.input_size) as u64;
        let tiles = Tile::offered(self.context().adapter_info().vendor);
        // Gradients of gates are f32.
        let (element, cooperative) = (self.context().element(self.dtype())?, self.cooperative_size());
        let forward = Stored { elements: [element; 2], cooperative };
        let rounds = self.rounds_gradients(shape)?;
        let backward = Stored { elements: [Element::F32, element], cooperative: cooperative.filter(|_| rounds) };
        let fastest = |orientation, shape| {
            let stored = if orientation == Orientation::Nt { forward } else { backward };
            fastest(self.context(), tiles, stored, orientation, shape)
        };
        let mut tiles = Tiles { nt: fastest(Orientation::Nt, [rows, gates, input]).await?, ..Tiles::default() };
        if mode == Mode::Training {
            tiles.nn = fastest(Orientation::Nn, [rows, input, gates]).await?;
            tiles.tn = fastest(Orientation::Tn, [gates, input, rows]).await?;
        }
        Ok(tiles)
    }
}

const REPAIRED: &str = "its workgroups did not run side by side: the runs had to be repaired";

/// A strategy ready to be timed, or why it is not: it had to be repaired, or does not agree with `truth`, which the first sets.
async fn prepare<'a>(
    rnn: &'a Rnn,
    params: &'a Buffer,
    data: &Data,
    mode: Mode,
    truth: &mut Option<Vec<Vec<f64>>>,
) -> Result<Result<Trial<'a>, String>> {
    let mut trial = Trial::new(rnn, params, data, mode)?;
    trial.run().await?;
    let results = trial.results().await?;
    let truth = truth.get_or_insert_with(|| results.iter().map(|values| values.iter().map(|&v| v.into()).collect()).collect());
    if let Err(error) = agree(rnn, data.shape, mode, truth, &results) {
        return Ok(Err(format!("does not agree with stepwise: {error}")));
    }
    if IN_BROWSER {
        let ms = clock::host().time(&mut async || trial.run().await).await?;
        trial.repeats = (milliseconds(ANSWERED) / ms).clamp(1.0, MOST_REPEATS) as u32;
    }
    let is_repaired = trial.run.status().await?[1] > 0;
    Ok(if is_repaired { Err(REPAIRED.into()) } else { Ok(trial) })
}

fn agree(rnn: &Rnn, shape: SeqShape, mode: Mode, truth: &[Vec<f64>], results: &[Vec<f32>]) -> Result<()> {
    let tolerance = Tolerance::new(rnn.config(), shape, mode == Mode::Training).for_dtype(rnn.dtype());
    for (truth, actual) in truth.iter().zip(results) {
        tolerance.compare("a result", truth, actual)?;
    }
    Ok(())
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
            initial_state: uniform(state_len(rnn.cell_spec(), rnn.config(), shape)),
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
    /// Runs before an answer.
    repeats: u32,
}

impl<'a> Trial<'a> {
    fn new(rnn: &'a Rnn, params: &'a Buffer, data: &Data, mode: Mode) -> Result<Self> {
        let seq = Sequence::new(data.shape, &data.input).with_initial_state(&data.initial_state);
        let run = HostRun::new(rnn, params, &seq, mode)?;
        let forward = run.plan().bind_forward(&run.forward_buffers())?;
        let (mut backward, mut gradients) = (None, None);
        if mode == Mode::Training {
            let results = run.gradients()?;
            let d_output = rnn.upload_stored("d_output", &data.d_output)?;
            backward = Some(run.plan().bind_backward(&results.backward(run.forward_buffers(), &d_output))?);
            gradients = Some(results);
        }
        Ok(Self { run, forward, backward, gradients, repeats: 1 })
    }

    async fn run(&self) -> Result<()> {
        let ctx = self.run.context();
        let mut encoder = self.run.encoder();
        for _ in 0..self.repeats {
            self.forward.encode(&mut encoder);
            if let Some(backward) = &self.backward {
                backward.encode(&mut encoder);
            }
        }
        ctx.submit(encoder)?;
        ctx.done().await
    }

    async fn results(&self) -> Result<Vec<Vec<f32>>> {
        let output = self.run.output().await?;
        let mut results = vec![output.output, output.final_state];
        if let Some(gradients) = &self.gradients {
            let Gradients { d_input, d_params, d_initial_state } = self.run.download_gradients(gradients).await?;
            results.extend([d_input, d_params, d_initial_state]);
        }
        Ok(results)
    }
}
