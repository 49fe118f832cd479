//! Dispatches bound to the app's buffers, ready to record.

use std::sync::Arc;

use wgpu::{BufferBinding, CommandEncoder, ComputePass};

use crate::error::{Error, Limit, Result};
use crate::gpu::context::Context;
use crate::gpu::program::{Bound, Role, Segment};
use crate::plan::checks::Bindings;

/// One direction of a piece of training, bound to its buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pass {
    label: &'static str,
    bound: Arc<Bound>,
}

/// A buffer that a pass works on.
pub(super) struct Use<'a> {
    role: Role,
    binding: Option<&'a BufferBinding<'a>>,
    bytes: u64,
    written: bool,
}

/// A buffer of at least this many bytes that is read, if it is given.
pub(super) fn reads<'a>(role: Role, binding: impl Into<Option<&'a BufferBinding<'a>>>, bytes: u64) -> Use<'a> {
    Use { role, binding: binding.into(), bytes, written: false }
}

/// The same for one that is written.
pub(super) fn writes<'a>(role: Role, binding: impl Into<Option<&'a BufferBinding<'a>>>, bytes: u64) -> Use<'a> {
    Use { written: true, ..reads(role, binding, bytes) }
}

impl Pass {
    /// Refuses buffers that are missing, too small, of the wrong usage or offset, or that overlap a written one, by name.
    pub(super) fn bind(ctx: &Context, label: &'static str, program: &[Segment], uses: &[Use<'_>]) -> Result<Self> {
        let mut given = Bindings::default();
        for &Use { role, binding, bytes, written } in uses {
            given.add(role.name(), binding, bytes, written);
        }
        given.check(ctx, &[])?;
        let buffer = |role| uses.iter().find(|used| used.role == role).and_then(|used| used.binding.cloned());
        Ok(Self { label, bound: Arc::new(Bound::new(ctx, program, buffer)?) })
    }

    /// Records one labelled compute pass. Touches no queue, allocates no GPU object, may be called any number of times.
    pub fn encode(&self, encoder: &mut CommandEncoder) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some(self.label), timestamp_writes: None };
        self.dispatch(&mut encoder.begin_compute_pass(&descriptor));
    }

    /// Records into the app's own pass. Pipeline and bind group 0 are left changed.
    pub fn dispatch(&self, pass: &mut ComputePass<'_>) {
        self.bound.record(pass);
    }

    /// How many dispatches one recording makes.
    pub fn dispatches(&self) -> usize {
        self.bound.dispatches()
    }
}

/// Most elements of a tensor of training: loops over them by u32 never come near its end.
const MOST: u64 = 1 << 31;

/// The product of the dimensions of a tensor, each of which must be at least 1.
pub(super) fn elements(dimensions: &[(&str, usize)]) -> Result<u64> {
    let mut product = 1u64;
    let mut names = Vec::new();
    for &(name, value) in dimensions {
        if value == 0 || value as u64 > MOST {
            return Err(Error::Range { name: name.into(), value: value as u64, min: 1, max: MOST });
        }
        product = product.saturating_mul(value as u64);
        names.push(name);
    }
    if product > MOST {
        return Err(Error::Limit { limit: Limit::Index(names.join("·")), needed: product, actual: MOST });
    }
    Ok(product)
}
