//! What workloads run on: an adapter, by what is known of it, and the reference.

use std::time::Instant;

use pollster::block_on;
use tidegate::bench::{self, Description, Hooks, Limits, Measured, Next, Phase, Products, Runner, on_cpu};
use tidegate::{Context, Error, Rnn, Strategy, Tried};

use super::session::{Job, Target};
use super::{Args, clocks};
use crate::args::device::{self, Device};
use crate::args::interrupt;
use crate::bench::tunings::Tunings;

pub fn target(device: Device, args: &Args) -> Box<dyn Target> {
    match device {
        Device::Cpu => Box::new(OnCpu),
        Device::Gpu(ctx) => Box::new(OnGpu::new(ctx, args)),
    }
}

/// The float64 reference.
struct OnCpu;

impl Target for OnCpu {
    fn description(&self) -> Description {
        Description::cpu()
    }

    fn runs_on_cpu(&self) -> bool {
        true
    }

    fn tunes(&self) -> bool {
        false
    }

    fn limits(&mut self) -> Result<Option<Limits>, Error> {
        Ok(None)
    }

    fn measure(&mut self, job: Job<'_>, _: Option<Job<'_>>, phase: &dyn Fn(Phase)) -> Result<(Measured, Vec<Tried>), Error> {
        phase(Phase::Timing);
        block_on(on_cpu(job.workload, &interrupt::requested)).map(|measured| (measured, Vec::new()))
    }
}

/// An adapter, with what stays from one workload to the next.
struct OnGpu {
    ctx: Context,
    strategy: Strategy,
    products: Products,
    /// Whether each dispatch is timed.
    dispatches: bool,
    /// Read when the first workload asks.
    tunings: Option<Tunings>,
    api_version: Option<String>,
    runner: Runner,
}

impl OnGpu {
    fn new(ctx: Context, args: &Args) -> Self {
        let (strategy, products) = (args.strategy, args.products());
        let (runner, api_version) = (Runner::new(&ctx, products), device::api_version_of(ctx.adapter_info()));
        Self { ctx, strategy, products, dispatches: args.profile, tunings: None, api_version, runner }
    }

    fn loaded(&mut self) -> &mut Tunings {
        self.tunings.get_or_insert_with(|| Tunings::load(&self.ctx))
    }

    /// The network as built, and whether tuning has a say in it.
    fn rnn(&self, Job { workload, tuned }: Job<'_>) -> Result<(Rnn, bool), Error> {
        Ok((self.products.apply(bench::rnn(&self.ctx, workload, self.strategy)?)?, tuned && self.tunes()))
    }

    /// What can be built of what comes next; what cannot will say so in its turn.
    fn next(&mut self, job: Job<'_>) -> Option<Next> {
        let (rnn, is_tuned) = self.rnn(job).ok()?;
        let workload = job.workload.clone();
        if !is_tuned {
            return Some(Next { rnn, workload, tunes: false });
        }
        let tunings = self.loaded();
        let tunes = !tunings.is_known(&rnn, &workload);
        Some(Next { rnn: if tunes { rnn } else { tunings.apply(rnn).ok()? }, workload, tunes })
    }
}

impl Target for OnGpu {
    fn description(&self) -> Description {
        Description { api_version: self.api_version.clone(), ..Description::adapter(self.ctx.adapter_info()) }
    }

    fn runs_on_cpu(&self) -> bool {
        self.ctx.is_software()
    }

    fn tunes(&self) -> bool {
        self.strategy == Strategy::Auto
    }

    fn limits(&mut self) -> Result<Option<Limits>, Error> {
        block_on(Limits::measure(&self.ctx)).map(Some)
    }

    fn measure(&mut self, job: Job<'_>, next: Option<Job<'_>>, phase: &dyn Fn(Phase)) -> Result<(Measured, Vec<Tried>), Error> {
        let ((mut rnn, is_tuned), mut tried) = (self.rnn(job)?, Vec::new());
        let start = Instant::now();
        if is_tuned {
            let tunings = self.loaded();
            if !tunings.is_known(&rnn, job.workload) {
                phase(Phase::Tuning);
            }
            tried = tunings.tune(&rnn, job.workload)?;
            rnn = tunings.apply(rnn)?;
        }
        let tuning = if is_tuned { start.elapsed().as_secs_f64() * 1e3 } else { 0.0 };
        let next = next.and_then(|next| self.next(next));
        let hooks = Hooks { stop: &interrupt::requested, phase, next, dispatches: self.dispatches };
        let measured = Measured { tuning, ..block_on(self.runner.measure_with(&rnn, job.workload, hooks))? };
        if is_tuned {
            self.loaded().record(measured.repairs);
        }
        Ok((measured, tried))
    }

    fn tunings(&self) -> String {
        self.tunings.as_ref().map_or_else(String::new, Tunings::summary)
    }

    fn clocks(&self) -> [Option<f64>; 3] {
        clocks::now(self.ctx.adapter_info())
    }
}
