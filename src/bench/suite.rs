//! The lists of workloads that `bench` knows by name.

use super::deepbench;
use super::recurrence;
use super::scaling;
use super::workload::{Kind, Workload};
use crate::cell::by_name;
use crate::error::Result;
use crate::gpu::dtype::Dtype;
use crate::network::config::RnnConfig;
use crate::network::sequence::{Mode, SeqShape};

/// A list of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Suite {
    /// Small and medium layers; on a software adapter some minutes, more where few cores are free
    Quick,
    /// DeepBench's layers, the recurrence alone and whole, beside what is published for cuDNN on a V100
    Deepbench,
    /// One row: the time of a step in sequences and in a stream
    Latency,
    /// T, B and H doubled, one at a time: how time grows with each
    Scaling,
    /// LSTM and GRU layers beside cuDNN on an H200, f32 and f16, with and without tuning; and T doubled to 16,384
    Recurrence,
    /// Bulk products, 256 to 4096 cubed and ragged: what part of the peak they reach
    Product,
}

impl Suite {
    /// Its workloads, in the order in which they run.
    pub fn workloads(self) -> Result<Vec<Workload>> {
        match self {
            Self::Quick => quick(),
            Self::Deepbench => deepbench::workloads(),
            Self::Latency => latency(),
            Self::Scaling => scaling::workloads(),
            Self::Recurrence => recurrence::workloads(),
            Self::Product => product(),
        }
    }

    /// Whether each workload runs twice on a GPU, without tuning and with it, to show what the default costs.
    pub fn runs_untuned_too(self) -> bool {
        self == Self::Recurrence
    }

    /// Most FLOPs of a run where the device runs on the CPU, so that the suite ends in minutes there too: at a GFLOP/s or less
    /// a run of more takes tens of seconds, its verification a multiple.
    pub fn most_flops_on_cpu(self) -> f64 {
        1e10
    }
}

fn quick() -> Result<Vec<Workload>> {
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
            let (shape, kind) = (SeqShape { seq_len, batch_size }, Kind::Throughput);
            workloads.push(Workload { cell: by_name(cell)?, config: config.clone(), shape, mode, kind, dtype: Dtype::F32 });
        }
    }
    Ok(workloads)
}

fn latency() -> Result<Vec<Workload>> {
    let mut workloads = Vec::new();
    for name in ["lstm", "gru"] {
        let cell = by_name(name)?;
        for size in [32, 64, 128, 256, 512, 1024] {
            for (seq_len, kind) in [(64, Kind::Latency), (256, Kind::Latency), (1024, Kind::Latency), (1, Kind::Stream)] {
                let (config, shape) = (RnnConfig::new(size, size), SeqShape { seq_len, batch_size: 1 });
                workloads.push(Workload { cell: cell.clone(), config, shape, mode: Mode::Inference, kind, dtype: Dtype::F32 });
            }
        }
    }
    Ok(workloads)
}

/// A linear RNN of a single step. In inference that is exactly one product, B x H x I, and the cell on each row; of fewer rows than
/// 1024 GPUs make no product. In training, the three products of I share a run with two of H x H, which the small H keeps small.
fn product() -> Result<Vec<Workload>> {
    let cell = by_name("rnn_linear")?;
    let workload = |mode, [batch_size, input_size, hidden_size]: [usize; 3]| {
        let (config, shape) = (RnnConfig::new(input_size, hidden_size), SeqShape { seq_len: 1, batch_size });
        Workload { cell: cell.clone(), config, shape, mode, kind: Kind::Product, dtype: Dtype::F32 }
    };
    let even = [256, 512, 1024, 2048, 4096].map(|size: usize| [size.max(1024), size, size]);
    let ragged = [[1025, 1023, 1021], [4097, 4095, 4093]];
    let training = [1024, 2048, 4096].map(|size| [size, 2 * size, size / 8]);
    let inference = even.into_iter().chain(ragged).map(|sizes| workload(Mode::Inference, sizes));
    Ok(inference.chain(training.into_iter().chain([[4097, 8191, 511]]).map(|sizes| workload(Mode::Training, sizes))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_has_one_row_in_sequences_and_streams() {
        let workloads = latency().unwrap();
        assert!(workloads.iter().all(|w| w.mode == Mode::Inference && w.shape.batch_size == 1));
        assert!(workloads.iter().all(|w| w.config.input_size == w.config.hidden_size));
        for cell in ["lstm", "gru"] {
            let of_cell = workloads.iter().filter(|w| w.cell.name() == cell);
            let cases: Vec<_> = of_cell.map(|w| (w.config.hidden_size, w.shape.seq_len, w.is_stream())).collect();
            let sizes = (5..=10).map(|power| 1 << power);
            let expected = sizes.flat_map(|h| [(h, 64, false), (h, 256, false), (h, 1024, false), (h, 1, true)]);
            assert_eq!(cases, expected.collect::<Vec<_>>());
        }
        assert_eq!(workloads.len(), 48);
    }

    /// What the CPU is spared; quick runs everywhere in full.
    #[test]
    fn the_cpu_is_spared_the_largest() {
        let left_out = |suite: Suite| -> Vec<String> {
            let most = suite.most_flops_on_cpu();
            suite.workloads().unwrap().iter().filter(|w| w.flops() > most).map(Workload::to_string).collect()
        };
        assert!(left_out(Suite::Quick).is_empty());
        let latency = ["lstm I=1024 H=1024 T=1024 B=1 infer", "gru I=1024 H=1024 T=1024 B=1 infer"];
        assert_eq!(left_out(Suite::Latency), latency);
        let product = ["B=2048 infer", "B=4096 infer", "B=4097 infer", "B=2048 train", "B=4096 train", "B=4097 train"];
        let left_out_of_product = left_out(Suite::Product);
        assert!(left_out_of_product.iter().zip(product).all(|(name, end)| name.ends_with(end)), "{left_out_of_product:?}");
        assert_eq!(left_out_of_product.len(), product.len());
        let deepbench = left_out(Suite::Deepbench);
        assert!(deepbench.len() > 100 && !deepbench.contains(&"lstm I=512 H=512 T=25 B=16 train".into()), "{deepbench:?}");
        let recurrence = left_out(Suite::Recurrence);
        assert!(recurrence.len() < 50 && !recurrence.iter().any(|w| w.contains("T=256 B=1 infer")), "{recurrence:?}");
        let scaling = left_out(Suite::Scaling);
        assert!(scaling.iter().all(|w| w.ends_with("train") || w.contains("H=1024")), "{scaling:?}");
    }
}
