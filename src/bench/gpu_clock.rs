//! The GPU's own clock: timestamps at both ends of compute passes.

use wgpu::{Backend, BufferUsages, CommandEncoder, ComputePassTimestampWrites, Features, QUERY_SET_MAX_QUERIES, QuerySet};

use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;

/// Timestamps at either end of so many compute passes.
pub struct GpuClock {
    /// As many as it takes, all but the last full.
    sets: Vec<QuerySet>,
    pairs: u32,
    /// Two u64 of ticks for each pass.
    ticks: DeviceBuffer,
    _owned: OwnedBuffers,
}

impl Drop for GpuClock {
    /// For the same reason as [`OwnedBuffers`].
    fn drop(&mut self) {
        self.sets.iter().for_each(QuerySet::destroy);
    }
}

impl GpuClock {
    /// Nothing where the adapter has no timestamps.
    pub fn new(ctx: &Context, passes: usize) -> Result<Option<Self>> {
        if !ctx.device().features().contains(Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let pairs = u32::try_from(passes).unwrap_or(u32::MAX / 2);
        let (label, ty) = (Some("tidegate bench"), wgpu::QueryType::Timestamp);
        let set = |first: u32| {
            let count = (2 * pairs - first).min(QUERY_SET_MAX_QUERIES);
            ctx.scoped(|| ctx.device().create_query_set(&wgpu::QuerySetDescriptor { label, ty, count }))
        };
        let sets = (0..2 * pairs).step_by(QUERY_SET_MAX_QUERIES as usize).map(set).collect::<Result<_>>()?;
        let (owned, usage) = (OwnedBuffers::default(), BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC);
        let ticks = owned.keep(ctx.create_buffer("tidegate bench", 16 * u64::from(pairs), usage))?;
        Ok(Some(Self { sets, pairs, ticks, _owned: owned }))
    }

    /// What each pass is to write, in order.
    pub fn pairs(&self) -> impl Iterator<Item = ComputePassTimestampWrites<'_>> {
        (0..2 * self.pairs).step_by(2).map(|first| {
            let (set, at) = (first / QUERY_SET_MAX_QUERIES, first % QUERY_SET_MAX_QUERIES);
            ComputePassTimestampWrites {
                query_set: &self.sets[set as usize],
                beginning_of_pass_write_index: Some(at),
                end_of_pass_write_index: Some(at + 1),
            }
        })
    }

    /// After the passes, in the same encoder.
    pub fn resolve(&self, encoder: &mut CommandEncoder) {
        for (first, set) in (0..2 * self.pairs).step_by(QUERY_SET_MAX_QUERIES as usize).zip(&self.sets) {
            let count = (2 * self.pairs - first).min(QUERY_SET_MAX_QUERIES);
            encoder.resolve_query_set(set, 0..count, &self.ticks, 8 * u64::from(first));
        }
    }

    /// Milliseconds of each pass of the last submit, where they tell something.
    pub async fn read(&self, ctx: &Context) -> Result<Vec<Option<f64>>> {
        // The download gives each u64 as the bits of two f32.
        let [words] = ctx.download([&self.ticks]).await?;
        let tick = |low: f32, high: f32| u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32;
        let least_ns = if ctx.adapter_info().backend == Backend::BrowserWebGpu { LEAST_NS_IN_BROWSERS } else { 0.0 };
        let period = ctx.queue().get_timestamp_period();
        let pass = |w: &[f32]| between(tick(w[0], w[1]), tick(w[2], w[3]), period, least_ns);
        Ok(words.chunks_exact(4).map(pass).collect())
    }
}

/// Browsers round timestamps to 0.1 ms: what is shorter than 20 of these they cannot tell.
const LEAST_NS_IN_BROWSERS: f64 = 20.0 * 1e5;

/// Milliseconds from one timestamp to another; nothing if the adapter's clock stood still, ran backwards, or is too coarse.
fn between(start: u64, end: u64, period_ns: f32, least_ns: f64) -> Option<f64> {
    let ns = end.checked_sub(start)? as f64 * f64::from(period_ns);
    (ns > 0.0 && ns >= least_ns).then_some(ns * 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_that_tell_nothing_are_none() {
        assert_eq!(between(1000, 3000, 1.0, 0.0), Some(2e-3));
        assert_eq!(between(1000, 3000, 40.0, 0.0), Some(8e-2));
        for (start, end, period) in [(1000, 1000, 1.0), (3000, 1000, 1.0), (1000, 3000, 0.0)] {
            assert_eq!(between(start, end, period, 0.0), None, "{start} to {end}, {period} ns each");
        }
        let browser = |elapsed: u64| between(500_000, 500_000 + elapsed, 1.0, LEAST_NS_IN_BROWSERS);
        assert_eq!((browser(100_000), browser(1_900_000), browser(2_000_000)), (None, None, Some(2.0)));
    }

    /// More passes than one set of queries has room for.
    #[test]
    fn every_pass_has_timestamps_of_its_own() {
        let ctx = pollster::block_on(Context::request()).unwrap();
        let passes = QUERY_SET_MAX_QUERIES / 2 + 3;
        let Some(clock) = GpuClock::new(&ctx, passes as usize).unwrap() else { return };
        let mut seen = std::collections::HashSet::new();
        for writes in clock.pairs() {
            let (first, last) = (writes.beginning_of_pass_write_index, writes.end_of_pass_write_index);
            assert!(last < Some(QUERY_SET_MAX_QUERIES) && last > first);
            assert!(seen.insert((writes.query_set as *const QuerySet, first)));
        }
        assert_eq!((clock.sets.len(), seen.len(), clock.ticks.size()), (2, passes as usize, 16 * u64::from(passes)));
    }
}
