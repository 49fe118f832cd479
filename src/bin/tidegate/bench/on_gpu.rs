//! Workloads on one device, by what is known of it.

use pollster::block_on;
use tidegate::bench::{self, Measured, Products, Runner, Workload};
use tidegate::{Context, Error, Strategy, Tried};

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

    /// Whether a network is left to choose by what is fastest for it here. What is kept of tuning is about kernels that every
    /// device runs.
    pub fn tunes(&self) -> bool {
        self.strategy == Strategy::Auto && !self.products.cooperative
    }

    /// Measures by what tuning found, or without it; gives what tuning tried, too.
    pub fn measure(&mut self, workload: &Workload, tuned: bool) -> Result<(Measured, Vec<Tried>), Error> {
        let mut rnn = self.products.apply(bench::rnn(self.ctx, workload, self.strategy)?)?;
        // To compare layouts of strategy persistent, without a word in the help.
        if let Ok(layout) = std::env::var("TIDEGATE_LAYOUT") {
            rnn = rnn.with_layout(&layout)?;
        }
        let mut tried = Vec::new();
        if tuned && self.tunes() {
            tried = self.tunings.tune(&rnn, workload)?;
            rnn = self.tunings.apply(rnn)?;
        }
        let measured = block_on(self.runner.measure(&rnn, workload, &interrupt::requested))?;
        if tuned && self.strategy == Strategy::Auto {
            self.tunings.record(measured.repairs);
        }
        Ok((measured, tried))
    }
}
