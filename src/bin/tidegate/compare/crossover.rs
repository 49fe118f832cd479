//! Where a CPU beats a GPU.

use super::Comparison;

/// A line for each device that is no CPU, on the cases that it shares with one.
pub fn crossover(all: &Comparison) -> Vec<String> {
    let cpus: Vec<usize> = (0..all.columns.len()).filter(|&column| all.columns[column].is_cpu()).collect();
    let others = (0..all.columns.len()).filter(|column| !cpus.contains(column));
    others.filter_map(|column| line(all, &cpus, column)).collect()
}

fn line(all: &Comparison, cpus: &[usize], column: usize) -> Option<String> {
    let shared: Vec<Shared> = (0..all.cases.len()).filter_map(|case| Shared::new(all, cpus, case, column)).collect();
    let slower: Vec<&Shared> = shared.iter().filter(|case| case.cpu_ms < case.ms).collect();
    let device = &all.columns[column].label;
    let cpu = match cpus {
        [one] => &all.columns[*one].label,
        _ => "the fastest CPU",
    };
    let of = shared.len();
    match slower.iter().max_by(|a, b| a.flops.total_cmp(&b.flops)) {
        _ if shared.is_empty() => None,
        None => Some(format!("{device}: faster than {cpu} in all {of} cases that both ran")),
        Some(Shared { case, flops, ms, cpu_ms, cpu: fastest }) => Some(format!(
            "{device}: slower than {cpu} in {n} of {of} cases that both ran, the largest of them {case}, {gflop} GFLOP a run: \
             {ms:.3} ms, {fastest} {cpu_ms:.3} ms",
            n = slower.len(),
            case = all.cases[*case],
            gflop = gflop(*flops),
            fastest = all.columns[*fastest].label,
        )),
    }
}

/// A case that ran on a device and on a CPU.
struct Shared {
    case: usize,
    flops: f64,
    ms: f64,
    cpu_ms: f64,
    /// The column of the fastest.
    cpu: usize,
}

impl Shared {
    fn new(all: &Comparison, cpus: &[usize], case: usize, column: usize) -> Option<Self> {
        let ms = all.ms(case, column)?;
        let times = cpus.iter().filter_map(|&cpu| Some((all.ms(case, cpu)?, cpu)));
        let (cpu_ms, cpu) = times.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let flops = all.rows[case][column].as_ref()?.flops.unwrap_or(0.0);
        Some(Self { case, flops, ms, cpu_ms, cpu })
    }
}

/// Two digits behind the point, more for what is small.
fn gflop(flops: f64) -> String {
    let gflop = flops * 1e-9;
    if gflop < 0.01 { format!("{gflop:.6}") } else { format!("{gflop:.2}") }
}
