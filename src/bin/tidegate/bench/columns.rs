//! The columns of `bench`'s table: what each tells, and when it stands.

use tidegate::bench::{Description, Entry, Kind, Workload};

use crate::args::text::short;

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
    pub fn any(&self, is: impl Fn(&Workload) -> bool) -> bool {
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
pub enum Shown {
    Never,
    /// In a wide table.
    Wide,
    Always,
}

pub struct Column {
    pub header: &'static str,
    /// What it tells, for the footer; what needs no explanation has none.
    pub about: &'static str,
    /// Width of its widest value, not counting the header.
    pub width: usize,
    pub shown: fn(&Rows) -> Shown,
    pub text: fn(&Entry, bool) -> Option<String>,
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
pub const COLUMNS: [Column; 23] = [
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

pub fn workload_name(workload: &Workload) -> String {
    let config = &workload.config;
    let sizes = [config.input_size, config.hidden_size, config.num_layers, config.num_directions()];
    name(workload.cell.name(), sizes, workload.includes_input())
}

pub fn network(entry: &Entry) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_explained_or_plain() {
        for Column { header, about, .. } in &COLUMNS {
            assert!(!about.is_empty() || ["mode", "strategy", "GFLOP/s", "host p99", "runs"].contains(header), "{header}");
        }
    }
}
