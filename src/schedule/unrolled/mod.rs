//! Kernels for GPUs whose text is written for one shape of workgroup, straight down, so that weights stay in registers: all steps
//! in one dispatch with one workgroup a row (strategy resident), or one step a dispatch (strategy stepwise). Where they do not
//! fit, the strategies' other kernels take any size.

mod backward;
mod emit;
mod forward;
mod share;

use share::{Share, Work};

use crate::cell::Cell;
use crate::gpu::context::{Context, WORKGROUP_BYTES};
use crate::error::Result;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::program::Dispatch;
use crate::gpu::element::Element;
use crate::schedule::persistent::layout::Profile;
use crate::schedule::{
    BackwardSlots, ForwardSlots, Phase, StepSizes, all_backward_bindings, all_forward_bindings, phases, step_index,
};

/// What the device gives; nothing on a CPU adapter, which has kernels of its own.
fn profile(ctx: &Context) -> Option<Profile> {
    let forced = std::env::var_os("TIDEGATE_UNROLLED").is_some();
    if ctx.is_software() && !forced {
        return None;
    }
    let (info, limits) = (ctx.adapter_info(), ctx.limits());
    let subgroup = if ctx.subgroups() { info.subgroup_min_size } else { 0 };
    let bytes = limits.max_compute_workgroup_storage_size.max(WORKGROUP_BYTES);
    let vendor = if forced { 0x10DE } else { info.vendor };
    Some(Profile::new(vendor, subgroup, limits.max_compute_invocations_per_workgroup, bytes))
}

/// How the resident kernels are laid out, if there are any for this shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident {
    share: Share,
    work: Work,
}

impl Resident {
    pub fn new(ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, backward: bool) -> Option<Self> {
        let work = Work::new(cell, sizes, backward);
        Some(Self { share: Share::resident(&profile(ctx)?, &work)?, work })
    }

    /// Steps of one dispatch of `flops` per workgroup.
    pub fn chunk(&self, flops: u64) -> u32 {
        let Work { hidden, all_gates, .. } = self.work;
        let step = 2 * u64::from(self.share.rows) * u64::from(all_gates) * u64::from(hidden) * u64::from(hidden);
        (flops / step).clamp(1, u32::MAX.into()) as u32
    }

    /// The dispatch of all chunks; `sizes` says how many steps there are and how many to a chunk.
    pub fn forward(&self, ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, s: &ForwardSlots) -> Result<Dispatch> {
        let bindings = by_quads(&self.share, s.bindings(), s.params.element);
        let kernel = ctx.kernel(forward::resident(cell, &self.share, &self.work, step_index(ctx), &bindings))?;
        Dispatch::new(ctx, kernel, &s.slots(), sizes, self.share.groups(&self.work))
    }

    pub fn backward(&self, ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, s: &BackwardSlots) -> Result<Dispatch> {
        let bindings = by_quads(&self.share, s.bindings(), s.params.element);
        let kernel = ctx.kernel(backward::resident(cell, &self.share, &self.work, step_index(ctx), &bindings))?;
        Dispatch::new(ctx, kernel, &s.slots(), sizes, self.share.groups(&self.work))
    }
}

/// The parameters, which all kernels bind first, by fours where they are read so.
fn by_quads<const N: usize>(share: &Share, mut bindings: [Binding; N], params: Element) -> [Binding; N] {
    if share.quads {
        bindings[0] = bindings[0].stored_quads(params);
    }
    bindings
}

/// One phase of one step, if there is a kernel for this shape.
pub(super) fn step_forward(
    ctx: &Context,
    cell: &dyn Cell,
    sizes: &StepSizes,
    phase: Phase,
    s: &ForwardSlots,
) -> Result<Option<Dispatch>> {
    let work = Work::of_phase(cell, sizes, phase, false);
    let Some(share) = profile(ctx).and_then(|profile| Share::step(&profile, &work)) else { return Ok(None) };
    let bindings = by_quads(&share, s.bindings(), s.params.element);
    let kernel = ctx.kernel(forward::step(cell, &share, &work, phase, step_index(ctx), &bindings))?;
    Dispatch::new(ctx, kernel, &s.slots(), sizes, share.groups(&work)).map(Some)
}

/// As [`step_forward`].
pub(super) fn step_backward(
    ctx: &Context,
    cell: &dyn Cell,
    sizes: &StepSizes,
    phase: Phase,
    s: &BackwardSlots,
) -> Result<Option<Dispatch>> {
    let work = Work::of_phase(cell, sizes, phase, true);
    let Some(share) = profile(ctx).and_then(|profile| Share::step(&profile, &work)) else { return Ok(None) };
    let bindings = by_quads(&share, s.bindings(), s.params.element);
    let kernel = ctx.kernel(backward::step(cell, &share, &work, phase, step_index(ctx), &bindings))?;
    Dispatch::new(ctx, kernel, &s.slots(), sizes, share.groups(&work)).map(Some)
}

/// What validation without a device tries: NVIDIA's, AMD's, Intel's and Apple's registers, and a device without shuffles and with
/// WebGPU's limits.
fn profiles() -> [Profile; 5] {
    [
        Profile::new(0x10DE, 32, 1024, 48 << 10),
        Profile::new(0x1002, 64, 1024, 64 << 10),
        Profile::new(0x8086, 8, 1024, 64 << 10),
        Profile::new(0x106B, 32, 1024, 32 << 10),
        Profile::new(0, 0, 256, WORKGROUP_BYTES),
    ]
}

/// Sources over what a device may give and a shape may ask, for validation without a device.
pub(super) fn sources(cell: &dyn Cell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for profile in profiles() {
        for (hidden, batch) in [(1, 1), (17, 3), (64, 1), (128, 9)] {
            let sizes = StepSizes { hidden, batch, directions: 1, ..Default::default() };
            for (element, bindings) in Element::ALL.into_iter().zip(all_forward_bindings()) {
                let work = Work::new(cell, &sizes, false);
                if let Some(share) = Share::resident(&profile, &work) {
                    let bindings = by_quads(&share, bindings, element);
                    sources.push(forward::resident(cell, &share, &work, step, &bindings));
                }
                for phase in phases(cell) {
                    let work = Work::of_phase(cell, &sizes, phase, false);
                    if let Some(share) = Share::step(&profile, &work) {
                        let bindings = by_quads(&share, bindings, element);
                        sources.push(forward::step(cell, &share, &work, phase, step, &bindings));
                    }
                }
            }
            for (i, bindings) in all_backward_bindings().enumerate() {
                let element = Element::ALL[i / 2];
                let work = Work::new(cell, &sizes, true);
                if let Some(share) = Share::resident(&profile, &work) {
                    let bindings = by_quads(&share, bindings, element);
                    sources.push(backward::resident(cell, &share, &work, step, &bindings));
                }
                for phase in phases(cell) {
                    let work = Work::of_phase(cell, &sizes, phase, true);
                    if let Some(share) = Share::step(&profile, &work) {
                        let bindings = by_quads(&share, bindings, element);
                        sources.push(backward::step(cell, &share, &work, phase, step, &bindings));
                    }
                }
            }
        }
    }
    sources
}
