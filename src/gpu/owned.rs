//! Buffers destroyed when their owner is dropped.

use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;

/// Destroys its buffers when it is dropped. In browsers those that are merely let go stay until the garbage collector comes, which
/// knows nothing of a GPU's memory. What is still in flight ends first.
#[derive(Debug, Default)]
pub(crate) struct OwnedBuffers(Mutex<Vec<DeviceBuffer>>);

impl OwnedBuffers {
    /// Keeps a buffer that could be had, and gives it back for use.
    pub fn keep(&self, buffer: Result<DeviceBuffer>) -> Result<DeviceBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(buffer.as_ref().ok().cloned());
        buffer
    }

    /// Leaves them to whoever else refers to them.
    pub fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for OwnedBuffers {
    fn drop(&mut self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).iter().for_each(|buffer| buffer.destroy());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::context::Context;

    #[test]
    fn buffers_end_with_their_owner() {
        let ctx = pollster::block_on(Context::request()).expect("this needs an adapter");
        let owned = OwnedBuffers::default();
        let buffer = owned.keep(ctx.upload("kept", &[1.0f32])).unwrap();
        let read = || pollster::block_on(ctx.download([&buffer]));
        assert_eq!(read().unwrap(), [[1.0]]);
        drop(owned);
        let error = read().unwrap_err().to_string();
        assert!(error.contains("kept") && error.contains("destroyed"), "{error}");
        assert!(OwnedBuffers::default().keep(ctx.create_buffer("too large", u64::MAX, wgpu::BufferUsages::STORAGE)).is_err());
    }
}
