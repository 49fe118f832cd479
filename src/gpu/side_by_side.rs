//! What contexts of one device share: the control buffer, and what is known of workgroups that run side by side.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use wgpu::Buffer;

/// Dispatches that were repaired because workgroups waited in vain, of what a status buffer counts.
pub(crate) fn waits_in_vain([_, repairs, _, outgrew_f16]: [u32; 4]) -> u32 {
    repairs.wrapping_sub(outgrew_f16)
}

/// What contexts that share a device must share: see [`Context::from_device_sharing`](crate::Context::from_device_sharing).
#[derive(Debug)]
pub(crate) struct SideBySide {
    /// One for all persistent dispatches: wgpu then never lets two of them run at once and starve each other.
    pub control: Buffer,
    /// Workgroups that were found to run side by side; 0 while nothing is known.
    workgroups: AtomicU32,
    lanes_in_order: OnceLock<bool>,
}

impl SideBySide {
    pub fn new(control: Buffer) -> Self {
        Self { control, workgroups: AtomicU32::new(0), lanes_in_order: OnceLock::new() }
    }

    /// Whether the lanes of a subgroup are neighbours in their workgroup, as far as is known.
    pub fn lanes_in_order(&self) -> bool {
        self.lanes_in_order.get().copied().unwrap_or(true)
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub fn learn_lanes(&self, in_order: bool) {
        let _ = self.lanes_in_order.set(in_order);
    }

    /// Workgroups that were found to run side by side, if that is known.
    pub fn workgroups(&self) -> Option<u32> {
        Some(self.workgroups.load(Ordering::Relaxed)).filter(|&known| known > 0)
    }

    /// Whether lanes and workgroups were measured.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn is_measured(&self) -> bool {
        self.lanes_in_order.get().is_some() && self.workgroups().is_some()
    }

    /// Takes over what was measured, now or before, unless something is known.
    pub fn learn_workgroups(&self, workgroups: u32) {
        let _ = self.workgroups.compare_exchange(0, workgroups, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// From now on no more than these are counted on.
    pub fn lower_workgroups(&self, workgroups: u32) {
        self.workgroups.store(workgroups, Ordering::Relaxed);
    }
}
