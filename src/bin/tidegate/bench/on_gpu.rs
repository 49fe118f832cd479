//! Workloads on one device, by what is known of it.

use pollster::block_on;
use tidegate::bench::{self, Measured, Products, Runner, Workload};
use tidegate::{Context, Error, Rnn, Strategy};

use crate::args::interrupt;
use crate::bench::tunings::Tunings;

/// What stays from one workload of a device to the next.
#[derive(Debug)]
pub struct OnGpu<'a> {
    ctx: &'a Context,
    strategy: Strategy,
    products: Products,
    tunings: Tunings,
    runner: Runner,
}

impl<'a> OnGpu<'a> {
    pub fn new(ctx: &'a Context, strategy: Strategy, products: Products) -> Self {
        Self { ctx, strategy, products, tunings: Tunings::load(ctx), runner: Runner::new(ctx, products) }
    }

    /// The network of a workload; left to choose, by what is fastest for it here.
    fn rnn(&mut self, workload: &Workload) -> Result<Rnn, Error> {
        let rnn = self.products.apply(bench::rnn(self.ctx, workload, self.strategy)?)?;
        // What is kept of tuning is about kernels that every device runs.
        if self.strategy != Strategy::Auto || self.products.cooperative {
            return Ok(rnn);
        }
        self.tunings.tune(&rnn, workload)?;
        self.tunings.apply(rnn)
    }

    pub fn measure(&mut self, workload: &Workload) -> Result<Measured, Error> {
        let rnn = self.rnn(workload)?;
        let measured = block_on(self.runner.measure(&rnn, workload, &interrupt::requested))?;
        if self.strategy == Strategy::Auto {
            self.tunings.record(measured.repairs);
        }
        Ok(measured)
    }
}
