//! One workload on one device: verified, then timed.

use std::time::Duration;

use super::dispatch_times::DispatchTime;
use super::hooks::{Hooks, Next, Phase};
use super::run::{self, GpuRun, Products, RunData};
use super::times::{Effort, Timer, Times};
use super::verify::{Verified, Verifier};
use super::workload::Workload;
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;
use crate::rnn::Rnn;
use crate::timing::WarmUp;
use crate::timing::clock::{self, Instant, milliseconds};

/// What was measured of a workload that ran and was right.
#[derive(Debug)]
pub struct Measured {
    /// The strategy that ran, or `reference`.
    pub strategy: &'static str,
    /// Milliseconds of one run.
    pub dispatches: usize,
    /// Milliseconds of the first run, with the building of its pipelines as far as no earlier workload has the same.
    pub first: f64,
    /// Milliseconds that tuning took before it, by whoever tuned.
    pub tuning: f64,
    /// Milliseconds that it took to check the results.
    pub verifying: f64,
    /// Milliseconds that the workload ran before it was timed, until it got no faster.
    pub warm_up: f64,
    /// Recording, submitting and waiting. Data stay on the GPU.
    pub times: Times,
    /// Whether they are those of a second measurement, for the first was not of one level.
    pub is_again: bool,
    /// By the GPU's own clock, where it has one that is fine enough.
    pub gpu_times: Option<Times>,
    /// By the same clock each dispatch, where that was asked for.
    pub dispatch_times: Vec<DispatchTime>,
    /// For a stream: the same chunks by a `Session`, so from input on the host to output on the host.
    pub host_times: Option<Times>,
    /// Whether products of f16 go by cooperative matrices.
    pub cooperative: bool,
    /// What it was checked against.
    pub verified: Verified,
    /// Repairs of all dispatches of strategy persistent since it was bound.
    pub repairs: u32,
}

/// Measures workloads on one device, and remembers from one to the next what was verified.
#[derive(Debug)]
pub struct Runner {
    ctx: Context,
    verifier: Verifier,
    /// Whether pipelines are built ahead. A software adapter compiles at the first dispatch, and its runs want the CPU.
    builds_ahead: bool,
    /// Milliseconds that the next one's pipelines took to build, and which workload that is.
    ahead: Option<(String, f64)>,
}

impl Runner {
    /// The products are those that networks are built with: see [`Products::apply`].
    pub fn new(ctx: &Context, products: Products) -> Self {
        Self { ctx: ctx.clone(), verifier: Verifier::new(products), builds_ahead: !ctx.is_software(), ahead: None }
    }

    /// Verifies and times a workload, by a network of [`rnn`](super::rnn) on the same device, tuned or not. Where `stop` says so, it
    /// takes no more times than it must.
    pub async fn measure(&mut self, rnn: &Rnn, workload: &Workload, stop: &dyn Fn() -> bool) -> Result<Measured> {
        self.measure_with(rnn, workload, Hooks { stop, ..Hooks::default() }).await
    }

    /// [`measure`](Self::measure), telling what it is at, and with the pipelines of what comes next built while this is verified.
    pub async fn measure_with(&mut self, rnn: &Rnn, workload: &Workload, hooks: Hooks<'_>) -> Result<Measured> {
        let Hooks { stop, phase, next, dispatches } = hooks;
        let start = Instant::now();
        rnn.plan(workload.shape, workload.mode)?;
        let ahead = self.ahead.take().filter(|(name, _)| *name == workload.to_string());
        let built = milliseconds(start.elapsed()) + ahead.map_or(0.0, |(_, ms)| ms);
        let data = RunData::new(workload)?;
        let run = GpuRun::new(rnn, workload, &data)?;
        let start = Instant::now();
        run.run().await?;
        let first = built + milliseconds(start.elapsed());
        phase(Phase::Verifying);
        let building = next.filter(|_| self.builds_ahead).map(build);
        let start = Instant::now();
        let verified = self.verifier.verify(&self.ctx, workload, &run, &data).await;
        let verifying = milliseconds(start.elapsed());
        // Before anything is timed.
        self.ahead = building.and_then(Building::end);
        let verified = verified?;
        let effort = Effort::of(workload.kind);
        // Nothing stands between a warm-up and what it is for: what the CPU verifies lets the GPU's clock fall.
        let timer = Timer { clock: clock::host(), warm_up: WarmUp::of(&self.ctx), again: !self.ctx.is_software(), stop, phase };
        let timed = timer.time(effort, async || run.run().await).await?;
        let now = || timer.clock.now();
        let gpu_times = run.gpu_times(&now, stop).await?;
        let dispatch_times = if dispatches { run.dispatch_times(&now, stop).await? } else { Vec::new() };
        let host_times = if workload.is_stream() { Some(session(rnn, workload, &data, effort, &timer).await?) } else { None };
        Ok(Measured {
            strategy: run.strategy().name(),
            dispatches: run.dispatches(),
            first,
            tuning: 0.0,
            verifying,
            warm_up: milliseconds(timed.warmed.time),
            times: timed.times,
            is_again: timed.is_again,
            gpu_times,
            dispatch_times,
            host_times,
            cooperative: self.verifier.products.cooperative,
            verified,
            repairs: run.repairs().await?,
        })
    }
}

/// Pipelines that another thread builds.
struct Building {
    /// Name of the workload whose first run they count towards.
    name: Option<String>,
    #[cfg(not(target_arch = "wasm32"))]
    thread: std::thread::JoinHandle<f64>,
}

#[cfg(not(target_arch = "wasm32"))]
fn build(next: Next) -> Building {
    // What tuning builds is not the first run's.
    let name = (!next.tunes).then(|| next.workload.to_string());
    Building { name, thread: std::thread::spawn(move || next.build()) }
}

#[cfg(target_arch = "wasm32")]
fn build(_: Next) -> Building {
    Building { name: None }
}

impl Building {
    fn end(self) -> Option<(String, f64)> {
        #[cfg(not(target_arch = "wasm32"))]
        let ms = self.thread.join().ok()?;
        #[cfg(target_arch = "wasm32")]
        let ms = 0.0;
        Some((self.name?, ms))
    }
}

async fn session(
    rnn: &Rnn,
    workload: &Workload,
    data: &RunData,
    effort: Effort,
    timer: &Timer<'_, impl Fn() -> Duration>,
) -> Result<Times> {
    let owned = OwnedBuffers::default();
    let params = owned.keep(rnn.context().upload("params", &rnn.dtype().encode(&data.params)))?;
    let mut session = rnn.session(&params, workload.shape)?;
    session.advance(&data.input).await?;
    Ok(timer.time(effort, async || session.advance(&data.input).await.map(drop)).await?.times)
}

/// Times a workload on the reference, which has nothing to be checked against: the others are checked against it. The calling
/// thread computes until it returns.
pub async fn on_cpu(workload: &Workload, stop: &dyn Fn() -> bool) -> Result<Measured> {
    run::check_cpu(workload)?;
    let mut run = RunData::new(workload)?.on_cpu(workload);
    let mut once = || if workload.is_stream() { run.go_on().map(drop) } else { run.run().map(drop) };
    let start = Instant::now();
    once()?;
    let first = milliseconds(start.elapsed());
    let timer = Timer { clock: clock::host(), warm_up: WarmUp::SOFTWARE, again: false, stop, phase: &|_| () };
    let timed = timer.time(Effort::of(workload.kind), async || once()).await?;
    let verified = Verified { shape: workload.shape, max_rel_err: 0.0 };
    Ok(Measured {
        strategy: "reference",
        dispatches: 0,
        first,
        tuning: 0.0,
        verifying: 0.0,
        warm_up: milliseconds(timed.warmed.time),
        times: timed.times,
        is_again: false,
        gpu_times: None,
        dispatch_times: Vec::new(),
        host_times: None,
        cooperative: false,
        verified,
        repairs: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::run::rnn;
    use super::super::workload::Kind;
    use super::*;
    use crate::cell::by_name;
    use crate::gpu::dtype::Dtype;
    use crate::network::config::RnnConfig;
    use crate::network::sequence::{Mode, SeqShape};
    use crate::schedule::Strategy;

    fn workload(cell: &str) -> Workload {
        let (config, shape) = (RnnConfig::new(3, 5), SeqShape { seq_len: 2, batch_size: 1 });
        let (kind, dtype) = (Kind::Throughput, Dtype::F32);
        Workload { cell: by_name(cell).unwrap(), config, shape, mode: Mode::Inference, kind, dtype }
    }

    /// After one row is measured, the next has nothing left to build, and its first run still counts the time of that.
    #[test]
    fn the_next_ones_pipelines_are_built_meanwhile() {
        let ctx = pollster::block_on(Context::request()).unwrap();
        let mut runner = Runner { builds_ahead: true, ..Runner::new(&ctx, Products::default()) };
        let [now, then] = ["rnn_tanh", "rnn_relu"].map(workload);
        let [rnn_now, rnn_then] = [&now, &then].map(|workload| rnn(&ctx, workload, Strategy::Stepwise).unwrap());
        let phases = RefCell::new(Vec::new());
        let next = Next { rnn: rnn_then.clone(), workload: then.clone(), tunes: false };
        let hooks = Hooks { phase: &|phase| phases.borrow_mut().push(phase), next: Some(next), stop: &|| true, dispatches: true };
        pollster::block_on(runner.measure_with(&rnn_now, &now, hooks)).unwrap();
        assert_eq!(phases.take(), [Phase::Verifying, Phase::WarmingUp, Phase::Timing]);
        let built = ctx.built_pipelines();
        rnn_then.plan(then.shape, then.mode).unwrap();
        assert_eq!(ctx.built_pipelines(), built);
        let (name, ahead) = runner.ahead.clone().unwrap();
        assert!(name == then.to_string() && ahead > 0.0);
        let measured = pollster::block_on(runner.measure(&rnn_then, &then, &|| true)).unwrap();
        assert!(measured.first > ahead, "{} of which {ahead} ahead", measured.first);
        // Whoever will be tuned has every strategy built.
        let gru = workload("gru");
        let next = Next { rnn: rnn(&ctx, &gru, Strategy::Auto).unwrap(), workload: gru.clone(), tunes: true };
        let before = ctx.built_pipelines();
        next.build();
        let built = ctx.built_pipelines();
        let candidates = next.rnn.candidates(gru.shape, gru.mode).unwrap();
        assert!(built > before && candidates.len() > 1);
        for candidate in candidates {
            next.rnn.clone().with_candidate(candidate).plan(gru.shape, gru.mode).unwrap();
        }
        assert_eq!(ctx.built_pipelines(), built);
    }
}
