//! Which of Burn's devices tidegate knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{CubeDevice, DispatchDevice, WgpuDevice};
use burn::tensor::Device;
use burn::tensor::wgpu::{WgpuOptions, WgpuSetup};
use tidegate::{Context, RnnConfig};

use crate::cell::Kind;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::pack::PackPipelines;

/// Those that were registered, by Burn's name for them.
static ENGINES: Mutex<Vec<(WgpuDevice, Arc<Engine>)>> = Mutex::new(Vec::new());

/// Opens a wgpu device of Burn's and tells tidegate of it. `Device::wgpu_options()` are the defaults.
///
/// # Errors
///
/// What Burn says where there is no adapter or the device is already open, and what tidegate needs of a device and this one lacks.
pub fn init(options: WgpuOptions) -> Result<Device> {
    let (device, setup) = options.init_with_setup()?;
    register(&device, &setup)?;
    Ok(device)
}

/// Tells tidegate of a device that Burn runs on: `setup` is what `init_with_setup` gave for it, or what your app gave to
/// `WgpuOptions::setup`. A second call for the same device replaces the first.
///
/// Waits once for less than 2 ms of GPU time, in which tidegate finds out how many workgroups run side by side.
///
/// # Errors
///
/// [`Error::NotWgpu`], and what tidegate needs of a device and this one lacks.
pub fn register(device: &Device, setup: &WgpuSetup) -> Result<()> {
    let key = wgpu_device(device)?;
    let ctx = Context::from_device(&setup.adapter, &setup.device, &setup.queue)?;
    if !ctx.is_software() {
        pollster::block_on(ctx.measure_residency())?;
    }
    let engine = Arc::new(Engine { pack: PackPipelines::new(&ctx), ctx, networks: Mutex::default() });
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    engines.retain(|(known, _)| *known != key);
    engines.push((key, engine));
    Ok(())
}

/// Lets go of the buffers that tidegate keeps for shapes it has seen on this device; those of passes under way go when they end.
///
/// # Errors
///
/// [`Error::NotWgpu`] and [`Error::Unregistered`].
pub fn release_buffers(device: &Device) -> Result<()> {
    let engine = engine(device)?;
    engine.networks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    Ok(())
}

/// tidegate on one device.
pub(crate) struct Engine {
    pub ctx: Context,
    pub pack: PackPipelines,
    /// By cell and config.
    networks: Mutex<HashMap<String, Arc<Network>>>,
}

impl Engine {
    /// The network of this cell and config, made on first use.
    pub fn network(&self, kind: &Kind, config: &RnnConfig) -> Result<Arc<Network>> {
        let key = format!("{kind:?} {config:?}");
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = networks.get(&key) {
            return Ok(known.clone());
        }
        let network = Arc::new(Network::new(self, kind, config)?);
        networks.insert(key, network.clone());
        Ok(network)
    }
}

/// What was registered for a device.
pub(crate) fn engine(device: &Device) -> Result<Arc<Engine>> {
    let key = wgpu_device(device)?;
    let engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = engines.iter().find(|(known, _)| *known == key);
    known.map(|(_, engine)| engine.clone()).ok_or_else(|| Error::Unregistered { device: format!("{device:?}") })
}

fn wgpu_device(device: &Device) -> Result<WgpuDevice> {
    let dispatch = match device.as_dispatch() {
        DispatchDevice::Autodiff(inner) => &**inner,
        plain => plain,
    };
    match dispatch {
        DispatchDevice::Cube(CubeDevice::Wgpu(device)) => Ok(device.clone()),
        _ => Err(Error::NotWgpu { device: format!("{device:?}") }),
    }
}
