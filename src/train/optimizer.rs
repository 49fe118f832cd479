//! [`Optimizer`]: SGD, Adam and AdamW over a flat parameter block, one dispatch a step.

use wgpu::BufferBinding;

use super::pass::{Pass, elements, reads, writes};
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Role, Segment, Slot};
use crate::gpu::shaders::shader;

/// A rule by which gradients change parameters; PyTorch's `torch.optim` of that name, to its order of operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// `SGD` with dampening 0.
    Sgd {
        /// How much of the last step's direction goes on: 0, which keeps none, to below 1.
        momentum: f64,
        /// Nesterov's form; needs a momentum.
        nesterov: bool,
        /// Added to the gradient, times the parameter.
        weight_decay: f64,
    },
    /// `Adam`, without amsgrad.
    Adam {
        /// Decay of the averages of the gradient and of its square.
        betas: [f64; 2],
        /// Added to the root of the second.
        eps: f64,
        /// Added to the gradient, times the parameter.
        weight_decay: f64,
    },
    /// `AdamW`, without amsgrad.
    AdamW {
        /// Decay of the averages of the gradient and of its square.
        betas: [f64; 2],
        /// Added to the root of the second.
        eps: f64,
        /// Each step multiplies parameters by 1 − learning rate · this.
        weight_decay: f64,
    },
}

/// An [`Optimizer`] of a parameter block.
#[derive(Debug, Clone)]
pub struct Update {
    ctx: Context,
    optimizer: Optimizer,
    len: u64,
}

/// Bytes of the buffers of an [`Update`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdateSizes {
    /// The flat parameter block, f32; its gradients too.
    pub params: u64,
    /// The first moment, 0 for SGD without momentum.
    pub first_moment: u64,
    /// The second moment, 0 for SGD.
    pub second_moment: u64,
    /// Four f32, see [`Optimizer::hyper`].
    pub hyper: u64,
}

/// Buffers of an [`Update`].
#[derive(Debug, Clone)]
pub struct UpdateBuffers<'a> {
    /// The flat parameter block, f32. Read and written.
    pub params: BufferBinding<'a>,
    /// The flat gradient block, f32. Read.
    pub d_params: BufferBinding<'a>,
    /// SGD's momentum buffer, Adam's `exp_avg`: zeros before the first step. Read and written.
    pub first_moment: Option<BufferBinding<'a>>,
    /// Adam's `exp_avg_sq`: zeros before the first step. Read and written.
    pub second_moment: Option<BufferBinding<'a>>,
    /// What [`Optimizer::hyper`] gives for this step. Read.
    pub hyper: BufferBinding<'a>,
}

sizes! {
    SgdWords { len, nesterov, momentum, weight_decay, }
}

sizes! {
    AdamWords { len, one_minus_beta1, beta2, one_minus_beta2, eps, weight_decay, }
}

fn sgd_source(momentum: bool) -> KernelSource {
    let bindings = [Binding::read("gradients"), Binding::read("hyper"), Binding::write("params"), Binding::write("first_moment")];
    KernelSource::new(shader!("train/sgd"), &[("HAS_MOMENTUM", momentum.into())], &bindings, StepIndex::None, SgdWords::WGSL)
}

fn adam_source(decoupled: bool) -> KernelSource {
    let bindings = [
        Binding::read("gradients"),
        Binding::read("hyper"),
        Binding::write("params"),
        Binding::write("first_moment"),
        Binding::write("second_moment"),
    ];
    KernelSource::new(shader!("train/adam"), &[("DECOUPLED", decoupled.into())], &bindings, StepIndex::None, AdamWords::WGSL)
}

pub(super) fn sources() -> Vec<KernelSource> {
    [false, true].into_iter().flat_map(|option| [sgd_source(option), adam_source(option)]).collect()
}

/// As a kernel takes it.
fn word(value: f64) -> u32 {
    (value as f32).to_bits()
}

impl Optimizer {
    /// SGD with this momentum, 0 to below 1, without weight decay or Nesterov's form. The learning rate is told to each step.
    pub fn sgd(momentum: f64) -> Self {
        Self::Sgd { momentum, nesterov: false, weight_decay: 0.0 }
    }

    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, no weight decay.
    pub fn adam() -> Self {
        Self::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }
    }

    /// AdamW with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, weight decay 0.01.
    pub fn adamw() -> Self {
        Self::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 }
    }

    /// PyTorch's name, in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam { .. } => "adam",
            Self::AdamW { .. } => "adamw",
        }
    }

    /// PyTorch's names of the moments that are kept.
    pub fn moments(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            Self::Sgd { .. } => &["momentum_buffer"],
            Self::Adam { .. } | Self::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
        }
    }

    /// What the kernel needs to know of step number `step`, the first being 1: computed in f64, as PyTorch does.
    pub fn hyper(&self, learning_rate: f64, step: u64) -> [f32; 4] {
        match *self {
            Self::Sgd { .. } => [learning_rate as f32, 0.0, 0.0, 0.0],
            Self::Adam { betas, weight_decay, .. } | Self::AdamW { betas, weight_decay, .. } => {
                let [first, second] = betas.map(|beta| 1.0 - beta.powf(step as f64));
                [learning_rate / first, second.sqrt(), 1.0 - learning_rate * weight_decay, 0.0].map(|value| value as f32)
            }
        }
    }

    fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f64, range: std::ops::Range<f64>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (start, end) = (range.start, range.end);
            Err(Error::Config(format!("{}: `{name}` is {value}, must be at least {start} and below {end}", self.name())))
        };
        let any = 0.0..f64::from(f32::MAX);
        match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => {
                // From 1 on no step's direction ever fades; PyTorch takes that.
                check("momentum", momentum, 0.0..1.0)?;
                check("weight_decay", weight_decay, any)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::Config("sgd: `nesterov` needs a momentum, which is 0".into()));
                }
                Ok(())
            }
            Self::Adam { betas, eps, weight_decay } | Self::AdamW { betas, eps, weight_decay } => {
                check("betas[0]", betas[0], 0.0..1.0)?;
                check("betas[1]", betas[1], 0.0..1.0)?;
                // 0 / 0 where a gradient was never anything but 0: below f32's normal numbers a device may take eps for 0.
                check("eps", eps, f64::from(f32::MIN_POSITIVE)..f64::from(f32::MAX))?;
                check("weight_decay", weight_decay, any)
            }
        }
    }
}

impl Update {
    /// Updates a block of `len` parameters. Refuses an optimizer whose numbers mean nothing.
    pub fn new(ctx: &Context, optimizer: Optimizer, len: usize) -> Result<Self> {
        optimizer.validate()?;
        let update = Self { ctx: ctx.clone(), optimizer, len: elements(&[("params", len)])? };
        update.program()?;
        Ok(update)
    }

    /// Bytes that each buffer must hold.
    pub fn sizes(&self) -> UpdateSizes {
        let params = 4 * self.len;
        let moment = |i| if self.optimizer.moments().len() > i { params } else { 0 };
        UpdateSizes { params, first_moment: moment(0), second_moment: moment(1), hyper: 16 }
    }

    fn program(&self) -> Result<Vec<Segment>> {
        let (ctx, sizes) = (&self.ctx, self.sizes());
        let (params, gradients) = (Slot::whole(Role::Params, self.len), Slot::whole(Role::DParams, self.len));
        let hyper = Slot::whole(Role::Hyper, 4);
        let [first, second] = [(Role::FirstMoment, sizes.first_moment), (Role::SecondMoment, sizes.second_moment)]
            .map(|(role, bytes)| Slot::whole(role, bytes / 4));
        let (len, grid) = (self.len as u32, elementwise(ctx, self.len));
        let dispatch = match self.optimizer {
            Optimizer::Sgd { momentum, nesterov, weight_decay } => {
                let words =
                    SgdWords { len, nesterov: nesterov.into(), momentum: word(momentum), weight_decay: word(weight_decay) };
                let kernel = ctx.kernel(sgd_source(momentum > 0.0));
                Dispatch::new(ctx, kernel, &[gradients, hyper, params, first], &words, grid)
            }
            Optimizer::Adam { betas, eps, weight_decay } | Optimizer::AdamW { betas, eps, weight_decay } => {
                let words = AdamWords {
                    len,
                    one_minus_beta1: word(1.0 - betas[0]),
                    beta2: word(betas[1]),
                    one_minus_beta2: word(1.0 - betas[1]),
                    eps: word(eps),
                    weight_decay: word(weight_decay),
                };
                let kernel = ctx.kernel(adam_source(matches!(self.optimizer, Optimizer::AdamW { .. })));
                Dispatch::new(ctx, kernel, &[gradients, hyper, params, first, second], &words, grid)
            }
        };
        Ok(vec![dispatch?.into()])
    }

    /// Binds it. A moment that the optimizer does not keep may be absent, and is not looked at.
    pub fn bind(&self, buffers: &UpdateBuffers<'_>) -> Result<Pass> {
        let sizes = self.sizes();
        let reason = match self.optimizer {
            Optimizer::Sgd { .. } => "SGD with a momentum keeps its `momentum_buffer` in it",
            Optimizer::Adam { .. } => "Adam keeps `exp_avg` in the first moment, `exp_avg_sq` in the second",
            Optimizer::AdamW { .. } => "AdamW keeps `exp_avg` in the first moment, `exp_avg_sq` in the second",
        };
        let mut uses = vec![
            writes(Role::Params, &buffers.params, sizes.params),
            reads(Role::DParams, &buffers.d_params, sizes.params),
            reads(Role::Hyper, &buffers.hyper, sizes.hyper),
        ];
        if sizes.first_moment > 0 {
            uses.push(writes(Role::FirstMoment, buffers.first_moment.as_ref(), sizes.first_moment));
        }
        if sizes.second_moment > 0 {
            uses.push(writes(Role::SecondMoment, buffers.second_moment.as_ref(), sizes.second_moment));
        }
        Pass::bind(&self.ctx, "tidegate update", &self.program()?, &uses).map_err(|error| match error {
            Error::BufferMissing { name, .. } => Error::BufferMissing { name, reason },
            error => error,
        })
    }
}
