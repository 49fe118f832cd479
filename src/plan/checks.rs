//! What the caller's buffers must be before anything is bound to them.

use wgpu::{BufferBinding, BufferUsages};

use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::network::sequence::Mode;
use crate::plan::buffers::{BackwardBuffers, BufferSizes, ForwardBuffers};

/// A binding of the caller's, and what this program does with it.
struct Given<'a> {
    name: &'static str,
    binding: &'a BufferBinding<'a>,
    needed: u64,
    written: bool,
}

/// Collects bindings, absent ones left out.
#[derive(Default)]
pub(crate) struct Bindings<'a>(Vec<Given<'a>>);

impl<'a> Bindings<'a> {
    pub fn add(&mut self, name: &'static str, binding: impl Into<Option<&'a BufferBinding<'a>>>, needed: u64, written: bool) {
        self.0.extend(binding.into().map(|binding| Given { name, binding, needed, written }));
    }

    /// Refuses wrong usages, offsets and sizes, and written memory that another binding shares, but for the pairs in `same`.
    pub fn check(&self, ctx: &Context, same: &[[&str; 2]]) -> Result<()> {
        let alignment = u64::from(ctx.limits().min_storage_buffer_offset_alignment);
        for &Given { name, binding, needed, .. } in &self.0 {
            ctx.check_own(name, binding.buffer)?;
            let usage = binding.buffer.usage();
            if !usage.contains(BufferUsages::STORAGE) {
                return Err(Error::BufferUsage { name, needed: BufferUsages::STORAGE, actual: usage });
            }
            if !binding.offset.is_multiple_of(alignment) {
                return Err(Error::BufferOffset { name, offset: binding.offset, alignment });
            }
            let rest = binding.buffer.size().saturating_sub(binding.offset);
            let actual = binding.size.map_or(rest, |size| size.get().min(rest));
            if actual < needed {
                return Err(Error::BufferSize { name, needed, actual });
            }
        }
        for written in self.0.iter().filter(|given| given.written) {
            let end = |given: &Given<'_>| given.binding.offset + given.needed;
            let shares = |other: &&Given<'_>| {
                other.name != written.name
                    && other.binding.buffer == written.binding.buffer
                    && other.binding.offset < end(written)
                    && written.binding.offset < end(other)
                    && !same.contains(&[other.name, written.name])
            };
            if let Some(other) = self.0.iter().find(shares) {
                return Err(Error::Aliasing { other: other.name, written: written.name });
            }
        }
        Ok(())
    }
}

/// Forward's buffers. Only inference may update the state in place: backward reads the initial one again.
pub(super) fn check_forward(ctx: &Context, sizes: &BufferSizes, mode: Mode, buffers: &ForwardBuffers<'_>) -> Result<()> {
    let mut given = Bindings::default();
    given.add("params", &buffers.params, sizes.params, false);
    given.add("input", &buffers.input, sizes.input, false);
    given.add("output", &buffers.output, sizes.output, true);
    given.add("initial_state", buffers.initial_state.as_ref(), sizes.state, false);
    given.add("final_state", buffers.final_state.as_ref(), sizes.state, true);
    given.add("lengths", buffers.lengths.as_ref(), sizes.lengths, false);
    given.add("reset", buffers.reset.as_ref(), sizes.reset, false);
    given.add("hold", buffers.hold.as_ref(), sizes.hold, false);
    if sizes.reserve > 0 {
        given.add("dropout_state", buffers.dropout_state.as_ref(), sizes.dropout_state, true);
        given.add("reserve", reserve(buffers)?, sizes.reserve, true);
    }
    given.add("status", buffers.status.as_ref(), sizes.status, true);
    given.add("workspace", &buffers.workspace, sizes.workspace, true);
    let in_place = [["initial_state", "final_state"]];
    given.check(ctx, if mode == Mode::Inference { &in_place } else { &[] })
}

/// Backward's buffers. The final state's gradient is read before the initial one's is written, so they may be one.
pub(super) fn check_backward(ctx: &Context, sizes: &BufferSizes, buffers: &BackwardBuffers<'_>) -> Result<()> {
    let forward = &buffers.forward;
    let mut given = Bindings::default();
    given.add("params", &forward.params, sizes.params, false);
    given.add("input", &forward.input, sizes.input, false);
    given.add("output", &forward.output, sizes.output, false);
    given.add("initial_state", forward.initial_state.as_ref(), sizes.state, false);
    given.add("lengths", forward.lengths.as_ref(), sizes.lengths, false);
    given.add("reset", forward.reset.as_ref(), sizes.reset, false);
    given.add("hold", forward.hold.as_ref(), sizes.hold, false);
    if sizes.reserve > 0 {
        given.add("reserve", reserve(forward)?, sizes.reserve, false);
    }
    given.add("status", forward.status.as_ref(), sizes.status, true);
    given.add("workspace", &forward.workspace, sizes.workspace, true);
    given.add("d_output", &buffers.d_output, sizes.output, false);
    given.add("d_final_state", buffers.d_final_state.as_ref(), sizes.state, false);
    given.add("d_params", &buffers.d_params, sizes.d_params, true);
    given.add("d_input", buffers.d_input.as_ref(), sizes.input, true);
    given.add("d_initial_state", buffers.d_initial_state.as_ref(), sizes.state, true);
    given.check(ctx, &[["d_final_state", "d_initial_state"]])
}

fn reserve<'a>(buffers: &'a ForwardBuffers<'a>) -> Result<&'a BufferBinding<'a>> {
    let reason = "training keeps values for backward in it";
    buffers.reserve.as_ref().ok_or(Error::BufferMissing { name: "reserve", reason })
}
