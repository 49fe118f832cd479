//! `tidegate devices`.

use serde::Serialize;
use tidegate::bench::Description;
use wgpu::{Adapter, Features};

use crate::args::device;
use crate::args::text::wrap;
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
            description: Description { api_version: device::api_version(adapter), ..Description::adapter(&info) },
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

    /// What `--device` takes and the name, and below it what there is to know.
    fn text(&self) -> String {
        let Description { device: name, backend, driver, api_version, device_type } = &self.description;
        let default = if self.default { " (default)" } else { "" };
        let api_version = api_version.as_deref().map_or_else(String::new, |version| format!(" {version}"));
        let lines = [
            format!("{}{default}: {name}", self.id),
            format!("  {device_type}, {backend}{api_version}, {driver}"),
            format!("  {}", self.features()),
            format!("  {}", self.limits()),
        ];
        lines.iter().filter(|line| !line.trim().is_empty()).map(|line| wrap(line)).collect()
    }

    fn features(&self) -> String {
        let Some(features) = &self.features else { return "float64".into() };
        let named = [
            (features.immediates, "immediates"),
            (features.timestamps, "timestamps"),
            (features.f16, "f16"),
            (features.subgroups, "subgroups"),
        ];
        named.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    }

    fn limits(&self) -> String {
        let Some(limits) = &self.limits else { return String::new() };
        format!(
            "buffers of {}, bindings of {}, workgroups of {} threads and {}, subgroups of {} to {}",
            bytes(limits.max_buffer_size),
            bytes(limits.max_storage_buffer_binding_size),
            limits.max_compute_invocations_per_workgroup,
            bytes(limits.max_compute_workgroup_storage_size.into()),
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
    print(&devices.iter().map(Listed::text).collect::<String>())?;
    if adapters.is_empty() { print(&format!("{}\n", device::GET_ADAPTER)) } else { Ok(()) }
}
