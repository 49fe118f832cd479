//! Step indices by dynamic offset, for devices without immediates.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::Buffer;

use crate::error::{Error, Limit, Result};
use crate::gpu::kernel::step_layout;
use crate::gpu::watch::WatchedDevice;

/// A uniform buffer of step indices, bound at a dynamic offset of `step · stride`.
#[derive(Debug)]
pub(crate) struct StepTable {
    len: u32,
    pub stride: u32,
    pub group: wgpu::BindGroup,
}

/// The one table of a device: it grows by powers of two, and programs keep the one they were bound with.
#[derive(Debug, Default)]
pub(super) struct StepTables(Mutex<Option<Arc<StepTable>>>);

impl StepTables {
    /// Step indices 0..`len`; `fill` makes a uniform buffer of these bytes.
    pub fn get(
        &self,
        device: &WatchedDevice,
        len: u32,
        stride: u32,
        fill: impl FnOnce(&[u8]) -> Result<Buffer>,
    ) -> Result<Arc<StepTable>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = cached.as_ref().filter(|table| table.len >= len) {
            return Ok(table.clone());
        }
        let most = u32::MAX / stride;
        if len > most {
            return Err(Error::Limit { limit: Limit::StepOffset, needed: len.into(), actual: most.into() });
        }
        let table = Arc::new(StepTable::new(device, len.next_power_of_two().min(most), stride, fill)?);
        *cached = Some(table.clone());
        Ok(table)
    }
}

impl StepTable {
    fn new(device: &WatchedDevice, len: u32, stride: u32, fill: impl FnOnce(&[u8]) -> Result<Buffer>) -> Result<Self> {
        let mut words = vec![0u32; len as usize * (stride / 4) as usize];
        for (step, entry) in words.chunks_exact_mut((stride / 4) as usize).enumerate() {
            entry[0] = step as u32;
        }
        let buffer = fill(bytemuck::cast_slice(&words))?;
        let layout = step_layout(device.device());
        let entry = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &buffer, offset: 0, size: NonZeroU64::new(4) }),
        };
        let descriptor = wgpu::BindGroupDescriptor { label: Some("tidegate steps"), layout: &layout, entries: &[entry] };
        let group = device.scoped(|| device.device().create_bind_group(&descriptor))?;
        Ok(Self { len, stride, group })
    }
}
