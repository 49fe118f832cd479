//! What workloads run on: an adapter, by what is known of it, and the reference.

use pollster::block_on;
use tidegate::bench::{self, Description, Limits, Measured, Products, Runner, Workload, on_cpu};
use tidegate::{Context, Error, Strategy, Tried};

use super::session::Target;
use super::{Args, clocks};
use crate::args::device::Device;
use crate::args::interrupt;
use crate::bench::tunings::Tunings;

pub fn target(device: Device, args: &Args) -> Box<dyn Target> {
    match device {
        Device::Cpu => Box::new(OnCpu),
        Device::Gpu(ctx) => Box::new(OnGpu::new(ctx, args.strategy, args.products())),
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

    fn measure(&mut self, workload: &Workload, _: bool) -> Result<(Measured, Vec<Tried>), Error> {
        block_on(on_cpu(workload, &interrupt::requested)).map(|measured| (measured, Vec::new()))
    }
}

/// An adapter, with what stays from one workload to the next.
struct OnGpu {
    ctx: Context,
    strategy: Strategy,
    products: Products,
    /// Read when the first workload asks.
    tunings: Option<Tunings>,
    runner: Runner,
}

impl OnGpu {
    fn new(ctx: Context, strategy: Strategy, products: Products) -> Self {
        let runner = Runner::new(&ctx, products);
        Self { ctx, strategy, products, tunings: None, runner }
    }
}

impl Target for OnGpu {
    fn description(&self) -> Description {
        Description::adapter(self.ctx.adapter_info())
    }

    fn runs_on_cpu(&self) -> bool {
        self.ctx.is_software()
    }

    /// What is kept of tuning is about kernels that every device runs.
    fn tunes(&self) -> bool {
        self.strategy == Strategy::Auto && !self.products.cooperative
    }

    fn limits(&mut self) -> Result<Option<Limits>, Error> {
        block_on(Limits::measure(&self.ctx)).map(Some)
    }

    fn measure(&mut self, workload: &Workload, tuned: bool) -> Result<(Measured, Vec<Tried>), Error> {
        let mut rnn = self.products.apply(bench::rnn(&self.ctx, workload, self.strategy)?)?;
        let (is_tuned, mut tried) = (tuned && self.tunes(), Vec::new());
        let tunings = self.tunings.get_or_insert_with(|| Tunings::load(&self.ctx));
        if is_tuned {
            tried = tunings.tune(&rnn, workload)?;
            rnn = tunings.apply(rnn)?;
        }
        let measured = block_on(self.runner.measure(&rnn, workload, &interrupt::requested))?;
        if is_tuned {
            tunings.record(measured.repairs);
        }
        Ok((measured, tried))
    }

    fn clocks(&self) -> [Option<f64>; 3] {
        clocks::now(self.ctx.adapter_info())
    }
}
