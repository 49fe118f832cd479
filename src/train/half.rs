//! What stands between a network of f16 and the rest of a training step, which is f32: conversions, and the loss scale on its way
//! in and out.

use wgpu::BufferBinding;

use super::guard::STATE_BYTES;
use super::pass::{Pass, reads, writes};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Dispatch, Role, Slot, elementwise};
use crate::gpu::shaders::shader;

sizes! {
    HalfWords { len, }
}

fn to_source(scaled: bool) -> KernelSource {
    let bindings = [Binding::read("src"), Binding::read("state").of_u32(), Binding::write("dst").of_u32()];
    KernelSource::new(shader!("train/to_halves"), &[("SCALED", scaled.into())], &bindings, StepIndex::None, HalfWords::WGSL)
}

fn from_source(scaled: bool) -> KernelSource {
    let bindings = [Binding::read("src").stored(Element::PackedF16), Binding::read("state").of_u32(), Binding::write("dst")];
    KernelSource::new(shader!("train/from_halves"), &[("SCALED", scaled.into())], &bindings, StepIndex::None, HalfWords::WGSL)
}

fn unscale_source() -> KernelSource {
    let bindings = [Binding::read("state").of_u32(), Binding::write("gradients")];
    KernelSource::new(shader!("train/unscale_gradients"), &[], &bindings, StepIndex::None, HalfWords::WGSL)
}

pub(super) fn sources() -> Vec<KernelSource> {
    [false, true].into_iter().flat_map(|scaled| [to_source(scaled), from_source(scaled)]).chain([unscale_source()]).collect()
}

/// A copy of `len` numbers of another type. `scale` is the guard's state: with it f32 are multiplied by the loss scale on their way to
/// f16, and f16 divided by it on their way back.
pub(super) struct Conversion<'a> {
    pub len: u64,
    pub src: BufferBinding<'a>,
    pub dst: BufferBinding<'a>,
    pub scale: Option<BufferBinding<'a>>,
}

impl Conversion<'_> {
    /// From f32 to f16, which lies the same whether the device has f16 in shaders or not.
    pub fn pack(&self, ctx: &Context) -> Result<Pass> {
        let grid = elementwise(ctx, self.len.div_ceil(2));
        self.bind(ctx, to_source(self.scale.is_some()), [Element::F32, Element::PackedF16], grid)
    }

    /// From f16 to f32.
    pub fn unpack(&self, ctx: &Context) -> Result<Pass> {
        self.bind(ctx, from_source(self.scale.is_some()), [Element::PackedF16, Element::F32], elementwise(ctx, self.len))
    }

    fn bind(&self, ctx: &Context, source: KernelSource, [from, to]: [Element; 2], grid: [u64; 3]) -> Result<Pass> {
        let (src, dst) = (Slot::stored(Role::Input, self.len, from), Slot::stored(Role::Output, self.len, to));
        let state = Slot::whole(Role::Guard, STATE_BYTES / 4).only_if(self.scale.is_some());
        let dispatch = Dispatch::new(ctx, ctx.kernel(source), &[src, state, dst], &HalfWords { len: self.len as u32 }, grid)?;
        let uses = [
            reads(Role::Input, &self.src, src.size),
            reads(Role::Guard, self.scale.as_ref(), STATE_BYTES),
            writes(Role::Output, &self.dst, dst.size),
        ];
        Pass::bind(ctx, "tidegate train f16", &[dispatch.into()], &uses)
    }
}

/// Divides `len` gradients by the loss scale in the guard's state.
pub(super) fn unscale(ctx: &Context, len: u64, gradients: &BufferBinding<'_>, state: &BufferBinding<'_>) -> Result<Pass> {
    let slots = [Slot::whole(Role::Guard, STATE_BYTES / 4), Slot::whole(Role::DParams, len)];
    let words = HalfWords { len: len as u32 };
    let dispatch = Dispatch::new(ctx, ctx.kernel(unscale_source()), &slots, &words, elementwise(ctx, len))?;
    let uses = [reads(Role::Guard, state, STATE_BYTES), writes(Role::DParams, gradients, 4 * len)];
    Pass::bind(ctx, "tidegate train unscale", &[dispatch.into()], &uses)
}
