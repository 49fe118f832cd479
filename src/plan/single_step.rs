//! The dispatches of a single step, T = 1 in inference, on a call's buffers.

use crate::error::Result;
use crate::gpu::program::{Segment, Slot};
use crate::plan::Plan;
use crate::plan::buffers::{Options, UserSlots};
use crate::schedule::network::Dims;
use crate::schedule::single_step::by_products::ProductsMap;
use crate::schedule::single_step::call::{StepCall, StepSlots};
use crate::schedule::single_step::fused::FusedMap;

impl Plan {
    pub(super) fn fused_step_program(&self, map: FusedMap, options: Options) -> Result<Vec<Segment>> {
        let (dims, user) = (Dims::new(&self.network, self.shape)?, self.user(options));
        let call = self.step_call(&dims, &user, map.unpacked, options);
        let mut program = map.program(&call)?;
        program.extend(self.pack_output(call.slots.output, user.output)?);
        Ok(program)
    }

    pub(super) fn products_step_program(&self, map: ProductsMap, options: Options) -> Result<Vec<Segment>> {
        let (dims, user) = (Dims::new(&self.network, self.shape)?, self.user(options));
        let call = self.step_call(&dims, &user, self.maps.forward.unpacked, options);
        let output = call.slots.output;
        let mut program = Vec::new();
        for layer in 0..self.network.config.num_layers {
            let mut sizes = dims.layer_sizes(&self.network, layer, options.reset);
            sizes.window_len = 1;
            sizes.has_final = options.final_state.into();
            // A layer's kernel reads its input no more, so its output takes that place.
            let input = if layer == 0 { user.input } else { output };
            self.input_product(&dims, layer, input, &sizes, &mut program)?;
            program.extend(map.layer(&call, layer, self.maps.forward.input_part, &sizes)?);
        }
        program.extend(self.pack_output(output, user.output)?);
        Ok(program)
    }

    /// `unpacked` is where the output is until it is packed, if no kernel can write it as it is stored.
    fn step_call<'a>(&'a self, dims: &'a Dims, user: &UserSlots, unpacked: Slot, options: Options) -> StepCall<'a> {
        let &UserSlots { params, input, initial_state, reset, final_state, .. } = user;
        let slots = StepSlots { params, input, initial_state, reset, output: unpacked.or(user.output), final_state };
        StepCall {
            ctx: &self.ctx,
            network: &self.network,
            dims,
            tiles: self.options.settings.tiles,
            slots,
            in_place: options.in_place,
        }
    }
}
