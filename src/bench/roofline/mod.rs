//! What a device can do at best, measured: the arithmetic of registers alone, the bytes that memory moves, and the time of a load that
//! the next one waits for. A workload's roofline is the time that the first two allow it (Williams, Waterman and Patterson 2009).

mod kernels;
mod peaks;

use peaks::Peaks;
use serde::Serialize;
use wgpu::Features;

use super::workload::Workload;
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;

/// A device's peaks.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Roofline {
    /// FLOP/s · 10⁻⁹ of f32 products and sums that touch no memory.
    pub peak_gflops: f64,
    /// The same in f16, where the device has it.
    pub peak_gflops_f16: Option<f64>,
    /// The same by cooperative matrices of f16 with sums in f32, where the device was opened with them.
    pub peak_gflops_cooperative: Option<f64>,
    /// Bytes/s · 10⁻⁹ read and written by a copy.
    pub peak_gbytes: f64,
    /// Bytes/s · 10⁻⁹ that can be read.
    pub peak_gbytes_read: Option<f64>,
    /// Bytes/s · 10⁻⁹ that can be written.
    pub peak_gbytes_write: Option<f64>,
    /// Nanoseconds of a load from memory, at random, that the next one waits for.
    pub load_latency_ns: Option<f64>,
    /// The same within a mebibyte, which lies in some cache.
    pub cached_load_latency_ns: Option<f64>,
}

impl Roofline {
    pub(super) async fn measure(ctx: &Context) -> Result<Self> {
        let device = Peaks::new(ctx)?;
        let f32 = device.arithmetic("f32").await?.unwrap_or(0.0);
        let f16 = if ctx.device().features().contains(Features::SHADER_F16) { device.arithmetic("f16").await? } else { None };
        let cooperative = match ctx.cooperative_size() {
            Ok(size) => device.cooperative(size).await?,
            Err(_) => None,
        };
        let [copy, read, write] = device.memory().await?;
        let [far, near] = device.latency().await?;
        Ok(Self {
            peak_gflops: f32,
            peak_gflops_f16: f16,
            peak_gflops_cooperative: cooperative,
            peak_gbytes: copy,
            peak_gbytes_read: Some(read),
            peak_gbytes_write: Some(write),
            load_latency_ns: far,
            cached_load_latency_ns: near,
        })
    }

    /// What stands below a device's table.
    pub(super) fn line(&self) -> String {
        let Self { peak_gflops, peak_gbytes, .. } = self;
        let part =
            |name: &str, value: Option<f64>, unit: &str| value.map_or_else(String::new, |v| format!(", {v:.0} {unit}{name}"));
        let f16 = part(" in f16", self.peak_gflops_f16, "GFLOP/s");
        let cooperative = part(" by cooperative matrices", self.peak_gflops_cooperative, "GFLOP/s");
        let reading = part(" reading", self.peak_gbytes_read, "GB/s");
        let writing = part(" writing", self.peak_gbytes_write, "GB/s");
        let latency = part(" a load from memory", self.load_latency_ns, "ns");
        let cached = part(" from a cache", self.cached_load_latency_ns, "ns");
        format!(
            "peaks: {peak_gflops:.0} GFLOP/s in registers{f16}{cooperative}, {peak_gbytes:.1} GB/s copying{reading}{writing}{latency}{cached}\n"
        )
    }

    /// FLOP/s · 10⁻⁹ that a workload may reach.
    fn gflops(&self, dtype: Dtype, cooperative: bool) -> f64 {
        let f16 = if dtype == Dtype::F16 { self.peak_gflops_f16 } else { None };
        let matrices = if cooperative { self.peak_gflops_cooperative } else { None };
        f16.into_iter().chain(matrices).fold(self.peak_gflops, f64::max)
    }

    /// Milliseconds that arithmetic takes at best, and those that memory takes.
    pub(super) fn least_ms(&self, workload: &Workload, cooperative: bool) -> [f64; 2] {
        let gbytes = self.peak_gbytes_read.into_iter().chain(self.peak_gbytes_write).fold(self.peak_gbytes, f64::max);
        let arithmetic = workload.flops() / self.gflops(workload.dtype, cooperative);
        [arithmetic, workload.bytes() / gbytes].map(|time| time * 1e-6)
    }

    /// The part of a run's time that the device's peaks would have taken.
    pub(super) fn fraction(&self, workload: &Workload, cooperative: bool, ms: f64) -> f64 {
        let [arithmetic, memory] = self.least_ms(workload, cooperative);
        arithmetic.max(memory) / ms
    }
}
