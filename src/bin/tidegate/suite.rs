//! What `bench` times: networks at shapes, and how many FLOPs each costs.

use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;
use tidegate::cell::by_name;
use tidegate::{Cell, Error, Mode, RnnConfig, SeqShape};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Small and medium layers, two minutes on a software adapter
    Quick,
}

impl Suite {
    pub fn workloads(self) -> Result<Vec<Workload>, Error> {
        match self {
            Self::Quick => quick(),
        }
    }
}

/// One network at one shape, forward or forward and backward.
#[derive(Debug, Clone)]
pub struct Workload {
    pub cell: Arc<dyn Cell>,
    pub config: RnnConfig,
    pub shape: SeqShape,
    pub mode: Mode,
}

impl Workload {
    /// FLOPs of the products of a forward pass for each row of T·B, the input product included.
    pub fn forward_flops_per_row(&self) -> f64 {
        let config = &self.config;
        let [gates, hidden, directions] =
            [self.cell.gates().len(), config.hidden_size, config.num_directions()].map(|n| n as f64);
        let inputs = |layer| hidden + config.layer_input_size(layer) as f64;
        (0..config.num_layers).map(|layer| 2.0 * gates * hidden * inputs(layer) * directions).sum()
    }

    /// FLOPs of one run; backward costs twice what forward does.
    pub fn flops(&self) -> f64 {
        let passes = if self.mode == Mode::Training { 3.0 } else { 1.0 };
        passes * self.forward_flops_per_row() * self.shape.seq_len as f64 * self.shape.batch_size as f64
    }

    pub fn mode_name(&self) -> &'static str {
        if self.mode == Mode::Training { "train" } else { "infer" }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RnnConfig { input_size, hidden_size, num_layers, bidirectional, .. } = &self.config;
        write!(f, "{} I={input_size} H={hidden_size}", self.cell.name())?;
        if *num_layers > 1 {
            write!(f, " L={num_layers}")?;
        }
        if *bidirectional {
            write!(f, " D=2")?;
        }
        write!(f, " T={} B={} {}", self.shape.seq_len, self.shape.batch_size, self.mode_name())
    }
}

fn quick() -> Result<Vec<Workload>, Error> {
    // (I = H, L, T, B)
    let cases = [
        ("lstm", 64, 1, 32, 1),
        ("lstm", 128, 1, 64, 8),
        ("lstm", 256, 1, 64, 16),
        ("gru", 64, 1, 32, 1),
        ("gru", 128, 1, 64, 8),
        ("gru", 256, 1, 64, 16),
        ("rnn_tanh", 256, 1, 64, 16),
        ("lstm", 128, 2, 64, 8),
    ];
    let mut workloads = Vec::new();
    for (cell, size, num_layers, seq_len, batch_size) in cases {
        let config = RnnConfig::new(size, size).with_num_layers(num_layers);
        for mode in [Mode::Inference, Mode::Training] {
            let shape = SeqShape { seq_len, batch_size };
            workloads.push(Workload { cell: by_name(cell)?, config: config.clone(), shape, mode });
        }
    }
    Ok(workloads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_flops_by_the_rule() {
        let config = RnnConfig::new(3, 5).with_num_layers(2).with_bidirectional(true);
        let shape = SeqShape { seq_len: 7, batch_size: 11 };
        let workload = Workload { cell: by_name("gru").unwrap(), config, shape, mode: Mode::Training };
        let layers = 2 * (2 * 3 * 5 * (5 + 3)) + 2 * (2 * 3 * 5 * (5 + 10));
        assert_eq!(workload.flops(), f64::from(3 * layers * 7 * 11));
    }
}
