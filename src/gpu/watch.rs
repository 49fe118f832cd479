//! A device whose failures are errors of the calls that met them: error scopes, and whether it is lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpu::{BufferUsages, Device};

use crate::error::{Error, Result};
use crate::gpu::error_scopes::ErrorScopes;

/// A device, the scopes of its calls, and whether it is known to be lost.
pub(crate) struct WatchedDevice {
    device: Device,
    scopes: ErrorScopes,
    lost: Arc<AtomicBool>,
}

impl fmt::Debug for WatchedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.device, f)
    }
}

impl WatchedDevice {
    pub fn new(device: Device, lost: Arc<AtomicBool>) -> Self {
        Self { device, scopes: ErrorScopes::default(), lost }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The flag that contexts of one device share.
    pub fn lost(&self) -> &Arc<AtomicBool> {
        &self.lost
    }

    /// Runs `call` with wgpu's errors caught, which would else reach the app's handler. In browsers the error is given by
    /// [`settle`](Context::settle), or by a later call.
    pub fn scoped<T>(&self, call: impl FnOnce() -> T) -> Result<T> {
        let (value, error) = self.scopes.catch(&self.device, call);
        self.check_lost()?;
        match error {
            Some(error) => Err(self.failure(error)),
            None => Ok(value),
        }
    }

    /// Waits for what the scopes of all calls so far have to tell; natively they have told.
    pub async fn settle(&self) -> Result<()> {
        let error = self.scopes.settle().await;
        self.check_lost()?;
        error.map_or(Ok(()), |error| Err(self.failure(error)))
    }

    /// What a readback means that the device refused.
    pub async fn refused(&self, error: wgpu::BufferAsyncError) -> Error {
        if let Err(error) = self.check_present() {
            return error;
        }
        match self.settle().await {
            Err(error) => error,
            // A browser refuses without a word where the device is lost, and may tell of that later.
            Ok(()) if cfg!(target_arch = "wasm32") => {
                self.lost.store(true, Ordering::Release);
                Error::DeviceLost
            }
            Ok(()) => error.into(),
        }
    }

    /// What a failed call of wgpu means.
    pub fn failure(&self, error: impl fmt::Display) -> Error {
        match self.check_present() {
            Err(lost) => lost,
            Ok(()) => Error::Device(error.to_string()),
        }
    }

    /// Asks the device itself whether it is lost: on a borrowed one the app has the callback.
    pub fn check_present(&self) -> Result<()> {
        self.check_lost()?;
        if is_lost(&self.device) {
            self.lost.store(true, Ordering::Release);
        }
        self.check_lost()
    }

    /// Refuses a device that is known to be lost.
    pub fn check_lost(&self) -> Result<()> {
        if self.lost.load(Ordering::Acquire) { Err(Error::DeviceLost) } else { Ok(()) }
    }
}

/// A lost device gives buffers that cannot be mapped, and no error; a full one gives an error. In browsers it gives those that can:
/// there the callback tells, and the first readback that is refused.
fn is_lost(device: &Device) -> bool {
    if cfg!(target_arch = "wasm32") {
        return false;
    }
    let descriptor = wgpu::BufferDescriptor {
        label: Some("tidegate probe"),
        size: 4,
        usage: BufferUsages::COPY_SRC,
        mapped_at_creation: true,
    };
    let (is_mapped, error) =
        ErrorScopes::default().catch(device, || device.create_buffer(&descriptor).get_mapped_range_mut(..).is_ok());
    !is_mapped && error.is_none()
}
