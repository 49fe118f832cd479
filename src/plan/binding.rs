//! [`IntoBinding`]: a whole buffer or a part of one, where a buffer is bound.

use wgpu::{Buffer, BufferBinding};

use crate::gpu::buffer::DeviceBuffer;

/// What can be bound: a whole [`wgpu::Buffer`] or [`DeviceBuffer`] by reference, or a [`wgpu::BufferBinding`] of a part of one.
pub trait IntoBinding<'a> {
    /// The binding.
    fn into_binding(self) -> BufferBinding<'a>;
}

impl<'a> IntoBinding<'a> for &'a Buffer {
    fn into_binding(self) -> BufferBinding<'a> {
        self.as_entire_buffer_binding()
    }
}

impl<'a> IntoBinding<'a> for &'a DeviceBuffer {
    fn into_binding(self) -> BufferBinding<'a> {
        self.as_entire_buffer_binding()
    }
}

impl<'a> IntoBinding<'a> for BufferBinding<'a> {
    fn into_binding(self) -> BufferBinding<'a> {
        self
    }
}
