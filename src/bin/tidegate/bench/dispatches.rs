//! The GPU's time of each dispatch of a row, for people.

use tidegate::bench::{DispatchTime, Entry};

use crate::args::text::{short, wrap};

/// What stands below a row: its dispatches in order, and what they take together beside the run in one pass. Nothing of a row that failed
/// or ran on the reference.
pub fn listed(entry: &Entry) -> String {
    let all = &entry.dispatch_times;
    if entry.dispatches.is_none_or(|dispatches| dispatches == 0) {
        return String::new();
    }
    if all.is_empty() {
        return wrap("  no times of dispatches: this device has no timestamps, or none that tell anything");
    }
    let rows: Vec<_> =
        all.iter().map(|time| [kernel(time), workgroups(time), count(time), short(time.us), range(time)]).collect();
    let header = ["kernel", "workgroups", "times", "µs", "each"].map(String::from);
    let width = |column: usize| rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |[kernel, workgroups, count, us, range]: &[String; 5]| {
        let [a, b, c, d, e] = widths;
        format!("    {kernel:a$}  {workgroups:>b$}  {count:>c$}  {us:>d$}  {range:>e$}").trim_end().to_string() + "\n"
    };
    let mut text = line(&header);
    let mut pass = "";
    for (time, row) in all.iter().zip(&rows) {
        // Of inference there is but one.
        if time.pass != std::mem::replace(&mut pass, time.pass) && all.iter().any(|other| other.pass != time.pass) {
            text += &format!("  {}\n", time.pass);
        }
        text += &line(row);
    }
    let together = all.iter().map(|time| time.us).sum::<f64>();
    let run = entry.gpu_ms_median.map_or_else(String::new, |ms| format!("; all in one pass: {} µs", short(1e3 * ms)));
    let note = "  dispatches by the GPU's clock, each in a pass of its own, at a little cost:";
    wrap(note) + &text + &wrap(&format!("  together {} µs{run}", short(together)))
}

/// Most are recurrences, with long names.
fn kernel(time: &DispatchTime) -> String {
    time.kernel.trim_start_matches("recurrence/").into()
}

fn workgroups(time: &DispatchTime) -> String {
    let Some(groups) = time.workgroups else { return "if needed".into() };
    let used = groups.iter().rposition(|&n| n != 1).unwrap_or(0);
    groups[..=used].iter().map(u32::to_string).collect::<Vec<_>>().join("×")
}

fn count(time: &DispatchTime) -> String {
    if time.times == 1 { String::new() } else { time.times.to_string() }
}

fn range(time: &DispatchTime) -> String {
    if time.times == 1 { String::new() } else { format!("{} to {}", short(time.us_min), short(time.us_max)) }
}

#[cfg(test)]
mod tests {
    use tidegate::bench::{Description, Kind, Workload};
    use tidegate::cell::by_name;
    use tidegate::{Dtype, Mode, RnnConfig, SeqShape, Strategy};

    use super::*;
    use crate::args::text::WIDTH;

    fn entry(dispatch_times: Vec<DispatchTime>) -> Entry {
        let (config, shape) = (RnnConfig::new(3, 5), SeqShape { seq_len: 4, batch_size: 1 });
        let (cell, mode) = (by_name("gru").unwrap(), Mode::Training);
        let workload = Workload { cell, config, shape, mode, kind: Kind::Throughput, dtype: Dtype::F32 };
        let gpu = Description { device_type: "discrete-gpu", ..Description::cpu() };
        let entry = Entry::new(&gpu, &workload, Strategy::Stepwise, None, None);
        Entry { dispatches: Some(5), gpu_ms_median: Some(0.5), dispatch_times, ..entry }
    }

    #[test]
    fn dispatches_are_listed_in_order() {
        let time = |pass, kernel, workgroups, times, us| {
            let each = us / times as f64;
            DispatchTime { pass, kernel, workgroups, times, us, us_min: each, us_max: 2.0 * each }
        };
        let longest = "recurrence/resident_registers_backward";
        let all = vec![
            time("forward", "prologue/pack", Some([12, 1, 1]), 1, 2.0),
            time("forward", "recurrence/stepwise_forward", Some([65_535, 65_535, 1]), 16_384, 123_456.0),
            time("backward", longest, None, 1, 400.0),
            time("backward", "product/tiled", Some([1, 1, 4]), 1, 2.5),
        ];
        let text = listed(&entry(all.clone()));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let at = words.iter().position(|line| line[0] == "kernel").unwrap();
        assert_eq!(
            words[at + 1..],
            [
                &["forward"][..],
                &["prologue/pack", "12", "2.00"],
                &["stepwise_forward", "65535×65535", "16384", "123456", "7.54", "to", "15.1"],
                &["backward"],
                &["resident_registers_backward", "if", "needed", "400"],
                &["product/tiled", "1×1×4", "2.50"],
                &["together", "123860", "µs;", "all", "in", "one", "pass:", "500", "µs"],
            ],
            "{text}"
        );
        let forward = listed(&entry(all[..2].to_vec()));
        assert!(!forward.contains("  forward\n") && forward.contains("123458 µs"), "{forward}");
    }

    /// A device without timestamps says so; what failed, or ran on the reference, has nothing to say.
    #[test]
    fn what_is_not_timed_says_why() {
        assert!(listed(&entry(Vec::new())).starts_with("  no times of dispatches: this device has no timestamps"));
        for dispatches in [None, Some(0)] {
            assert_eq!(listed(&Entry { dispatches, ..entry(Vec::new()) }), "");
        }
    }
}
