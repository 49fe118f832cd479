//! A column of a comparison: one program on one device.

use super::read::{Host, Peaks, Place};

/// One program on one device of one file.
#[derive(Debug, Clone)]
pub struct Column {
    pub label: String,
    pub file: String,
    pub program: String,
    pub place: Place,
    pub host: Host,
    pub peaks: Option<Peaks>,
}

impl Column {
    /// Whether it is a CPU, used as such.
    pub fn is_cpu(&self) -> bool {
        ["cpu", "cpu-reference"].contains(&&*self.place.device_type)
    }

    pub fn is_software(&self) -> bool {
        self.place.device_type == "software"
    }
}
