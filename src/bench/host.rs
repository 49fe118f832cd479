//! The machine around a device.

use serde::Serialize;

/// What a report says of the machine. What is not known is null.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Host {
    /// Operating system, of a page as far as its browser tells.
    pub os: String,
    /// The processor's architecture, or `wasm32`.
    pub arch: String,
    /// Threads that run at once.
    pub cpus: Option<usize>,
    /// The processor's own name, of a page its browser's.
    pub cpu: Option<String>,
    /// Load average of the last minute: who else was at work when it began.
    pub load_average: Option<f64>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Host {
    /// The machine that this runs on. A page fills the fields in from what its browser tells.
    pub fn here() -> Self {
        Self {
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpus: std::thread::available_parallelism().ok().map(usize::from),
            cpu: cpu_name(),
            load_average: load_average(),
        }
    }
}

/// The processor's own name, on Linux.
#[cfg(not(target_arch = "wasm32"))]
fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}

/// On Linux.
#[cfg(not(target_arch = "wasm32"))]
fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
