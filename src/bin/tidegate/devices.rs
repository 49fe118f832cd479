//! `tidegate devices`.

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde::Serialize;
use tidegate::bench::Description;
use wgpu::{Adapter, Features};

use crate::args::device;
use crate::{Result, print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Listing {
    schema: u32,
    tidegate_version: &'static str,
    devices: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    /// What `--device` takes.
    id: String,
    #[serde(flatten)]
    description: Description,
    /// Whether it runs on the CPU.
    software: bool,
    /// Whether it is what runs if none is named.
    default: bool,
    features: Option<FeatureList>,
    limits: Option<LimitList>,
}

#[derive(Debug, Serialize)]
struct FeatureList {
    immediates: bool,
    timestamps: bool,
    f16: bool,
    subgroups: bool,
}

#[derive(Debug, Serialize)]
struct LimitList {
    max_buffer_size: u64,
    max_storage_buffer_binding_size: u64,
    max_storage_buffers_per_shader_stage: u32,
    max_compute_workgroup_storage_size: u32,
    max_compute_invocations_per_workgroup: u32,
    max_compute_workgroups_per_dimension: u32,
    subgroup_min_size: u32,
    subgroup_max_size: u32,
}

impl Listed {
    fn cpu(default: bool) -> Self {
        Self { id: "cpu".into(), description: Description::cpu(), software: true, default, features: None, limits: None }
    }

    fn adapter(number: usize, adapter: &Adapter, default: bool) -> Self {
        let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
        Self {
            id: number.to_string(),
            description: Description::adapter(&info),
            software: info.device_type == wgpu::DeviceType::Cpu,
            default,
            features: Some(FeatureList {
                immediates: features.contains(Features::IMMEDIATES),
                timestamps: features.contains(Features::TIMESTAMP_QUERY),
                f16: features.contains(Features::SHADER_F16),
                subgroups: features.contains(Features::SUBGROUP),
            }),
            limits: Some(LimitList {
                max_buffer_size: limits.max_buffer_size,
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
                max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
                max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
                max_compute_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
                subgroup_min_size: info.subgroup_min_size,
                subgroup_max_size: info.subgroup_max_size,
            }),
        }
    }

    fn features(&self) -> String {
        let Some(features) = &self.features else { return "float64".into() };
        let named = [
            (features.immediates, "immediates"),
            (features.timestamps, "timestamps"),
            (features.f16, "f16"),
            (features.subgroups, "subgroups"),
        ];
        named.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect::<Vec<_>>().join("\n")
    }

    fn limits(&self) -> String {
        let Some(limits) = &self.limits else { return String::new() };
        format!(
            "buffer {}\nbinding {}\nworkgroup memory {}\nworkgroup {} invocations\nsubgroup {} to {}",
            bytes(limits.max_buffer_size),
            bytes(limits.max_storage_buffer_binding_size),
            bytes(limits.max_compute_workgroup_storage_size.into()),
            limits.max_compute_invocations_per_workgroup,
            limits.subgroup_min_size,
            limits.subgroup_max_size,
        )
    }
}

/// A size in the largest unit that it fills.
fn bytes(size: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(unit, _)| size >= *unit);
    unit.map_or_else(
        || format!("{size} B"),
        |&(unit, name)| format!("{:.4} {name}", size as f64 / unit as f64).replace(".0000", ""),
    )
}

pub fn run(args: &Args) -> Result<()> {
    let adapters = device::adapters();
    let preferred = device::preferred();
    let mut devices: Vec<Listed> = Vec::new();
    for (number, adapter) in adapters.iter().enumerate() {
        let default = preferred.as_ref() == Some(&adapter.get_info()) && !devices.iter().any(|device| device.default);
        devices.push(Listed::adapter(number, adapter, default));
    }
    devices.push(Listed::cpu(adapters.is_empty()));
    if args.json {
        let listing = Listing { schema: 1, tidegate_version: env!("CARGO_PKG_VERSION"), devices };
        return print(&format!("{}\n", serde_json::to_string_pretty(&listing)?));
    }
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(["--device", "name", "type", "backend", "driver", "features", "limits"]);
    for device in &devices {
        let id = if device.default { format!("{} (default)", device.id) } else { device.id.clone() };
        let Description { device: name, backend, driver, device_type } = device.description.clone();
        table.add_row([id, name, device_type.into(), backend, driver, device.features(), device.limits()]);
    }
    print(&format!("{table}\n"))?;
    if adapters.is_empty() { print(&format!("{}\n", device::GET_ADAPTER)) } else { Ok(()) }
}
