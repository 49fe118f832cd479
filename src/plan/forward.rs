//! The dispatches of a forward pass over a sequence: per layer one product for all steps, then the recurrence.

use crate::config::Mode;
use crate::error::Result;
use crate::plan::Plan;
use crate::plan::buffers::{Options, UserSlots};
use crate::plan::memory::Dims;
use crate::product::{Matrix, Product, Splits, matmul};
use crate::program::{Role, Segment, Slot};
use crate::rows::{Pack, PackSizes, pack, prepare};
use crate::strategy::ForwardSlots;

impl Plan {
    pub(super) fn sequence_program(&self, options: Options) -> Result<Vec<Segment>> {
        let (ctx, network, dims) = (&self.ctx, &*self.network, Dims::new(&self.network, self.shape)?);
        let (map, reserve) = (&self.maps.forward, &self.maps.reserve);
        let user = UserSlots::new(&self.sizes, options);
        let first = Pack {
            lengths: user.lengths,
            reset: user.reset,
            initial_state: user.initial_state,
            d_final_state: Slot::EMPTY,
            dropout_state: Slot::whole(Role::DropoutState, 4).only_if(reserve.header != Slot::EMPTY),
            header: reserve.header,
            marks: map.marks,
            state: map.state,
        };
        let mut program = vec![pack(ctx, &first, PackSizes { state_gap: dims.block as u32, ..dims.pack_sizes() })?.into()];
        let last = network.config.num_layers - 1;
        let output_of = |layer| match self.mode {
            _ if layer == last => user.output,
            Mode::Training => reserve.outputs[layer],
            Mode::Inference => map.inner,
        };
        for layer in 0..=last {
            let below = if layer == 0 { user.input } else { output_of(layer - 1) };
            let mut sizes = dims.step_sizes(network, layer, options.reset);
            sizes.has_reserve = (self.mode == Mode::Training).into();
            sizes.snapshot = map.snapshot as u32;
            sizes.has_final = options.final_state.into();
            let mut input = below;
            if let Some(dropout) = self.dropout_below(layer) {
                input = map.prepared;
                program.push(prepare(ctx, &sizes, dims.output, [below, input, map.marks], Some(dropout))?.into());
            }
            program.push(self.input_product(&dims, layer, input)?);
            let slots = ForwardSlots {
                params: user.params,
                input_part: map.input_part,
                state: map.state,
                marks: map.marks,
                output: output_of(layer),
                reserve: reserve.kept[layer],
                final_state: user.final_state,
                exchange: map.exchange,
                status: user.status,
            };
            program.extend(self.recurrence.forward(ctx, &*network.cell, &sizes, &slots)?);
        }
        Ok(program)
    }

    /// x·W_ihᵀ + b_ih for all steps and directions of a layer.
    fn input_product(&self, dims: &Dims, layer: usize, input: Slot) -> Result<Segment> {
        let network = &*self.network;
        let params = Slot::whole(Role::Params, network.layout.len() as u64);
        let columns = network.config.layer_input_size(layer) as u64;
        let block = network.layout.block(layer, 0);
        let product = Product {
            m: dims.rows,
            n: dims.gate_rows,
            k: columns,
            batches: dims.directions,
            a: Matrix::rows(input, columns),
            b: Matrix::rows(params, columns).at(block.weight_ih as u64).transposed().batched(block.len as u64),
            c: Matrix::rows(self.maps.forward.input_part, dims.gate_rows).batched(dims.rows * dims.gate_rows),
            bias: block.bias.map(|offset| offset as u64),
            accumulate: false,
            splits: Splits::NONE,
        };
        Ok(matmul(&self.ctx, &product)?.into())
    }
}
