//! Plans and buffers of networks, kept between calls.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::wgpu::wgpu;
use tidegate::{
    Backward, BackwardBuffers, BufferSizes, Context, DeviceBuffer, Forward, ForwardBuffers, Mode, Plan, Rnn, RnnConfig, SeqShape,
};
use wgpu::{Buffer, BufferUsages};

use crate::cell::Kind;
use crate::device::Engine;
use crate::error::Result;
use crate::pack::{Pack, PackBinding, Present};

/// Shapes of one network that keep their buffers; the one used longest ago goes first.
const SHAPES: usize = 8;
/// `[seed low, seed high, call, 0]`.
const DROPOUT_STATE: u64 = 16;

/// A cell and its config on a device.
pub(crate) struct Network {
    ctx: Context,
    rnn: Rnn,
    pub pack: Arc<Pack>,
    dropout_state: DeviceBuffer,
    /// Last used last.
    planned: Mutex<Vec<Arc<Planned>>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Network").field(self.rnn.config()).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn buffer(ctx: &Context, label: &str, size: u64) -> Result<DeviceBuffer> {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    Ok(ctx.create_buffer(label, size, usage)?)
}

impl Network {
    pub fn new(engine: &Engine, kind: &Kind, config: &RnnConfig) -> Result<Self> {
        let ctx = engine.ctx.clone();
        let rnn = kind.rnn(engine, config)?;
        let pack = Arc::new(Pack::new(&ctx, rnn.param_layout(), config.hidden_size, &kind.present())?);
        let dropout_state = buffer(&ctx, "tidegate_burn dropout", DROPOUT_STATE)?;
        Ok(Self { rnn, pack, dropout_state, planned: Mutex::default(), ctx })
    }

    /// What runs for this shape, made on first use.
    pub fn plan(&self, shape: SeqShape, mode: Mode) -> Result<Arc<Planned>> {
        let mut planned = locked(&self.planned);
        let known = planned.iter().position(|known| known.plan.shape() == shape && known.plan.mode() == mode);
        let found = match known {
            Some(index) => planned.remove(index),
            None => Arc::new(Planned::new(self, self.rnn.plan(shape, mode)?)?),
        };
        planned.push(found.clone());
        if planned.len() > SHAPES {
            planned.remove(0);
        }
        Ok(found)
    }
}

/// One network at one shape, with what its passes share: each pass is one submit, so none sees another's.
pub(crate) struct Planned {
    pub ctx: Context,
    plan: Plan,
    pub pack: Arc<Pack>,
    dropout_state: DeviceBuffer,
    workspace: DeviceBuffer,
    pub final_state: DeviceBuffer,
    gradients: Mutex<Option<Arc<Gradients>>>,
    free: Mutex<Vec<Slot>>,
}

/// What backward reads and writes.
pub(crate) struct Gradients {
    pub d_output: DeviceBuffer,
    pub d_final_state: DeviceBuffer,
    pub d_params: DeviceBuffer,
    pub d_input: DeviceBuffer,
    pub d_initial_state: DeviceBuffer,
    pub unpack: PackBinding,
}

/// What lives from a forward to its backward.
pub(crate) struct Slot {
    pub params: DeviceBuffer,
    pub input: DeviceBuffer,
    pub output: DeviceBuffer,
    pub initial_state: DeviceBuffer,
    pub lengths: DeviceBuffer,
    reserve: Option<DeviceBuffer>,
    pub pack: PackBinding,
    forward: Vec<(Given, Forward)>,
    backward: Vec<((Given, Wanted), Backward)>,
}

/// Which optional inputs a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub states: bool,
    pub lengths: bool,
}

/// Which gradients are given and asked for, beside those of output and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub final_state: bool,
    pub input: bool,
    pub initial_state: bool,
}

impl Planned {
    fn new(network: &Network, plan: Plan) -> Result<Self> {
        let (ctx, sizes) = (network.ctx.clone(), plan.sizes());
        Ok(Self {
            pack: network.pack.clone(),
            dropout_state: network.dropout_state.clone(),
            workspace: buffer(&ctx, "tidegate_burn workspace", sizes.workspace)?,
            final_state: buffer(&ctx, "tidegate_burn final state", sizes.state)?,
            gradients: Mutex::default(),
            free: Mutex::default(),
            plan,
            ctx,
        })
    }

    pub fn sizes(&self) -> BufferSizes {
        self.plan.sizes()
    }

    /// A slot that no forward holds; it comes back when the guard is dropped.
    pub fn slot(self: &Arc<Self>, engine: &Engine) -> Result<SlotGuard> {
        let free = locked(&self.free).pop();
        let slot = match free {
            Some(slot) => slot,
            None => self.new_slot(engine)?,
        };
        Ok(SlotGuard { home: self.clone(), slot: Some(slot) })
    }

    fn new_slot(&self, engine: &Engine) -> Result<Slot> {
        let (ctx, sizes) = (&self.ctx, self.plan.sizes());
        let params = buffer(ctx, "tidegate_burn params", sizes.params)?;
        Ok(Slot {
            pack: self.pack.bind_pack(ctx.device(), &engine.pack, &params),
            params,
            input: buffer(ctx, "tidegate_burn input", sizes.input)?,
            output: buffer(ctx, "tidegate_burn output", sizes.output)?,
            initial_state: buffer(ctx, "tidegate_burn initial state", sizes.state)?,
            lengths: buffer(ctx, "tidegate_burn lengths", sizes.lengths)?,
            reserve: (sizes.reserve > 0).then(|| buffer(ctx, "tidegate_burn reserve", sizes.reserve)).transpose()?,
            forward: Vec::new(),
            backward: Vec::new(),
        })
    }

    /// Backward's buffers, made by the first that needs them.
    pub fn gradients(&self, engine: &Engine) -> Result<Arc<Gradients>> {
        let mut known = locked(&self.gradients);
        if let Some(gradients) = &*known {
            return Ok(gradients.clone());
        }
        let (ctx, sizes) = (&self.ctx, self.plan.sizes());
        let d_params = buffer(ctx, "tidegate_burn d_params", sizes.d_params)?;
        let gradients = Arc::new(Gradients {
            d_output: buffer(ctx, "tidegate_burn d_output", sizes.output)?,
            d_final_state: buffer(ctx, "tidegate_burn d_final_state", sizes.state)?,
            unpack: self.pack.bind_unpack(ctx.device(), &engine.pack, &d_params),
            d_params,
            d_input: buffer(ctx, "tidegate_burn d_input", sizes.input)?,
            d_initial_state: buffer(ctx, "tidegate_burn d_initial_state", sizes.state)?,
        });
        *known = Some(gradients.clone());
        Ok(gradients)
    }
}

impl Slot {
    fn buffers<'a>(&'a self, planned: &'a Planned, given: Given) -> ForwardBuffers<'a> {
        let whole = Buffer::as_entire_buffer_binding;
        ForwardBuffers {
            initial_state: given.states.then(|| whole(&self.initial_state)),
            final_state: Some(whole(&planned.final_state)),
            lengths: given.lengths.then(|| whole(&self.lengths)),
            dropout_state: Some(whole(&planned.dropout_state)),
            reserve: self.reserve.as_deref().map(whole),
            ..ForwardBuffers::new(whole(&self.params), whole(&self.input), whole(&self.output), whole(&planned.workspace))
        }
    }

    /// Forward on these buffers, bound on first use.
    pub fn forward(&mut self, planned: &Planned, given: Given) -> Result<Forward> {
        if let Some((_, known)) = self.forward.iter().find(|(known, _)| *known == given) {
            return Ok(known.clone());
        }
        let bound = planned.plan.bind_forward(&self.buffers(planned, given))?;
        self.forward.push((given, bound.clone()));
        Ok(bound)
    }

    /// Backward on these buffers, bound on first use.
    pub fn backward(&mut self, planned: &Planned, given: Given, wanted: Wanted, to: &Gradients) -> Result<Backward> {
        if let Some((_, known)) = self.backward.iter().find(|(known, _)| *known == (given, wanted)) {
            return Ok(known.clone());
        }
        let whole = Buffer::as_entire_buffer_binding;
        let bound = planned.plan.bind_backward(&BackwardBuffers {
            d_final_state: wanted.final_state.then(|| whole(&to.d_final_state)),
            d_input: wanted.input.then(|| whole(&to.d_input)),
            d_initial_state: wanted.initial_state.then(|| whole(&to.d_initial_state)),
            ..BackwardBuffers::new(self.buffers(planned, given), whole(&to.d_output), whole(&to.d_params))
        })?;
        self.backward.push(((given, wanted), bound.clone()));
        Ok(bound)
    }
}

/// A slot in use.
pub(crate) struct SlotGuard {
    pub home: Arc<Planned>,
    slot: Option<Slot>,
}

impl SlotGuard {
    pub fn get(&mut self) -> &mut Slot {
        self.slot.as_mut().expect("only drop takes it")
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        locked(&self.home.free).extend(self.slot.take());
    }
}

impl Kind {
    /// Which gates Burn has tensors for: a coupled forget gate has none.
    pub fn present(&self) -> Present {
        let coupled = matches!(self, Self::Lstm(cell) if cell.input_forget);
        (0..self.gates()).map(|gate| !(coupled && gate == 1)).collect()
    }
}
