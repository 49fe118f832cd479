//! What the system tells of a GPU's clock. Nothing here is needed, and nothing fails.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use wgpu::AdapterInfo;

const NVIDIA: u32 = 0x10de;
const QUERY: [&str; 2] = ["--query-gpu=clocks.sm,clocks.max.sm,power.draw", "--format=csv,noheader,nounits"];

/// Megahertz now, at most, and watts. Of a machine with several GPUs, those of the first of the vendor.
pub fn now(info: &AdapterInfo) -> [Option<f64>; 3] {
    if info.device_type == wgpu::DeviceType::Cpu {
        return [None; 3];
    }
    if info.vendor == NVIDIA {
        let output = Command::new("nvidia-smi").args(QUERY).stdin(Stdio::null()).stderr(Stdio::null()).output();
        return output.map_or([None; 3], |output| of_nvidia(&String::from_utf8_lossy(&output.stdout)));
    }
    let Ok(cards) = fs::read_dir("/sys/class/drm") else { return [None; 3] };
    let found = cards.flatten().map(|card| of_card(&card.path(), info.vendor)).find(|found| found[0].is_some());
    found.unwrap_or([None; 3])
}

/// `1980, 1980, 312.41`; what a driver does not know it calls `[N/A]`.
fn of_nvidia(text: &str) -> [Option<f64>; 3] {
    let mut numbers = text.lines().next().unwrap_or_default().split(',').map(|number| number.trim().parse().ok());
    [(); 3].map(|()| numbers.next().flatten())
}

/// A card's folder in sysfs, if it is of that vendor.
fn of_card(card: &Path, vendor: u32) -> [Option<f64>; 3] {
    let read = |name: &str| fs::read_to_string(card.join(name)).ok();
    if read("device/vendor").and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()) != Some(vendor) {
        return [None; 3];
    }
    if let Some(levels) = read("device/pp_dpm_sclk") {
        return of_amd(&levels);
    }
    let number = |name: &str| read(name)?.trim().parse().ok();
    [number("gt_cur_freq_mhz"), number("gt_max_freq_mhz"), None]
}

/// `1: 2304Mhz *` a level; the star is at the one that it runs at.
fn of_amd(levels: &str) -> [Option<f64>; 3] {
    let level = |line: &str| -> Option<f64> { line.split_whitespace().nth(1)?.to_lowercase().strip_suffix("mhz")?.parse().ok() };
    let now = levels.lines().find(|line| line.trim_end().ends_with('*')).and_then(level);
    let most = levels.lines().filter_map(level).fold(None, |most: Option<f64>, mhz| Some(most.map_or(mhz, |most| most.max(mhz))));
    [now, most, None]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_tools_print() {
        assert_eq!(of_nvidia("1980, 1980, 312.41\n345, 1980, 70.1\n"), [Some(1980.0), Some(1980.0), Some(312.41)]);
        assert_eq!(of_nvidia("345, [N/A], 70\n"), [Some(345.0), None, Some(70.0)]);
        assert_eq!(of_nvidia(""), [None; 3]);
        assert_eq!(of_amd("0: 500Mhz\n1: 1200Mhz *\n2: 2304Mhz\n"), [Some(1200.0), Some(2304.0), None]);
        assert_eq!(of_amd(""), [None; 3]);
    }
}
