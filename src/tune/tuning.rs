//! What [`Rnn::tune`](crate::Rnn::tune) found out about a device, to be kept and used again.

use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::side_by_side::waits_in_vain;
use crate::network::sequence::Mode;
use crate::product::Tiles;
use crate::schedule::Candidate;
use crate::schedule::Strategy;
use crate::schedule::choose::Tuned;

/// Which strategy is fastest on one device, and on GPUs which tiles of products, by cell and shape. serde stores it.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Tuning {
    device: String,
    choices: Vec<Choice>,
    failures: u32,
    /// Workgroups that were seen to run side by side; 0 where that is not known.
    #[serde(default)]
    side_by_side: u32,
}

/// What shapes share a choice: all but T and I, with B rounded up to a power of two.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Class {
    pub cell: String,
    pub hidden_size: usize,
    pub num_directions: usize,
    pub batch_size: usize,
    pub training: bool,
    /// f32 in what was stored before there was another.
    #[serde(default)]
    pub dtype: Dtype,
    /// Whether products of f16 may go by cooperative matrices.
    #[serde(default)]
    pub cooperative: bool,
}

impl Class {
    pub fn new(cell: &str, hidden_size: usize, num_directions: usize, batch_size: usize, mode: Mode) -> Self {
        let batch_size = batch_size.checked_next_power_of_two().unwrap_or(batch_size);
        let (cell, training, dtype) = (cell.into(), mode == Mode::Training, Dtype::F32);
        Self { cell, hidden_size, num_directions, batch_size, training, dtype, cooperative: false }
    }

    pub fn with_dtype(self, dtype: Dtype) -> Self {
        Self { dtype, ..self }
    }

    pub fn with_cooperative(self, cooperative: bool) -> Self {
        Self { cooperative, ..self }
    }
}

/// The fastest strategy of a class.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Choice {
    pub class: Class,
    pub strategy: Strategy,
    /// Those that ran side by side, if it is persistent, and the numbers of its layout that are not the formula's.
    pub workgroups: u32,
    #[serde(default)]
    pub layout: String,
    /// The fastest other than persistent.
    pub fallback: Strategy,
    /// The fastest of its products, where they were tried.
    #[serde(default)]
    pub tiles: Tiles,
    /// All that was tried.
    #[serde(default)]
    pub tried: Vec<Tried>,
}

/// A strategy that [`Rnn::tune`](crate::Rnn::tune) tried: how long a run took, or why it is no choice.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tried {
    /// Never `Auto`.
    pub strategy: Strategy,
    /// For strategy persistent.
    pub workgroups: u32,
    /// What of its layout is not the formula's; empty if nothing is.
    #[serde(default)]
    pub layout: String,
    /// Median milliseconds of a run, at the shape that was tuned for.
    pub ms: Option<f64>,
    /// Why there are none.
    pub error: Option<String>,
}

impl Tried {
    /// From the seconds of a run, or why there are none.
    pub(crate) fn new(candidate: Candidate, time: std::result::Result<f64, String>) -> Self {
        let Candidate { strategy, workgroups, layout } = candidate;
        // In whole nanoseconds, which JSON keeps as they are.
        let (ms, error) = time.map_or_else(|error| (None, Some(error)), |seconds| (Some((seconds * 1e9).round() / 1e6), None));
        Self { strategy, workgroups, layout: layout.to_string(), ms, error }
    }
}

impl Tuning {
    pub(crate) fn new(ctx: &Context, choice: Choice) -> Self {
        let side_by_side = ctx.measured_side_by_side().unwrap_or(0);
        Self { device: Self::device_of(ctx), choices: vec![choice], failures: 0, side_by_side }
    }

    /// The device that it is about: see [`device_of`](Tuning::device_of). Empty while nothing is known.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What tells devices apart here: name, backend, driver, and the version of this crate, whose kernels were timed.
    pub fn device_of(ctx: &Context) -> String {
        let info = ctx.adapter_info();
        let version = env!("CARGO_PKG_VERSION");
        format!("{} ({}, {} {}), tidegate {version}", info.name, info.backend, info.driver, info.driver_info)
    }

    /// How many classes of shapes it knows.
    pub fn len(&self) -> usize {
        self.choices.len()
    }

    /// Whether it knows nothing.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// Takes over another tuning's choices, which replace this one's of the same shapes. Both must be of one device, or this
    /// one empty.
    pub fn merge(&mut self, other: Tuning) -> Result<()> {
        if other.choices.is_empty() {
            return Ok(());
        }
        if self.choices.is_empty() {
            self.device.clone_from(&other.device);
        }
        if self.device != other.device {
            return Err(Error::OtherDevice { expected: self.device.clone(), actual: other.device });
        }
        for choice in other.choices {
            self.choices.retain(|known| known.class != choice.class);
            self.choices.push(choice);
        }
        self.failures = self.failures.max(other.failures);
        if other.side_by_side > 0 {
            self.side_by_side = other.side_by_side;
        }
        Ok(())
    }

    /// Takes note of what a `status` buffer held; clear the buffer then, or the same repairs count again. After two calls that
    /// tell of repairs strategy persistent is not chosen any more, but for repairs of gradients that outgrew f16: no fault of the device.
    pub fn record(&mut self, status: [u32; 4]) {
        self.failures = self.failures.saturating_add(u32::from(waits_in_vain(status) > 0));
        if (1..self.side_by_side).contains(&status[2]) {
            self.side_by_side = status[2];
        }
    }

    /// Workgroups that were seen to run side by side.
    pub(crate) fn side_by_side(&self) -> Option<u32> {
        (self.side_by_side > 0).then_some(self.side_by_side)
    }

    /// Refuses a device other than the one that was measured.
    pub(crate) fn check(&self, ctx: &Context) -> Result<()> {
        let expected = Self::device_of(ctx);
        if self.choices.is_empty() || self.device == expected {
            return Ok(());
        }
        Err(Error::OtherDevice { expected, actual: self.device.clone() })
    }

    /// What was found for a class.
    pub(crate) fn tuned(&self, class: &Class) -> Option<Tuned> {
        let Choice { strategy, workgroups, ref layout, fallback, tiles, .. } = *self.choice(class)?;
        // What this version does not know leaves the formula's layout.
        let layout = layout.parse().unwrap_or_default();
        Some(Tuned { strategy, workgroups, layout, fallback, tiles })
    }

    /// How many calls told of repairs, see [`record`](Self::record).
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn choice(&self, class: &Class) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.class == *class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::Tile;

    fn candidate(strategy: Strategy) -> Candidate {
        Candidate { strategy, workgroups: 1, layout: Default::default() }
    }

    fn tuning(device: &str, batch_size: usize, strategy: Strategy) -> Tuning {
        let class = Class::new("lstm", 128, 1, batch_size, Mode::Inference);
        let tiles = Tiles { nt: Some(Tile::Of128x64), ..Tiles::default() };
        let time = |ms: f64| Ok(ms * 1e-3);
        let tried = vec![
            Tried::new(candidate(Strategy::Stepwise), time(0.1234567)),
            Tried::new(candidate(Strategy::Resident), Err("no room".into())),
        ];
        let layout = "units=8 exchange=vectors".into();
        let choice = Choice { class, strategy, workgroups: 7, layout, fallback: Strategy::Stepwise, tiles, tried };
        Tuning { device: device.into(), choices: vec![choice], failures: 0, side_by_side: 96 }
    }

    #[test]
    fn gradients_that_outgrow_f16_are_no_failure_of_the_device() {
        let mut kept = tuning("a", 1, Strategy::Persistent);
        kept.record([9, 2, 0, 2]);
        assert_eq!(kept.failures(), 0);
        kept.record([9, 3, 0, 2]);
        assert_eq!(kept.failures(), 1);
    }

    #[test]
    fn what_ran_side_by_side_is_kept_and_only_falls() {
        let mut kept = tuning("a", 1, Strategy::Persistent);
        kept.record([3, 1, 0, 0]);
        kept.record([3, 1, 200, 0]);
        assert_eq!(kept.side_by_side(), Some(96));
        kept.record([3, 1, 64, 0]);
        let text = serde_json::to_string(&kept).unwrap();
        let mut all = Tuning::default();
        all.merge(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(all.side_by_side(), Some(64));
        // As it was stored before.
        let before: Tuning = serde_json::from_str(&text.replace(",\"side_by_side\":64", "")).unwrap();
        assert_eq!(before.side_by_side(), None);
    }

    #[test]
    fn classes_round_the_batch_up_and_tell_the_rest_apart() {
        let tuning = tuning("a", 12, Strategy::Resident);
        let class = |cell, hidden, directions, batch, mode| Class::new(cell, hidden, directions, batch, mode);
        let tuned = tuning.tuned(&class("lstm", 128, 1, 16, Mode::Inference)).unwrap();
        assert_eq!((tuned.strategy, tuned.workgroups, tuned.tiles.nt), (Strategy::Resident, 7, Some(Tile::Of128x64)));
        assert_eq!(tuned.layout.to_string(), "exchange=vectors units=8");
        for other in [
            class("gru", 128, 1, 16, Mode::Inference),
            class("lstm", 127, 1, 16, Mode::Inference),
            class("lstm", 128, 2, 16, Mode::Inference),
            class("lstm", 128, 1, 17, Mode::Inference),
            class("lstm", 128, 1, 16, Mode::Training),
            class("lstm", 128, 1, 16, Mode::Inference).with_dtype(Dtype::F16),
            class("lstm", 128, 1, 16, Mode::Inference).with_cooperative(true),
        ] {
            assert_eq!(tuning.tuned(&other), None);
        }
    }

    /// What follows from that: see `choose`.
    #[test]
    fn calls_with_repairs_are_counted() {
        let mut tuning = tuning("a", 1, Strategy::Persistent);
        for (status, failures) in [([5, 1, 0, 0], 1), ([9, 0, 0, 0], 1), ([9, 3, 0, 0], 2)] {
            tuning.record(status);
            assert_eq!(tuning.failures(), failures);
        }
    }

    /// A file from before there were tiles, and from before all that was tried was kept.
    #[test]
    fn a_tuning_without_tiles_is_read() {
        let tuning = tuning("a", 1, Strategy::Persistent);
        let mut stored = serde_json::to_value(&tuning).unwrap();
        assert_eq!(stored["choices"][0]["tiles"]["nt"], "128x64");
        assert_eq!(serde_json::from_value::<Tuning>(stored.clone()).unwrap(), tuning);
        assert_eq!(serde_json::from_str::<Tuning>(&serde_json::to_string(&tuning).unwrap()).unwrap(), tuning);
        assert_eq!(
            (&stored["choices"][0]["tried"][0]["ms"], &stored["choices"][0]["tried"][1]["error"]),
            (&0.123457.into(), &"no room".into())
        );
        for field in ["tiles", "tried", "layout"] {
            stored["choices"][0].as_object_mut().unwrap().remove(field);
        }
        for field in ["dtype", "cooperative"] {
            stored["choices"][0]["class"].as_object_mut().unwrap().remove(field);
        }
        let read: Tuning = serde_json::from_value(stored).unwrap();
        assert_eq!(
            read.choices[0],
            Choice { tiles: Tiles::default(), tried: Vec::new(), layout: String::new(), ..tuning.choices[0].clone() }
        );
    }

    #[test]
    fn merging_replaces_and_refuses_other_devices() {
        let mut all = Tuning::default();
        all.merge(tuning("a", 1, Strategy::Persistent)).unwrap();
        all.merge(tuning("a", 2, Strategy::Persistent)).unwrap();
        all.merge(tuning("a", 1, Strategy::Resident)).unwrap();
        assert_eq!((all.len(), all.device()), (2, "a"));
        let class = Class::new("lstm", 128, 1, 1, Mode::Inference);
        assert_eq!(all.tuned(&class).unwrap().strategy, Strategy::Resident);
        let error = all.merge(tuning("b", 1, Strategy::Resident)).unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("`b`"), "{error}");
    }
}
