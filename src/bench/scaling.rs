//! Suite scaling: how time grows with T, B and H, each of them doubled several times while the others stay.

use serde::Serialize;

use super::description::Description;
use super::recurrence;
use super::workload::{Kind, Workload};
use crate::cell::by_name;
use crate::error::Result;
use crate::gpu::dtype::Dtype;
use crate::network::config::RnnConfig;
use crate::network::sequence::{Mode, SeqShape};

/// T, B, H of the case that all axes start from; I = H throughout.
const BASE: [usize; 3] = [256, 8, 128];

/// What doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Axis {
    T,
    B,
    H,
}

impl Axis {
    const ALL: [Self; 3] = [Self::T, Self::B, Self::H];

    fn doublings(self) -> usize {
        match self {
            Self::T => 4,
            Self::B | Self::H => 3,
        }
    }

    /// T, B, H after a number of doublings.
    fn sizes(self, doublings: usize) -> [usize; 3] {
        let mut sizes = BASE;
        sizes[self as usize] <<= doublings;
        sizes
    }
}

pub fn workloads() -> Result<Vec<Workload>> {
    let cell = by_name("lstm")?;
    let doubled = Axis::ALL.into_iter().flat_map(|axis| (1..=axis.doublings()).map(move |k| axis.sizes(k)));
    let cases: Vec<_> = [BASE].into_iter().chain(doubled).collect();
    let workload = |mode, [seq_len, batch_size, size]: [usize; 3]| {
        let (config, shape) = (RnnConfig::new(size, size), SeqShape { seq_len, batch_size });
        Workload { cell: cell.clone(), config, shape, mode, kind: Kind::Throughput, dtype: Dtype::F32 }
    };
    let modes = [Mode::Inference, Mode::Training];
    Ok(modes.into_iter().flat_map(|mode| cases.iter().map(move |&sizes| (mode, sizes))).map(|(m, s)| workload(m, s)).collect())
}

/// Milliseconds along one axis on one device.
#[derive(Debug, Serialize)]
pub struct Series {
    #[serde(flatten)]
    description: Description,
    cell: String,
    mode: &'static str,
    axis: Axis,
    /// Size along the axis, median milliseconds.
    points: Vec<(usize, f64)>,
    /// The exponent p of ms ~ sizeᵖ, by least squares over the logarithms.
    slope: f64,
    /// Growth from point to point; where one between them is missing, its root: per doubling throughout.
    ratios: Vec<f64>,
    /// Those that ran, in the order of the points.
    strategies: Vec<&'static str>,
}

impl Series {
    /// For suite recurrence: its one shape with T doubled.
    pub fn along_t(description: &Description, ran: &[(&Workload, f64, &'static str)]) -> Option<Self> {
        let mut along: Vec<_> = ran.iter().filter(|(w, ..)| recurrence::grows(w)).collect();
        along.sort_by_key(|(w, ..)| w.shape.seq_len);
        let points: Vec<_> = along.iter().map(|(w, ms, _)| (w.shape.seq_len, *ms)).collect();
        let mut strategies: Vec<_> = along.iter().map(|&&(.., strategy)| strategy).collect();
        strategies.dedup();
        let workload = along.first().filter(|_| points.len() >= 2)?.0;
        Some(Self { strategies, ..Self::new(description, workload, Axis::T, points) })
    }

    /// The axes of suite scaling, from the workloads that ran, each with its median and strategy. An axis needs two of them.
    pub fn along_axes(description: &Description, ran: &[(&Workload, f64, &'static str)]) -> Vec<Self> {
        let mut all = Vec::new();
        for mode in [Mode::Inference, Mode::Training] {
            for axis in Axis::ALL {
                let sizes = |w: &Workload| [w.shape.seq_len, w.shape.batch_size, w.config.hidden_size];
                let along = (0..=axis.doublings()).filter_map(|k| {
                    let wanted = axis.sizes(k);
                    let &(_, ms, strategy) = ran.iter().find(|(w, ..)| w.mode == mode && sizes(w) == wanted)?;
                    Some((wanted[axis as usize], ms, strategy))
                });
                let along: Vec<_> = along.collect();
                if along.len() >= 2 {
                    let points = along.iter().map(|&(size, ms, _)| (size, ms)).collect();
                    let mut strategies: Vec<_> = along.iter().map(|&(.., strategy)| strategy).collect();
                    strategies.dedup();
                    let workload = ran.iter().find(|(w, ..)| w.mode == mode).map(|&(w, ..)| w);
                    all.extend(workload.map(|w| Self { strategies, ..Self::new(description, w, axis, points) }));
                }
            }
        }
        all
    }

    fn new(description: &Description, workload: &Workload, axis: Axis, points: Vec<(usize, f64)>) -> Self {
        Self {
            description: description.clone(),
            cell: workload.cell.name().into(),
            mode: workload.mode_name(),
            axis,
            slope: slope(&points),
            ratios: points.windows(2).map(|pair| slope(pair).exp2()).collect(),
            points,
            strategies: Vec::new(),
        }
    }

    /// For people.
    pub fn line(&self) -> String {
        let Self { cell, mode, axis, points, slope, .. } = self;
        let [first, last] = [points[0].0, points[points.len() - 1].0];
        let ratios: Vec<String> = self.ratios.iter().map(|ratio| format!("×{ratio:.2}")).collect();
        let (ratios, strategies) = (ratios.join(" "), self.strategies.join(", "));
        format!("{cell} {mode}, {axis:?} = {first} to {last}: ms ~ {axis:?}^{slope:.2}, a doubling {ratios} ({strategies})")
    }
}

/// Least squares of ln y over ln x.
fn slope(points: &[(usize, f64)]) -> f64 {
    let logs = points.iter().map(|&(x, y)| ((x as f64).ln(), y.ln()));
    let n = points.len() as f64;
    let [mean_x, mean_y] = logs.clone().fold([0.0; 2], |[x, y], (dx, dy)| [x + dx / n, y + dy / n]);
    let [covariance, variance] = logs.fold([0.0; 2], |[c, v], (x, y)| {
        let (x, y) = (x - mean_x, y - mean_y);
        [c + x * y, v + x * x]
    });
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_starts_at_the_base_and_doubles() {
        let workloads = workloads().unwrap();
        for mode in [Mode::Inference, Mode::Training] {
            let of_mode = workloads.iter().filter(|w| w.mode == mode);
            let mut cases: Vec<_> = of_mode.map(|w| (w.shape.seq_len, w.shape.batch_size, w.config.hidden_size)).collect();
            assert_eq!(cases.len(), 11);
            cases.sort_unstable();
            let t = [256, 512, 1024, 2048, 4096].map(|t| (t, 8, 128));
            let b = [16, 32, 64].map(|b| (256, b, 128));
            let h = [256, 512, 1024].map(|h| (256, 8, h));
            let mut expected = [&t[..], &b, &h].concat();
            expected.sort_unstable();
            assert_eq!(cases, expected);
        }
        assert!(
            workloads
                .iter()
                .all(|w| w.cell.name() == "lstm" && w.config == RnnConfig::new(w.config.hidden_size, w.config.hidden_size))
        );
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn slope_is_the_exponent() {
        assert!(close(slope(&[(1, 3.0), (2, 12.0), (8, 192.0)]), 2.0));
        assert!(close(slope(&[(256, 5.0), (512, 5.0)]), 0.0));
        // In units of a doubling: x = -1, 0, 1 and y = 0, 2, 1 about their means; (1 - 0) / 2.
        assert!(close(slope(&[(1, 1.0), (2, 4.0), (4, 2.0)]), 0.5));
    }

    /// ms = T·B^½·(H/128)², by which slopes are 1, ½ and 2; one workload of the T axis failed.
    #[test]
    fn reports_every_axis() {
        let workloads = workloads().unwrap();
        let ran = |w: &Workload| !(w.mode == Mode::Inference && w.shape.seq_len == 512);
        let ms = |w: &Workload| {
            w.shape.seq_len as f64 * (w.shape.batch_size as f64).sqrt() * (w.config.hidden_size as f64 / 128.0).powi(2)
        };
        let strategy = |w: &Workload| if w.config.hidden_size > 256 { "stepwise" } else { "resident" };
        let ran: Vec<_> = workloads.iter().filter(|w| ran(w)).map(|w| (w, ms(w), strategy(w))).collect();
        let all = Series::along_axes(&Description::cpu(), &ran);
        let found: Vec<_> = all.iter().map(|s| (s.mode, s.axis, s.points.len())).collect();
        let [t, b, h] = Axis::ALL;
        assert_eq!(found, [("infer", t, 4), ("infer", b, 4), ("infer", h, 4), ("train", t, 5), ("train", b, 4), ("train", h, 4)]);
        for series in &all {
            let slope = [1.0, 0.5, 2.0][series.axis as usize];
            assert!(close(series.slope, slope), "{series:?}");
            assert_eq!(series.ratios.len(), series.points.len() - 1);
            // The gap in the T axis too counts as doublings.
            assert!(series.ratios.iter().all(|&ratio| close(ratio, slope.exp2())), "{series:?}");
        }
        assert_eq!(all[0].points, [256, 1024, 2048, 4096].map(|t| (t, t as f64 * 8.0f64.sqrt())));
        assert_eq!(all[2].strategies, ["resident", "stepwise"]);
        assert_eq!(all[2].line(), "lstm infer, H = 128 to 1024: ms ~ H^2.00, a doubling ×4.00 ×4.00 ×4.00 (resident, stepwise)");
        let json = serde_json::to_value(&all[0]).unwrap();
        assert_eq!(
            (&json["axis"], &json["device_type"], &json["points"][0][0]),
            (&"T".into(), &"cpu-reference".into(), &256.into())
        );
    }

    #[test]
    fn one_point_is_no_axis() {
        let workloads = workloads().unwrap();
        assert!(Series::along_axes(&Description::cpu(), &[(&workloads[0], 1.0, "resident")]).is_empty());
        assert!(Series::along_axes(&Description::cpu(), &[]).is_empty());
    }
}
