//! One number a class of work, to compare devices by.

use serde::Serialize;

/// The reference machine.
pub const REFERENCE: &str = "NVIDIA H200, Vulkan, tuned, 2026-11-26";

/// Cases in f32, and microseconds a step on the reference machine: medians of suite quick, whole runs by wall time
/// (`benches/results/2026-11-26-h200-quick.json`).
const CASES: [(&str, f64); 16] = [
    ("lstm I=64 H=64 T=32 B=1 infer", 2.766),
    ("lstm I=64 H=64 T=32 B=1 train", 6.511),
    ("lstm I=128 H=128 T=64 B=8 infer", 2.47),
    ("lstm I=128 H=128 T=64 B=8 train", 7.722),
    ("lstm I=256 H=256 T=64 B=16 infer", 3.187),
    ("lstm I=256 H=256 T=64 B=16 train", 9.114),
    ("gru I=64 H=64 T=32 B=1 infer", 2.576),
    ("gru I=64 H=64 T=32 B=1 train", 6.202),
    ("gru I=128 H=128 T=64 B=8 infer", 2.367),
    ("gru I=128 H=128 T=64 B=8 train", 5.937),
    ("gru I=256 H=256 T=64 B=16 infer", 3.396),
    ("gru I=256 H=256 T=64 B=16 train", 8.193),
    ("rnn_tanh I=256 H=256 T=64 B=16 infer", 2.951),
    ("rnn_tanh I=256 H=256 T=64 B=16 train", 6.947),
    ("lstm I=128 H=128 L=2 T=64 B=8 infer", 4.414),
    ("lstm I=128 H=128 L=2 T=64 B=8 train", 12.238),
];

/// How fast a device is beside the reference machine, by classes of work: geometric means over the cases of suite quick that it ran,
/// in f32, of the reference machine's microseconds a step over its own. 1 is as fast, 2 twice as fast; null where none of the class
/// ran. A class is only as good as the cases in it: the same number of them makes two scores comparable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Score {
    /// Inference of one sequence.
    pub streaming: Option<f64>,
    /// Inference of several sequences.
    pub batch_inference: Option<f64>,
    /// Forward and backward.
    pub training: Option<f64>,
    /// Cases in each, in this order.
    pub cases: [usize; 3],
}

impl Score {
    /// Scores cases, named as `tidegate bench --list` has them, each with its microseconds a step.
    pub fn new<S: AsRef<str>>(measured: impl IntoIterator<Item = (S, f64)>) -> Self {
        let (mut logs, mut cases) = ([0.0; 3], [0; 3]);
        for (name, us) in measured {
            let name = name.as_ref();
            let Some((_, reference)) = CASES.iter().find(|(case, _)| *case == name) else { continue };
            let class = class(name);
            logs[class] += (reference / us).ln();
            cases[class] += 1;
        }
        let mean = |class: usize| (cases[class] > 0).then(|| (logs[class] / cases[class] as f64).exp());
        Self { streaming: mean(0), batch_inference: mean(1), training: mean(2), cases }
    }

    /// For people; empty where nothing was measured that the reference machine ran.
    pub fn line(&self) -> String {
        let classes = [("streaming", self.streaming), ("batch inference", self.batch_inference), ("training", self.training)];
        let parts = classes.iter().zip(self.cases).filter_map(|((name, score), cases)| {
            let score = (*score)?;
            let digits = if score < 0.1 { 4 } else { 2 };
            Some(format!("{name} {score:.digits$} ({cases} {})", if cases == 1 { "case" } else { "cases" }))
        });
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() { String::new() } else { format!("score: {}; 1 is the {REFERENCE}\n", parts.join(", ")) }
    }
}

fn class(name: &str) -> usize {
    match (name.ends_with("train"), name.contains(" B=1 ")) {
        (true, _) => 2,
        (false, true) => 0,
        (false, false) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite::Suite;
    use super::*;

    /// The reference machine ran all of suite quick, and scores 1 by itself.
    #[test]
    fn the_reference_is_one() {
        let quick: Vec<String> = Suite::Quick.workloads().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(CASES.map(|(name, _)| name.to_string()).to_vec(), quick);
        let score = Score::new(CASES);
        for value in [score.streaming, score.batch_inference, score.training] {
            assert!((value.unwrap() - 1.0).abs() < 1e-12);
        }
        assert_eq!(score.cases, [2, 6, 8]);
    }

    #[test]
    fn a_score_is_the_mean_of_ratios() {
        let [(first, a), (_, b)] = [CASES[0], CASES[6]];
        assert!(first.ends_with("infer") && CASES[6].0.contains(" B=1 infer"));
        // Once four times as fast, once as fast: twice.
        let score = Score::new([(CASES[0].0, a / 4.0), (CASES[6].0, b), ("lstm I=1 H=1 T=1 B=1 infer", 1.0)]);
        assert!((score.streaming.unwrap() - 2.0).abs() < 1e-12 && score.cases == [2, 0, 0]);
        assert_eq!((score.batch_inference, score.training), (None, None));
        assert_eq!(score.line(), format!("score: streaming 2.00 (2 cases); 1 is the {REFERENCE}\n"));
        assert_eq!(Score::new([("something else", 1.0)]).line(), "");
    }
}
