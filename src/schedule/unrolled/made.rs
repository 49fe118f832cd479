//! Kernels for devices that aren't there, for tests of their vendors' compilers.

use super::share::{Share, Work};
use super::{backward, by_quads, forward};
use crate::cell::{Cell, ShaderCell};
use crate::error::Result;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::gpu::profile::{DeviceProfile, Vendor};
use crate::schedule::layer::{LayerSizes, backward_bindings, call_bindings, forward_bindings, phases};
use crate::schedule::persistent::layout::Profile;
use crate::schedule::persistent::{PersistentKernel, PersistentTarget};

fn made(share: &Share, work: &Work, resident: bool, source: KernelSource) -> (&'static str, PersistentKernel) {
    let bytes = 4 * u64::from(share.staged(work, resident) + share.sums(work));
    let (backward, threads, rows, weights) = (work.backward, share.threads(), share.rows, 4 * share.held);
    (source.entry(), PersistentKernel { backward, threads, weights, rows, bytes, wgsl: source.wgsl })
}

/// The kernels of strategies resident and stepwise for a layer of f32 in one direction, forward and backward, with their names: those
/// that the device has room for.
pub fn unrolled_kernels(
    cell: &dyn Cell,
    target: PersistentTarget,
    hidden: u32,
    batch: u32,
) -> Result<Vec<(&'static str, PersistentKernel)>> {
    let cell = &ShaderCell::new(cell);
    let profile = Profile::from(DeviceProfile {
        vendor: Vendor::by_name(target.vendor)?,
        shuffles: target.subgroup_min >= 8,
        subgroup_min: target.subgroup_min,
        subgroup_max: target.subgroup_min,
        threads: target.threads,
        memory: target.memory,
        workgroups: target.workgroups,
        in_turn: false,
        decorations: false,
        matrices: false,
    });
    let sizes = LayerSizes { hidden, batch, directions: 1, ..Default::default() };
    let (step, f32) = (StepIndex::Immediate, Element::F32);
    let forward_of = |share: &Share| by_quads(share, forward_bindings([f32; 2]), f32);
    let backward_of = |share: &Share| by_quads(share, backward_bindings([f32; 3], Access::Read), f32);
    let mut kernels = Vec::new();
    let work = Work::new(cell, &sizes, false);
    if let Some(share) = Share::resident(&profile, &work) {
        let call = by_quads(&share, call_bindings([f32; 2]), f32);
        kernels.push(made(&share, &work, true, forward::resident(cell, &share, &work, step, &forward_of(&share))));
        kernels.push(made(&share, &work, true, forward::of_call(cell, &share, &work, step, &call)));
    }
    let work = Work::new(cell, &sizes, true);
    if let Some(share) = Share::resident(&profile, &work) {
        kernels.push(made(&share, &work, true, backward::resident(cell, &share, &work, step, &backward_of(&share))));
    }
    for phase in phases(cell) {
        let work = Work::of_phase(cell, &sizes, phase, false);
        if let Some(share) = Share::step(&profile, &work) {
            kernels.push(made(&share, &work, false, forward::step(cell, &share, &work, phase, step, &forward_of(&share))));
        }
        let work = Work::of_phase(cell, &sizes, phase, true);
        if let Some(share) = Share::step(&profile, &work) {
            kernels.push(made(&share, &work, false, backward::step(cell, &share, &work, phase, step, &backward_of(&share))));
        }
    }
    Ok(kernels)
}
