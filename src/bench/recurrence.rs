//! Suite recurrence: whole layers of LSTM and GRU, beside cuDNN where that was measured on the same card and in the same visit as
//! tidegate's first run on hardware; and how time grows with T.

use super::workload::{Kind, Workload};
use crate::cell::by_name;
use crate::error::Result;
use crate::gpu::dtype::Dtype;
use crate::network::config::RnnConfig;
use crate::network::sequence::{Mode, SeqShape};

const SEQ_LEN: usize = 256;
/// The longest sequence of the growth with T.
const LONGEST: usize = 16_384;

/// Cell, H, B, mode, and microseconds a step of cuDNN 9.19 (PyTorch 2.11) on an H200: f32 without TF32, f32 with it, and f16. I = H,
/// T = 256, with the input's product, by wall time; 2026-11-26.
const PUBLISHED: [(&str, usize, usize, Mode, [f64; 3]); 12] = [
    ("lstm", 64, 1, Mode::Inference, [0.82, 0.87, 0.83]),
    ("lstm", 128, 1, Mode::Inference, [2.18, 2.18, 2.21]),
    ("lstm", 256, 1, Mode::Inference, [11.5, 11.6, 14.4]),
    ("lstm", 1024, 1, Mode::Inference, [11.2, 11.6, 13.4]),
    ("lstm", 512, 16, Mode::Inference, [14.7, 22.0, 1.96]),
    ("lstm", 1024, 16, Mode::Inference, [29.0, 15.9, 2.53]),
    ("lstm", 512, 64, Mode::Inference, [22.0, 22.7, 7.02]),
    ("gru", 512, 16, Mode::Inference, [10.5, 15.7, 13.1]),
    ("lstm", 512, 16, Mode::Training, [37.2, 39.1, 6.63]),
    ("lstm", 1024, 1, Mode::Training, [32.5, 30.9, 45.3]),
    ("lstm", 768, 16, Mode::Training, [51.7, 47.7, 7.75]),
    ("lstm", 1024, 64, Mode::Training, [132.0, 53.4, 23.0]),
];

/// Rows with published figures first, f32 before f16, so that a run that is out of time has left out the others; then the rest of the
/// grid, cheapest first; then one shape with T doubled.
pub fn workloads() -> Result<Vec<Workload>> {
    let mut all = Vec::new();
    for dtype in [Dtype::F32, Dtype::F16] {
        for (cell, hidden, batch, mode, us) in PUBLISHED {
            let [f32, tf32, f16] = us.map(|us| Some(us * SEQ_LEN as f64 * 1e-3));
            let published = if dtype == Dtype::F16 { [f16, None] } else { [f32, tf32] };
            all.push(workload(cell, hidden, SEQ_LEN, batch, mode, dtype, published)?);
        }
    }
    let published = all.iter().map(Workload::to_string).collect::<Vec<_>>();
    let mut others = Vec::new();
    for cell in ["lstm", "gru"] {
        for hidden in [64, 128, 256, 512, 1024] {
            for batch in [1, 16, 64] {
                for mode in [Mode::Inference, Mode::Training] {
                    for dtype in [Dtype::F32, Dtype::F16] {
                        others.push(workload(cell, hidden, SEQ_LEN, batch, mode, dtype, [None; 2])?);
                    }
                }
            }
        }
    }
    others.retain(|workload| !published.contains(&workload.to_string()));
    others.sort_by(|a, b| a.flops().total_cmp(&b.flops()));
    all.extend(others);
    let doublings =
        std::iter::successors(Some(2 * SEQ_LEN), |seq_len| Some(2 * seq_len)).take_while(|&seq_len| seq_len <= LONGEST);
    for seq_len in doublings {
        all.push(workload("lstm", 256, seq_len, 1, Mode::Inference, Dtype::F32, [None; 2])?);
    }
    Ok(all)
}

/// Whether it is of the one shape that has T doubled.
pub fn grows(workload: &Workload) -> bool {
    let Workload { cell, config, shape, mode, dtype, .. } = workload;
    (cell.name(), config.hidden_size, shape.batch_size, *mode, *dtype) == ("lstm", 256, 1, Mode::Inference, Dtype::F32)
}

fn workload(
    cell: &str,
    hidden_size: usize,
    seq_len: usize,
    batch_size: usize,
    mode: Mode,
    dtype: Dtype,
    [published_ms, tf32_ms]: [Option<f64>; 2],
) -> Result<Workload> {
    let (config, shape) = (RnnConfig::new(hidden_size, hidden_size), SeqShape { seq_len, batch_size });
    Ok(Workload { cell: by_name(cell)?, config, shape, mode, kind: Kind::Layer { published_ms, tf32_ms }, dtype })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_every_case_once() {
        let workloads = workloads().unwrap();
        let mut names: Vec<_> = workloads.iter().map(Workload::to_string).collect();
        assert_eq!(names[0], "lstm I=64 H=64 T=256 B=1 infer");
        assert_eq!(names[names.len() - 1], "lstm I=256 H=256 T=16384 B=1 infer");
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        // 2 cells, 5 sizes, 3 batches, 2 modes and 2 types; H = 768 in both types; six doublings.
        assert_eq!(names.len(), 2 * 5 * 3 * 2 * 2 + 2 + 6);
    }

    #[test]
    fn one_shape_grows() {
        let lengths: Vec<_> = workloads().unwrap().iter().filter(|w| grows(w)).map(|w| w.shape.seq_len).collect();
        assert_eq!(lengths, [256, 512, 1024, 2048, 4096, 8192, 16_384]);
    }

    #[test]
    fn published_figures_are_of_whole_layers() {
        let workloads = workloads().unwrap();
        assert_eq!(workloads.iter().filter(|w| w.published_ms().is_some()).count(), 2 * PUBLISHED.len());
        assert!(workloads.iter().all(Workload::includes_input));
        let named = |name: &str| workloads.iter().find(|w| w.to_string() == name).unwrap();
        let ms = named("lstm I=1024 H=1024 T=256 B=64 train").published_ms().unwrap();
        assert!((ms - 33.792).abs() < 1e-9);
        assert_eq!(
            named("gru I=512 H=512 T=256 B=16 infer f16").published_ms().map(|ms| (ms / 0.256 * 10.0).round()),
            Some(131.0)
        );
        let tf32 = |name| named(name).published_tf32_ms().map(|ms| (ms / 0.256 * 10.0).round());
        assert_eq!(tf32("lstm I=512 H=512 T=256 B=16 infer"), Some(220.0));
        assert_eq!(tf32("lstm I=512 H=512 T=256 B=16 infer f16"), None);
        assert_eq!(workloads.iter().filter(|w| w.published_tf32_ms().is_some()).count(), PUBLISHED.len());
        // No card makes more than its tensor cores do: 990 TFLOP/s in f16, 67 in f32.
        for workload in workloads {
            let Some(ms) = workload.published_ms() else { continue };
            let peak = if workload.dtype == Dtype::F16 { 990e12 } else { 67e12 };
            assert!(workload.flops() / (ms * 1e-3) < peak, "{workload}");
        }
    }
}
