//! What rows of different files have in common: one network at one shape in one mode.

use std::fmt;

use serde::Serialize;
use tidegate::bench::{Kind, Workload};
use tidegate::cell::by_name;
use tidegate::{Dtype, Mode, RnnConfig, SeqShape};

use super::fields::Fields;
use crate::Result;

/// How a network is stored is no part of it: the reference has f64 where a GPU has f32.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Case {
    pub cell: String,
    pub mode: String,
    pub stream: bool,
    #[serde(rename = "I")]
    pub input_size: u64,
    #[serde(rename = "H")]
    pub hidden_size: u64,
    #[serde(rename = "L")]
    pub num_layers: u64,
    #[serde(rename = "D")]
    pub num_directions: u64,
    #[serde(rename = "T")]
    pub seq_len: u64,
    #[serde(rename = "B")]
    pub batch_size: u64,
}

/// Beyond this a size is a mistake, and products of sizes may overflow.
const LARGEST: u64 = 1 << 24;

impl Case {
    pub fn read(entry: Fields<'_>) -> Result<Self> {
        let size = |name| entry.required(name, entry.whole(name)?);
        Ok(Self {
            cell: entry.required("cell", entry.text("cell")?)?.into(),
            mode: entry.required("mode", entry.text("mode")?)?.into(),
            stream: entry.flag("stream")?.unwrap_or(false),
            input_size: size("I")?,
            hidden_size: size("H")?,
            num_layers: entry.whole("L")?.unwrap_or(1),
            num_directions: entry.whole("D")?.unwrap_or(1),
            seq_len: size("T")?,
            batch_size: size("B")?,
        })
    }

    pub fn flops(&self) -> Option<f64> {
        Some(self.workload("f32")?.flops())
    }

    pub fn bytes(&self, dtype: &str) -> Option<f64> {
        Some(self.workload(dtype)?.bytes())
    }

    /// Only for a cell that has a name here, and sizes that make sense.
    fn workload(&self, dtype: &str) -> Option<Workload> {
        let sizes = [self.input_size, self.hidden_size, self.num_layers, self.seq_len, self.batch_size];
        if sizes.iter().any(|size| !(1..=LARGEST).contains(size)) {
            return None;
        }
        let [input_size, hidden_size, num_layers, seq_len, batch_size] = sizes.map(|size| size as usize);
        let config = RnnConfig::new(input_size, hidden_size).with_num_layers(num_layers);
        Some(Workload {
            cell: by_name(&self.cell).ok()?,
            config: config.with_bidirectional(self.num_directions == 2),
            shape: SeqShape { seq_len, batch_size },
            mode: if self.mode == "train" { Mode::Training } else { Mode::Inference },
            kind: Kind::Throughput,
            dtype: if dtype == "f16" { Dtype::F16 } else { Dtype::F32 },
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cell, input_size, hidden_size, num_layers, num_directions, seq_len, batch_size, .. } = self;
        write!(f, "{cell} I={input_size} H={hidden_size}")?;
        if *num_layers != 1 {
            write!(f, " L={num_layers}")?;
        }
        if *num_directions != 1 {
            write!(f, " D={num_directions}")?;
        }
        let mode = if self.stream { "stream" } else { &self.mode };
        write!(f, " T={seq_len} B={batch_size} {mode}")
    }
}
