//! Networks whose h is projected: h = W_hr·u, where u is what the cell puts out.
//!
//! The recurrence runs over u, so that every schedule can run it: its weights are W_hh·W_hr `[G·H, H]`, made anew by each pass. h itself is a
//! product over all steps behind it. An initial h, which no u need have, enters the gates of the first step that a row computes, and u
//! starts from 0. Backward likewise: products over all steps give the gradients of u from those of h, and those of W_hh and W_hr.

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Arena, Dispatch, Segment, Slot, elementwise};
use crate::gpu::shaders::{File, shader};
use crate::network::sequence::Mode;
use crate::plan::buffers::{Options, UserSlots};
use crate::product::{Matrix, Product, Splits, Tiles, matmuls};
use crate::schedule::layer::{BackwardSlots, ForwardSlots, LayerSizes};
use crate::schedule::network::{Dims, Network};

/// Workspace of a pass, and the reserve; all of it empty where h is not projected.
#[derive(Debug, Clone)]
pub(crate) struct ProjectionMap {
    /// What the recurrence of a layer takes for its parameters: `[D]` of W_hh·W_hr `[G·H, H]`, `bias_hh`, the per-unit rows.
    params: Slot,
    /// u of each layer, `[T·B, D·H]`; in inference one serves all.
    units: Vec<Slot>,
    /// The states `[S, L·D, B, H]` after the last step, state 0 being u.
    final_units: Slot,
    /// The caller's initial h, in backward the gradient of its final h: `[L·D, B, P]`.
    ends: Slot,
    /// Forward: what the initial h gives the gates, `[D, B, G·H]`; then the final h `[D, B, P]`.
    entered: Slot,
    /// Backward: gradients of the output `[T·B, D·P]`, with zeros where nothing counts; those of u `[T·B, D·H]`.
    d_output: Slot,
    d_units: Slot,
    /// Gradients of the initial states `[S, L·D, B, H]`.
    d_initial_units: Slot,
    /// h that entered each step, and its gradient: `[D, T·B, P]`.
    operands: Slot,
    sent: Slot,
}

impl ProjectionMap {
    const NONE: Self = Self {
        params: Slot::EMPTY,
        units: Vec::new(),
        final_units: Slot::EMPTY,
        ends: Slot::EMPTY,
        entered: Slot::EMPTY,
        d_output: Slot::EMPTY,
        d_units: Slot::EMPTY,
        d_initial_units: Slot::EMPTY,
        operands: Slot::EMPTY,
        sent: Slot::EMPTY,
    };

    /// Of forward; in training what backward needs lies in the reserve.
    pub fn of_forward(network: &Network, dims: &Dims, mode: Mode, workspace: &mut Arena, reserve: &mut Arena) -> Self {
        if network.config.proj_size == 0 {
            return Self::NONE;
        }
        let layers = network.config.num_layers;
        let (params, ends) = (workspace.alloc(dims.inner_len(network) * dims.directions), workspace.alloc(dims.h_block()));
        let entered = workspace.alloc(dims.directions * dims.batch * dims.gate_rows);
        let (arena, copies) = match mode {
            Mode::Training => (reserve, layers),
            Mode::Inference => (workspace, 1),
        };
        let units: Vec<Slot> = (0..copies).map(|_| arena.alloc(dims.rows * dims.directions * dims.hidden)).collect();
        let units = (0..layers).map(|layer| units[layer % copies]).collect();
        let final_units = arena.alloc(dims.states * dims.block);
        Self { params, units, final_units, ends, entered, ..Self::NONE }
    }

    /// Of backward, behind the forward that `forward` is of.
    pub fn of_backward(network: &Network, dims: &Dims, forward: &Self, workspace: &mut Arena) -> Self {
        if network.config.proj_size == 0 {
            return Self::NONE;
        }
        let of_h = dims.directions * dims.rows * network.config.proj_size as u64;
        Self {
            params: workspace.alloc(dims.inner_len(network) * dims.directions),
            units: forward.units.clone(),
            final_units: forward.final_units,
            ends: workspace.alloc(dims.h_block()),
            entered: Slot::EMPTY,
            d_output: workspace.alloc(of_h),
            d_units: workspace.alloc(dims.rows * dims.directions * dims.hidden),
            d_initial_units: workspace.alloc(dims.states * dims.block),
            operands: workspace.alloc(of_h),
            sent: workspace.alloc(of_h),
        }
    }

    /// Those that are bound as a whole.
    pub fn slots(&self) -> Vec<Slot> {
        let Self { params, final_units, ends, entered, d_output, d_units, d_initial_units, operands, sent, .. } = *self;
        let own = [params, final_units, ends, entered, d_output, d_units, d_initial_units, operands, sent];
        own.into_iter().chain(self.units.iter().copied()).collect()
    }
}

sizes! {
    CopySizes { count, len, src_offset, src_stride, dst_offset, dst_stride, has_src, }
}

sizes! {
    ProjectionSizes {
        seq_len, batch, rows, row_t, row_b, hidden, directions, reverse, layer, block, has_reset, has_hold,
        proj, gate_rows, states, first, window_len, has_initial, has_d_final,
    }
}

fn copy_source(access: Access, src: Element) -> KernelSource {
    let bindings = [Binding::new("src", access).stored(src), Binding::write("dst")];
    KernelSource::new(shader!("projection/copy"), &[], &bindings, StepIndex::None, CopySizes::WGSL)
}

fn copy(ctx: &Context, src: Slot, dst: Slot, sizes: CopySizes) -> Result<Segment> {
    let sizes = CopySizes { has_src: (src != Slot::EMPTY).into(), ..sizes };
    let grid = elementwise(ctx, u64::from(sizes.count) * u64::from(sizes.len));
    Ok(Dispatch::new(ctx, ctx.kernel(copy_source(src.read_access(), src.element)), &[src, dst], &sizes, grid)?.into())
}

fn source(file: File, bindings: &[Binding]) -> KernelSource {
    KernelSource::new(file, &[], bindings, StepIndex::None, ProjectionSizes::WGSL)
}

fn enter_gates_source() -> KernelSource {
    let bindings = [Binding::write("mask").of_u32(), Binding::write("entered"), Binding::write("input_part")];
    source(shader!("projection/enter_gates"), &bindings)
}

fn enter_operands_source() -> KernelSource {
    let bindings = [Binding::write("mask").of_u32(), Binding::read("initial_state"), Binding::write("operands")];
    source(shader!("projection/enter_operands"), &bindings)
}

/// `units` lie in the workspace, or in training in the reserve.
fn final_states_source(units: Access) -> KernelSource {
    let bindings = [
        Binding::write("mask").of_u32(),
        Binding::write("projected"),
        Binding::new("units", units),
        Binding::write("initial_h"),
        Binding::write("final_state"),
    ];
    source(shader!("projection/final_states"), &bindings)
}

fn initial_gradients_source() -> KernelSource {
    let bindings = [
        Binding::write("mask").of_u32(),
        Binding::write("sent"),
        Binding::write("d_final_h"),
        Binding::write("units"),
        Binding::write("d_initial_state"),
    ];
    source(shader!("projection/initial_gradients"), &bindings)
}

fn read_gradients_source(access: Access) -> KernelSource {
    let bindings = [Binding::write("mask").of_u32(), Binding::new("d_output", access), Binding::write("dst")];
    source(shader!("projection/read_gradients"), &bindings)
}

/// Every source of this module, for validation without a device.
pub(crate) fn sources() -> Vec<KernelSource> {
    let mut sources = vec![enter_gates_source(), enter_operands_source(), initial_gradients_source()];
    for access in [Access::Read, Access::ReadWrite] {
        sources.extend([copy_source(access, Element::F32), final_states_source(access), read_gradients_source(access)]);
    }
    sources
}

/// A layer whose h is projected, in one pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Projection<'a> {
    pub ctx: &'a Context,
    pub network: &'a Network,
    pub dims: &'a Dims,
    pub tiles: Tiles,
    pub map: &'a ProjectionMap,
    pub user: &'a UserSlots,
    pub options: Options,
    pub mask: Slot,
    pub layer: usize,
    /// As the recurrence takes them.
    pub sizes: LayerSizes,
}

impl Projection<'_> {
    fn proj(&self) -> u64 {
        self.network.config.proj_size as u64
    }

    /// Where the layer's first direction begins in `[L·D, B, width]`.
    fn first_row(&self, width: u64) -> u64 {
        u64::from(self.sizes.layer) * self.dims.batch * width
    }

    /// weight_hr `[P, H]` of each direction.
    fn weight_hr(&self) -> Matrix {
        let block = self.network.layout.block(self.layer, 0);
        let at = block.proj.unwrap_or_default() as u64;
        Matrix::rows(self.user.params, self.dims.hidden).at(at).stacked(block.len as u64)
    }

    /// weight_hh `[G·H, P]` of each direction.
    fn weight_hh(&self) -> Matrix {
        let block = self.network.layout.block(self.layer, 0);
        Matrix::rows(self.user.params, self.proj()).at(block.weight_hh as u64).stacked(block.len as u64)
    }

    /// A product of each direction.
    fn product(&self, [m, n, k]: [u64; 3], [a, b, c]: [Matrix; 3]) -> Result<Vec<Segment>> {
        let batches = self.dims.directions;
        let (bias, accumulate, splits) = (None, false, Splits::NONE);
        matmuls(self.ctx, self.tiles, &Product { m, n, k, batches, a, b, c, bias, accumulate, splits })
    }

    fn kernel_sizes(&self) -> ProjectionSizes {
        let s = self.sizes;
        ProjectionSizes {
            seq_len: s.seq_len,
            batch: s.batch,
            rows: s.rows,
            row_t: s.row_t,
            row_b: s.row_b,
            hidden: s.hidden,
            directions: s.directions,
            reverse: s.reverse,
            layer: s.layer,
            block: s.block,
            has_reset: s.has_reset,
            has_hold: s.has_hold,
            proj: self.proj() as u32,
            gate_rows: self.dims.gate_rows as u32,
            states: self.dims.states as u32,
            first: s.first,
            window_len: s.window_len,
            has_initial: self.options.initial_state.into(),
            has_d_final: self.options.d_final_state.into(),
        }
    }

    /// One workgroup for each row of each direction.
    fn by_rows(&self) -> [u64; 3] {
        let most = self.ctx.limits().max_compute_workgroups_per_dimension;
        [(self.dims.directions * self.dims.batch).min(most.into()), 1, 1]
    }

    /// Brings the caller's h at one end of time, all layers, to where nothing overwrites it: the other end's buffer may be the same.
    fn take_ends(&self, program: &mut Vec<Segment>) -> Result<()> {
        let forward = self.map.entered != Slot::EMPTY;
        let from = if forward { self.user.initial_state } else { self.user.d_final_state };
        if from != Slot::EMPTY {
            let sizes = CopySizes { count: 1, len: self.dims.h_block() as u32, ..Default::default() };
            program.push(copy(self.ctx, from, self.map.ends, sizes)?);
        }
        Ok(())
    }

    /// What goes before the recurrence, whose slots and sizes are then those of u.
    pub fn begin(
        &self,
        slots: &mut ForwardSlots,
        sizes: &mut LayerSizes,
        training: bool,
        program: &mut Vec<Segment>,
    ) -> Result<()> {
        if self.layer == 0 {
            self.take_ends(program)?;
        }
        self.inner_params(program)?;
        self.initial_gates(program)?;
        (slots.params, slots.output) = (self.map.params, self.map.units[self.layer]);
        slots.final_state = self.map.final_units.only_if(training || self.options.final_state);
        sizes.has_final = (slots.final_state != Slot::EMPTY).into();
        Ok(())
    }

    /// The same backward.
    pub fn begin_backward(&self, slots: &mut BackwardSlots, program: &mut Vec<Segment>) -> Result<()> {
        if self.layer + 1 == self.network.config.num_layers {
            self.take_ends(program)?;
        }
        self.inner_params(program)?;
        self.unit_gradients(slots.d_output, slots.state, program)?;
        (slots.params, slots.output) = (self.map.params, self.map.units[self.layer]);
        slots.d_output = self.map.d_units;
        slots.d_initial_state = self.map.d_initial_units.only_if(self.options.d_initial_state);
        Ok(())
    }

    /// What the recurrence takes for its parameters.
    fn inner_params(&self, program: &mut Vec<Segment>) -> Result<()> {
        let Self { ctx, network, dims, map, .. } = *self;
        let (stride, weights) = (u64::from(self.sizes.param_stride), dims.gate_rows * dims.hidden);
        let inner = Matrix::rows(map.params, dims.hidden).stacked(stride);
        let to = CopySizes { count: dims.directions as u32, dst_stride: stride as u32, ..Default::default() };
        if dims.seq_len > 1 {
            program
                .extend(self.product([dims.gate_rows, dims.hidden, self.proj()], [self.weight_hh(), self.weight_hr(), inner])?);
        } else {
            // They would only multiply zeros.
            program.push(copy(ctx, Slot::EMPTY, map.params, CopySizes { len: weights as u32, ..to })?);
        }
        let block = network.layout.block(self.layer, 0);
        let rest = dims.inner_rest(network);
        if rest > 0 {
            // bias_hh, and right behind it the per-unit rows.
            let from = block.bias.map(|bias| bias as u64 + dims.gate_rows).or(block.unit.map(|unit| unit as u64));
            let (src_offset, src_stride) = (from.unwrap_or_default() as u32, block.len as u32);
            let sizes = CopySizes { len: rest as u32, src_offset, src_stride, dst_offset: weights as u32, ..to };
            program.push(copy(ctx, self.user.params, map.params, sizes)?);
        }
        Ok(())
    }

    /// What the initial h gives the gates.
    fn initial_gates(&self, program: &mut Vec<Segment>) -> Result<()> {
        if !self.options.initial_state {
            return Ok(());
        }
        let (dims, proj) = (self.dims, self.proj());
        let h = Matrix::rows(self.map.ends, proj).at(self.first_row(proj)).stacked(dims.batch * proj);
        let entered = Matrix::rows(self.map.entered, dims.gate_rows).stacked(dims.batch * dims.gate_rows);
        program.extend(self.product([dims.batch, dims.gate_rows, proj], [h, self.weight_hh().transposed(), entered])?);
        Ok(())
    }

    /// Adds that to a window's input products.
    pub fn enter_gates(&self, input_part: Slot, program: &mut Vec<Segment>) -> Result<()> {
        if self.options.initial_state {
            let slots = [self.mask, self.map.entered, input_part];
            let kernel = self.ctx.kernel(enter_gates_source());
            program.push(Dispatch::new(self.ctx, kernel, &slots, &self.kernel_sizes(), self.by_rows())?.into());
        }
        Ok(())
    }

    /// h of all steps, and after the last.
    pub fn outputs(&self, output: Slot, program: &mut Vec<Segment>) -> Result<()> {
        let Self { ctx, dims, map, .. } = *self;
        let (proj, hidden, directions) = (self.proj(), dims.hidden, dims.directions);
        let units = Matrix::rows(map.units[self.layer], directions * hidden).stacked(hidden);
        let h = Matrix::rows(output, directions * proj).stacked(proj);
        program.extend(self.product([dims.rows, proj, hidden], [units, self.weight_hr().transposed(), h])?);
        if self.options.final_state {
            let last = Matrix::rows(map.final_units, hidden).at(self.first_row(hidden)).stacked(dims.batch * hidden);
            let projected = Matrix::rows(map.entered, proj).stacked(dims.batch * proj);
            program.extend(self.product([dims.batch, proj, hidden], [last, self.weight_hr().transposed(), projected])?);
            let slots = [self.mask, map.entered, map.final_units, map.ends, self.user.final_state];
            let kernel = ctx.kernel(final_states_source(map.final_units.read_access()));
            let grid = elementwise(ctx, directions * dims.batch * hidden);
            program.push(Dispatch::new(ctx, kernel, &slots, &self.kernel_sizes(), grid)?.into());
        }
        Ok(())
    }

    /// Gradients of u, from those of h in `d_output` and, into the running gradient in `state`, of the final h.
    fn unit_gradients(&self, d_output: Slot, state: Slot, program: &mut Vec<Segment>) -> Result<()> {
        let Self { ctx, dims, map, .. } = *self;
        let (proj, hidden, directions) = (self.proj(), dims.hidden, dims.directions);
        let kernel = ctx.kernel(read_gradients_source(d_output.read_access()));
        let grid = elementwise(ctx, dims.rows * directions * proj);
        program.push(Dispatch::new(ctx, kernel, &[self.mask, d_output, map.d_output], &self.kernel_sizes(), grid)?.into());
        let d_units = Matrix::rows(map.d_units, directions * hidden).stacked(hidden);
        program.extend(self.product([dims.rows, hidden, proj], [self.d_output(), self.weight_hr(), d_units])?);
        if self.options.d_final_state {
            let d_state_at = u64::from(self.sizes.d_state_at) + self.first_row(hidden);
            let d_last = Matrix::rows(state, hidden).at(d_state_at).stacked(dims.batch * hidden);
            program.extend(self.product([dims.batch, hidden, proj], [self.d_final_h(), self.weight_hr(), d_last])?);
        }
        Ok(())
    }

    fn d_output(&self) -> Matrix {
        let proj = self.proj();
        Matrix::rows(self.map.d_output, self.dims.directions * proj).stacked(proj)
    }

    fn d_final_h(&self) -> Matrix {
        let proj = self.proj();
        Matrix::rows(self.map.ends, proj).at(self.first_row(proj)).stacked(self.dims.batch * proj)
    }

    /// Operands of weight_hh's gradient, from the u that entered each step: `[D, T·B, P]`.
    pub fn operands(&self, units: Slot, program: &mut Vec<Segment>) -> Result<Matrix> {
        let Self { ctx, dims, map, .. } = *self;
        let (proj, hidden) = (self.proj(), dims.hidden);
        let units = Matrix::rows(units, hidden).stacked(dims.rows * hidden);
        let h = Matrix::rows(map.operands, proj).stacked(dims.rows * proj);
        program.extend(self.product([dims.rows, proj, hidden], [units, self.weight_hr().transposed(), h])?);
        if self.options.initial_state {
            let slots = [self.mask, self.user.initial_state, map.operands];
            let kernel = ctx.kernel(enter_operands_source());
            program.push(Dispatch::new(ctx, kernel, &slots, &self.kernel_sizes(), self.by_rows())?.into());
        }
        Ok(h)
    }

    /// The gradient of weight_hr into `partial`, by what the gates `d_rh` send back to the h before them and what comes from above; and
    /// those of the initial states. `units` is the u that entered each step.
    pub fn gradients(
        &self,
        d_rh: Matrix,
        units: Slot,
        partial: Matrix,
        splits: Splits,
        program: &mut Vec<Segment>,
    ) -> Result<()> {
        let Self { ctx, dims, map, .. } = *self;
        let (proj, hidden, directions) = (self.proj(), dims.hidden, dims.directions);
        let sent = Matrix::rows(map.sent, proj).stacked(dims.rows * proj);
        program.extend(self.product([dims.rows, proj, dims.gate_rows], [d_rh, self.weight_hh(), sent])?);
        let first = Product {
            m: proj,
            n: hidden,
            k: dims.rows,
            batches: directions,
            a: sent.transposed(),
            b: Matrix::rows(units, hidden).stacked(dims.rows * hidden),
            c: partial,
            bias: None,
            accumulate: false,
            splits,
        };
        program.extend(matmuls(ctx, self.tiles, &first)?);
        let above = Matrix::rows(map.units[self.layer], directions * hidden).stacked(hidden);
        let second = Product { a: self.d_output().transposed(), b: above, accumulate: true, ..first };
        program.extend(matmuls(ctx, self.tiles, &second)?);
        if self.options.d_final_state {
            let last = Matrix::rows(map.final_units, hidden).at(self.first_row(hidden)).stacked(dims.batch * hidden);
            let (a, splits) = (self.d_final_h().transposed(), Splits::NONE);
            program.extend(matmuls(ctx, self.tiles, &Product { k: dims.batch, a, b: last, splits, ..second })?);
        }
        if self.options.d_initial_state {
            let slots = [self.mask, map.sent, map.ends, map.d_initial_units, self.user.d_initial_state];
            let kernel = ctx.kernel(initial_gradients_source());
            program.push(Dispatch::new(ctx, kernel, &slots, &self.kernel_sizes(), self.by_rows())?.into());
        }
        Ok(())
    }
}

/// How many elements of the caller's states are h that the recurrence does not start from.
pub(crate) fn projected_block(network: &Network, dims: &Dims) -> u32 {
    if network.config.proj_size == 0 { 0 } else { dims.h_block() as u32 }
}
