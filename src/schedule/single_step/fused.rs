//! The dispatches of a single step of a stream, T = 1 in inference, of few rows: one a layer with the input's product in it, or
//! one in all for a small network.

use std::ops::Range;

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::capabilities::WORKGROUP_BYTES;
use crate::gpu::context::Context;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Arena, Dispatch, Segment, Slot};
use crate::gpu::shaders::shader;
use crate::schedule::network::{Dims, Network};
use crate::schedule::single_step::call::{StepCall, StepSlots, phases};

sizes! {
    FusedSizes {
        input, hidden, layers, directions, batch,
        layer_start, layer_end, phase_start, phase_end,
        /// Parameters of a direction of the first layer, and of any other.
        first_len, other_len,
        has_bias, has_initial, has_final, has_reset,
        /// 1 where the only direction is the reverse.
        reverse,
    }
}

/// What a workgroup makes.
#[derive(Debug, Clone, Copy)]
struct Tile {
    units: u32,
    lanes: u32,
    rows: u32,
    /// Whether parameters are read by four: I and H are multiples of 4, and with them all offsets.
    quads: bool,
}

/// Length of K that is staged in workgroup memory at a time.
const TILE_K: u32 = 128;

impl Tile {
    /// All units of its rows if `whole`, else a slice of them.
    fn new(batch: usize, gates: u32, whole: bool, quads: bool) -> Self {
        let mut rows = match batch {
            1 => 1,
            2..=4 => 4,
            _ => 8,
        };
        let mut units = if whole { 32 } else { 8 };
        let lanes = 8;
        let bytes = |units: u32, rows: u32| 4 * (rows * TILE_K + gates * rows * units * lanes);
        while bytes(units, rows) > WORKGROUP_BYTES && units > 8 {
            units /= 2;
        }
        while bytes(units, rows) > WORKGROUP_BYTES && rows > 1 {
            rows /= 2;
        }
        while bytes(units, rows) > WORKGROUP_BYTES && units > 1 {
            units /= 2;
        }
        Self { units, lanes, rows, quads }
    }

    fn constants(self, in_place: bool) -> [(&'static str, u32); 5] {
        let [units, lanes, rows] = [("UNITS", self.units), ("LANES", self.lanes), ("ROWS", self.rows)];
        [units, lanes, rows, ("TILE_QUADS", TILE_K / 4), ("IN_PLACE", in_place.into())]
    }
}

/// The last tells how parameters, input and output are stored.
fn source(cell: &ShaderCell, tile: Tile, in_place: bool, [params, input, output]: [Element; 3]) -> KernelSource {
    let bindings: [Binding; 7] = [
        if tile.quads { Binding::read("params").stored_quads(params) } else { Binding::read("params").stored(params) },
        Binding::read("input").stored(input),
        Binding::read("initial_state"),
        Binding::read("reset").of_u32(),
        Binding::write("output").stored(output),
        Binding::write("final_state"),
        Binding::write("scratch"),
    ];
    let weights = if tile.quads { shader!("operand/weights_by_four") } else { shader!("operand/weights_by_one") };
    KernelSource::new(
        shader!("recurrence/single_step_fused_forward"),
        &tile.constants(in_place),
        &bindings,
        StepIndex::None,
        FusedSizes::WGSL,
    )
    .with_file(weights)
    .with_cell(cell)
}

/// Workspace of a single step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FusedMap {
    /// See the shader.
    scratch: Slot,
    /// As in the forward map.
    pub unpacked: Slot,
    /// Whether one workgroup makes a whole step of its rows.
    whole: bool,
}

impl FusedMap {
    pub fn new(network: &Network, dims: &Dims, whole: bool, arena: &mut Arena) -> Self {
        let cell = &network.cell;
        let kept = if cell.has_two_phases() { 1 + cell.gates.len() + cell.first_phase_gates } else { 0 };
        let scratch = 2 * dims.batch * dims.output + dims.directions * dims.batch * dims.hidden * kept as u64;
        Self { scratch: arena.alloc(scratch), unpacked: arena.alloc(dims.unpacked(network)), whole }
    }

    /// Whether a grid has room for all rows.
    pub fn fits(ctx: &Context, network: &Network, dims: &Dims) -> bool {
        let most = u64::from(ctx.limits().max_compute_workgroups_per_dimension);
        let rows = |whole| Tile::new(dims.batch as usize, network.cell.gates.len() as u32, whole, false).rows;
        [false, true].into_iter().all(|whole| dims.batch.div_ceil(rows(whole).into()) <= most)
    }

    pub fn slots(&self) -> [Slot; 2] {
        [self.scratch, self.unpacked]
    }
}

/// Every source of this module, for validation without a device.
pub(crate) fn sources(cell: &ShaderCell) -> Vec<KernelSource> {
    let gates = cell.gates.len() as u32;
    let tiles = [(1, true), (4, true), (8, true), (1, false), (4, false), (8, false)];
    let tiles = tiles.map(|(batch, whole)| Tile::new(batch, gates, whole, batch == 4));
    let variants = tiles.into_iter().flat_map(|tile| [(tile, false), (tile, true)]);
    let sources = |(tile, in_place)| Element::ALL.map(|e| source(cell, tile, in_place, [e, e, e.written()]));
    variants.flat_map(sources).collect()
}

impl FusedMap {
    /// The dispatches of a step.
    pub fn program(&self, call: &StepCall<'_>) -> Result<Vec<Segment>> {
        let StepCall { ctx, network, dims, slots, in_place, .. } = *call;
        let cell = &network.cell;
        let StepSlots { params, input, reset, output, final_state, .. } = slots;
        let (small, layers) = (self.whole, network.config.num_layers);
        let quads = network.config.input_size.is_multiple_of(4) && network.config.hidden_size.is_multiple_of(4);
        let tile = Tile::new(dims.batch as usize, cell.gates.len() as u32, small, quads);
        let stored = [params, input, output].map(|slot| slot.element);
        let kernel = ctx.kernel(source(cell, tile, in_place, stored));
        let slots = [params, input, call.bound_initial(), reset, output, final_state, self.scratch];
        let len = |layer: usize| network.layout.block(layer, 0).len as u32;
        let sizes = FusedSizes {
            input: network.config.input_size as u32,
            hidden: dims.hidden as u32,
            layers: layers as u32,
            directions: dims.directions as u32,
            batch: dims.batch as u32,
            first_len: len(0),
            other_len: if layers > 1 { len(1) } else { 0 },
            has_bias: network.config.bias.into(),
            has_initial: call.has_initial().into(),
            has_final: call.has_final().into(),
            has_reset: call.has_reset().into(),
            reverse: network.config.runs_back(0).into(),
            ..Default::default()
        };
        let phases = phases(cell);
        let rows = dims.batch.div_ceil(tile.rows.into());
        let dispatch = |layers: Range<usize>, phases: Range<u32>, groups: [u64; 3]| {
            let sizes = FusedSizes {
                layer_start: layers.start as u32,
                layer_end: layers.end as u32,
                phase_start: phases.start,
                phase_end: phases.end,
                ..sizes
            };
            Dispatch::new(ctx, kernel.clone(), &slots, &sizes, groups).map(Segment::from)
        };
        let mut program = Vec::new();
        if small {
            program.push(dispatch(0..layers, phases, [1, rows, 1])?);
        } else {
            let groups = [dims.hidden.div_ceil(tile.units.into()), rows, dims.directions];
            for layer in 0..layers {
                for phase in phases.clone() {
                    program.push(dispatch(layer..layer + 1, phase..phase + 1, groups)?);
                }
            }
        }
        Ok(program)
    }
}
