//! What `bench` found, as a table for people.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table, TableComponent};
use tidegate::bench::{Description, Entry, Workload};
use tidegate::{Strategy, Tried};

/// A header, and what stands below it for one entry.
type Column = (&'static str, fn(&Entry) -> Option<String>);

/// `first` is the first run, with building pipelines; `±` half the 95 % confidence interval of the median; `host` a step of a
/// stream from input on the host to output on the host; `of peak` what the roofline allows over the median; `launches` what
/// a submit and as many empty dispatches take, over the median; `bound by` whichever of launches, round trips, memory and arithmetic
/// takes the most time at best, over the median;
/// `V100 cuDNN 7.6` published milliseconds.
const COLUMNS: [Column; 27] = [
    ("network", |e| Some(network(e))),
    ("T", |e| Some(e.seq_len.to_string())),
    ("B", |e| Some(e.batch_size.to_string())),
    ("mode", |e| Some(if e.stream { "stream" } else { e.mode }.into())),
    ("dtype", |e| (e.dtype == "f16").then(|| e.dtype.into())),
    ("strategy", |e| Some(e.strategy.into())),
    ("tuning", |e| e.untuned.then(|| "without".into())),
    ("dispatches", |e| e.dispatches.map(|dispatches| dispatches.to_string())),
    ("repaired", |e| e.repairs.filter(|&repairs| repairs > 0).map(|repairs| repairs.to_string())),
    ("first ms", |e| e.first_ms.map(short)),
    ("median ms", |e| e.ms_median.map(short)),
    // Where p99 stands, it tells more of how times vary.
    ("±", |e| e.ms_median_spread.filter(|_| e.us_per_step_p99.is_none()).map(|spread| format!("{:.1} %", spread * 100.0))),
    ("min ms", |e| e.ms_min.filter(|_| e.us_per_step_p99.is_none()).map(short)),
    ("GPU ms", |e| e.gpu_ms_median.map(short)),
    ("GFLOP/s", |e| e.gflops.map(short)),
    ("of peak", |e| e.roofline_fraction.map(|fraction| format!("{:.1} %", fraction * 100.0))),
    ("launches", |e| e.launch_fraction.map(|fraction| format!("{:.1} %", fraction * 100.0))),
    ("bound by", |e| Some(format!("{} {:.0} %", e.bound_by?, e.bound_fraction? * 100.0))),
    ("µs/step p50", |e| e.us_per_step_p50.map(short)),
    ("p99", |e| e.us_per_step_p99.map(short)),
    ("host p50", |e| e.us_per_step_host_p50.map(short)),
    ("host p99", |e| e.us_per_step_host_p99.map(short)),
    ("V100 cuDNN 7.6", |e| e.published_ms.filter(|_| !e.includes_input).map(short)),
    ("H200 cuDNN 9.19", |e| e.published_ms.filter(|_| e.includes_input).map(short)),
    ("runs", |e| Some(e.runs.to_string())),
    ("error", |e| verification(e)),
    ("doubts", |e| (!e.marks.is_empty()).then(|| e.marks.iter().map(|mark| mark.name()).collect::<Vec<_>>().join(", "))),
];

fn network(entry: &Entry) -> String {
    let mut network = format!("{} {}→{}", entry.cell, entry.input_size, entry.hidden_size);
    if entry.num_layers > 1 {
        network += &format!(" ×{}", entry.num_layers);
    }
    if entry.num_directions > 1 {
        network += " both ways";
    }
    if !entry.includes_input {
        network += ", recurrence";
    }
    network
}

/// The error, with the shape at which it was found if that is not the whole.
fn verification(entry: &Entry) -> Option<String> {
    if !entry.verified {
        return Some("FAILED".into());
    }
    let (error, t, b) = (entry.max_rel_err?, entry.verified_seq_len?, entry.verified_batch_size?);
    match (t, b) == (entry.seq_len, entry.batch_size) {
        _ if entry.description.device_type == "cpu-reference" => None,
        true => Some(format!("{error:.1e}")),
        false => Some(format!("{error:.1e} at T={t} B={b}")),
    }
}

/// Three digits.
pub fn short(value: f64) -> String {
    let digits = 2 - value.abs().log10().floor().clamp(-3.0, 2.0) as i32;
    format!("{value:.*}", digits as usize)
}

/// All results of one device, under its name. A column in which nothing stands is left out.
pub fn table(description: &Description, entries: &[Entry]) -> String {
    let Description { device, backend, driver, device_type } = description;
    let columns = COLUMNS.iter().map(|&(header, text)| (header, entries.iter().map(text).collect::<Vec<_>>()));
    let columns: Vec<_> = columns.filter(|(_, texts)| texts.iter().any(Option::is_some)).collect();
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(columns.iter().map(|&(header, _)| header));
    for line in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(line);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in 0..entries.len() {
        table.add_row(columns.iter().map(|(_, texts)| texts[row].as_deref().unwrap_or("-")));
    }
    let note =
        if *device_type == "software" { "a software adapter: it runs on the CPU and tells nothing of a GPU\n" } else { "" };
    format!("{device} ({device_type}, {backend}, {driver})\n{note}{table}\n{}", sentences(entries))
}

/// What the marks of these rows mean, each once, and whether a row was measured again.
fn sentences(entries: &[Entry]) -> String {
    let mut marks = Vec::new();
    for mark in entries.iter().flat_map(|entry| &entry.marks) {
        if !marks.contains(mark) {
            marks.push(*mark);
        }
    }
    let mut text: String = marks.iter().map(|mark| format!("{}: {}\n", mark.name(), mark.sentence())).collect();
    let again = entries.iter().filter(|entry| entry.measured_again).count();
    if again > 0 {
        text += &format!("{again} of {} rows were measured again, for their first times were not of one speed\n", entries.len());
    }
    text
}

/// What tuning tried for a row.
pub fn tried(entry: &Entry) -> String {
    let line = |tried: &Tried| {
        let layout = if tried.layout.is_empty() { String::new() } else { format!(" ({})", tried.layout) };
        let workgroups =
            if tried.strategy == Strategy::Persistent { format!(" of {}{layout}", tried.workgroups) } else { String::new() };
        let time = tried.ms.map_or_else(|| tried.error.clone().unwrap_or_default(), |ms| format!("{} ms", short(ms)));
        format!("  {}{workgroups}: {time}\n", tried.strategy.name())
    };
    if entry.tried.is_empty() {
        return String::new();
    }
    let lines: String = entry.tried.iter().map(line).collect();
    format!("tried for {}:\n{lines}", entry.name)
}

/// Names some of what did not run, and says how many there are.
pub fn left_out(why: &str, workloads: &[&Workload], of: usize) -> String {
    const NAMED: usize = 10;
    if workloads.is_empty() {
        return String::new();
    }
    let line = |workload: &&Workload| format!("  {workload}, {:.0} GFLOP a run\n", workload.flops() * 1e-9);
    let named: String = workloads.iter().take(NAMED).map(line).collect();
    let others = workloads.len().saturating_sub(NAMED);
    let others = if others > 0 { format!("  and {others} others\n") } else { String::new() };
    format!("left out, {why}: {} of {of}\n{named}{others}", workloads.len())
}

#[cfg(test)]
mod tests {
    use tidegate::bench::{Kind, Workload};
    use tidegate::cell::by_name;
    use tidegate::{Dtype, Mode, RnnConfig, SeqShape, Strategy};

    use super::*;

    /// One that failed, until it is filled in.
    fn entry(kind: Kind) -> Entry {
        let (config, shape) = (RnnConfig::new(3, 5), SeqShape { seq_len: 4, batch_size: 1 });
        let workload = Workload { cell: by_name("gru").unwrap(), config, shape, mode: Mode::Inference, kind, dtype: Dtype::F32 };
        Entry::new(&Description::cpu(), &workload, Strategy::Stepwise, None, None)
    }

    #[test]
    fn has_the_columns_that_have_something() {
        let ran = |kind| Entry { dispatches: Some(6), ms_median: Some(2.0), runs: 3, verified: true, ..entry(kind) };
        let in_steps = || {
            let [p50, host] = [500.0, 750.0].map(Some);
            Entry { us_per_step_p50: p50, us_per_step_host_p50: host, ..ran(Kind::Stream) }
        };
        let [throughput, stream] = [ran(Kind::Throughput), in_steps()].map(|entry| table(&Description::cpu(), &[entry]));
        for text in ["strategy", "stepwise", "dispatches", " 6 ", "median ms", "2.00"] {
            assert!(throughput.contains(text) && stream.contains(text), "{text} in {throughput}{stream}");
        }
        assert!(stream.contains("stream") && stream.contains("µs/step p50") && stream.contains("750"), "{stream}");
        assert!(
            !throughput.contains("µs/step") && !throughput.contains("GPU ms") && throughput.contains("infer"),
            "{throughput}"
        );
        // One that failed leaves gaps in the columns of the others.
        let both = table(&Description::cpu(), &[in_steps(), entry(Kind::Stream)]);
        assert!(both.contains("µs/step p50") && both.contains("FAILED"), "{both}");
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
