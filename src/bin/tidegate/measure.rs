//! One workload on one device: verified, then timed.

use std::time::Instant;

use tidegate::{Context, Error, Rnn, Strategy};

use crate::Result;
use crate::times::{Effort, Times, milliseconds};
use crate::timing::{self, GpuRun, Products, RunData};
use crate::tunings::Tunings;
use crate::verify::{Verified, Verifier};
use crate::workload::Workload;

/// What was measured of a workload that ran and was right.
#[derive(Debug)]
pub struct Measured {
    pub strategy: &'static str,
    pub dispatches: usize,
    /// Milliseconds of the first run, with the building of whatever pipelines no earlier workload had built.
    pub first: f64,
    /// Recording, submitting and waiting. Data stay on the GPU.
    pub times: Times,
    pub gpu_times: Option<Times>,
    /// Of a stream: the same chunks by a `Session`, so from input on the host to output on the host.
    pub host_times: Option<Times>,
    /// Whether products of f16 go by cooperative matrices.
    pub cooperative: bool,
    pub verified: Verified,
    /// Of strategy persistent, of all its dispatches since it was bound.
    pub repairs: u32,
}

/// What stays from one workload of a device to the next.
#[derive(Debug)]
pub struct OnGpu<'a> {
    ctx: &'a Context,
    strategy: Strategy,
    tunings: Tunings,
    verifier: Verifier,
}

impl<'a> OnGpu<'a> {
    pub fn new(ctx: &'a Context, strategy: Strategy, products: Products) -> Self {
        Self { ctx, strategy, tunings: Tunings::load(ctx), verifier: Verifier::new(products) }
    }

    /// The network of a workload; left to choose, by what is fastest for it here.
    fn rnn(&mut self, workload: &Workload) -> Result<Rnn, Error> {
        let rnn = self.verifier.products.apply(timing::rnn(self.ctx, workload, self.strategy)?)?;
        // What is kept of tuning is about kernels that every device runs.
        if self.strategy != Strategy::Auto || self.verifier.products.cooperative {
            return Ok(rnn);
        }
        self.tunings.tune(&rnn, workload.shape, workload.mode)?;
        self.tunings.apply(rnn)
    }

    pub fn measure(&mut self, workload: &Workload) -> Result<Measured> {
        let rnn = self.rnn(workload)?;
        let measured = on_gpu(&rnn, workload, &mut self.verifier)?;
        if self.strategy == Strategy::Auto {
            self.tunings.record(measured.repairs);
        }
        Ok(measured)
    }
}

fn on_gpu(rnn: &Rnn, workload: &Workload, verifier: &mut Verifier) -> Result<Measured> {
    let start = Instant::now();
    rnn.plan(workload.shape, workload.mode)?;
    let built = milliseconds(start);
    let data = RunData::new(workload)?;
    let run = GpuRun::new(rnn, workload, &data)?;
    let start = Instant::now();
    run.run()?;
    let first = built + milliseconds(start);
    let verified = verifier.verify(rnn.context(), workload, &run, &data)?;
    let effort = Effort::of(workload.kind);
    Ok(Measured {
        strategy: run.strategy().name(),
        dispatches: run.dispatches(),
        first,
        times: Times::measure(effort, || run.run())?,
        gpu_times: run.gpu_times()?,
        host_times: workload.is_stream().then(|| session(rnn, workload, &data, effort)).transpose()?,
        cooperative: verifier.products.cooperative,
        verified,
        repairs: run.repairs()?,
    })
}

fn session(rnn: &Rnn, workload: &Workload, data: &RunData, effort: Effort) -> Result<Times, Error> {
    let params = rnn.context().upload("params", &rnn.dtype().encode(&data.params))?;
    let mut session = rnn.session(&params, workload.shape)?;
    session.advance_blocking(&data.input)?;
    Times::measure(effort, || session.advance_blocking(&data.input).map(drop))
}

/// The reference has nothing to be held against: it is what the others are held against.
pub fn on_cpu(workload: &Workload) -> Result<Measured> {
    timing::check_cpu(workload)?;
    let mut run = RunData::new(workload)?.on_cpu(workload);
    let mut once = || if workload.is_stream() { run.go_on().map(drop) } else { run.run().map(drop) };
    let start = Instant::now();
    once()?;
    let first = milliseconds(start);
    let times = Times::measure(Effort::of(workload.kind), once)?;
    let verified = Verified { shape: workload.shape, max_rel_err: 0.0 };
    Ok(Measured {
        strategy: "reference",
        dispatches: 0,
        first,
        times,
        gpu_times: None,
        host_times: None,
        cooperative: false,
        verified,
        repairs: 0,
    })
}
