//! Which devices there are, and which of them is meant.

use tidegate::bench::Description;
use tidegate::{Context, Error};
use wgpu::{Adapter, AdapterInfo, Features};

use crate::{Result, complain};

/// How to get a device where there is none.
pub const GET_ADAPTER: &str = "no GPU adapter found, so the CPU reference runs; for a software adapter, run `./tests/run` in \
                               tidegate's repository or `apt-get install mesa-vulkan-drivers` (Mesa lavapipe)";

/// Something that runs networks.
#[derive(Debug)]
pub enum Device {
    /// The float64 reference.
    Cpu,
    Gpu(Context),
}

impl Device {
    /// Says so if this is a software adapter, which nobody may have meant.
    pub fn note_software(&self) {
        if let Self::Gpu(ctx) = self
            && ctx.is_software()
        {
            complain(&format!("ran on {}, a software adapter: on the CPU", ctx.adapter_info().name));
        }
    }
}

/// Every adapter, in the order of its `--device` number.
pub fn adapters() -> Vec<Adapter> {
    pollster::block_on(Context::instance().enumerate_adapters(wgpu::Backends::PRIMARY))
}

/// The version of the API that an adapter has: of Vulkan, which alone tells.
pub fn api_version(adapter: &Adapter) -> Option<String> {
    #[cfg(not(target_vendor = "apple"))]
    {
        #[expect(unsafe_code, reason = "wgpu does not tell it otherwise")]
        // SAFETY: nothing is destroyed, nothing but a property is read.
        let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let version = vulkan.physical_device_capabilities().properties().api_version;
        Some(format!("{}.{}.{}", version >> 22 & 0x7f, version >> 12 & 0x3ff, version & 0xfff))
    }
    #[cfg(target_vendor = "apple")]
    {
        let _ = adapter;
        None
    }
}

/// The same of the first adapter that says all that `info` does.
pub fn api_version_of(info: &AdapterInfo) -> Option<String> {
    api_version(adapters().iter().find(|adapter| adapter.get_info() == *info)?)
}

/// The adapter that runs if none is named.
pub fn preferred() -> Option<AdapterInfo> {
    let options = wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    pollster::block_on(Context::instance().request_adapter(&options)).ok().map(|adapter| adapter.get_info())
}

/// With cooperative matrices on a device that may use them, if the adapter has them.
pub fn open(adapter: &Adapter, cooperative: bool) -> Result<Device, Error> {
    let opened = if cooperative { open_experimental(adapter) } else { pollster::block_on(Context::from_adapter(adapter)) };
    Ok(Device::Gpu(measured(opened?)?))
}

/// Strategy persistent counts on as many workgroups as run side by side.
fn measured(ctx: Context) -> Result<Context, Error> {
    if !ctx.is_software() {
        pollster::block_on(ctx.measure_residency())?;
    }
    Ok(ctx)
}

fn open_experimental(adapter: &Adapter) -> Result<Context, Error> {
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("tidegate"),
        required_features: Context::wanted_features(adapter) | (adapter.features() & Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
        required_limits: Context::wanted_limits(adapter),
        #[expect(unsafe_code, reason = "the token says that we know of wgpu's experimental features that they may have bugs")]
        // SAFETY: whoever asks for --cooperative asks for this.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    Context::from_device(adapter, &device, &queue)
}

/// The device of that number or name, or the preferred one.
pub fn select(wanted: Option<&str>, cooperative: bool) -> Result<Device> {
    match wanted {
        Some("cpu") => Ok(Device::Cpu),
        Some(wanted) => {
            let adapters = adapters();
            let names: Vec<_> = adapters.iter().map(|adapter| Description::adapter(&adapter.get_info())).collect();
            Ok(open(&adapters[find(&names, wanted)?], cooperative)?)
        }
        None => match pollster::block_on(Context::request()) {
            Ok(ctx) => Ok(Device::Gpu(measured(ctx)?)),
            Err(Error::NoAdapter(_)) => {
                complain(GET_ADAPTER);
                Ok(Device::Cpu)
            }
            Err(error) => Err(error.into()),
        },
    }
}

/// The index that a number, or a part of a name in any case, stands for.
fn find(devices: &[Description], wanted: &str) -> Result<usize> {
    let listed = |indices: &[usize]| {
        let names = indices.iter().map(|&i| format!("{i}: {} ({})", devices[i].device, devices[i].backend));
        names.chain(["cpu".to_string()]).collect::<Vec<_>>().join(", ")
    };
    let all: Vec<usize> = (0..devices.len()).collect();
    if let Ok(number) = wanted.parse::<usize>() {
        return if number < devices.len() {
            Ok(number)
        } else {
            Err(format!("no device {number}; there are {}", listed(&all)).into())
        };
    }
    let part = wanted.to_lowercase();
    let matching: Vec<usize> = all.iter().copied().filter(|&i| devices[i].device.to_lowercase().contains(&part)).collect();
    match matching[..] {
        [index] => Ok(index),
        [] => Err(format!("no device `{wanted}`; there are {}", listed(&all)).into()),
        _ => Err(format!("device `{wanted}` is ambiguous; matching are {}", listed(&matching)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_number_or_part_of_a_name() {
        let gpu = |name: &str| Description { device: name.into(), ..Description::cpu() };
        let devices = [gpu("NVIDIA H200"), gpu("llvmpipe (LLVM 15)"), gpu("llvmpipe (LLVM 19)")];
        assert_eq!(find(&devices, "2").unwrap(), 2);
        assert_eq!(find(&devices, "nvidia").unwrap(), 0);
        assert_eq!(find(&devices, "LLVM 19").unwrap(), 2);
        for (wanted, named) in
            [("3", "no device 3"), ("llvmpipe", "1: llvmpipe (LLVM 15)"), ("amd", "no device `amd`"), ("", "ambiguous")]
        {
            let error = find(&devices, wanted).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
