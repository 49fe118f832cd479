//! Suite deepbench: the recurrent layers of Baidu's DeepBench beside what is published of them for cuDNN.
//!
//! The figures are those of `results/train/DeepBench_NV_V100.xlsx`, sheet FP32 (github.com/baidu-research/DeepBench): cuDNN 7.6.2
//! on a V100, standard algorithm, one layer, and `CUDNN_SKIP_INPUT`, which leaves the input's product out. Its "vanilla" cell is
//! `CUDNN_RNN_RELU`, its GRU cuDNN's, which resets after the product; forward there always keeps what backward needs.

use super::workload::{Kind, Workload};
use crate::cell::by_name;
use crate::error::Result;
use crate::gpu::dtype::Dtype;
use crate::network::config::RnnConfig;
use crate::network::sequence::{Mode, SeqShape};

/// Cell, H, B, T, and published milliseconds: forward, backward to the inputs, backward to the weights.
type Row = (&'static str, usize, usize, usize, [f64; 3]);

const ROWS: [Row; 53] = [
    ("rnn_relu", 1760, 16, 50, [4.201, 2.881, 0.588]),
    ("rnn_relu", 1760, 32, 50, [4.357, 2.996, 0.939]),
    ("rnn_relu", 1760, 64, 50, [4.675, 3.803, 1.652]),
    ("rnn_relu", 1760, 128, 50, [6.113, 5.162, 3.131]),
    ("rnn_relu", 2048, 16, 50, [4.243, 3.015, 0.746]),
    ("rnn_relu", 2048, 32, 50, [4.582, 3.253, 1.281]),
    ("rnn_relu", 2048, 64, 50, [4.737, 4.171, 2.173]),
    ("rnn_relu", 2048, 128, 50, [7.513, 6.231, 3.959]),
    ("rnn_relu", 2560, 16, 50, [4.500, 3.678, 1.077]),
    ("rnn_relu", 2560, 32, 50, [4.697, 3.892, 1.722]),
    ("rnn_relu", 2560, 64, 50, [6.161, 4.845, 3.497]),
    ("rnn_relu", 2560, 128, 50, [7.773, 7.392, 5.756]),
    ("lstm", 512, 16, 25, [1.095, 0.937, 0.165]),
    ("lstm", 512, 32, 25, [1.144, 1.014, 0.271]),
    ("lstm", 512, 64, 25, [1.341, 1.257, 0.436]),
    ("lstm", 512, 128, 25, [1.559, 1.594, 0.703]),
    ("lstm", 1024, 16, 25, [1.923, 1.657, 0.445]),
    ("lstm", 1024, 32, 25, [1.978, 1.746, 0.698]),
    ("lstm", 1024, 64, 25, [2.205, 2.044, 1.158]),
    ("lstm", 1024, 128, 25, [3.249, 3.017, 2.107]),
    ("lstm", 2048, 16, 25, [3.609, 3.137, 1.254]),
    ("lstm", 2048, 32, 25, [3.684, 3.312, 2.167]),
    ("lstm", 2048, 64, 25, [5.570, 4.871, 4.100]),
    ("lstm", 2048, 128, 25, [9.294, 8.450, 7.847]),
    ("lstm", 4096, 16, 25, [10.009, 9.144, 4.326]),
    ("lstm", 4096, 32, 25, [10.512, 9.550, 7.692]),
    ("lstm", 4096, 64, 25, [16.598, 15.345, 14.648]),
    ("lstm", 4096, 128, 25, [31.169, 29.969, 28.487]),
    ("lstm", 1536, 8, 50, [5.097, 4.571, 0.831]),
    ("lstm", 1536, 16, 50, [5.372, 4.640, 1.327]),
    ("lstm", 1536, 32, 50, [5.574, 4.815, 2.420]),
    ("lstm", 256, 16, 150, [4.542, 5.073, 0.221]),
    ("lstm", 256, 32, 150, [4.899, 5.476, 0.404]),
    ("lstm", 256, 64, 150, [6.700, 5.802, 0.605]),
    ("gru", 2816, 32, 1500, [223.343, 328.879, 154.882]),
    ("gru", 2816, 32, 750, [113.225, 166.013, 77.467]),
    ("gru", 2816, 32, 375, [64.895, 84.031, 39.095]),
    ("gru", 2816, 32, 187, [32.551, 44.094, 19.698]),
    ("gru", 2048, 32, 1500, [144.352, 138.927, 79.534]),
    ("gru", 2048, 32, 750, [73.314, 70.639, 39.929]),
    ("gru", 2048, 32, 375, [37.865, 36.567, 20.244]),
    ("gru", 2048, 32, 187, [22.113, 20.609, 10.229]),
    ("gru", 1536, 32, 1500, [84.804, 103.483, 45.837]),
    ("gru", 1536, 32, 750, [43.677, 52.378, 23.053]),
    ("gru", 1536, 32, 375, [23.164, 27.421, 11.676]),
    ("gru", 1536, 32, 187, [15.684, 15.937, 5.926]),
    ("gru", 2560, 32, 1500, [199.561, 183.448, 134.162]),
    ("gru", 2560, 32, 750, [100.548, 93.522, 66.112]),
    ("gru", 2560, 32, 375, [56.712, 47.649, 32.966]),
    ("gru", 2560, 32, 187, [28.419, 26.209, 16.191]),
    ("gru", 512, 32, 1, [0.088, 0.100, 0.090]),
    ("gru", 1024, 32, 1500, [59.131, 66.913, 19.949]),
    ("gru", 1024, 64, 1500, [80.172, 87.017, 39.994]),
];

/// Each row as the recurrence alone and as a whole layer with I = H, forward and in training. The cheapest rows come first, so that
/// a run that is out of time has left out the fewest.
///
/// There is no call for a recurrence without an input product, so the first runs with one input feature: the product is 1/H of
/// the work then, and is in the time but not in the FLOPs.
pub fn workloads() -> Result<Vec<Workload>> {
    let mut rows = ROWS.into_iter().map(row).collect::<Result<Vec<_>>>()?;
    rows.sort_by(|a, b| a[0].flops().total_cmp(&b[0].flops()));
    Ok(rows.concat())
}

fn row((cell, hidden_size, batch_size, seq_len, [forward, to_inputs, to_weights]): Row) -> Result<[Workload; 4]> {
    let (cell, shape) = (by_name(cell)?, SeqShape { seq_len, batch_size });
    let workload = |input_size, mode, kind| {
        let config = RnnConfig::new(input_size, hidden_size);
        Workload { cell: cell.clone(), config, shape, mode, kind, dtype: Dtype::F32 }
    };
    let alone = |mode, published_ms| workload(1, mode, Kind::Recurrence { published_ms });
    let whole = |mode| workload(hidden_size, mode, Kind::Throughput);
    let training = forward + to_inputs + to_weights;
    let [infer, train] = [Mode::Inference, Mode::Training];
    Ok([alone(infer, forward), alone(train, training), whole(infer), whole(train)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f32 FLOP/s of a V100 SXM2, by its data sheet, in GFLOP/s.
    const V100_GFLOPS: f64 = 15_700.0;

    #[test]
    fn has_every_published_row_once() {
        for (cell, rows) in [("rnn_relu", 12), ("lstm", 22), ("gru", 19)] {
            assert_eq!(ROWS.iter().filter(|row| row.0 == cell).count(), rows, "{cell}");
        }
        let mut sizes = ROWS.map(|(cell, hidden, batch, seq, _)| (cell, hidden, batch, seq));
        sizes.sort_unstable();
        assert!(sizes.windows(2).all(|pair| pair[0] != pair[1]), "{sizes:?}");
    }

    /// A slip of the pen in a figure would most likely break one of these: no pass beats the V100's peak, and no more rows or steps
    /// take less time.
    #[test]
    fn published_times_are_plausible() {
        for (cell, hidden, batch, seq, ms) in ROWS {
            let gates = by_name(cell).unwrap().spec().gates.len();
            let gflop = (2 * gates * hidden * hidden * batch * seq) as f64 * 1e-9;
            assert!(
                ms.iter().all(|ms| gflop / ms * 1e3 < V100_GFLOPS),
                "{cell} {hidden} {batch} {seq}: {gflop} GFLOP, {ms:?} ms"
            );
            let larger = ROWS.iter().filter(|&&(c, h, b, t, _)| c == cell && h == hidden && b >= batch && t >= seq);
            for other in larger {
                assert!(other.4[0] >= ms[0] && other.4[1] >= ms[1] * 0.95, "{other:?} against {ms:?} of {batch} {seq}");
            }
        }
    }

    #[test]
    fn each_row_is_four_workloads() {
        let workloads = workloads().unwrap();
        assert_eq!(workloads.len(), 4 * 53);
        for row in workloads.chunks(4) {
            let [alone, alone_train, whole, whole_train] = row else { panic!("{row:?}") };
            let [hidden, gates] = [alone.config.hidden_size, alone.cell.spec().gates.len()];
            let recurrence = (2 * gates * hidden * hidden * alone.shape.rows()) as f64;
            assert_eq!(row.iter().map(|w| w.flops() / recurrence).collect::<Vec<_>>(), [1.0, 3.0, 2.0, 6.0], "{whole}");
            let input_sizes: Vec<_> = row.iter().map(|w| w.config.input_size).collect();
            assert_eq!(input_sizes, [1, 1, hidden, hidden]);
            assert_eq!([alone, alone_train, whole, whole_train].map(|w| w.includes_input()), [false, false, true, true]);
            let published = [alone, alone_train, whole, whole_train].map(|w| w.published_ms().is_some());
            assert_eq!(published, [true, true, false, false]);
            assert!(row.iter().all(|w| w.cell.name() == whole.cell.name() && w.shape == whole.shape));
        }
        let named = |name: &str| workloads.iter().find(|w| w.to_string() == name).unwrap();
        let small = named("lstm I=1 H=512 T=25 B=16 train, recurrence alone");
        assert_eq!(small.flops(), 3.0 * 838_860_800.0);
        assert!((small.published_ms().unwrap() - 2.197).abs() < 1e-9);
        assert_eq!(named("gru I=1 H=512 T=1 B=32 infer, recurrence alone").published_ms(), Some(0.088));
        let flops: Vec<_> = workloads.iter().step_by(4).map(Workload::flops).collect();
        assert!(flops.is_sorted(), "{flops:?}");
    }
}
