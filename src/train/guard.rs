//! [`Guard`]: what keeps a step with a NaN or an infinity from the weights, and the loss scale of f16.

use wgpu::BufferBinding;

use super::LossScale;
use super::optimizer::Optimizer;
use super::pass::{Pass, writes};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Dispatch, Role, Slot};
use crate::gpu::shaders::shader;

sizes! {
    GuardWords {
        /// Whether hyper holds Adam's bias corrections, and the bits of the logarithms of its betas.
        adam, ln_beta1, ln_beta2,
        /// Steps after which a loss scale doubles, 0 without one; the bits of its bounds.
        growth_interval, least_scale, most_scale,
    }
}

/// Bytes of the state: steps that were skipped, all steps, the loss scale, and the steps since it changed.
pub(super) const STATE_BYTES: u64 = 16;

fn source() -> KernelSource {
    let bindings = [Binding::write("norm"), Binding::write("loss"), Binding::write("hyper"), Binding::write("state").of_u32()];
    KernelSource::new(shader!("train/guard"), &[], &bindings, StepIndex::None, GuardWords::WGSL)
}

pub(super) fn sources() -> Vec<KernelSource> {
    vec![source()]
}

/// Decides of each step, on the GPU, whether it is taken.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    ctx: Context,
    words: GuardWords,
}

/// What a guard reads and writes, each whole.
pub(super) struct GuardBuffers<'a> {
    pub norm: BufferBinding<'a>,
    pub loss: BufferBinding<'a>,
    pub hyper: BufferBinding<'a>,
    pub state: BufferBinding<'a>,
}

/// A guard's state before step `step`, after `skipped` that were not taken, with a loss scale and the number of steps it has stood.
pub(super) fn state_words(step: u64, skipped: u64, (scale, stood): (f32, u32)) -> [u32; 4] {
    [skipped as u32, step as u32, scale.to_bits(), stood]
}

impl Guard {
    /// With a loss scale for gradients that pass through f16.
    pub fn new(ctx: &Context, optimizer: Optimizer, scale: Option<LossScale>) -> Result<Self> {
        let [least_scale, most_scale] = [LossScale::LEAST, LossScale::MOST].map(f32::to_bits);
        let growth_interval = scale.map_or(0, |scale| scale.growth_interval);
        let words = GuardWords { growth_interval, least_scale, most_scale, ..Default::default() };
        let words = match optimizer {
            Optimizer::Sgd { .. } => words,
            Optimizer::Adam { betas, .. } | Optimizer::AdamW { betas, .. } => {
                // A beta of 0 forgets at once.
                let [ln_beta1, ln_beta2] = betas.map(|beta| (beta.ln().max(-1e4) as f32).to_bits());
                GuardWords { adam: 1, ln_beta1, ln_beta2, ..words }
            }
        };
        Ok(Self { ctx: ctx.clone(), words })
    }

    pub fn bind(&self, buffers: &GuardBuffers<'_>) -> Result<Pass> {
        let ctx = &self.ctx;
        let slots =
            [(Role::Norm, 2), (Role::Loss, 2), (Role::Hyper, 4), (Role::Guard, 4)].map(|(role, len)| Slot::whole(role, len));
        let dispatch = Dispatch::new(ctx, ctx.kernel(source()), &slots, &self.words, [1; 3])?;
        let uses = [
            writes(Role::Norm, &buffers.norm, 8),
            writes(Role::Loss, &buffers.loss, 8),
            writes(Role::Hyper, &buffers.hyper, 16),
            writes(Role::Guard, &buffers.state, STATE_BYTES),
        ];
        Pass::bind(ctx, "tidegate guard", &[dispatch.into()], &uses)
    }
}
