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
    /// The version of that API that the device has, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `software` is an adapter that runs on the CPU, `cpu-reference` the float64 reference.
    pub device_type: &'static str,
}

impl Description {
    /// The reference.
    pub fn cpu() -> Self {
        Self {
            device: "CPU reference".into(),
            backend: "cpu".into(),
            driver: format!("tidegate {}, float64", env!("CARGO_PKG_VERSION")),
            api_version: None,
            device_type: "cpu-reference",
        }
    }

    /// An adapter. Browsers tell little: a page that knows a better name of the device can put it in, and whoever can ask the adapter
    /// itself the version of its API.
    pub fn adapter(info: &AdapterInfo) -> Self {
        let device_type = match info.device_type {
            DeviceType::DiscreteGpu => "discrete-gpu",
            DeviceType::IntegratedGpu => "integrated-gpu",
            DeviceType::VirtualGpu => "virtual-gpu",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        };
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_string();
        Self { device: info.name.clone(), backend: info.backend.to_string(), driver, api_version: None, device_type }
    }
}
