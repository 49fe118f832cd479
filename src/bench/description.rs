//! What every listing and report says of a device.

use serde::Serialize;
use wgpu::{AdapterInfo, DeviceType};

/// What every listing and report says of a device.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// Its name.
    pub device: String,
    /// The API that it is reached by.
    pub backend: String,
    /// The driver and its version, as far as it tells.
    pub driver: String,
    /// `software` is an adapter that runs on the CPU, `cpu-reference` the float64 reference.
    pub device_type: &'static str,
}

impl Description {
    /// Describes the reference.
    pub fn cpu() -> Self {
        Self {
            device: "CPU reference".into(),
            backend: "cpu".into(),
            driver: format!("tidegate {}, float64", env!("CARGO_PKG_VERSION")),
            device_type: "cpu-reference",
        }
    }

    /// Describes an adapter. Browsers tell little: a page that knows a better name of the device can put it in.
    pub fn adapter(info: &AdapterInfo) -> Self {
        let device_type = match info.device_type {
            DeviceType::DiscreteGpu => "discrete-gpu",
            DeviceType::IntegratedGpu => "integrated-gpu",
            DeviceType::VirtualGpu => "virtual-gpu",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        };
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_string();
        Self { device: info.name.clone(), backend: info.backend.to_string(), driver, device_type }
    }
}
