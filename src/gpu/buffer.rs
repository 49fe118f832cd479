//! [`DeviceBuffer`]: a buffer that knows whose it is, and what finds that out again of a binding.

use std::ops::Deref;
use std::sync::Arc;

use wgpu::Buffer;

use crate::error::{Error, Result};
use crate::gpu::context::Context;

/// A buffer that a [`Context`] made: a [`wgpu::Buffer`] wherever one is wanted, by reference. Cheap to clone.
///
/// It stays known as its context's as long as what is bound or passed on is borrowed from it: given to another device, by accident, it is
/// an error that names both, also where the two have wgpu instances of their own. A `wgpu::Buffer` that is cloned out of it is as
/// any other, which wgpu checks against the devices of one instance.
#[derive(Debug, Clone)]
pub struct DeviceBuffer(Arc<Kept>);

/// Lies still from first to last, so that its address tells it from all other buffers.
#[derive(Debug)]
struct Kept {
    buffer: Buffer,
}

impl DeviceBuffer {
    pub(crate) fn new(ctx: &Context, buffer: Buffer) -> Self {
        let kept = Arc::new(Kept { buffer });
        owners::insert(&kept.buffer, ctx);
        Self(kept)
    }

    /// Whether this context, or another of its device, may use it.
    pub fn is_of(&self, ctx: &Context) -> bool {
        ctx.check_own("buffer", self).is_ok()
    }
}

impl Deref for DeviceBuffer {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        &self.0.buffer
    }
}

impl PartialEq for DeviceBuffer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for DeviceBuffer {}

impl Drop for Kept {
    fn drop(&mut self) {
        owners::remove(&self.buffer);
    }
}

impl Context {
    /// Refuses a buffer that lies in a [`DeviceBuffer`] of another device. Of any other there is nothing to tell.
    pub(crate) fn check_own(&self, name: &str, buffer: &Buffer) -> Result<()> {
        match owners::other(buffer, self) {
            None => Ok(()),
            // A lost device is no device's equal.
            Some(theirs) => {
                self.check_present()?;
                Err(Error::OtherContext { name: name.into(), theirs, ours: self.describe() })
            }
        }
    }
}

/// Who owns the buffers that lie in a [`DeviceBuffer`], by their addresses: while one is borrowed nothing else can have its address.
#[cfg(not(target_arch = "wasm32"))]
mod owners {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

    use wgpu::{Buffer, BufferDescriptor, BufferUsages, Device};

    use crate::gpu::context::Context;
    use crate::gpu::error_scopes::ErrorScopes;

    struct Owner {
        number: u64,
        described: String,
        device: Device,
    }

    fn owners() -> MutexGuard<'static, HashMap<usize, Owner>> {
        static OWNERS: LazyLock<Mutex<HashMap<usize, Owner>>> = LazyLock::new(Mutex::default);
        OWNERS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(buffer: &Buffer) -> usize {
        std::ptr::from_ref(buffer).addr()
    }

    pub fn insert(buffer: &Buffer, ctx: &Context) {
        let owner = Owner { number: ctx.number(), described: ctx.describe(), device: ctx.device().clone() };
        owners().insert(address(buffer), owner);
    }

    pub fn remove(buffer: &Buffer) {
        // Dropped behind the lock: a device may end with it.
        let owner = owners().remove(&address(buffer));
        drop(owner);
    }

    /// The buffer's context, if it is of another device.
    pub fn other(buffer: &Buffer, ctx: &Context) -> Option<String> {
        let (described, device) = match owners().get(&address(buffer)) {
            Some(owner) if owner.number != ctx.number() => (owner.described.clone(), owner.device.clone()),
            _ => return None,
        };
        is_other(&device, ctx.device()).then_some(described)
    }

    /// wgpu numbers the devices of each instance by themselves, so two of one number may be one or two. An error of one is seen by the
    /// other's scopes if they are one. A lost device tells nothing.
    fn is_other(theirs: &Device, ours: &Device) -> bool {
        if theirs != ours {
            return true;
        }
        let fails = BufferDescriptor { label: None, size: 4, usage: BufferUsages::empty(), mapped_at_creation: false };
        let scopes = [ErrorScopes::default(), ErrorScopes::default()];
        let (_, missed) = scopes[0].catch(theirs, || scopes[1].catch(ours, || theirs.create_buffer(&fails)).1.is_none());
        missed.is_some()
    }
}

/// In browsers all instances are one, and the browser tells.
#[cfg(target_arch = "wasm32")]
mod owners {
    use wgpu::Buffer;

    use crate::gpu::context::Context;

    pub fn insert(_: &Buffer, _: &Context) {}

    pub fn remove(_: &Buffer) {}

    pub fn other(_: &Buffer, _: &Context) -> Option<String> {
        None
    }
}
