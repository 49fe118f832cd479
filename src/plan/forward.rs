//! The dispatches of a forward pass over a sequence: per layer one product for all steps, then the recurrence.

use crate::error::Result;
use crate::gpu::program::{Role, Segment, Slot};
use crate::network::sequence::Mode;
use crate::plan::Plan;
use crate::plan::buffers::Options;
use crate::plan::memory::hold_mode;
use crate::plan::projection::projected_block;
use crate::plan::prologue::{Pack, PackSizes, pack, pack_halves, pack_hold, prepare};
use crate::product::{Matrix, Product, Splits, matmuls};
use crate::schedule::interface::Room;
use crate::schedule::layer::{CallSlots, ForwardSlots, LayerSizes};
use crate::schedule::network::Dims;

impl Plan {
    pub(crate) fn sequence_program(&self, options: Options) -> Result<Vec<Segment>> {
        let (ctx, network, dims) = (&self.ctx, &*self.network, Dims::new(&self.network, self.shape)?);
        let (map, reserve) = (&self.maps.forward, &self.maps.reserve);
        let user = self.user(options);
        let output = map.unpacked.or(user.output);
        let call =
            options.direct.then_some(CallSlots { lengths: user.lengths, reset: user.reset, initial_state: user.initial_state });
        let first = Pack {
            lengths: user.lengths,
            reset: user.reset,
            initial_state: user.initial_state,
            d_final_state: Slot::EMPTY,
            dropout_state: Slot::whole(Role::DropoutState, 4).only_if(reserve.header != Slot::EMPTY),
            header: reserve.header,
            mask: map.mask,
            state: map.state,
        };
        let projected = projected_block(network, &dims);
        let mut program = Vec::new();
        let room = Room { exchange: map.exchange, behind_state: map.behind_state, d_initial_state: false };
        let prepared = if map.window == dims.seq_len { self.prepares(&dims, 0, false, room) } else { None };
        if !options.direct {
            let sizes = PackSizes { state_gap: dims.block as u32, projected, ..dims.pack_sizes() };
            program.push(pack(ctx, &first, sizes, prepared)?.into());
        }
        if options.hold {
            program.push(pack_hold(ctx, user.hold, map.mask, &dims.layer_sizes(network, 0, options.reset))?.into());
        }
        let last = network.config.num_layers - 1;
        let schedule = self.options.strategy.schedule();
        let output_of = |layer| self.output_of(&dims, layer, output);
        for layer in 0..=last {
            let below = if layer == 0 { user.input } else { output_of(layer - 1) };
            let mut sizes = dims.layer_sizes(network, layer, options.reset);
            sizes.has_reserve = (self.mode == Mode::Training).into();
            sizes.has_final = options.final_state.into();
            sizes.has_hold = hold_mode(network, layer, options.hold);
            let projection = |sizes| self.projection(&dims, &self.maps.projection, &user, options, (map.mask, layer), sizes);
            let mut input = below;
            if let Some(dropout) = self.dropout_below(layer) {
                input = map.prepared;
                program.push(prepare(ctx, &sizes, dims.output, [below, input, map.mask], Some(dropout))?.into());
            }
            let mut slots = ForwardSlots {
                params: user.params,
                input_part: map.input_part,
                state: map.state,
                behind_state: map.behind_state,
                mask: map.mask,
                output: output_of(layer),
                reserve: reserve.kept[layer],
                final_state: user.final_state,
                exchange: map.exchange,
                status: user.status,
                prepared: layer == 0 && prepared.is_some(),
                call,
            };
            if let Some(projection) = projection(sizes) {
                projection.begin(&mut slots, &mut sizes, self.mode == Mode::Training, &mut program)?;
            }
            for first in (0..dims.seq_len).step_by(map.window as usize) {
                sizes.first = first as u32;
                sizes.window_len = map.window.min(dims.seq_len - first) as u32;
                self.input_product(&dims, layer, input, &sizes, &mut program)?;
                if let Some(projection) = projection(sizes) {
                    projection.enter_gates(map.input_part, &mut program)?;
                }
                program.extend(schedule.forward(&self.layer(&sizes), &slots)?);
            }
            if let Some(projection) = projection(sizes) {
                projection.outputs(output_of(layer), &mut program)?;
            }
        }
        program.extend(self.pack_output(output, user.output)?);
        Ok(program)
    }

    /// Where a layer's output goes; `output` is the last one's.
    fn output_of(&self, dims: &Dims, layer: usize, output: Slot) -> Slot {
        let last = self.network.config.num_layers - 1;
        match self.mode {
            _ if layer == last => output,
            Mode::Training => self.maps.reserve.outputs[layer],
            // A window's output takes the place of what it was made from.
            Mode::Inference if dims.directions == 1 => output,
            // The other direction still needs that: layers write to and from.
            Mode::Inference if (last - layer).is_multiple_of(2) => output,
            Mode::Inference => self.maps.forward.inner,
        }
    }

    /// The dispatch that brings the output to the caller's buffer, if it is not there.
    pub(crate) fn pack_output(&self, output: Slot, users: Slot) -> Result<Option<Segment>> {
        Ok(if output == users { None } else { Some(pack_halves(&self.ctx, output, users)?.into()) })
    }

    /// x·W_ihᵀ + b_ih of a layer for the steps of a window, all directions.
    pub(crate) fn input_product(
        &self,
        dims: &Dims,
        layer: usize,
        input: Slot,
        window: &LayerSizes,
        program: &mut Vec<Segment>,
    ) -> Result<()> {
        let network = &*self.network;
        let params = self.params();
        let columns = network.config.layer_input_size(layer) as u64;
        let block = network.layout.block(layer, 0);
        let (first, len) = (u64::from(window.first), u64::from(window.window_len));
        // The reverse direction is at the other end of the time.
        let start = |direction: u64| match network.config.runs_back(direction as usize) {
            true => dims.seq_len - first - len,
            false => first,
        };
        let row = |t: u64| t * u64::from(window.row_t) * columns;
        let c = Matrix::rows(self.maps.forward.input_part, dims.gate_rows);
        let mut product = Product {
            m: len * dims.batch,
            n: dims.gate_rows,
            k: columns,
            batches: dims.directions,
            a: Matrix::rows(input, columns).at(row(start(0))),
            b: Matrix::rows(params, columns).at(block.weight_ih as u64).transposed().stacked(block.len as u64),
            c: c.stacked(len * dims.batch * dims.gate_rows),
            bias: block.bias.map(|offset| offset as u64),
            accumulate: false,
            splits: Splits::NONE,
        };
        if len == dims.seq_len {
            program.extend(matmuls(&self.ctx, self.options.settings.tiles, &product)?);
            return Ok(());
        }
        // Else the directions read different rows, and batch-first those of every row of the batch lie apart.
        for direction in 0..dims.directions {
            let of_direction = direction * block.len as u64;
            product.b = Matrix::rows(params, columns).at(block.weight_ih as u64 + of_direction).transposed();
            product.bias = block.bias.map(|offset| offset as u64 + of_direction);
            let part = direction * len * dims.batch * dims.gate_rows;
            (product.m, product.batches) = (len * dims.batch, 1);
            (product.a, product.c) = (Matrix::rows(input, columns).at(row(start(direction))), c.at(part));
            if dims.batch_first {
                (product.m, product.batches) = (len, dims.batch);
                product.a = product.a.stacked(dims.seq_len * columns);
                product.c = product.c.stacked(len * dims.gate_rows);
            }
            program.extend(matmuls(&self.ctx, self.options.settings.tiles, &product)?);
        }
        Ok(())
    }
}
