//! How long a run will still take.

use std::time::Duration;

/// What the rows that are done tell of those that are not: they take as long for the same work. Times count from the start of the run.
#[derive(Debug, Default)]
pub struct Estimate {
    /// No row begins after this.
    budget: Option<Duration>,
    /// Time of the rows that are done, and their part of all work.
    done: (Duration, f64),
    /// When the row that runs began, and the parts of all work that are done before and after it.
    row: Option<(Duration, [f64; 2])>,
}

impl Estimate {
    pub fn new(budget: Option<Duration>) -> Self {
        Self { budget, ..Self::default() }
    }

    /// A row begins; what runs between rows, such as measuring a device's peaks, is no row's time.
    pub fn begins(&mut self, now: Duration, parts: [f64; 2]) {
        self.row = Some((now, parts));
    }

    /// The row is done.
    pub fn ends(&mut self, now: Duration) {
        if let Some((began, [before, after])) = self.row.take() {
            self.done.0 += now.saturating_sub(began);
            self.done.1 += after - before;
        }
    }

    /// The time that is left; nothing before a row is done, nor where the last row, or a row after the budget, takes longer than it
    /// should.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        let ((began, [before, after]), (time, part)) = (self.row?, self.done);
        if part <= 0.0 {
            return None;
        }
        let of = |work: f64| time.as_secs_f64() / part * work.max(0.0);
        // A row that takes longer leaves the others theirs.
        let left = (of(1.0 - before) - now.saturating_sub(began).as_secs_f64()).max(of(1.0 - after));
        let left = self.budget.map_or(left, |budget| left.min(budget.saturating_sub(now).as_secs_f64()));
        Duration::try_from_secs_f64(left).ok().filter(|left| left.as_secs() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn left(estimate: &Estimate, now: u64) -> Option<u64> {
        estimate.left(seconds(now)).map(|left| left.as_secs_f64().round() as u64)
    }

    #[test]
    fn rows_that_are_done_tell_of_the_others() {
        let mut estimate = Estimate::new(None);
        assert_eq!(left(&estimate, 50), None);
        // Peaks took 50 seconds, a tenth of the work 10.
        estimate.begins(seconds(50), [0.0, 0.1]);
        assert_eq!(left(&estimate, 55), None);
        estimate.ends(seconds(60));
        estimate.begins(seconds(60), [0.1, 0.6]);
        assert_eq!([60, 70, 100].map(|now| left(&estimate, now)), [Some(90), Some(80), Some(50)]);
        // Longer than its 50 seconds: 40 for the rest stay.
        assert_eq!([110, 1000].map(|now| left(&estimate, now)), [Some(40), Some(40)]);
        estimate.ends(seconds(1000));
        // 950 seconds for 0.6; the last row has no others behind it.
        estimate.begins(seconds(1000), [0.6, 1.0]);
        assert_eq!([1000, 1600, 1700].map(|now| left(&estimate, now)), [Some(633), Some(33), None]);
    }

    #[test]
    fn no_estimate_goes_beyond_the_budget_or_climbs_within_a_row() {
        let mut estimate = Estimate::new(Some(seconds(480)));
        estimate.begins(seconds(30), [0.0, 0.001]);
        estimate.ends(seconds(90));
        estimate.begins(seconds(90), [0.001, 0.5]);
        let all: Vec<u64> = (90..=480).map(|now| left(&estimate, now).unwrap_or(0)).collect();
        assert_eq!((all[0], all[390]), (390, 0));
        assert!(all.windows(2).all(|pair| pair[1] <= pair[0]), "{all:?}");
    }
}
