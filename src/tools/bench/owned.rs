//! Buffers that end with what they were made for.

use std::cell::RefCell;

use wgpu::Buffer;

use crate::error::Result;

/// Destroys its buffers when it is dropped. In browsers those that are merely let go stay until the garbage collector comes, which
/// knows nothing of a GPU's memory. What is still in flight ends first.
#[derive(Debug, Default)]
pub struct Owned(RefCell<Vec<Buffer>>);

impl Owned {
    /// Keeps a buffer that could be had, and gives it back for use.
    pub fn keep(&self, buffer: Result<Buffer>) -> Result<Buffer> {
        self.0.borrow_mut().extend(buffer.as_ref().ok().cloned());
        buffer
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.get_mut().iter().for_each(Buffer::destroy);
    }
}
