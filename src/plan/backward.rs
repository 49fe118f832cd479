//! The dispatches of a backward pass: per layer the reversed recurrence, then all weight gradients as products over T·B rows.

use crate::error::{Error, Result};
use crate::gpu::element::Element;
use crate::gpu::program::{Role, Segment, Slot};
use crate::plan::Plan;
use crate::plan::buffers::Options;
use crate::plan::memory::{BackwardMap, hold_mode, rounds, sums_whole, weight_splits};
use crate::plan::projection::{Projection, projected_block};
use crate::plan::prologue::{Pack, PackSizes, clear_padding, gate_range, pack, pack_halves, pack_hold, prepare, previous};
use crate::product::{ColumnSum, Matrix, Product, Splits, matmuls, reduce};
use crate::schedule::interface::Room;
use crate::schedule::layer::{BackwardSlots, LayerSizes};
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
            mask: map.mask,
            state: map.state,
        };
        let d_state_at = (dims.states * dims.block) as u32;
        let last = network.config.num_layers - 1;
        let room =
            Room { exchange: map.exchange, behind_state: map.behind_state, d_initial_state: user.d_initial_state != Slot::EMPTY };
        let prepared = self.prepares(&dims, last, true, room);
        let sizes = PackSizes { d_state_at, projected: projected_block(network, &dims), ..dims.pack_sizes() };
        let mut program = vec![pack(ctx, &first, sizes, prepared)?.into()];
        if options.hold {
            program.push(pack_hold(ctx, user.hold, map.mask, &dims.layer_sizes(network, 0, options.reset))?.into());
        }
        for layer in (0..=last).rev() {
            let mut sizes = dims.layer_sizes(network, layer, options.reset);
            sizes.d_state_at = d_state_at;
            sizes.has_hold = hold_mode(network, layer, options.hold);
            sizes.d_rh = if network.cell.split_gradients { dims.gate_elements() as u32 } else { 0 };
            sizes.d_unit = dims.d_unit_offset(network) as u32;
            let output = if layer == last { user.output } else { reserve.outputs[layer] };
            let mut slots = BackwardSlots {
                params: user.params,
                d_gates: map.d_gates,
                state: map.state,
                behind_state: map.behind_state,
                mask: map.mask,
                output,
                reserve: reserve.kept[layer],
                d_output: if layer == last { user.d_output } else { map.d_inner },
                d_initial_state: user.d_initial_state,
                exchange: map.exchange,
                status: user.status,
                prepared: layer == last && prepared.is_some(),
            };
            let projection = self.projection(&dims, projection_map, &user, options, (map.mask, layer), sizes);
            if let Some(projection) = &projection {
                projection.begin_backward(&mut slots, &mut program)?;
            }
            program.extend(self.options.strategy.schedule().backward(&self.layer(&sizes), &slots)?);
            let around = [map.state, map.mask, slots.output, reserve.kept[layer], map.operands];
            program.push(previous(ctx, &network.cell, &sizes, around)?.into());
            let rounds = rounds(network, &dims, self.options.settings.tiles);
            if rounds {
                let len = dims.gate_elements() * if network.cell.split_gradients { 2 } else { 1 };
                program.push(gate_range(ctx, map.d_gates, len)?.into());
            }
            let input = if layer == 0 { user.input } else { reserve.outputs[layer - 1] };
            let products = LayerProducts { plan: self, dims: &dims, map, sizes: &sizes, layer, options, projection, rounds };
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
    sizes: &'a LayerSizes,
    layer: usize,
    options: Options,
    /// Where h is projected.
    projection: Option<Projection<'a>>,
    rounds: bool,
}

/// Where a layer's weight gradients are summed: sums that are not cut at once where they belong, else their parts, each in the layout of
/// the layer's parameters.
#[derive(Debug, Clone, Copy)]
struct WeightSums {
    slot: Slot,
    /// The offset among all parameters that the slot begins with.
    start: usize,
    /// Parameters of one direction.
    block: u64,
    splits: Splits,
    whole: bool,
    accumulate: bool,
}

impl WeightSums {
    /// The matrix of `columns` columns whose parameters begin at `offset`, and those of the other direction.
    fn to(&self, offset: usize, columns: u64) -> Matrix {
        Matrix::rows(self.slot, columns).at((offset - self.start) as u64).stacked(self.block)
    }
}

impl LayerProducts<'_> {
    /// All parameter gradients of a layer.
    fn weight_gradients(&self, program: &mut Vec<Segment>, below: Slot) -> Result<()> {
        let Self { plan, dims, map, sizes, layer, options, projection, rounds } = *self;
        let (ctx, network, tiles) = (&plan.ctx, &*plan.network, plan.options.settings.tiles);
        let cell = &network.cell;
        let columns = network.config.layer_input_size(layer) as u64;
        let mut input = below;
        let dropout = plan.dropout_below(layer);
        // Where the caller's input is not read it may be anything, even NaN, and 0·NaN is NaN.
        if dropout.is_some() || (layer == 0 && (options.lengths || options.hold)) {
            input = map.prepared;
            program.push(prepare(ctx, sizes, columns, [below, input, map.mask], dropout)?.into());
        }
        let block = network.layout.block(layer, 0);
        let sums = self.sums();
        let WeightSums { splits, accumulate, .. } = sums;
        let gate_gradients = |offset: u64| {
            Matrix::rows(map.d_gates, dims.gate_rows).at(offset).stacked(dims.rows * dims.gate_rows).rounded(rounds)
        };
        let product = |m: u64, n: u64, a: Matrix, b: Matrix, c: Matrix| Product {
            m,
            n,
            k: dims.rows,
            batches: dims.directions,
            a: a.transposed(),
            b,
            c,
            bias: None,
            accumulate,
            splits,
        };
        let d_rh = u64::from(sizes.d_rh);
        let weight_ih = sums.to(block.weight_ih, columns);
        program.extend(matmuls(
            ctx,
            tiles,
            &product(dims.gate_rows, columns, gate_gradients(0), Matrix::rows(input, columns).rounded(rounds), weight_ih),
        )?);
        if let (Some(projection), Some(weight_hr)) = (&projection, block.proj) {
            let proj = network.config.proj_size as u64;
            let h = projection.operands(map.operands, program)?;
            program.extend(matmuls(
                ctx,
                tiles,
                &product(dims.gate_rows, proj, gate_gradients(d_rh), h, sums.to(block.weight_hh, proj)),
            )?);
            projection.gradients(gate_gradients(d_rh), map.operands, sums.to(weight_hr, dims.hidden), splits, program)?;
        }
        // The gates of a second phase multiplied `mid`, whose rows lie behind those of h.
        let first = if projection.is_some() { 0 } else { cell.first_phase_gates as u64 };
        let second = cell.gates.len() as u64 - cell.first_phase_gates as u64;
        let operand_len = dims.directions * dims.rows * dims.hidden;
        for (gate, gates, offset) in [(0, first, 0), (first, second, operand_len)] {
            if gates > 0 {
                let a = gate_gradients(d_rh + gate * dims.hidden);
                let b = Matrix::rows(map.operands, dims.hidden).at(offset).stacked(dims.rows * dims.hidden).rounded(rounds);
                let c = sums.to(block.weight_hh + (gate * dims.hidden * dims.hidden) as usize, dims.hidden);
                program.extend(matmuls(ctx, tiles, &product(gates * dims.hidden, dims.hidden, a, b, c))?);
            }
        }
        self.column_sums(&sums, program)?;
        if !sums.whole {
            let range = block.weight_ih as u64..block.weight_ih as u64 + splits.stride;
            let d_params = Slot::whole(Role::DParams, network.layout.len() as u64);
            program.push(reduce(ctx, sums.slot, splits.count, d_params, range, options.accumulate)?.into());
        }
        Ok(())
    }

    fn sums(&self) -> WeightSums {
        let Self { plan, dims, map, layer, options, .. } = *self;
        let network = &*plan.network;
        let block = network.layout.block(layer, 0);
        let len = block.len as u64 * dims.directions;
        let count = weight_splits(&plan.ctx, network, dims, layer, plan.options.settings.tiles);
        let whole = sums_whole(network, count);
        let (slot, start) = match whole {
            true => (Slot::whole(Role::DParams, network.layout.len() as u64), 0),
            false => (Slot { size: 4 * len * count, ..map.partial }, block.weight_ih),
        };
        let splits = Splits { count, stride: len };
        WeightSums { slot, start, block: block.len as u64, splits, whole, accumulate: whole && options.accumulate }
    }

    /// The gradients of biases and of what belongs to a unit, by sums of d_gates over T·B.
    fn column_sums(&self, sums: &WeightSums, program: &mut Vec<Segment>) -> Result<()> {
        let Self { plan, dims, map, sizes, layer, .. } = *self;
        let (gate_rows, d_rh, network) = (dims.gate_rows, u64::from(sizes.d_rh), &*plan.network);
        let block = network.layout.block(layer, 0);
        let mut wanted = Vec::new();
        match block.bias {
            // Both biases have one gradient.
            Some(bias) if d_rh == 0 => wanted.push((gate_rows, 0, bias, gate_rows)),
            Some(bias) => wanted.extend([(gate_rows, 0, bias, 0), (gate_rows, d_rh, bias + gate_rows as usize, 0)]),
            None => {}
        }
        if let Some(unit) = block.unit {
            wanted.push((network.cell.unit_rows() as u64 * dims.hidden, u64::from(sizes.d_unit), unit, 0));
        }
        for (columns, from, to, twin) in wanted {
            let WeightSums { splits, accumulate, .. } = *sums;
            let a = Matrix::rows(map.d_gates, columns).at(from).stacked(dims.rows * columns);
            let (rows, batches, c) = (dims.rows, dims.directions, sums.to(to, columns));
            program.push(ColumnSum { rows, columns, batches, a, c, twin, accumulate, splits }.dispatch(&plan.ctx)?.into());
        }
        Ok(())
    }

    /// The gradient of a layer's input: d_wx·W_ih, summed over directions, then back through dropout.
    fn input_gradient(&self, program: &mut Vec<Segment>, users: Slot) -> Result<()> {
        let Self { plan, dims, map, sizes, layer, options, rounds, .. } = *self;
        let (ctx, network, tiles) = (&plan.ctx, &*plan.network, plan.options.settings.tiles);
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
                a: Matrix::rows(map.d_gates, dims.gate_rows).at(direction * dims.rows * dims.gate_rows).rounded(rounds),
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
            program.push(clear_padding(ctx, sizes, columns, [raw, map.mask])?.into());
        }
        if raw == dst {
            return Ok(());
        }
        program.push(match dst.element {
            Element::PackedF16 => pack_halves(ctx, raw, dst)?.into(),
            _ => prepare(ctx, sizes, columns, [raw, dst, map.mask], dropout)?.into(),
        });
        Ok(())
    }
}
