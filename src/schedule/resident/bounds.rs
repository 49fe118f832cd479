//! The bounds within which a resident workgroup is laid out.

use wgpu::Backend;

use crate::gpu::context::Context;
use crate::gpu::profile::{DeviceProfile, Vendor};

/// How threads read the vector that all multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperandRead {
    Shuffle,
    Vectors,
    Scalars,
}

impl OperandRead {
    fn new(ctx: &Context) -> Self {
        match ctx.adapter_info().backend {
            // A GPU reads one address for a whole subgroup as fast as it shuffles.
            Backend::Vulkan if ctx.is_software() && ctx.subgroups() => Self::Shuffle,
            Backend::Vulkan => Self::Vectors,
            _ => Self::Scalars,
        }
    }
}

/// What a workgroup may ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Threads, a power of two.
    pub threads: u32,
    /// Weights that a workgroup can keep in registers.
    pub held_in_all: u32,
    /// Workgroups that run side by side: rows are put together only past that.
    pub groups: u32,
    /// For strategy resident: K of each gate that a thread sums at most while there are threads for less, and weights that it
    /// keeps at most, in all and while there are 256 threads or fewer for less.
    pub resident_k: u32,
    pub resident_held: u32,
    pub resident_held_by_few: u32,
    /// Units that a thread multiplies for backward, so that it reads a vector once for all of them.
    pub columns: u32,
    /// Whether a workgroup with held weights takes several rows, one after the other.
    pub rows_in_turn: bool,
    /// Turns that a loop needs at least to stay a loop; 1 where that does not matter.
    pub rolled: u32,
    /// Threads of a lane are whole subgroups.
    pub subgroup: u32,
    pub take: OperandRead,
}

/// Any GPU until more is known: registers are taken to be 64 Ki, half of them free for weights. Not measured yet.
const GPU: Bounds = Bounds {
    threads: 512,
    held_in_all: 32_768,
    groups: 128,
    resident_k: 16,
    resident_held: 96,
    resident_held_by_few: 96,
    columns: 1,
    rows_in_turn: false,
    rolled: 1,
    subgroup: 32,
    take: OperandRead::Scalars,
};

/// A CPU adapter, as measured on llvmpipe: its registers are its stack, its parallelism its cores. A barrier costs a switch
/// for every 8 threads, so they are few with many weights each.
const CPU: Bounds = Bounds {
    threads: 1024,
    held_in_all: u32::MAX,
    groups: 2,
    resident_k: u32::MAX,
    resident_held: 512,
    resident_held_by_few: 384,
    columns: 4,
    rows_in_turn: true,
    rolled: 33,
    subgroup: 8,
    take: OperandRead::Shuffle,
};

impl Bounds {
    pub fn new(ctx: &Context) -> Self {
        let workgroups = std::thread::available_parallelism().map_or(CPU.groups, |n| n.get() as u32);
        Self::of(&DeviceProfile::new(ctx, workgroups), OperandRead::new(ctx))
    }

    /// A CPU adapter runs as many workgroups side by side as the profile says; of a GPU nothing is known yet.
    fn of(device: &DeviceProfile, take: OperandRead) -> Self {
        let threads = 1 << device.threads.min(1024).ilog2();
        let threads = |most: u32| most.min(threads);
        if device.vendor == Vendor::Software {
            let subgroup = CPU.subgroup.max(device.subgroup_max);
            Self { threads: threads(CPU.threads), groups: device.workgroups, subgroup, take, ..CPU }
        } else {
            Self { threads: threads(GPU.threads), take, ..GPU }
        }
    }

    /// Devices to validate sources for, without one.
    pub fn samples() -> [Self; 3] {
        let small = Self { threads: 256, groups: 2, ..GPU };
        [small, Self { take: OperandRead::Vectors, ..GPU }, CPU]
    }
}
