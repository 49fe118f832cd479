//! [`Rnn`], a network on a device.

pub(crate) mod calls;
pub(crate) mod session;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use wgpu::{BufferBinding, BufferUsages};

use crate::cell::{Cell, CellSpec, ShaderCell};
use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::element::Element;
use crate::import::Model;
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, Params};
use crate::network::sequence::{Mode, SeqShape, state_widths};
use crate::plan::{IntoBinding, Plan, rounds};
use crate::product::{Tile, Tiles};
use crate::schedule::interface::Layer;
use crate::schedule::network::{Dims, Network};
use crate::schedule::options::{ScheduleOptions, Scheduling};
use crate::schedule::persistent::Forced;
use crate::schedule::settings::Settings;
use crate::schedule::{Candidate, Strategy};
use crate::tune::tuning::{Class, Tried, Tuning};

/// A recurrent network on a device, for any shape. Cheap to clone; `Send` and `Sync`.
#[derive(Clone)]
pub struct Rnn {
    ctx: Context,
    network: Arc<Network>,
    options: Scheduling,
    tuning: Arc<Tuning>,
}

/// What tells one network from another.
impl fmt::Debug for Rnn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rnn = f.debug_struct("Rnn");
        rnn.field("cell", &self.cell().name()).field("config", self.config()).field("dtype", &self.dtype());
        rnn.field("strategy", &self.options.strategy).field("adapter", &self.ctx.adapter_info().name).finish_non_exhaustive()
    }
}

impl Rnn {
    /// Checks the cell, the config and the device. Pipelines are built by the first plan that needs them.
    pub fn new(ctx: &Context, cell: impl Cell + 'static, config: RnnConfig) -> Result<Self> {
        ctx.check_limits()?;
        let kernels = ShaderCell::new(&cell);
        let layout = ParamLayout::of(&cell, kernels.spec(), &config)?;
        let network = Arc::new(Network { math: Arc::new(cell), cell: kernels, config, layout, element: Element::F32 });
        Ok(Self { ctx: ctx.clone(), network, options: Scheduling::new(ctx), tuning: Arc::default() })
    }

    /// A network as a file describes it, see [`import`](crate::import); [`upload`](Rnn::upload) takes its `params`.
    pub fn from_model(ctx: &Context, model: &Model) -> Result<Self> {
        Self::new(ctx, model.cell.clone(), model.config.clone())
    }

    /// Says how recurrences are scheduled; what the options leave open stays as it was.
    pub fn with_schedule(self, options: ScheduleOptions) -> Self {
        Self { options: self.options.with(&options), ..self }
    }

    /// [`with_schedule`](Rnn::with_schedule) of nothing but a strategy, which is forced.
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        self.with_schedule(ScheduleOptions::default().with_strategy(strategy))
    }

    /// Lets [`Strategy::Auto`] choose by what [`tune`](Rnn::tune) measured; a tuning of another device is refused.
    pub fn with_tuning(self, tuning: &Tuning) -> Result<Self> {
        tuning.check(&self.ctx)?;
        if let Some(workgroups) = tuning.side_by_side().filter(|_| !self.ctx.is_software()) {
            self.ctx.learn_residency(workgroups);
        }
        Ok(Self { tuning: Arc::new(tuning.clone()), ..self })
    }

    /// Chooses how parameters, input and output are stored on the GPU, f32 by default. f16 is read and written as such where the
    /// device has `shader-f16` (see [`Context::wanted_features`]); elsewhere it is unpacked in the kernels, and an
    /// extra dispatch packs what they write.
    pub fn with_dtype(self, dtype: Dtype) -> Result<Self> {
        if dtype != Dtype::F32 && self.config().proj_size > 0 {
            let what =
                format!("`proj_size` is {}: a network whose h is projected is stored as f32, not f16", self.config().proj_size);
            return Err(Error::Config(what));
        }
        let network = Network { element: self.ctx.element(dtype)?, ..(*self.network).clone() };
        Ok(Self { network: Arc::new(network), ..self })
    }

    /// Forces one tile for all bulk products; on a CPU adapter this also selects the kernel for GPUs, the only one with tiles.
    pub fn with_tile(self, tile: Tile) -> Self {
        let tiles = Tiles { cooperative: self.options.settings.tiles.cooperative, ..Tiles::all(tile) };
        Self { options: self.options.set(|settings| settings.tiles = tiles), ..self }
    }

    /// Makes bulk products of f16 by cooperative matrices: the hardware's own, with sums in f32. Off by default, for wgpu calls them
    /// experimental. An NVIDIA H200 is the only device that has run them: 234 TFLOP/s at 4096³.
    ///
    /// On NVIDIA's GPUs strategy persistent then makes the steps of cells of one phase by them too, from 512 units and 8 rows on; other
    /// vendors' compilers have not been seen to take such kernels. Backward the gates' gradients then go from step to step as f16, scaled
    /// by the largest that enters a dispatch, and those below 2^-27 of it may become 0. Where they outgrow f16 on their way, the dispatch is
    /// made again in f32, as for a failed wait. Large products of training round them to f16 too, whatever the strategy, scaled so that
    /// none overflows.
    ///
    /// Needs a device that the app opened with `EXPERIMENTAL_COOPERATIVE_MATRIX`, `SHADER_F16` and `SUBGROUP`, subgroups of 32, and
    /// matrices of 16x16 or 8x8 of f16 with sums in f32 among [`wgpu::Adapter::cooperative_matrix_properties`]; else an error.
    pub fn with_cooperative_matrices(self, on: bool) -> Result<Self> {
        let cooperative = if on { Some(self.ctx.cooperative_size()?) } else { None };
        Ok(Self { options: self.options.set(|settings| settings.tiles.cooperative = cooperative), ..self })
    }

    /// Forces numbers of strategy persistent's layout, or the vendor whose registers it is made for: `vendor=nvidia workgroups=128
    /// units=8`. For tests, and to compare layouts with `tidegate bench`; what a device cannot run is refused by its driver at best.
    #[doc(hidden)]
    pub fn with_layout(self, layout: &str) -> Result<Self> {
        let layout: Forced = layout.parse()?;
        let set = |settings: &mut Settings| {
            settings.layout = layout;
            settings.workgroups = layout.workgroups.unwrap_or(settings.workgroups);
        };
        Ok(Self { options: self.options.set(set), ..self })
    }

    /// Forces what a tuning tries.
    pub(crate) fn with_candidate(self, candidate: Candidate) -> Self {
        let Candidate { strategy, workgroups, layout } = candidate;
        let settings = Settings { workgroups, layout, ..self.options.settings };
        Self { options: Scheduling { strategy, settings, ..self.options }, ..self }
    }

    /// What a tuning for this shape tries.
    pub(crate) fn candidates(&self, shape: SeqShape, mode: Mode) -> Result<Vec<Candidate>> {
        let Self { ctx, network, options, .. } = self;
        let sizes = Dims::new(network, shape)?.layer_sizes(network, 0, false);
        let layer = Layer { ctx, settings: &options.settings, cell: &network.cell, sizes: &sizes, element: network.element };
        Ok(Strategy::candidates(&layer, mode))
    }

    /// The device it runs on.
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// Its cell.
    pub fn cell(&self) -> &dyn Cell {
        &*self.network.math
    }

    /// What its cell is, as data.
    pub fn cell_spec(&self) -> &CellSpec {
        self.network.cell.spec()
    }

    /// How its parameters, input and output are stored.
    pub fn dtype(&self) -> Dtype {
        self.network.element.dtype()
    }

    /// Its shape and options.
    pub fn config(&self) -> &RnnConfig {
        &self.network.config
    }

    /// Names, shapes and ranges of the tensors in the flat parameter block.
    pub fn param_layout(&self) -> &ParamLayout {
        &self.network.layout
    }

    /// Uploads parameters into a new buffer, stored as the network's [`dtype`](Rnn::dtype); they must have its layout.
    pub fn upload(&self, params: &Params) -> Result<DeviceBuffer> {
        self.check_layout(params)?;
        self.upload_stored("tidegate params", params.values())
    }

    pub(crate) fn upload_stored(&self, label: &str, values: &[f32]) -> Result<DeviceBuffer> {
        self.ctx.upload(label, &self.dtype().encode(values))
    }

    fn check_layout(&self, params: &Params) -> Result<()> {
        if params.layout() != self.param_layout() {
            let (mut ours, mut theirs) = (self.param_layout().iter(), params.layout().iter());
            return Err(loop {
                break match (ours.next(), theirs.next()) {
                    (Some(a), Some(b)) if a == b => continue,
                    (Some(a), Some(b)) if a.name == b.name => {
                        Error::Shape { name: a.name.clone(), expected: a.shape.clone(), actual: b.shape.clone() }
                    }
                    (Some(a), _) => Error::MissingTensor { name: a.name.clone() },
                    (None, b) => Error::UnusedTensor { name: b.map_or_else(String::new, |b| b.name.clone()) },
                };
            });
        }
        Ok(())
    }

    /// One state out of a block `[S, L·D, B, H]` such as an [`Output`](crate::Output)'s `final_state`, by the cell's name for it: `[L·D, B, H]`.
    /// For every cell of this crate `h` is PyTorch's `h_n`, and an LSTM's `c` is `c_n`.
    pub fn state_of<'a, F>(&self, name: &str, states: &'a [F]) -> Result<&'a [F]> {
        let spec = &self.cell_spec().states;
        let index = spec.iter().position(|state| state.name == name).ok_or_else(|| Error::UnknownName {
            kind: "state",
            name: name.into(),
            known: spec.iter().map(|state| state.name).collect::<Vec<_>>().join(", "),
        })?;
        let config = self.config();
        let layers = config.num_layers * config.num_directions();
        let widths: Vec<usize> = state_widths(self.cell_spec(), config).collect();
        let row = layers * widths.iter().sum::<usize>();
        if states.is_empty() || !states.len().is_multiple_of(row) {
            let (len, count, hidden) = (states.len(), spec.len(), config.hidden_size);
            let of_h = if config.proj_size > 0 { format!(" with an h of {}", config.proj_size) } else { String::new() };
            return Err(Error::Config(format!("`states`: {len} values are no [{count}, {layers}, B, {hidden}]{of_h}")));
        }
        let rows = layers * (states.len() / row);
        Ok(&states[rows * widths[..index].iter().sum::<usize>()..][..rows * widths[index]])
    }

    /// What it was given by [`with_tuning`](Rnn::with_tuning); empty if nothing.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Whether a tuning has a choice for this network and shape.
    pub fn is_known_to(&self, tuning: &Tuning, shape: SeqShape, mode: Mode) -> bool {
        tuning.choice(&self.class(shape, mode)).is_some()
    }

    /// What was tried for this network and shape when a tuning was made, in that order; empty if it was not tuned for.
    pub fn tried<'a>(&self, tuning: &'a Tuning, shape: SeqShape, mode: Mode) -> &'a [Tried] {
        tuning.choice(&self.class(shape, mode)).map_or(&[], |choice| &choice.tried)
    }

    /// Size of the cooperative matrices that its products of f16 go by, if it has such products and may.
    pub(crate) fn cooperative_size(&self) -> Option<u32> {
        self.options.settings.tiles.cooperative.filter(|_| self.network.element == Element::F16)
    }

    /// Whether products of the gates' gradients are rounded to f16 for them.
    pub(crate) fn rounds_gradients(&self, shape: SeqShape) -> Result<bool> {
        Ok(rounds(&self.network, &Dims::new(&self.network, shape)?, self.options.settings.tiles))
    }

    /// What this network and shape are to a tuning.
    pub(crate) fn class(&self, shape: SeqShape, mode: Mode) -> Class {
        let config = self.config();
        let class = Class::new(self.cell().name(), config.hidden_size, config.num_directions(), shape.batch_size, mode);
        class.with_dtype(self.dtype()).with_cooperative(self.cooperative_size().is_some())
    }

    /// Sizes and dispatches for one shape. Builds pipelines on first use; never submits.
    pub fn plan(&self, shape: SeqShape, mode: Mode) -> Result<Plan> {
        let tuned = self.tuning.tuned(&self.class(shape, mode));
        let failures = self.tuning.failures().saturating_add(self.ctx.repairs());
        Plan::new(&self.ctx, &self.network, shape, mode, self.options, tuned, failures)
    }

    /// Whether a shape is within the device's limits in the strategy that is forced.
    #[cfg(feature = "tools")]
    pub(crate) fn fits(&self, shape: SeqShape, mode: Mode) -> bool {
        Plan::fits(&self.ctx, &self.network, shape, mode, &self.options)
    }

    /// Finds out once what strategy persistent may count on, where it may run and nothing says so.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) async fn measure_residency(&self) -> Result<()> {
        let Scheduling { strategy, settings: Settings { workgroups, .. }, .. } = self.options;
        let asks = matches!(strategy, Strategy::Auto | Strategy::Persistent) && workgroups == 0;
        if asks && !self.ctx.is_software() && crate::schedule::persistent::check(&self.ctx).is_ok() {
            self.ctx.measure_residency().await?;
        }
        Ok(())
    }

    /// In browsers the strategy never runs.
    #[cfg(target_arch = "wasm32")]
    pub(crate) async fn measure_residency(&self) -> Result<()> {
        Ok(())
    }

    /// The same where nothing can be awaited.
    pub(crate) fn measure_residency_blocking(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        pollster::block_on(self.measure_residency())?;
        Ok(())
    }

    /// Overwrites uploaded parameters, for the next submit. A [`TrainingRun`](crate::TrainingRun) that is still to go backward would then mix old
    /// activations with new weights.
    pub fn write_params<'a>(&self, buffer: impl IntoBinding<'a>, params: &Params) -> Result<()> {
        self.check_layout(params)?;
        let BufferBinding { buffer, offset, size } = buffer.into_binding();
        let needed = self.dtype().size_of(params.values().len() as u64);
        let actual = size.map_or_else(|| buffer.size().saturating_sub(offset), NonZeroU64::get);
        if actual < needed {
            return Err(Error::BufferSize { name: "params", needed, actual });
        }
        if !buffer.usage().contains(BufferUsages::COPY_DST) {
            return Err(Error::BufferUsage { name: "params", needed: BufferUsages::COPY_DST, actual: buffer.usage() });
        }
        self.ctx.write(buffer, offset, &self.dtype().encode(params.values()))
    }
}
