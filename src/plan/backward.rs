//! The dispatches of a backward pass: per layer the reversed recurrence, then all weight gradients as products over T·B rows.

use crate::error::{Error, Result};
use crate::gpu::element::Element;
use crate::gpu::program::{Role, Segment, Slot};
use crate::plan::Plan;
use crate::plan::buffers::Options;
use crate::plan::memory::{BackwardMap, hold_mode, weight_splits};
use crate::plan::projection::{Projection, projected_block};
use crate::plan::prologue::{Pack, PackSizes, clear_padding, pack, pack_halves, pack_hold, prepare, previous};
use crate::product::{Matrix, Product, Splits, column_sum, matmuls, reduce};
use crate::schedule::layer::{BackwardSlots, StepSizes};
use crate::schedule::network::Dims;

impl Plan {
    pub(super) fn backward_program(&self, options: Options) -> Result<Vec<Segment>> {
        let missing = || Error::Config("backward needs a plan for Mode::Training, this one is for inference".into());
        let (map, projection_map) = self.maps.backward.as_ref().ok_or_else(missing)?;
        let (ctx, network, dims) = (&self.ctx, &*self.network, Dims::new(&self.network, self.shape)?);
        let reserve = &self.maps.reserve;
        let user = self.user(options);
        let first = Pack {
            lengths: user.lengths,
            reset: user.reset,
            initial_state: user.initial_state,
            d_final_state: user.d_final_state,
            dropout_state: Slot::EMPTY,
            header: Slot::EMPTY,
            marks: map.marks,
            state: map.state,
        };
        let carry = (dims.states * dims.block) as u32;
        let mut program =
            vec![pack(ctx, &first, PackSizes { carry, projected: projected_block(network, &dims), ..dims.pack_sizes() })?.into()];
        if options.hold {
            program.push(pack_hold(ctx, user.hold, map.marks, &dims.step_sizes(network, 0, options.reset))?.into());
        }
        let last = network.config.num_layers - 1;
        for layer in (0..=last).rev() {
            let mut sizes = dims.step_sizes(network, layer, options.reset);
            sizes.carry = carry;
            sizes.has_hold = hold_mode(network, layer, options.hold);
            sizes.snapshot = map.snapshot as u32;
            sizes.d_rh = if network.cell.split_gradients { dims.gate_elements() as u32 } else { 0 };
            sizes.d_unit = dims.d_unit_offset(network) as u32;
            let output = if layer == last { user.output } else { reserve.outputs[layer] };
            let mut slots = BackwardSlots {
                params: user.params,
                d_rows: map.d_rows,
                state: map.state,
                marks: map.marks,
                output,
                reserve: reserve.kept[layer],
                d_output: if layer == last { user.d_output } else { map.d_inner },
                d_initial_state: user.d_initial_state,
                exchange: map.exchange,
                status: user.status,
            };
            let projection = self.projection(&dims, projection_map, &user, options, (map.marks, layer), sizes);
            if let Some(projection) = &projection {
                projection.begin_backward(&mut slots, &mut program)?;
            }
            program.extend(self.options.strategy.schedule().backward(&self.layer(&sizes), &slots)?);
            let around = [map.state, map.marks, slots.output, reserve.kept[layer], map.operands];
            program.push(previous(ctx, &network.cell, &sizes, around)?.into());
            let input = if layer == 0 { user.input } else { reserve.outputs[layer - 1] };
            let products = LayerProducts { plan: self, dims: &dims, map, sizes: &sizes, layer, options, projection };
            products.weight_gradients(&mut program, input)?;
            products.input_gradient(&mut program, user.d_input)?;
        }
        Ok(program)
    }
}

/// What follows the recurrence of one layer.
struct LayerProducts<'a> {
    plan: &'a Plan,
    dims: &'a Dims,
    map: &'a BackwardMap,
    sizes: &'a StepSizes,
    layer: usize,
    options: Options,
    /// Where h is projected.
    projection: Option<Projection<'a>>,
}

impl LayerProducts<'_> {
    /// All parameter gradients of a layer: partial sums in the layout of its parameter block, then their sum.
    fn weight_gradients(&self, program: &mut Vec<Segment>, below: Slot) -> Result<()> {
        let Self { plan, dims, map, sizes, layer, options, projection } = *self;
        let (ctx, network, tiles) = (&plan.ctx, &*plan.network, plan.options.tiles);
        let cell = &network.cell;
        let columns = network.config.layer_input_size(layer) as u64;
        let mut input = below;
        let dropout = plan.dropout_below(layer);
        // Where the caller's input is not read it may be anything, even NaN, and 0·NaN is NaN.
        if dropout.is_some() || (layer == 0 && (options.lengths || options.hold)) {
            input = map.prepared;
            program.push(prepare(ctx, sizes, columns, [below, input, map.marks], dropout)?.into());
        }
        let block = network.layout.block(layer, 0);
        let len = block.len as u64 * dims.directions;
        let count = weight_splits(ctx, network, dims, layer, tiles);
        let splits = Splits { count, stride: len };
        let partial = |offset: usize, columns: u64| {
            let slot = Slot { size: 4 * len * count, ..map.partial };
            Matrix::rows(slot, columns).at((offset - network.layout.block(layer, 0).weight_ih) as u64).stacked(block.len as u64)
        };
        let d_gates = |offset: u64| Matrix::rows(map.d_rows, dims.gate_rows).at(offset).stacked(dims.rows * dims.gate_rows);
        let product = |m: u64, n: u64, a: Matrix, b: Matrix, c: Matrix| Product {
            m,
            n,
            k: dims.rows,
            batches: dims.directions,
            a: a.transposed(),
            b,
            c,
            bias: None,
            accumulate: false,
            splits,
        };
        let d_rh = u64::from(sizes.d_rh);
        let weight_ih = partial(block.weight_ih, columns);
        program.extend(matmuls(
            ctx,
            tiles,
            &product(dims.gate_rows, columns, d_gates(0), Matrix::rows(input, columns), weight_ih),
        )?);
        if let (Some(projection), Some(weight_hr)) = (&projection, block.proj) {
            let proj = network.config.proj_size as u64;
            let h = projection.operands(map.operands, program)?;
            program.extend(matmuls(
                ctx,
                tiles,
                &product(dims.gate_rows, proj, d_gates(d_rh), h, partial(block.weight_hh, proj)),
            )?);
            projection.gradients(d_gates(d_rh), map.operands, partial(weight_hr, dims.hidden), splits, program)?;
        }
        // The gates of a second phase multiplied `mid`, whose rows lie behind those of h.
        let first = if projection.is_some() { 0 } else { cell.first_phase_gates as u64 };
        let second = cell.gates.len() as u64 - cell.first_phase_gates as u64;
        let operand_len = dims.directions * dims.rows * dims.hidden;
        for (gate, gates, offset) in [(0, first, 0), (first, second, operand_len)] {
            if gates > 0 {
                let a = d_gates(d_rh + gate * dims.hidden);
                let b = Matrix::rows(map.operands, dims.hidden).at(offset).stacked(dims.rows * dims.hidden);
                let c = partial(block.weight_hh + (gate * dims.hidden * dims.hidden) as usize, dims.hidden);
                program.extend(matmuls(ctx, tiles, &product(gates * dims.hidden, dims.hidden, a, b, c))?);
            }
        }
        let mut sums = Vec::new();
        if let Some(bias) = block.bias {
            sums.push((dims.gate_rows, 0, bias));
            sums.push((dims.gate_rows, d_rh, bias + dims.gate_rows as usize));
        }
        if let Some(unit) = block.unit {
            sums.push((cell.unit_rows() as u64 * dims.hidden, u64::from(sizes.d_unit), unit));
        }
        for (columns, from, to) in sums {
            let a = Matrix::rows(map.d_rows, columns).at(from).stacked(dims.rows * columns);
            program.push(column_sum(ctx, [dims.rows, columns, dims.directions], a, partial(to, columns), splits)?.into());
        }
        let d_params = Slot::whole(Role::DParams, network.layout.len() as u64);
        let range = block.weight_ih as u64..block.weight_ih as u64 + len;
        program.push(reduce(ctx, partial(block.weight_ih, 1).slot, count, d_params, range, options.accumulate)?.into());
        Ok(())
    }

    /// The gradient of a layer's input: d_wx·W_ih, summed over directions, then back through dropout.
    fn input_gradient(&self, program: &mut Vec<Segment>, users: Slot) -> Result<()> {
        let Self { plan, dims, map, sizes, layer, options, .. } = *self;
        let (ctx, network, tiles) = (&plan.ctx, &*plan.network, plan.options.tiles);
        if layer == 0 && !options.d_input {
            return Ok(());
        }
        let columns = network.config.layer_input_size(layer) as u64;
        let dropout = plan.dropout_below(layer);
        let dst = if layer == 0 { users } else { map.d_inner };
        // What is stored as f16 is written once, when the sum over directions is there.
        let direct = dst.element == Element::F32 || (dst.element == Element::F16 && dims.directions == 1);
        let prepared = Slot { size: 4 * dims.rows * columns, ..map.prepared };
        let raw = if dropout.is_some() || !direct { prepared } else { dst };
        for direction in 0..dims.directions {
            let weight_ih = network.layout.block(layer, direction as usize).weight_ih as u64;
            let product = Product {
                m: dims.rows,
                n: columns,
                k: dims.gate_rows,
                batches: 1,
                a: Matrix::rows(map.d_rows, dims.gate_rows).at(direction * dims.rows * dims.gate_rows),
                b: Matrix::rows(plan.params(), columns).at(weight_ih),
                c: Matrix::rows(raw, columns),
                bias: None,
                accumulate: direction > 0,
                splits: Splits::NONE,
            };
            program.extend(matmuls(ctx, tiles, &product)?);
        }
        // `prepare` clears what was not read itself.
        if layer == 0 && (options.lengths || options.hold) && (raw == dst || dst.element == Element::PackedF16) {
            program.push(clear_padding(ctx, sizes, columns, [raw, map.marks])?.into());
        }
        if raw == dst {
            return Ok(());
        }
        program.push(match dst.element {
            Element::PackedF16 => pack_halves(ctx, raw, dst)?.into(),
            _ => prepare(ctx, sizes, columns, [raw, dst, map.marks], dropout)?.into(),
        });
        Ok(())
    }
}
