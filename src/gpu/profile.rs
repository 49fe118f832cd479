//! What layouts need to know of a device: plain data, so that one can be made up.

use crate::error::{Error, Result};
use crate::gpu::capabilities::WORKGROUP_BYTES;
use crate::gpu::context::Context;

/// Whose registers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    Nvidia,
    Amd,
    Intel,
    Apple,
    Qualcomm,
    /// A CPU adapter: its registers are its stack.
    Software,
    Other,
}

impl Vendor {
    const ALL: [(&str, Self); 7] = [
        ("nvidia", Self::Nvidia),
        ("amd", Self::Amd),
        ("intel", Self::Intel),
        ("apple", Self::Apple),
        ("qualcomm", Self::Qualcomm),
        ("software", Self::Software),
        ("other", Self::Other),
    ];

    /// The vendor of that name.
    pub fn by_name(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        let known = || Self::ALL.map(|(name, _)| name).join(", ");
        found.map(|found| found.1).ok_or_else(|| Error::UnknownName { kind: "vendor", name: name.into(), known: known() })
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, vendor)| *vendor == self).map_or("other", |(name, _)| name)
    }

    /// By the PCI number that wgpu tells; where it tells none (Metal) by the name.
    fn new(ctx: &Context) -> Self {
        let info = ctx.adapter_info();
        match info.vendor {
            _ if ctx.is_software() => Self::Software,
            0x10DE => Self::Nvidia,
            0x1002 | 0x1022 => Self::Amd,
            0x8086 => Self::Intel,
            0x106B => Self::Apple,
            0x5143 => Self::Qualcomm,
            _ if info.name.starts_with("Apple") => Self::Apple,
            _ => Self::Other,
        }
    }
}

/// A device, as far as layouts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceProfile {
    pub vendor: Vendor,
    /// Whether threads may shuffle.
    pub shuffles: bool,
    /// The smallest subgroup that a kernel may find itself in, at least 8 where there are shuffles.
    pub subgroup_min: u32,
    pub subgroup_max: u32,
    /// Threads of a workgroup, and its memory in bytes.
    pub threads: u32,
    pub memory: u32,
    /// Workgroups that run side by side.
    pub workgroups: u32,
    /// Whether the subgroups of a workgroup run one after another up to a barrier, as llvmpipe's do: a thread must then never wait
    /// for what another subgroup of its own workgroup has yet to publish.
    pub in_turn: bool,
    /// Whether buffers may be coherent and volatile, so that the exchange can go by fours.
    pub decorations: bool,
    /// Whether f16 may be multiplied by cooperative matrices of 16x16 with sums in f32, as the app asks for on a device that is known to
    /// compile such kernels.
    pub matrices: bool,
}

impl DeviceProfile {
    pub fn new(ctx: &Context, workgroups: u32) -> Self {
        let (limits, info) = (ctx.limits(), ctx.adapter_info());
        let threads = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let shuffles = ctx.subgroups() && ctx.shared().lanes_in_order();
        Self {
            vendor: Vendor::new(ctx),
            shuffles,
            subgroup_min: info.subgroup_min_size,
            subgroup_max: info.subgroup_max_size,
            threads,
            memory: limits.max_compute_workgroup_storage_size.max(WORKGROUP_BYTES),
            workgroups,
            in_turn: !shuffles || info.subgroup_min_size <= 8,
            decorations: ctx.decorations(),
            matrices: false,
        }
    }

    /// Devices to make sources for, without one.
    pub fn samples() -> [Self; 3] {
        let gpu = Self {
            vendor: Vendor::Nvidia,
            shuffles: true,
            subgroup_min: 32,
            subgroup_max: 32,
            threads: 1024,
            memory: 48 << 10,
            workgroups: 132,
            in_turn: false,
            decorations: false,
            matrices: false,
        };
        let cpu = Self { vendor: Vendor::Software, subgroup_min: 8, workgroups: 4, memory: 32 << 10, in_turn: true, ..gpu };
        let bare = Self { shuffles: false, vendor: Vendor::Other, threads: 256, memory: WORKGROUP_BYTES, in_turn: true, ..gpu };
        [gpu, cpu, bare]
    }
}
