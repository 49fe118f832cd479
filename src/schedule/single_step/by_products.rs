//! The dispatches of a single step (T = 1 in inference) with enough rows for products over all of them to pay off: per layer x·W_ihᵀ,
//! h·W_hhᵀ, then the cell on every row.

use std::ops::Range;

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Arena, Dispatch, Segment, Slot};
use crate::gpu::shaders::shader;
use crate::product::{Matrix, Product, Splits, matmuls};
use crate::schedule::layer::LayerSizes;
use crate::schedule::network::{Dims, Network};
use crate::schedule::single_step::call::{StepCall, StepSlots, phases};

/// Workspace beside the forward map's `input_part`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProductsMap {
    /// h·W_hhᵀ of one layer: `[D, B, G, H]`.
    state_part: Slot,
    /// `[D, B, H]`, of a cell of two phases.
    mid: Slot,
}

impl ProductsMap {
    pub fn new(network: &Network, dims: &Dims, arena: &mut Arena) -> Self {
        let mid = if network.cell.has_two_phases() { dims.directions * dims.batch * dims.hidden } else { 0 };
        Self { state_part: arena.alloc(Self::state_part_len(dims)), mid: arena.alloc(mid) }
    }

    fn state_part_len(dims: &Dims) -> u64 {
        dims.directions * dims.batch * dims.gate_rows
    }

    /// Whether the products of all rows fit a binding.
    pub fn fits(ctx: &Context, dims: &Dims) -> bool {
        4 * Self::state_part_len(dims) <= ctx.limits().max_storage_buffer_binding_size
    }

    pub fn slots(&self) -> [Slot; 2] {
        [self.state_part, self.mid]
    }
}

/// Constants of the kernel: the phase, whether there is a state, and whether the final one goes where it is.
#[derive(Debug, Clone, Copy)]
struct Variant {
    phase: u32,
    has_initial: bool,
    in_place: bool,
}

/// `stored` tells how the parameters and the output are.
fn source(cell: &ShaderCell, variant: Variant, stored: [Element; 2]) -> KernelSource {
    let constants =
        [("PHASE", variant.phase), ("HAS_INITIAL", variant.has_initial.into()), ("IN_PLACE", variant.in_place.into())];
    let bindings: [Binding; 8] = [
        Binding::read("params").stored(stored[0]),
        Binding::write("input_part"),
        Binding::write("state_part"),
        Binding::write("mid"),
        Binding::read("initial_state"),
        Binding::read("reset").of_u32(),
        Binding::write("output").stored(stored[1]),
        Binding::write("final_state"),
    ];
    KernelSource::new(
        shader!("recurrence/single_step_products_forward"),
        &constants,
        &bindings,
        StepIndex::None,
        LayerSizes::WGSL,
    )
    .with_cell(cell)
}

/// Every source of this module, for validation without a device.
pub(crate) fn sources(cell: &ShaderCell) -> Vec<KernelSource> {
    let states = [(false, false), (true, false), (true, true)];
    let variants = phases(cell).flat_map(|phase| states.map(|(has_initial, in_place)| Variant { phase, has_initial, in_place }));
    let sources = |variant| Element::ALL.map(|element| source(cell, variant, [element, element.written()]));
    variants.flat_map(sources).collect()
}

impl ProductsMap {
    /// The dispatches of a layer behind its product of the input, which `input_part` holds.
    pub fn layer(&self, call: &StepCall<'_>, layer: usize, input_part: Slot, sizes: &LayerSizes) -> Result<Vec<Segment>> {
        let StepCall { ctx, network, dims, slots: StepSlots { params, reset, output, final_state, .. }, .. } = *call;
        let cell = &network.cell;
        let slots = [params, input_part, self.state_part, self.mid, call.bound_initial(), reset, output, final_state];
        let first = cell.first_phase_gates as u64 * dims.hidden;
        let state_product = |operand: Matrix, rows: Range<u64>| {
            let block = network.layout.block(layer, 0);
            let weights = Matrix::rows(params, dims.hidden).at(block.weight_hh as u64 + rows.start * dims.hidden);
            let c = Matrix::rows(self.state_part, dims.gate_rows).at(rows.start).stacked(dims.batch * dims.gate_rows);
            let product = Product {
                m: dims.batch,
                n: rows.end - rows.start,
                k: dims.hidden,
                batches: dims.directions,
                a: operand.stacked(dims.batch * dims.hidden),
                b: weights.transposed().stacked(block.len as u64),
                c,
                bias: None,
                accumulate: false,
                splits: Splits::NONE,
            };
            matmuls(ctx, call.tiles, &product)
        };
        let run = |phase| -> Result<Segment> {
            let variant = Variant { phase, has_initial: call.has_initial(), in_place: call.in_place };
            let groups = elementwise(ctx, dims.directions * dims.batch * dims.hidden);
            let kernel = ctx.kernel(source(cell, variant, [params.element, output.element]));
            Ok(Segment::from(Dispatch::new(ctx, kernel, &slots, sizes, groups)?))
        };
        let mut program = Vec::new();
        if call.has_initial() {
            let h = Matrix::rows(call.slots.initial_state, dims.hidden);
            program.extend(state_product(h.at(u64::from(sizes.layer) * dims.batch * dims.hidden), 0..first)?);
        }
        for phase in phases(cell) {
            if phase == 2 {
                program.extend(state_product(Matrix::rows(self.mid, dims.hidden), first..dims.gate_rows)?);
            }
            program.push(run(phase)?);
        }
        Ok(program)
    }
}
