//! What `bench` found, as a table for people: 80 columns wide, or all that there is. Rows are printed as they are done, so widths follow
//! from what will run, not from what was found.

use tidegate::bench::{Description, Entry, Kind, Workload};
use tidegate::{Strategy, Tried};

/// Columns of a terminal that the table fits, unless it is asked to be wide.
pub const WIDTH: usize = 80;

/// What is known of a device's rows before any ran.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub workloads: &'a [&'a Workload],
    pub description: &'a Description,
    pub has_peaks: bool,
    /// Whether some run without what tuning finds beside others with it.
    pub has_untuned: bool,
    pub is_wide: bool,
}

impl Rows<'_> {
    fn any(&self, is: impl Fn(&Workload) -> bool) -> bool {
        self.workloads.iter().any(|workload| is(workload))
    }

    fn is_gpu(&self) -> bool {
        self.description.device_type != "cpu-reference"
    }

    fn has_steps(&self) -> bool {
        self.any(|w| matches!(w.kind, Kind::Latency | Kind::Stream))
    }

    fn is_product(&self) -> bool {
        self.any(|w| w.kind == Kind::Product)
    }

    fn has_published(&self) -> bool {
        self.any(|w| w.published_ms().is_some())
    }
}

/// When a column stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    Never,
    /// In a wide table.
    Wide,
    Always,
}

struct Column {
    header: &'static str,
    /// What it tells, for the footer; what needs no explanation has none.
    about: &'static str,
    /// Of its widest value, the header aside.
    width: usize,
    shown: fn(&Rows) -> Shown,
    text: fn(&Entry, bool) -> Option<String>,
}

fn always_if(is: bool) -> Shown {
    if is { Shown::Always } else { Shown::Never }
}

fn wide_if(is: bool) -> Shown {
    if is { Shown::Wide } else { Shown::Never }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// Beside these stand the network, which is the first, and the strategy.
const COLUMNS: [Column; 23] = [
    Column {
        header: "T",
        about: "steps",
        width: 1,
        shown: |r| if r.is_product() { Shown::Wide } else { Shown::Always },
        text: |e, _| Some(e.seq_len.to_string()),
    },
    Column { header: "B", about: "sequences", width: 1, shown: |_| Shown::Always, text: |e, _| Some(e.batch_size.to_string()) },
    Column { header: "mode", about: "", width: 5, shown: |_| Shown::Always, text: |e, _| Some(mode(e)) },
    Column {
        header: "strategy",
        about: "",
        width: 11,
        shown: |r| if r.is_product() { Shown::Wide } else { always_if(r.is_gpu()) },
        text: |e, _| Some(format!("{}{}", e.strategy, if e.untuned { "*" } else { "" })),
    },
    Column {
        header: "dispatches",
        about: "of a run",
        width: 6,
        shown: |r| wide_if(r.is_gpu()),
        text: |e, _| e.dispatches.map(|n| n.to_string()),
    },
    Column {
        header: "repaired",
        about: "dispatches of persistent that failed and were repaired",
        width: 3,
        shown: |r| wide_if(r.is_gpu()),
        text: |e, _| e.repairs.filter(|&repairs| repairs > 0).map(|repairs| repairs.to_string()),
    },
    Column {
        header: "first ms",
        about: "the first run, with what pipelines it needed",
        width: 7,
        shown: |_| Shown::Wide,
        text: |e, _| e.first_ms.map(short),
    },
    Column {
        header: "ms",
        about: "the median run: recorded, submitted, waited for",
        width: 7,
        shown: |r| if r.has_steps() { Shown::Wide } else { Shown::Always },
        text: |e, _| e.ms_median.map(short),
    },
    Column {
        header: "±",
        about: "half its 95 % interval",
        width: 6,
        shown: |r| if r.has_steps() { Shown::Wide } else { Shown::Always },
        text: |e, _| e.ms_median_spread.map(percent),
    },
    Column { header: "min ms", about: "the least", width: 7, shown: |_| Shown::Wide, text: |e, _| e.ms_min.map(short) },
    Column {
        header: "GPU ms",
        about: "by the GPU's own clock",
        width: 7,
        shown: |r| if r.is_product() { always_if(r.is_gpu()) } else { wide_if(r.is_gpu()) },
        text: |e, _| e.gpu_ms_median.map(short),
    },
    Column {
        header: "GFLOP/s",
        about: "",
        width: 7,
        shown: |r| if r.has_steps() || r.has_published() { Shown::Wide } else { Shown::Always },
        text: |e, _| e.gflops.map(short),
    },
    Column {
        header: "of peak",
        about: "the time that the device's measured peaks allow, over the median",
        width: 7,
        shown: |r| match r.has_peaks {
            true if r.has_steps() || r.has_published() => Shown::Wide,
            has => always_if(has),
        },
        text: |e, _| e.roofline_fraction.map(percent),
    },
    Column {
        header: "launches",
        about: "what a submit and as many empty dispatches take, over the median",
        width: 7,
        shown: |r| wide_if(r.has_peaks),
        text: |e, _| e.launch_fraction.map(percent),
    },
    Column {
        header: "bound by",
        about: "whichever of launches, round trips, memory and arithmetic takes the most time at best, over the median",
        width: 17,
        shown: |r| wide_if(r.has_peaks),
        text: |e, _| Some(format!("{} {:.0} %", e.bound_by?, e.bound_fraction? * 100.0)),
    },
    Column {
        header: "µs/step",
        about: "the median run over T",
        width: 7,
        shown: |r| if r.has_steps() { Shown::Always } else { Shown::Wide },
        text: |e, _| e.us_per_step().map(short),
    },
    Column {
        header: "p99",
        about: "the slowest but 1 %",
        width: 7,
        shown: |r| always_if(r.has_steps()),
        text: |e, _| e.us_per_step_p99.map(short),
    },
    Column {
        header: "host",
        about: "a step of a stream with input and output on the host, and its p99",
        width: 7,
        shown: |r| always_if(r.is_gpu() && r.any(Workload::is_stream)),
        text: |e, _| e.us_per_step_host_p50.map(short),
    },
    Column {
        header: "host p99",
        about: "",
        width: 7,
        shown: |r| always_if(r.is_gpu() && r.any(Workload::is_stream)),
        text: |e, _| e.us_per_step_host_p99.map(short),
    },
    Column {
        header: "cuDNN",
        about: "published milliseconds of",
        width: 6,
        shown: |r| always_if(r.has_published()),
        text: |e, _| e.published_ms.map(short),
    },
    Column {
        header: "TF32",
        about: "the same with TF32 in place of f32",
        width: 5,
        shown: |r| always_if(r.any(|w| w.published_tf32_ms().is_some())),
        text: |e, _| e.published_tf32_ms.map(short),
    },
    Column { header: "runs", about: "", width: 4, shown: |_| Shown::Wide, text: |e, _| Some(e.runs.to_string()) },
    Column {
        header: "error",
        about: "the largest relative error of any tensor",
        width: 7,
        shown: |r| always_if(r.is_gpu()),
        text: verification,
    },
];

/// The lines of one device's table.
pub struct Lines<'a> {
    rows: Rows<'a>,
    columns: Vec<(&'static Column, usize)>,
    /// Of the first column.
    network: usize,
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
        Self { rows, columns, network }
    }

    /// The device.
    pub fn title(&self) -> String {
        let Description { device, backend, driver, api_version, device_type } = self.rows.description;
        let backend = [Some(backend), api_version.as_ref()].into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
        let title = format!("{device} ({device_type}, {}, {driver})", backend.join(" "));
        let note = "a software adapter: it runs on the CPU and tells nothing of a GPU\n";
        let note = if *device_type == "software" { note } else { "" };
        self.wrap(&title) + note
    }

    /// What stands above the rows.
    pub fn header(&self) -> String {
        let line = self.line("network", |column| Some(column.header.into()));
        format!("{line}{}\n", "─".repeat(line.trim_end().chars().count()))
    }

    /// A row, and below it why it is doubted. That others were at work is true of all rows, and stands below the table.
    pub fn row(&self, entry: &Entry) -> String {
        let row = self.line(&network(entry), |column| (column.text)(entry, self.rows.is_wide));
        let marks: Vec<&str> =
            entry.marks.iter().filter(|&&mark| mark != tidegate::bench::Mark::Busy).map(|m| m.name()).collect();
        let doubts = if marks.is_empty() { String::new() } else { format!("  doubted: {}\n", marks.join(", ")) };
        row + &doubts
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

    /// What the columns tell, and what the marks of these rows mean.
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
        if entries.iter().any(|entry| entry.untuned) {
            parts.push("*: without what tuning finds".into());
        }
        if !self.rows.is_wide {
            parts.push("--wide shows more".into());
        }
        let mut text = self.wrap(&parts.join("; "));
        let mut marks = Vec::new();
        for mark in entries.iter().flat_map(|entry| &entry.marks) {
            if !marks.contains(mark) {
                marks.push(*mark);
            }
        }
        text.extend(marks.iter().map(|mark| self.wrap(&format!("{}: {}", mark.name(), mark.sentence()))));
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

/// Lines of at most 80 columns, as far indented as the text is, the second and later ones a little more.
pub fn wrap(text: &str) -> String {
    let indent = text.len() - text.trim_start().len();
    let (mut all, mut line) = (String::new(), " ".repeat(indent));
    for (at, word) in text.split_whitespace().enumerate() {
        let is_first = at == 0;
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            all += &format!("{line}\n{:1$}{word}", "", indent + 2);
            line = all.split_off(all.rfind('\n').map_or(0, |end| end + 1));
        } else {
            line += &format!("{}{word}", if is_first { "" } else { " " });
        }
    }
    all + &line + "\n"
}

fn workload_name(workload: &Workload) -> String {
    let config = &workload.config;
    let sizes = [config.input_size, config.hidden_size, config.num_layers, config.num_directions()];
    name(workload.cell.name(), sizes, workload.includes_input())
}

fn network(entry: &Entry) -> String {
    let sizes = [entry.input_size, entry.hidden_size, entry.num_layers, entry.num_directions];
    name(&entry.cell, sizes, entry.includes_input)
}

/// The cell and its units, with the input's features where they are not as many.
fn name(cell: &str, [input, hidden, layers, directions]: [usize; 4], includes_input: bool) -> String {
    let mut name =
        if input == hidden || !includes_input { format!("{cell} {hidden}") } else { format!("{cell} {input}→{hidden}") };
    if layers > 1 {
        name += &format!(" ×{layers}");
    }
    if directions > 1 {
        name += " both ways";
    }
    if !includes_input {
        name += " alone";
    }
    name
}

fn mode(entry: &Entry) -> String {
    let mode = if entry.stream { "stream" } else { entry.mode };
    if entry.dtype == "f16" { format!("{mode} f16") } else { mode.into() }
}

/// The error, in a wide table with the shape at which it was found if that is not the whole.
fn verification(entry: &Entry, is_wide: bool) -> Option<String> {
    if !entry.verified {
        return Some("FAILED".into());
    }
    let (error, t, b) = (entry.max_rel_err?, entry.verified_seq_len?, entry.verified_batch_size?);
    let is_whole = (t, b) == (entry.seq_len, entry.batch_size);
    Some(if is_whole || !is_wide { format!("{error:.1e}") } else { format!("{error:.1e} at T={t} B={b}") })
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

/// Three digits.
pub fn short(value: f64) -> String {
    let digits = 2 - value.abs().log10().floor().clamp(-3.0, 2.0) as i32;
    format!("{value:.*}", digits as usize)
}

/// What tuning tried for a row.
pub fn tried(entry: &Entry) -> String {
    let line = |tried: &Tried| {
        let workgroups = if tried.strategy == Strategy::Persistent { format!(" of {}", tried.workgroups) } else { String::new() };
        let time = tried.ms.map_or_else(|| tried.error.clone().unwrap_or_default(), |ms| format!("{} ms", short(ms)));
        wrap(&format!("    {}{workgroups}: {time}", tried.strategy.name()))
    };
    if entry.tried.is_empty() {
        return String::new();
    }
    let lines: String = entry.tried.iter().map(line).collect();
    format!("  tried:\n{lines}")
}

/// Names some of what did not run, and says how many there are.
pub fn left_out(why: &str, workloads: &[&Workload], of: usize) -> String {
    const NAMED: usize = 10;
    if workloads.is_empty() {
        return String::new();
    }
    let line = |workload: &&Workload| format!("  {workload}, {} GFLOP a run\n", short(workload.flops() * 1e-9));
    let named: String = workloads.iter().take(NAMED).map(line).collect();
    let others = workloads.len().saturating_sub(NAMED);
    let others = if others > 0 { format!("  and {others} others\n") } else { String::new() };
    format!("left out, {why}: {} of {of}\n{named}{others}", workloads.len())
}

#[cfg(test)]
mod tests {
    use tidegate::bench::{Mark, Suite};
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
                let text = lines.title() + &lines.header() + &rows + &lines.footer(&entries);
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
    fn every_column_is_explained_or_plain() {
        for Column { header, about, .. } in &COLUMNS {
            assert!(!about.is_empty() || ["mode", "strategy", "GFLOP/s", "host p99", "runs"].contains(header), "{header}");
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
        assert!(row.contains(" persistent* ") && row.ends_with("\n  doubted: noisy\n"), "{row}");
        let both = [doubted, failed];
        assert_eq!(verified(&[Entry::new(&Description::cpu(), &workload, Strategy::Auto, None, None)]), "");
        let footer = lines.footer(&both);
        for text in ["noisy: the median's", "busy: the machine's", "*: without what tuning finds", "±: half its 95 % interval"] {
            assert!(footer.split_whitespace().collect::<Vec<_>>().join(" ").contains(text), "{text} in {footer}");
        }
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

    #[test]
    fn paragraphs_are_wrapped() {
        let text = wrap(&format!("  {}", "wörter ".repeat(30)));
        assert!(
            text.lines().count() == 3
                && text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("  wö") | line.starts_with("    "))
        );
        assert_eq!(text.split_whitespace().count(), 30);
        assert_eq!(wrap("one two"), "one two\n");
    }

    #[test]
    fn three_digits() {
        let cases =
            [(0.0001234, "0.00012"), (0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346")];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}
