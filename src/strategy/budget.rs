//! What a device can give to a workgroup.

use crate::context::Context;

/// Bounds within which the strategies that make many steps a dispatch lay out a workgroup.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Threads, a power of two.
    pub threads: u32,
    /// Weights that a thread can keep in registers, and a whole workgroup.
    pub held: u32,
    pub held_in_all: u32,
    /// K that one thread sums at most with held weights.
    pub k_per_lane: u32,
    /// Longest loop that the compiler unrolls: only unrolled loops keep weights in registers.
    pub unrolled: u32,
    /// Smallest H whose weights strategy persistent holds: below it they are few, and a pipeline for every H costs more.
    pub held_from: u32,
    /// Workgroups that run side by side: rows are put together only past that.
    pub groups: u32,
}

impl Budget {
    pub fn new(ctx: &Context) -> Self {
        let limits = ctx.limits();
        let threads = limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x)
            .min(limits.max_compute_workgroup_size_y)
            .min(1024);
        let threads = 1 << threads.ilog2();
        // A CPU adapter's registers are its stack, its parallelism its cores. A GPU's are taken to be 64 Ki, half of them free
        // for weights: not measured yet.
        if ctx.is_software() {
            Self { threads, held: 512, held_in_all: u32::MAX, k_per_lane: 32, unrolled: 32, held_from: 96, groups: 2 }
        } else {
            Self {
                threads: threads.min(512),
                held: 96,
                held_in_all: 32_768,
                k_per_lane: 16,
                unrolled: 64,
                held_from: 32,
                groups: 128,
            }
        }
    }

    /// Devices to validate sources for, without one.
    pub fn samples() -> [Self; 2] {
        let small = Self { threads: 256, held: 96, held_in_all: 32_768, k_per_lane: 16, unrolled: 64, held_from: 32, groups: 2 };
        let large =
            Self { threads: 1024, held: 512, held_in_all: u32::MAX, k_per_lane: 32, unrolled: 32, held_from: 96, groups: 128 };
        [small, large]
    }
}
