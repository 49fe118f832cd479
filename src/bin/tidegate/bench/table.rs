//! What `bench` found, as a table for people: 80 columns wide, or all that there is. Rows are printed as they are done, so widths follow
//! from what will run, not from what was found.

use std::cell::RefCell;
use std::collections::BTreeSet;

use tidegate::bench::{Description, Entry, Mark, Workload};
use tidegate::{Strategy, Tried};

use super::columns::{COLUMNS, Column, Rows, Shown, network, workload_name};
use crate::args::text::{WIDTH, short, wrap};

/// The lines of one device's table.
pub struct Lines<'a> {
    rows: Rows<'a>,
    columns: Vec<(&'static Column, usize)>,
    /// Width of the first column.
    network: usize,
    /// Marks that rows so far have explained.
    explained: RefCell<Vec<Mark>>,
}

impl<'a> Lines<'a> {
    pub fn new(rows: Rows<'a>) -> Self {
        let longest = |text: fn(&Workload) -> String| rows.workloads.iter().map(|w| text(w).chars().count()).max().unwrap_or(0);
        let width = |column: &Column| {
            let values = match column.header {
                "T" => longest(|w| w.shape.seq_len.to_string()),
                "B" => longest(|w| w.shape.batch_size.to_string()),
                "mode" if rows.any(Workload::is_stream) => 6,
                "mode" if rows.any(|w| w.dtype != tidegate::Dtype::F32) => 9,
                "strategy" if !rows.has_untuned => 10,
                "error" if rows.is_wide => 22,
                _ => column.width,
            };
            values.max(column.header.chars().count())
        };
        let is_shown = |column: &&Column| match (column.shown)(&rows) {
            Shown::Never => false,
            Shown::Wide => rows.is_wide,
            Shown::Always => true,
        };
        let columns: Vec<_> = COLUMNS.iter().filter(is_shown).map(|column| (column, width(column))).collect();
        let others: usize = columns.iter().map(|(_, width)| width + 1).sum();
        let longest = longest(workload_name).max("network".len());
        // A longer name gets a line of its own.
        let network = if rows.is_wide { longest } else { longest.min(WIDTH.saturating_sub(others)) };
        Self { rows, columns, network, explained: RefCell::default() }
    }

    /// What stands above the rows; of the star too, for rows are read before what stands below them.
    pub fn header(&self) -> String {
        let line = self.line("network", |column| Some(column.header.into()));
        let star = if self.rows.has_untuned { "*: without what tuning finds\n" } else { "" };
        format!("{star}{line}{}\n", "─".repeat(line.trim_end().chars().count()))
    }

    /// A row, and below it why it is doubted; what a mark means stands where it is first seen. That others were at work is true of all
    /// rows, and stands below the table.
    pub fn row(&self, entry: &Entry) -> String {
        let mut row = self.line(&network(entry), |column| (column.text)(entry, self.rows.is_wide));
        let marks: Vec<Mark> = entry.marks.iter().copied().filter(|&mark| mark != Mark::Busy).collect();
        if marks.is_empty() {
            return row;
        }
        let names: Vec<&str> = marks.iter().map(|mark| mark.name()).collect();
        row += &format!("  doubted: {}\n", names.join(", "));
        for mark in marks {
            row += &self.explain(mark, "    ");
        }
        row
    }

    /// What a mark means; nothing where that has been said.
    fn explain(&self, mark: Mark, indent: &str) -> String {
        let mut explained = self.explained.borrow_mut();
        if explained.contains(&mark) {
            return String::new();
        }
        explained.push(mark);
        self.wrap(&format!("{indent}{}: {}", mark.name(), mark.sentence()))
    }

    fn line(&self, network: &str, text: impl Fn(&Column) -> Option<String>) -> String {
        let mut line = network.to_string();
        if network.chars().count() > self.network {
            line += &format!("\n{:1$}", "", self.network);
        } else {
            line += &" ".repeat(self.network - network.chars().count());
        }
        for &(column, width) in &self.columns {
            let text = text(column).unwrap_or_else(|| "-".into());
            let is_left = ["mode", "strategy"].contains(&column.header);
            line += &if is_left { format!(" {text:width$}") } else { format!(" {text:>width$}") };
        }
        format!("{}\n", line.trim_end())
    }

    /// What the columns tell, and what those marks of these rows mean that no row has explained.
    pub fn footer(&self, entries: &[Entry]) -> String {
        let published = entries.iter().find_map(|entry| entry.published_by).unwrap_or_default();
        let about = |&(column, _): &(&'static Column, usize)| {
            let Column { header, about, .. } = column;
            let of = if *header == "cuDNN" { format!(" {published}") } else { String::new() };
            (!about.is_empty()).then(|| format!("{header}: {about}{of}"))
        };
        let mut parts: Vec<String> = self.columns.iter().filter_map(about).collect();
        if self.rows.any(|w| !w.includes_input()) {
            parts.push("alone: the recurrence, without the input's product".into());
        }
        if !self.rows.is_wide {
            parts.push("--wide shows more".into());
        }
        let mut text = self.wrap(&parts.join("; "));
        text.extend(entries.iter().flat_map(|entry| &entry.marks).map(|&mark| self.explain(mark, "")));
        let again = entries.iter().filter(|entry| entry.measured_again).count();
        if again > 0 {
            let of = entries.len();
            text += &self.wrap(&format!("{again} of {of} rows were measured again, for their first times were not of one speed"));
        }
        text
    }

    /// Lines as wide as the table may be; further ones of a paragraph are indented.
    pub fn wrap(&self, text: &str) -> String {
        if self.rows.is_wide { format!("{text}\n") } else { wrap(text) }
    }
}

/// A device, as it stands above its table.
pub fn title(description: &Description, is_wide: bool) -> String {
    let Description { device, backend, driver, api_version, device_type } = description;
    let backend = [Some(backend), api_version.as_ref()].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
    let title = format!("{device} ({device_type}, {backend}, {driver})");
    let note = "a software adapter: it runs on the CPU and tells nothing of a GPU\n";
    let note = if *device_type == "software" { note } else { "" };
    if is_wide { format!("{title}\n{note}") } else { wrap(&title) + note }
}

/// How many rows were right, of so many that ran; empty of the reference, which is what they are checked against.
pub fn verified(entries: &[Entry]) -> String {
    if entries.iter().all(|entry| entry.description.device_type == "cpu-reference") {
        return String::new();
    }
    let count = entries.iter().filter(|entry| entry.verified).count();
    let is_part = |e: &&Entry| e.verified && (e.verified_seq_len, e.verified_batch_size) != (Some(e.seq_len), Some(e.batch_size));
    let parts = entries.iter().filter(is_part).count();
    let of_fewer = if parts > 0 { format!(", {parts} of them at fewer steps or sequences") } else { String::new() };
    format!("{count} of {} verified against the float64 reference{of_fewer}", entries.len())
}

/// What tuning tried for a row.
pub fn tried(entry: &Entry) -> String {
    let line = |tried: &Tried| {
        let layout = if tried.layout.is_empty() { String::new() } else { format!(" ({})", tried.layout) };
        let workgroups =
            if tried.strategy == Strategy::Persistent { format!(" of {}{layout}", tried.workgroups) } else { String::new() };
        let time = tried.ms.map_or_else(|| tried.error.clone().unwrap_or_default(), |ms| format!("{} ms", short(ms)));
        wrap(&format!("    {}{workgroups}: {time}", tried.strategy.name()))
    };
    if entry.tried.is_empty() {
        return String::new();
    }
    let lines: String = entry.tried.iter().map(line).collect();
    format!("  tried:\n{lines}")
}

/// Names some of what did not run, and says how many there are. What a list `above` named, of another device, is not named again.
pub fn left_out(why: &str, workloads: &[&Workload], of: usize, above: &mut BTreeSet<String>) -> String {
    const NAMED: usize = 10;
    if workloads.is_empty() {
        return String::new();
    }
    let line = |workload: &&Workload| format!("  {workload}, {} GFLOP a run\n", short(workload.flops() * 1e-9));
    let count = workloads.len();
    let all: Vec<String> = workloads.iter().map(line).collect();
    let (old, mut new): (Vec<String>, Vec<String>) = all.into_iter().partition(|line| above.contains(line));
    above.extend(new.iter().cloned());
    new.dedup();
    let others = new.len().saturating_sub(NAMED);
    new.truncate(NAMED);
    let others = if others > 0 { format!("  and {others} others\n") } else { String::new() };
    let listed = if old.is_empty() { String::new() } else { format!(", {} of them listed above", old.len()) };
    format!("left out, {why}: {count} of {of}{listed}\n{}{others}", new.concat())
}

#[cfg(test)]
mod tests {
    use tidegate::bench::{Kind, Suite};
    use tidegate::cell::by_name;
    use tidegate::{Dtype, Mode, RnnConfig, SeqShape};

    use super::*;

    fn workload(kind: Kind) -> Workload {
        let (config, shape) = (RnnConfig::new(3, 5), SeqShape { seq_len: 4, batch_size: 1 });
        Workload { cell: by_name("gru").unwrap(), config, shape, mode: Mode::Inference, kind, dtype: Dtype::F32 }
    }

    /// Numbers as wide as they get.
    fn entry(workload: &Workload, description: &Description) -> Entry {
        let entry = Entry::new(description, workload, Strategy::Persistent, None, None);
        let steps = matches!(workload.kind, Kind::Latency | Kind::Stream);
        Entry {
            dispatches: Some(32_770),
            ms_median: Some(workload.shape.seq_len as f64 * 1.2345),
            ms_median_spread: Some(0.123),
            gflops: Some(47_123.0),
            roofline_fraction: Some(1.234),
            max_rel_err: Some(7.3e-7),
            verified: true,
            verified_seq_len: Some(1),
            verified_batch_size: Some(1),
            us_per_step_p99: steps.then_some(12_345.6),
            us_per_step_host_p50: steps.then_some(0.000_123),
            runs: 12,
            ..entry
        }
    }

    /// Every suite, on a GPU and on the reference.
    #[test]
    fn tables_fit_a_terminal() {
        let suites = [Suite::Quick, Suite::Deepbench, Suite::Latency, Suite::Scaling, Suite::Recurrence, Suite::Product];
        for suite in suites {
            let workloads = suite.workloads().unwrap();
            let workloads: Vec<&Workload> = workloads.iter().collect();
            let gpu = Description { device_type: "discrete-gpu", ..Description::cpu() };
            for (description, is_wide) in [(&gpu, false), (&Description::cpu(), false), (&gpu, true)] {
                let rows =
                    Rows { workloads: &workloads, description, has_peaks: true, has_untuned: suite.runs_untuned_too(), is_wide };
                let lines = Lines::new(rows);
                let entries: Vec<Entry> = workloads.iter().map(|w| entry(w, description)).collect();
                let rows: String = entries.iter().map(|entry| lines.row(entry)).collect();
                let text = title(description, is_wide) + &lines.header() + &rows + &lines.footer(&entries);
                let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert_eq!(longest > WIDTH, is_wide, "{suite:?}: {text}");
                // A row a line: nothing was too long for its column.
                assert_eq!(rows.lines().count(), workloads.len(), "{rows}");
                let ends: Vec<usize> = rows.lines().map(|line| line.chars().count()).collect();
                assert!(is_wide || ends.iter().all(|end| *end == ends[0]), "{rows}");
            }
        }
    }

    #[test]
    fn a_row_says_what_failed_and_what_is_doubted() {
        let (workload, gpu) = (workload(Kind::Throughput), Description { device_type: "other", ..Description::cpu() });
        let workloads = [&workload];
        let rows = Rows { workloads: &workloads, description: &gpu, has_peaks: false, has_untuned: true, is_wide: false };
        let lines = Lines::new(rows);
        let failed = Entry::new(&gpu, &workload, Strategy::Stepwise, None, None);
        assert!(lines.row(&failed).ends_with(" FAILED\n") && lines.row(&failed).starts_with("gru 3→5"), "{}", lines.row(&failed));
        let doubted = Entry { marks: vec![Mark::Spread, Mark::Busy], untuned: true, ..entry(&workload, &gpu) };
        let row = lines.row(&doubted);
        assert!(
            row.contains(" persistent* ") && row.contains("\n  doubted: noisy\n    noisy: the median's 95 % interval"),
            "{row}"
        );
        let again = lines.row(&doubted);
        assert!(again.ends_with("\n  doubted: noisy\n"), "{again}");
        let both = [doubted, failed];
        assert_eq!(verified(&[Entry::new(&Description::cpu(), &workload, Strategy::Auto, None, None)]), "");
        assert!(lines.header().starts_with("*: without what tuning finds\n"), "{}", lines.header());
        let footer = lines.footer(&both);
        for text in ["busy: the machine's", "±: half its 95 % interval"] {
            assert!(footer.split_whitespace().collect::<Vec<_>>().join(" ").contains(text), "{text} in {footer}");
        }
        assert!(!footer.contains("noisy"), "{footer}");
        assert_eq!(verified(&both), "1 of 2 verified against the float64 reference, 1 of them at fewer steps or sequences");
    }

    /// A name that leaves no room for the rest.
    #[test]
    fn long_names_have_a_line_of_their_own() {
        let mut workload = workload(Kind::Throughput);
        workload.cell = by_name("gru_reset_before").unwrap();
        workload.config = RnnConfig::new(65_536, 131_072).with_num_layers(1000).with_bidirectional(true);
        let (workloads, description) = ([&workload], Description { device_type: "other", ..Description::cpu() });
        let rows = Rows { workloads: &workloads, description: &description, has_peaks: true, has_untuned: false, is_wide: false };
        let row = Lines::new(rows).row(&entry(&workload, &description));
        assert!(row.lines().count() == 2 && row.lines().all(|line| line.chars().count() <= WIDTH), "{row}");
    }
}
