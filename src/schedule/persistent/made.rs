//! Kernels for devices that aren't there, for tests of their vendors' compilers.

use super::forced::Forced;
use super::layout::Layout;
use super::{LayerSizes, backward_source, forward_body, forward_source, layout};
use crate::cell::{Cell, ShaderCell};
use crate::error::Result;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::gpu::profile::{DeviceProfile, Vendor};
use crate::schedule::layer::{backward_bindings, forward_bindings};

/// What kernels of [`Strategy::Persistent`](crate::Strategy::Persistent) are laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistentTarget {
    /// `nvidia`, `amd`, `intel`, `apple`, `qualcomm`, `software` or `other`.
    pub vendor: &'static str,
    /// The smallest subgroup that the device may choose, 0 if it has none.
    pub subgroup_min: u32,
    /// Threads of a workgroup at most.
    pub threads: u32,
    /// Bytes of its memory at most.
    pub memory: u32,
    /// Workgroups that run side by side.
    pub workgroups: u32,
    /// Whether the exchange goes by fours, through a buffer that is coherent and volatile.
    pub by_fours: bool,
    /// Whether all is stored as f16 and multiplied by cooperative matrices, where a layout suits them.
    pub matrices: bool,
}

/// A kernel and what it asks of a workgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistentKernel {
    /// Whether it goes back through time.
    pub backward: bool,
    /// Threads of a workgroup.
    pub threads: u32,
    /// f32 weights that a thread keeps in registers.
    pub weights: u32,
    /// Batch rows at a time.
    pub rows: u32,
    /// Bytes of workgroup memory at most.
    pub bytes: u64,
    /// The module.
    pub wgsl: String,
}

impl PersistentKernel {
    fn new(layout: &Layout, source: KernelSource) -> Self {
        let Layout { backward, threads, finishers, rows, .. } = *layout;
        Self { backward, threads: threads + finishers, weights: layout.weights(), rows, bytes: layout.bytes(), wgsl: source.wgsl }
    }
}

/// The kernels of a layer in one direction, forward and backward; none where the device cannot hold it.
pub fn persistent_kernels(cell: &dyn Cell, target: PersistentTarget, hidden: u32, batch: u32) -> Result<Vec<PersistentKernel>> {
    let cell = &ShaderCell::new(cell);
    let shuffles = target.subgroup_min >= 8;
    let device = DeviceProfile {
        vendor: Vendor::by_name(target.vendor)?,
        shuffles,
        subgroup_min: target.subgroup_min,
        subgroup_max: target.subgroup_min,
        threads: target.threads,
        memory: target.memory,
        workgroups: target.workgroups,
        in_turn: !shuffles || target.subgroup_min == 8,
        decorations: target.by_fours,
        matrices: target.matrices,
    };
    let forced = Forced { vectors: target.by_fours, ..Forced::default() };
    let sizes = LayerSizes { hidden, batch, directions: 1, ..Default::default() };
    let (step, element) = (StepIndex::Immediate, if target.matrices { Element::F16 } else { Element::F32 });
    let mut kernels = Vec::new();
    if let Ok(body) = forward_body(device, forced, cell, &sizes, element) {
        kernels.push(PersistentKernel::new(&body.layout, forward_source(&body, step, forward_bindings([element; 2]))));
    }
    if let Ok(layout) = layout(device, forced, cell, &sizes, true, element) {
        let bindings = backward_bindings([element; 3], Access::Read);
        kernels.push(PersistentKernel::new(
            &layout,
            backward_source(cell, &layout, device.in_turn, layout.is_filled_by(hidden, batch), step, bindings),
        ));
    }
    Ok(kernels)
}
