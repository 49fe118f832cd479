//! Kernels for GPUs whose text is written for one shape of workgroup, straight down, so that weights stay in registers: all steps
//! in one dispatch with one workgroup a row (strategy resident), or one step a dispatch (strategy stepwise). Where they do not
//! fit, the strategies' other kernels take any size.

mod backward;
mod emit;
mod forward;
mod made;
mod share;

pub use made::unrolled_kernels;

use share::{Share, Work};

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::capabilities::WORKGROUP_BYTES;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::profile::{DeviceProfile, Vendor};
use crate::gpu::program::Dispatch;
use crate::schedule::interface::Layer;
use crate::schedule::layer::{
    BackwardSlots, ChunkSizes, ForwardSlots, LayerSizes, Phase, all_backward_bindings, all_forward_bindings, call_bindings,
    phases, step_index,
};
use crate::schedule::persistent::layout::Profile;

/// Quads of weights of a thread up to which all steps in one workgroup beat a dispatch for each: on an H200 1.1 µs a step at H 128,
/// 64 quads, and about 7 at H 256, 256 quads, of an LSTM, against 3.3 for a dispatch (benches/NOTES.md).
const FAST_QUADS: u32 = 128;

/// What the device gives; nothing on a CPU adapter, which has kernels of its own.
fn profile(layer: &Layer<'_>) -> Option<Profile> {
    let device = layer.settings.layout.device(DeviceProfile::new(layer.ctx, 1));
    (device.vendor != Vendor::Software).then(|| Profile::from(device))
}

/// How the resident kernels are laid out, if there are any for this shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct AllSteps {
    share: Share,
    work: Work,
}

impl AllSteps {
    pub fn new(layer: &Layer<'_>, backward: bool) -> Option<Self> {
        let work = Work::new(layer.cell, layer.sizes, backward);
        Some(Self { share: Share::resident(&profile(layer)?, &work)?, work })
    }

    pub fn groups(&self) -> [u64; 3] {
        self.share.groups(&self.work)
    }

    /// Whether it makes a step faster than a dispatch of its own would.
    pub fn is_fast(&self) -> bool {
        self.share.weights(&self.work) <= FAST_QUADS
    }

    /// Steps of one dispatch of `flops` per workgroup.
    pub fn chunk(&self, flops: u64) -> u32 {
        let Work { hidden, all_gates, .. } = self.work;
        let step = 2 * u64::from(self.share.rows) * u64::from(all_gates) * u64::from(hidden) * u64::from(hidden);
        (flops / step).clamp(1, u32::MAX.into()) as u32
    }

    /// The dispatch of all chunks.
    pub fn forward(&self, layer: &Layer<'_>, chunks: ChunkSizes, s: &ForwardSlots) -> Result<Dispatch> {
        let Layer { ctx, cell, .. } = *layer;
        let Self { share, work } = self;
        let groups = share.groups(work);
        if let Some(call) = &s.call {
            let bindings = by_quads(share, call_bindings([s.params, s.output].map(|slot| slot.element)), s.params.element);
            let kernel = ctx.kernel(forward::of_call(cell, share, work, step_index(ctx), &bindings));
            return Dispatch::new(ctx, kernel, &s.call_slots(call), &forward::CallSizes::new(chunks, call), groups);
        }
        let bindings = by_quads(share, s.bindings(), s.params.element);
        let kernel = ctx.kernel(forward::resident(cell, share, work, step_index(ctx), &bindings));
        Dispatch::new(ctx, kernel, &s.slots(), &chunks, groups)
    }

    /// As [`forward`](AllSteps::forward).
    pub fn backward(&self, layer: &Layer<'_>, chunks: &ChunkSizes, s: &BackwardSlots) -> Result<Dispatch> {
        let Layer { ctx, cell, .. } = *layer;
        let bindings = by_quads(&self.share, s.bindings(), s.params.element);
        let kernel = ctx.kernel(backward::resident(cell, &self.share, &self.work, step_index(ctx), &bindings));
        Dispatch::new(ctx, kernel, &s.slots(), chunks, self.share.groups(&self.work))
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
pub(super) fn step_forward(layer: &Layer<'_>, phase: Phase, s: &ForwardSlots) -> Result<Option<Dispatch>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let work = Work::of_phase(cell, sizes, phase, false);
    let Some(share) = profile(layer).and_then(|profile| Share::step(&profile, &work)) else { return Ok(None) };
    let bindings = by_quads(&share, s.bindings(), s.params.element);
    let kernel = ctx.kernel(forward::step(cell, &share, &work, phase, step_index(ctx), &bindings));
    Dispatch::new(ctx, kernel, &s.slots(), sizes, share.groups(&work)).map(Some)
}

/// As [`step_forward`].
pub(super) fn step_backward(layer: &Layer<'_>, phase: Phase, s: &BackwardSlots) -> Result<Option<Dispatch>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let work = Work::of_phase(cell, sizes, phase, true);
    let Some(share) = profile(layer).and_then(|profile| Share::step(&profile, &work)) else { return Ok(None) };
    let bindings = by_quads(&share, s.bindings(), s.params.element);
    let kernel = ctx.kernel(backward::step(cell, &share, &work, phase, step_index(ctx), &bindings));
    Dispatch::new(ctx, kernel, &s.slots(), sizes, share.groups(&work)).map(Some)
}

/// The grid of [`step_forward`] or [`step_backward`].
pub(super) fn step_groups(layer: &Layer<'_>, phase: Phase, backward: bool) -> Option<[u64; 3]> {
    let work = Work::of_phase(layer.cell, layer.sizes, phase, backward);
    Some(Share::step(&profile(layer)?, &work)?.groups(&work))
}

/// Devices and shapes that validation tries without one: the registers of several vendors, and a device without shuffles and with
/// WebGPU's limits; weights that stay and that are read again, by fours and by one; one row and several.
fn samples() -> [(Profile, u32, u32); 5] {
    [
        (Profile::new(Vendor::Nvidia, 32, 1024, 48 << 10), 128, 1),
        (Profile::new(Vendor::Nvidia, 32, 1024, 48 << 10), 17, 9),
        (Profile::new(Vendor::Amd, 64, 1024, 64 << 10), 64, 3),
        (Profile::new(Vendor::Intel, 8, 1024, 64 << 10), 72, 1),
        (Profile::new(Vendor::Other, 0, 256, WORKGROUP_BYTES), 21, 3),
    ]
}

/// Sources over what a device may give and a shape may ask, for validation without a device.
pub(super) fn sources(cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for (i, (profile, hidden, batch)) in samples().into_iter().enumerate() {
        let sizes = LayerSizes { hidden, batch, directions: 1, ..Default::default() };
        let element = Element::ALL[i % 3];
        let work = |backward| Work::new(cell, &sizes, backward);
        let of_phases =
            |backward| phases(cell).into_iter().map(move |phase| (phase, Work::of_phase(cell, &sizes, phase, backward)));
        if let Some(bindings) = all_forward_bindings().nth(i % 3) {
            let resident = Share::resident(&profile, &work(false)).map(|share| {
                let bindings = by_quads(&share, bindings, element);
                forward::resident(cell, &share, &work(false), step, &bindings)
            });
            let of_call = Share::resident(&profile, &work(false)).map(|share| {
                let bindings = by_quads(&share, call_bindings([element, element.written()]), element);
                forward::of_call(cell, &share, &work(false), step, &bindings)
            });
            sources.extend(of_call);
            let steps = of_phases(false).filter_map(|(phase, work)| {
                let share = Share::step(&profile, &work)?;
                Some(forward::step(cell, &share, &work, phase, step, &by_quads(&share, bindings, element)))
            });
            sources.extend(resident.into_iter().chain(steps));
        }
        if let Some(bindings) = all_backward_bindings().nth(2 * (i % 3)) {
            let resident = Share::resident(&profile, &work(true)).map(|share| {
                let bindings = by_quads(&share, bindings, element);
                backward::resident(cell, &share, &work(true), step, &bindings)
            });
            let steps = of_phases(true).filter_map(|(phase, work)| {
                let share = Share::step(&profile, &work)?;
                Some(backward::step(cell, &share, &work, phase, step, &by_quads(&share, bindings, element)))
            });
            sources.extend(resident.into_iter().chain(steps));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell;

    /// One barrier a step where nothing meets in workgroup memory, two where something does or the cell has two phases; what is read
    /// again is all that the loop loads of the weights; and nothing of a thread lies in an array that an index reaches.
    #[test]
    fn text_of_a_step() {
        let sizes = LayerSizes { hidden: 128, batch: 1, directions: 1, ..Default::default() };
        let (h200, bare) =
            (Profile::new(Vendor::Nvidia, 32, 1024, 48 << 10), Profile::new(Vendor::Other, 0, 256, WORKGROUP_BYTES));
        for (name, profile, barriers) in [("lstm", h200, 1), ("lstm", bare, 2), ("gru_reset_before", h200, 2)] {
            let cell = ShaderCell::new(&*cell::by_name(name).unwrap());
            for backward in [false, true] {
                let work = Work::new(&cell, &sizes, backward);
                let share = Share::resident(&profile, &work).unwrap();
                let source = if backward {
                    let bindings = by_quads(&share, all_backward_bindings().next().unwrap(), Element::F32);
                    backward::resident(&cell, &share, &work, StepIndex::Immediate, &bindings)
                } else {
                    let bindings = by_quads(&share, all_forward_bindings().next().unwrap(), Element::F32);
                    forward::resident(&cell, &share, &work, StepIndex::Immediate, &bindings)
                };
                let told = format!("{name} backward: {backward}: {share:?}");
                let (head, step) = source.wgsl.split_once("for (var step = start").expect("a loop over steps");
                let step = step.split("\nif end < sizes.seq_len").next().unwrap();
                let step = step.split("// --- ").next().unwrap();
                assert_eq!(step.matches("workgroupBarrier()").count(), barriers, "{told}");
                // A loop names those of one turn.
                let again = if share.loops {
                    [0, 1].map(|phase| share.blocks_of_turn(&work, phase) * share.of_block(&work, phase)).iter().sum()
                } else {
                    share.weights(&work) - share.held
                };
                assert_eq!(step.matches("= weights(").count() as u32, again, "{told}");
                assert_eq!(head.matches("= weights(").count() as u32, share.held, "{told}");
                assert!(!source.wgsl.contains("var<private>"), "{told}");
            }
        }
    }
}
