//! Buffer sizes and the dispatch list of one network at one shape; binding them to the app's buffers; recording.

pub(crate) mod allocation;
mod backward;
pub(crate) mod binding;
pub(crate) mod buffers;
pub(crate) mod checks;
mod forward;
pub(crate) mod memory;
pub(crate) mod projection;
pub(crate) mod prologue;
mod single_step;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{CommandEncoder, ComputePass};

pub use allocation::{GradientBuffers, PlanBuffers};
pub use binding::IntoBinding;
pub use buffers::{BackwardBuffers, BufferSizes, ForwardBuffers};
use buffers::{Options, UserSlots, forward_buffer};
use checks::{check_backward, check_forward};
pub(crate) use memory::rounds;
use memory::{Chosen, Maps, SingleStep};
use projection::{Projection, ProjectionMap};

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::program::{Bound, Role, Segment, Slot, aliasing, kernels};
use crate::network::sequence::{Mode, SeqShape};
use crate::plan::prologue::Dropout;
use crate::schedule::choose::{Facts, Fits, Step, Tuned, choose};
use crate::schedule::interface::{Layer, Prepared, Room};
use crate::schedule::layer::LayerSizes;
use crate::schedule::network::{Dims, Network};
use crate::schedule::options::Scheduling;
use crate::schedule::persistent::Forced;
use crate::schedule::settings::Settings;
use crate::schedule::single_step::by_products::ProductsMap;
use crate::schedule::single_step::fused::FusedMap;
use crate::schedule::{STRATEGIES, Strategy, has_fast_resident, holds_weights};

/// Sizes and dispatches of one network at one shape. Owns no tensor, submits nothing; may be bound many times.
#[derive(Clone)]
pub struct Plan {
    pub(crate) ctx: Context,
    pub(crate) network: Arc<Network>,
    pub(crate) shape: SeqShape,
    mode: Mode,
    /// With the strategy that was chosen.
    pub(crate) options: Scheduling,
    step: Step,
    pub(crate) maps: Maps,
    sizes: BufferSizes,
    /// Those that were built.
    programs: Arc<Mutex<Vec<Program>>>,
}

/// What tells one plan from another.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, shape, mode, .. } = self;
        let mut plan = f.debug_struct("Plan");
        plan.field("cell", &network.math.name()).field("config", &network.config).field("shape", shape).field("mode", mode);
        plan.field("strategy", &self.strategy()).finish_non_exhaustive()
    }
}

/// What is recorded for a pass on buffers of which the options tell.
#[derive(Debug)]
struct Program {
    pass: Pass,
    options: Options,
    segments: Arc<[Segment]>,
}

/// What a program is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward(Step),
    Backward,
}

/// What a plan is to be made for, before anything is chosen.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    ctx: &'a Context,
    network: &'a Network,
    dims: &'a Dims,
    mode: Mode,
    options: &'a Scheduling,
}

impl Asked<'_> {
    /// Where everything lies and how large the buffers are, in the options' strategy; or what the device's limits do not let it do.
    fn maps(&self, step: Step) -> Result<(Maps, BufferSizes)> {
        let Self { ctx, network, dims, mode, options } = *self;
        let layer_sizes = dims.layer_sizes(network, 0, false);
        let layer =
            Layer { ctx, settings: &options.settings, cell: &network.cell, sizes: &layer_sizes, element: network.element };
        let schedule = options.strategy.schedule();
        if step == Step::Sequence {
            schedule.check(&layer, false)?;
        }
        if mode == Mode::Training {
            schedule.check(&layer, true)?;
        }
        let (maps, sizes) = Maps::new(ctx, network, dims, &Chosen { mode, options, step });
        sizes.check(mode, dims.seq_len as usize, ctx.limits(), &maps.slots())?;
        Ok((maps, sizes))
    }

    /// Whether the options' strategy is within the device's limits.
    fn fits(&self) -> bool {
        self.maps(Step::Sequence).is_ok()
    }

    /// What the device has room for. `workgroups` is what persistent may count on, if that is known, and `layout` what it is laid out by.
    fn all_that_fits(&self, workgroups: Option<u32>, layout: Forced) -> Fits {
        let Self { ctx, network, dims, mode, options } = *self;
        let layer_sizes = dims.layer_sizes(network, 0, false);
        let layer =
            Layer { ctx, settings: &options.settings, cell: &network.cell, sizes: &layer_sizes, element: network.element };
        // What persistent may count on must be known, and the app must not forbid it.
        let tried = |&strategy: &Strategy| match strategy {
            Strategy::Persistent if !options.persistent => None,
            Strategy::Persistent => {
                let workgroups = workgroups?;
                let settings = Settings { workgroups, layout, ..options.settings };
                Some(Scheduling { strategy, settings, ..*options })
            }
            _ => Some(Scheduling { strategy, ..*options }),
        };
        let fits = |strategy: &&Strategy| tried(strategy).is_some_and(|options| Asked { options: &options, ..*self }.fits());
        let wanted = if options.strategy == Strategy::Auto { &STRATEGIES[..] } else { &[] };
        Fits {
            able: wanted.iter().filter(fits).copied().collect(),
            weights: holds_weights(ctx, &network.cell, &layer_sizes),
            fast_resident: has_fast_resident(&layer, false) && (mode == Mode::Inference || has_fast_resident(&layer, true)),
            products_step: ProductsMap::fits(ctx, dims),
            fused_step: FusedMap::fits(ctx, network, dims),
        }
    }
}

impl Plan {
    /// `tuned` and `failures` as in [`Facts`].
    pub(crate) fn new(
        ctx: &Context,
        network: &Arc<Network>,
        shape: SeqShape,
        mode: Mode,
        options: Scheduling,
        tuned: Option<Tuned>,
        failures: u32,
    ) -> Result<Self> {
        shape.validate()?;
        let dims = Dims::new(network, shape)?;
        let asked = Asked { ctx, network, dims: &dims, mode, options: &options };
        // What the app says, else what is known of the device now.
        let said = options.settings.workgroups;
        let side_by_side = ctx.measured_side_by_side().map(|found| if said > 0 { said } else { found });
        let workgroups = tuned.map(|tuned| tuned.workgroups).or(side_by_side);
        let layout = options.settings.layout_or(tuned.map(|tuned| tuned.layout));
        let choice = choose(&Facts {
            forced: options.strategy,
            forced_tiles: options.settings.tiles,
            tuned,
            failures,
            hidden_size: network.config.hidden_size,
            projects: network.config.proj_size > 0,
            params: network.layout.len(),
            seq_len: shape.seq_len,
            batch_size: shape.batch_size,
            mode,
            software: ctx.is_software(),
            side_by_side,
            fits: asked.all_that_fits(workgroups, layout),
        });
        let chosen = options.chosen(&choice);
        let options = Scheduling { settings: chosen.settings.with_known_workgroups(ctx), ..chosen };
        let (maps, sizes) = Asked { options: &options, ..asked }.maps(choice.step)?;
        let programs = Arc::default();
        let (ctx, network, step) = (ctx.clone(), network.clone(), choice.step);
        let plan = Self { ctx, network, shape, mode, options, step, maps, sizes, programs };
        plan.build()?;
        Ok(plan)
    }

    /// Whether a shape is within the device's limits in the options' strategy, which is not `Auto`.
    #[cfg(feature = "tools")]
    pub(crate) fn fits(ctx: &Context, network: &Network, shape: SeqShape, mode: Mode, options: &Scheduling) -> bool {
        let options = &Scheduling { settings: options.settings.with_known_workgroups(ctx), ..*options };
        let fits = |dims| Asked { ctx, network, dims: &dims, mode, options }.fits();
        Dims::new(network, shape).is_ok_and(fits)
    }

    /// Builds the programs with all options, which compiles every pipeline that can be bound but those of single steps that have to
    /// go as a sequence: see [`bind_forward`](Plan::bind_forward).
    fn build(&self) -> Result<()> {
        let all = Options {
            initial_state: true,
            final_state: true,
            lengths: true,
            reset: true,
            hold: !self.takes_the_call(),
            d_final_state: true,
            d_input: true,
            d_initial_state: true,
            accumulate: true,
            status: true,
            in_place: false,
            direct: self.takes_the_call(),
        };
        let mut wanted = vec![(Pass::Forward(self.step), all)];
        if self.step != Step::Sequence && self.step.works_in_place() {
            wanted.push((Pass::Forward(self.step), Options { in_place: true, ..all }));
        }
        if self.mode == Mode::Training {
            // Without lengths and holds the first layer's weight gradients take the caller's input as it is: another pipeline.
            wanted.extend([(Pass::Backward, all), (Pass::Backward, Options { lengths: false, hold: false, ..all })]);
        }
        let programs = wanted.into_iter().map(|(pass, options)| self.program(pass, options)).collect::<Result<Vec<_>>>()?;
        self.ctx.compile(programs.iter().flat_map(|program| kernels(program)))
    }

    /// The dispatches of a pass with these options, built on first use.
    fn program(&self, pass: Pass, options: Options) -> Result<Arc<[Segment]>> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = programs.iter().find(|known| (known.pass, known.options) == (pass, options)) {
            return Ok(known.segments.clone());
        }
        let segments: Arc<[Segment]> = match (pass, self.maps.step) {
            (Pass::Backward, _) => self.backward_program(options)?,
            (Pass::Forward(Step::Sequence), _) | (_, SingleStep::None) => self.sequence_program(options)?,
            (_, SingleStep::Fused(map)) => self.fused_step_program(map, options)?,
            (_, SingleStep::Products(map)) => self.products_step_program(map, options)?,
        }
        .into();
        programs.push(Program { pass, options, segments: segments.clone() });
        Ok(segments)
    }

    /// Whether the final state may be written where the initial one is, in the dispatches of a single step if that is what runs.
    pub(crate) fn steps_in_place(&self) -> bool {
        self.step.works_in_place()
    }

    /// Whether nothing of a forward call need be brought into the workspace: its sequence is one window, and nothing is kept of it for
    /// dropout.
    fn takes_the_call(&self) -> bool {
        let Ok(dims) = Dims::new(&self.network, self.shape) else { return false };
        let sizes = dims.layer_sizes(&self.network, 0, false);
        if self.network.config.proj_size > 0 {
            return false;
        }
        let whole = self.maps.forward.window == dims.seq_len && self.maps.reserve.header == Slot::EMPTY;
        whole && self.step == Step::Sequence && self.options.strategy.schedule().takes_the_call(&self.layer(&sizes))
    }

    /// What the dispatch before the layer that runs first prepares for it.
    fn prepares(&self, dims: &Dims, layer: usize, backward: bool, room: Room) -> Option<Prepared> {
        if self.network.config.proj_size > 0 {
            return None;
        }
        let sizes = dims.layer_sizes(&self.network, layer, false);
        self.options.strategy.schedule().prepares(&self.layer(&sizes), backward, room)
    }

    /// A layer of the network, as its schedule takes it.
    fn layer<'a>(&'a self, sizes: &'a LayerSizes) -> Layer<'a> {
        Layer { ctx: &self.ctx, settings: &self.options.settings, cell: &self.network.cell, sizes, element: self.network.element }
    }

    /// Dropout in front of a layer; only training has it.
    fn dropout_below(&self, layer: usize) -> Option<Dropout> {
        let header = self.maps.reserve.header;
        let p = self.network.config.dropout;
        (layer > 0 && header != Slot::EMPTY).then(|| Dropout { p, layer: layer - 1, header })
    }

    /// A layer of a pass, if its h is projected. `sizes` are as its recurrence takes them.
    fn projection<'a>(
        &'a self,
        dims: &'a Dims,
        map: &'a ProjectionMap,
        user: &'a UserSlots,
        options: Options,
        (mask, layer): (Slot, usize),
        sizes: LayerSizes,
    ) -> Option<Projection<'a>> {
        let (ctx, network, tiles) = (&self.ctx, &*self.network, self.options.settings.tiles);
        let projection = Projection { ctx, network, dims, tiles, map, user, options, mask, layer, sizes };
        (network.config.proj_size > 0).then_some(projection)
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
        self.options.strategy
    }

    /// Binds a forward pass. Buffers that are missing, too small, of the wrong usage or offset, or that overlap a written one
    /// are refused by name.
    pub fn bind_forward(&self, buffers: &ForwardBuffers<'_>) -> Result<Forward> {
        check_forward(&self.ctx, &self.sizes, self.mode, buffers)?;
        let (initial, last) = (&buffers.initial_state, &buffers.final_state);
        let in_place = initial.as_ref().zip(last.as_ref()).is_some_and(|(a, b)| a.buffer == b.buffer && a.offset == b.offset);
        let direct = self.takes_the_call() && !in_place && buffers.hold.is_none();
        let mut options = Options { final_state: last.is_some(), in_place, direct, ..Options::of_forward(buffers) };
        let buffer = |role| forward_buffer(buffers, role);
        // The dispatches of a single step know nothing of held rows.
        let wanted = if options.hold { Step::Sequence } else { self.step };
        let mut program = self.program(Pass::Forward(wanted), options)?;
        if direct && aliasing(&program, buffer).is_some() {
            options.direct = false;
            program = self.program(Pass::Forward(wanted), options)?;
        }
        let step = wanted.on_buffers(in_place, aliasing(&program, buffer).is_some());
        if step != wanted {
            program = self.program(Pass::Forward(step), options)?;
        }
        let bound = Bound::new(&self.ctx, &program, buffer)?;
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
        let bound = Bound::new(&self.ctx, &self.program(Pass::Backward, options)?, buffer)?;
        Ok(Backward { bound: Arc::new(bound) })
    }
}

/// A forward pass bound to its buffers. Cheap to clone.
#[derive(Clone)]
pub struct Forward {
    bound: Arc<Bound>,
}

/// A backward pass bound to its buffers. Cheap to clone.
#[derive(Clone)]
pub struct Backward {
    bound: Arc<Bound>,
}

macro_rules! recording {
    ($name:ident, $label:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("dispatches", &self.dispatches()).finish_non_exhaustive()
            }
        }

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

            #[cfg(feature = "tools")]
            pub(crate) fn bound(&self) -> &Bound {
                &self.bound
            }
        }
    };
}

recording!(Forward, "tidegate forward");
recording!(Backward, "tidegate backward");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::config::RnnConfig;
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
                Choice {
                    class,
                    strategy: Strategy::Resident,
                    workgroups: 1,
                    layout: String::new(),
                    fallback,
                    tiles,
                    tried: Vec::new(),
                },
            );
            let tuned = rnn.clone().with_tuning(&tuning).unwrap();
            let tiles_of = |rnn: &Rnn| rnn.plan(shape, Mode::Inference).unwrap().options.settings.tiles;
            assert_eq!(tiles_of(&rnn), Tiles::default());
            assert_eq!(tiles_of(&tuned), tiles);
            assert_eq!(tiles_of(&tuned.clone().with_strategy(Strategy::Stepwise)), tiles);
            assert_eq!(tiles_of(&tuned.with_tile(Tile::Of32x32)), Tiles::all(Tile::Of32x32));
        }
    }
}
