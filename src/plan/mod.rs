//! Buffer sizes and the dispatch list of one network at one shape; binding them to the app's buffers; recording.

mod backward;
pub(crate) mod buffers;
pub(crate) mod checks;
mod forward;
pub(crate) mod memory;
pub(crate) mod prologue;

use std::sync::Arc;

use wgpu::{CommandEncoder, ComputePass};

pub use buffers::{BackwardBuffers, BufferSizes, ForwardBuffers};
use buffers::{Options, SHORTER, UserSlots, forward_buffer};
use checks::{check_backward, check_forward};
use memory::{BackwardMap, Dims, ForwardMap, Maps, ReserveMap, SingleStep};

use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::element::Element;
use crate::gpu::program::{Arena, Bound, Role, Segment, Slot};
use crate::network::config::RnnConfig;
use crate::network::params::ParamLayout;
use crate::network::sequence::{Mode, SeqShape};
use crate::plan::prologue::Dropout;
use crate::schedule::single_step::by_products::ProductsMap;
use crate::schedule::single_step::fused::{self, FusedMap};
use crate::schedule::{Recurrence, Strategy};

/// A network without a shape: what `Rnn` and its plans share.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub cell: Arc<dyn Cell>,
    pub config: RnnConfig,
    pub layout: ParamLayout,
    /// How parameters, input and output are stored.
    pub element: Element,
}

/// Sizes and dispatches of one network at one shape. Owns no tensor, submits nothing; may be bound many times.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) ctx: Context,
    pub(crate) network: Arc<Network>,
    pub(crate) shape: SeqShape,
    mode: Mode,
    pub(crate) recurrence: Recurrence,
    pub(crate) maps: Maps,
    sizes: BufferSizes,
}

impl Plan {
    pub(crate) fn new(
        ctx: &Context,
        network: &Arc<Network>,
        shape: SeqShape,
        mode: Mode,
        recurrence: Recurrence,
    ) -> Result<Self> {
        shape.validate()?;
        let dims = Dims::new(network, shape)?;
        let alignment = ctx.limits().min_storage_buffer_offset_alignment;
        let mut reserve = Arena::new(Role::Reserve, alignment);
        let mut workspace = Arena::new(Role::Workspace, alignment);
        let reserve_map = ReserveMap::new(network, &dims, mode, &mut reserve);
        let step_sizes = dims.step_sizes(network, 0, false);
        let extra = |backward| recurrence.exchange(ctx, &*network.cell, &step_sizes, backward, network.element);
        // The workspace holds other things too.
        let most = ctx.limits().max_storage_buffer_binding_size.min(ctx.limits().max_buffer_size / 4);
        let window = dims.window(recurrence.window_bytes.min(most));
        let forward = ForwardMap::new(network, &dims, mode, window, extra(false), &mut workspace);
        let mut stream_workspace = Arena::new(Role::Workspace, alignment);
        let step = if shape.seq_len == 1 && mode == Mode::Inference && recurrence.strategy == Strategy::Stepwise {
            // Of a sequence it takes the product of the input.
            match ProductsMap::new(ctx, network, &dims, &mut workspace) {
                Some(map) => SingleStep::Products(map),
                None => SingleStep::Fused(FusedMap::new(network, &dims, &mut stream_workspace)),
            }
        } else {
            SingleStep::None
        };
        let mut backward_workspace = Arena::new(Role::Workspace, alignment);
        let backward = (mode == Mode::Training)
            .then(|| BackwardMap::new(ctx, network, &dims, recurrence.tiles, extra(true), &mut backward_workspace));
        let dtype = network.element.dtype();
        let params = network.layout.len() as u64;
        let sizes = BufferSizes {
            params: dtype.size_of(params),
            d_params: Dtype::F32.size_of(params),
            input: dtype.size_of(dims.rows * network.config.input_size as u64),
            output: dtype.size_of(dims.rows * dims.output),
            state: 4 * dims.block * dims.states,
            lengths: 4 * dims.batch,
            reset: 4 * dims.rows,
            dropout_state: 16,
            status: 16,
            reserve: reserve.size,
            workspace: workspace.size.max(backward_workspace.size).max(stream_workspace.size),
        };
        sizes.check(mode, ctx.limits().max_buffer_size)?;
        let maps = Maps { reserve: reserve_map, forward, step, backward };
        let plan = Self { ctx: ctx.clone(), network: network.clone(), shape, mode, recurrence, maps, sizes };
        plan.build().map_err(|error| match error {
            Error::Limit { limit, needed, actual }
                if mode == Mode::Training && limit.starts_with("max_storage_buffer_binding_size") =>
            {
                Error::Limit { limit: format!("{limit}{SHORTER}"), needed, actual }
            }
            error => error,
        })?;
        Ok(plan)
    }

    /// Builds what can be bound.
    fn build(&self) -> Result<()> {
        // Building the widest programs once proves every size against the device's limits and compiles every pipeline, but
        // those of single steps that have to go as a sequence: see bind_forward.
        let all = Options {
            initial_state: true,
            final_state: true,
            lengths: true,
            reset: true,
            d_final_state: true,
            d_input: true,
            d_initial_state: true,
            accumulate: true,
            status: true,
            in_place: false,
        };
        if self.is_step(all) {
            self.step_program(all)?;
            if self.steps_in_place() {
                self.step_program(Options { in_place: true, ..all })?;
            }
        } else {
            self.sequence_program(all)?;
        }
        if self.mode == Mode::Training {
            self.backward_program(all)?;
            // Without lengths the first layer's weight gradients take the caller's input as it is: another pipeline.
            self.backward_program(Options { lengths: false, ..all })?;
        }
        Ok(())
    }

    /// Whether a run with these options goes as a single step.
    fn is_step(&self, options: Options) -> bool {
        !matches!(self.maps.step, SingleStep::None) && (self.steps_in_place() || !options.in_place)
    }

    /// Whether that holds for a state that is updated in place. In a large network the fused step's other workgroups still read it.
    pub(crate) fn steps_in_place(&self) -> bool {
        !matches!(self.maps.step, SingleStep::Fused(_)) || fused::is_small(&self.network)
    }

    fn step_program(&self, options: Options) -> Result<Vec<Segment>> {
        match self.maps.step {
            SingleStep::Fused(map) => self.fused_step_program(map, options),
            SingleStep::Products(map) => self.products_step_program(map, options),
            SingleStep::None => self.sequence_program(options),
        }
    }

    /// Dropout in front of a layer; only training has it.
    fn dropout_below(&self, layer: usize) -> Option<Dropout> {
        let header = self.maps.reserve.header;
        let p = self.network.config.dropout;
        (layer > 0 && header != Slot::EMPTY).then(|| Dropout { p, layer: layer - 1, header })
    }

    fn params(&self) -> Slot {
        let (size, element) = (self.sizes.params, self.network.element);
        Slot { role: Role::Params, offset: 0, size, element }
    }

    /// The caller's buffers that a program with these options works on.
    pub(crate) fn user(&self, options: Options) -> UserSlots {
        UserSlots::new(&self.sizes, options, self.network.element)
    }

    /// Bytes that each buffer must hold.
    pub fn sizes(&self) -> BufferSizes {
        self.sizes
    }

    /// The shape it was made for.
    pub fn shape(&self) -> SeqShape {
        self.shape
    }

    /// The mode it was made for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The strategy that runs, never `Auto`.
    pub fn strategy(&self) -> Strategy {
        self.recurrence.strategy
    }

    /// Binds a forward pass. Buffers that are missing, too small, of the wrong usage or offset, or that overlap a written one
    /// are refused by name.
    pub fn bind_forward(&self, buffers: &ForwardBuffers<'_>) -> Result<Forward> {
        check_forward(&self.ctx, &self.sizes, self.mode, buffers)?;
        let (initial, last) = (&buffers.initial_state, &buffers.final_state);
        let in_place = initial.as_ref().zip(last.as_ref()).is_some_and(|(a, b)| a.buffer == b.buffer && a.offset == b.offset);
        let options = Options { final_state: last.is_some(), in_place, ..Options::of_forward(buffers) };
        let bind = |program: &[_]| Bound::new(&self.ctx, program, |role| forward_buffer(buffers, role));
        let bound = if self.is_step(options) {
            // Parts of one buffer that a single dispatch may not both read and write can still go through several.
            match bind(&self.step_program(options)?) {
                Err(Error::Aliasing { .. }) => bind(&self.sequence_program(options)?)?,
                bound => bound?,
            }
        } else {
            bind(&self.sequence_program(options)?)?
        };
        Ok(Forward { bound: Arc::new(bound) })
    }

    /// Binds a backward pass, with the same checks; the plan must be for [`Mode::Training`].
    pub fn bind_backward(&self, buffers: &BackwardBuffers<'_>) -> Result<Backward> {
        let forward = &buffers.forward;
        check_backward(&self.ctx, &self.sizes, buffers)?;
        let options = Options {
            d_final_state: buffers.d_final_state.is_some(),
            d_input: buffers.d_input.is_some(),
            d_initial_state: buffers.d_initial_state.is_some(),
            accumulate: buffers.accumulate,
            ..Options::of_forward(forward)
        };
        let buffer = |role| match role {
            Role::DOutput => Some(buffers.d_output.clone()),
            Role::DFinalState => buffers.d_final_state.clone(),
            Role::DParams => Some(buffers.d_params.clone()),
            Role::DInput => buffers.d_input.clone(),
            Role::DInitialState => buffers.d_initial_state.clone(),
            role => forward_buffer(forward, role),
        };
        let bound = Bound::new(&self.ctx, &self.backward_program(options)?, buffer)?;
        Ok(Backward { bound: Arc::new(bound) })
    }
}

/// A forward pass bound to its buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Forward {
    bound: Arc<Bound>,
}

/// A backward pass bound to its buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backward {
    bound: Arc<Bound>,
}

macro_rules! recording {
    ($name:ident, $label:literal) => {
        impl $name {
            /// Records one labelled compute pass. Touches no queue, allocates no GPU object, may be called any number of times.
            pub fn encode(&self, encoder: &mut CommandEncoder) {
                let descriptor = wgpu::ComputePassDescriptor { label: Some($label), timestamp_writes: None };
                self.dispatch(&mut encoder.begin_compute_pass(&descriptor));
            }

            /// Records into the app's own pass. Pipeline, bind groups 0 and 1 and immediates are left changed.
            pub fn dispatch(&self, pass: &mut ComputePass<'_>) {
                self.bound.record(pass);
            }

            /// How many dispatches one recording makes.
            pub fn dispatches(&self) -> usize {
                self.bound.dispatches()
            }
        }
    };
}

recording!(Forward, "tidegate forward");
recording!(Backward, "tidegate backward");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::{Tile, Tiles};
    use crate::tune::tuning::{Choice, Tuning};
    use crate::{Lstm, Rnn};

    /// A tuning's where none is forced, in whatever strategy, and for a single step too.
    #[test]
    fn tiles_come_from_the_tuning() {
        let ctx = pollster::block_on(Context::request()).expect("this needs an adapter");
        let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(3, 5)).unwrap();
        let tiles = Tiles { nt: Some(Tile::Of64x64), ..Tiles::default() };
        for seq_len in [1, 4] {
            let shape = SeqShape { seq_len, batch_size: 2 };
            let class = rnn.class(shape, Mode::Inference);
            let fallback = Strategy::Stepwise;
            let tuning = Tuning::new(
                &ctx,
                Choice { class, strategy: Strategy::Resident, workgroups: 1, fallback, tiles, tried: Vec::new() },
            );
            let tuned = rnn.clone().with_tuning(&tuning).unwrap();
            let tiles_of = |rnn: &Rnn| rnn.plan(shape, Mode::Inference).unwrap().recurrence.tiles;
            assert_eq!(tiles_of(&rnn), Tiles::default());
            assert_eq!(tiles_of(&tuned), tiles);
            assert_eq!(tiles_of(&tuned.clone().with_strategy(Strategy::Stepwise)), tiles);
            assert_eq!(tiles_of(&tuned.with_tile(Tile::Of32x32)), Tiles::all(Tile::Of32x32));
        }
    }
}
