//! One workload on one device: verified, then timed.

use std::time::Duration;

use web_time::Instant;

use super::clock::{self, milliseconds};
use super::run::{self, GpuRun, Products, RunData};
use super::times::{Effort, Timer, Times};
use super::verify::{Verified, Verifier};
use super::workload::Workload;
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;
use crate::rnn::Rnn;
use crate::timing::WarmUp;

/// What was measured of a workload that ran and was right.
#[derive(Debug)]
pub struct Measured {
    /// The strategy that ran, or `reference`.
    pub strategy: &'static str,
    /// Milliseconds of one run.
    pub dispatches: usize,
    /// Milliseconds of the first run, with the building of whatever pipelines no earlier workload had built.
    pub first: f64,
    /// Milliseconds that the workload ran before it was timed, until it got no faster.
    pub warm_up: f64,
    /// Recording, submitting and waiting. Data stay on the GPU.
    pub times: Times,
    /// Whether they are those of a second measurement, for the first was not of one level.
    pub is_again: bool,
    /// By the GPU's own clock, where it has one that is fine enough.
    pub gpu_times: Option<Times>,
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
}

impl Runner {
    /// The products are those that networks are built with: see [`Products::apply`].
    pub fn new(ctx: &Context, products: Products) -> Self {
        Self { ctx: ctx.clone(), verifier: Verifier::new(products) }
    }

    /// Verifies and times a workload, by a network of [`rnn`](super::rnn) on the same device, tuned or not. Where `stop` says so, it
    /// takes no more times than it must.
    pub async fn measure(&mut self, rnn: &Rnn, workload: &Workload, stop: &dyn Fn() -> bool) -> Result<Measured> {
        let start = Instant::now();
        rnn.plan(workload.shape, workload.mode)?;
        let built = milliseconds(start.elapsed());
        let data = RunData::new(workload)?;
        let run = GpuRun::new(rnn, workload, &data)?;
        let start = Instant::now();
        run.run().await?;
        let first = built + milliseconds(start.elapsed());
        let verified = self.verifier.verify(&self.ctx, workload, &run, &data).await?;
        let effort = Effort::of(workload.kind);
        // Nothing stands between a warm-up and what it is for: what the CPU verifies lets the GPU's clock fall.
        let timer = Timer { clock: clock::host(), warm_up: WarmUp::of(&self.ctx), again: !self.ctx.is_software(), stop };
        let timed = timer.time(effort, async || run.run().await).await?;
        let gpu_times = run.gpu_times(&|| timer.clock.now(), stop).await?;
        let host_times = if workload.is_stream() { Some(session(rnn, workload, &data, effort, &timer).await?) } else { None };
        Ok(Measured {
            strategy: run.strategy().name(),
            dispatches: run.dispatches(),
            first,
            warm_up: milliseconds(timed.warmed.time),
            times: timed.times,
            is_again: timed.is_again,
            gpu_times,
            host_times,
            cooperative: self.verifier.products.cooperative,
            verified,
            repairs: run.repairs().await?,
        })
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
    let timer = Timer { clock: clock::host(), warm_up: WarmUp::SOFTWARE, again: false, stop };
    let timed = timer.time(Effort::of(workload.kind), async || once()).await?;
    let verified = Verified { shape: workload.shape, max_rel_err: 0.0 };
    Ok(Measured {
        strategy: "reference",
        dispatches: 0,
        first,
        warm_up: milliseconds(timed.warmed.time),
        times: timed.times,
        is_again: false,
        gpu_times: None,
        host_times: None,
        cooperative: false,
        verified,
        repairs: 0,
    })
}
