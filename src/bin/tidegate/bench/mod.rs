//! `tidegate bench`: every workload on every device, verified, then timed.

mod args;
mod on_gpu;
mod output;
pub mod table;
pub mod tunings;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pollster::block_on;
use tidegate::bench::{Description, Entry, Host, Limits, Peaks, Report, Series, Suite, Workload, on_cpu};
use tidegate::{Strategy, Tried};

use crate::args::device::Device;
use crate::args::exit::{self, Exit};
use crate::args::interrupt;
use crate::compare::{Comparison, Source, Verdict, crossover};
use crate::{Result, complain, print};
pub use args::Args;
use on_gpu::OnGpu;
use table::{short, table};

pub fn run(args: &Args) -> Result<()> {
    let workloads = args.workloads()?;
    if args.list {
        let line = |workload: &Workload| format!("{workload}: {:.3} GFLOP\n", workload.flops() * 1e-9);
        return print(&workloads.iter().map(line).collect::<String>());
    }
    // Before anything is measured, so that a wrong file costs no time.
    let base =
        args.fail_if_slower_than.as_deref().map(|path| Ok::<_, crate::Failure>((path, Source::read(path)?))).transpose()?;
    interrupt::listen()?;
    let (devices, unopened) = args.devices()?;
    // It draws itself on stderr, and only if that is a terminal.
    let progress = ProgressBar::new((workloads.len() * devices.len()) as u64);
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left: {msg}")?);
    let mut bench =
        Bench { args, workloads: &workloads, start: Instant::now(), progress, report: Report::new(Host::here()), failed: 0 };
    for device in &devices {
        bench.measure(device)?;
    }
    let Bench { progress, mut report, failed, .. } = bench;
    progress.finish_and_clear();
    report.interrupted = interrupt::requested();
    output::write(args, &report, None)?;
    let own = output::source(&report)?;
    print(&crossover(&Comparison::new(std::slice::from_ref(&own))).iter().map(|line| format!("{line}\n")).collect::<String>())?;
    if report.interrupted {
        let text = format!("interrupted after {} of {} workloads", report.results.len(), workloads.len() * devices.len());
        return Err(Exit { status: exit::INTERRUPTED, text }.into());
    }
    let verdict = base.map(|(path, base)| Verdict::new(&own, &base, &path.display().to_string(), args.tolerance));
    let verdict = match (failed, unopened, verdict) {
        (0, 0, verdict) => verdict.transpose()?,
        (0, ..) => return Err(format!("{unopened} adapters did not open").into()),
        _ => return Err(format!("{failed} of {} workloads failed", report.results.len()).into()),
    };
    let Some(verdict) = verdict else { return Ok(()) };
    let slower = (!verdict.slower.is_empty()).then(|| Exit { status: exit::SLOWER, text: verdict.failure() });
    print(&verdict.text())?;
    output::write(args, &report, Some(&verdict))?;
    slower.map_or(Ok(()), |exit| Err(exit.into()))
}

/// What goes on from device to device.
struct Bench<'a> {
    args: &'a Args,
    workloads: &'a [Workload],
    start: Instant,
    progress: ProgressBar,
    report: Report,
    failed: usize,
}

impl Bench<'_> {
    /// Runs the workloads on one device, and prints what it found.
    fn measure(&mut self, device: &Device) -> Result<()> {
        let Self { args, workloads, start, progress, report, failed } = self;
        let goes_on =
            || !interrupt::requested() && args.budget.is_none_or(|budget| start.elapsed() < Duration::from_secs(budget));
        if interrupt::requested() {
            return Ok(());
        }
        let description = device.description();
        let most_flops = args.suite().filter(|_| device.runs_on_cpu()).map_or(f64::INFINITY, Suite::most_flops_on_cpu);
        let (runnable, left_out): (Vec<&Workload>, Vec<&Workload>) = workloads.iter().partition(|w| w.flops() <= most_flops);
        progress.inc(left_out.len() as u64);
        let (mut on_gpu, limits) = match device {
            Device::Cpu => (None, None),
            Device::Gpu(ctx) => {
                let limits = (!args.no_peaks).then(|| block_on(Limits::measure(ctx)));
                (Some(OnGpu::new(ctx, args.strategy, args.products())), limits)
            }
        };
        let limits = limits.transpose().unwrap_or_else(|error| {
            progress.suspend(|| complain(&format!("{}, peaks: {error}", description.device)));
            None
        });
        report.rooflines.extend(limits.map(|limits| Peaks { description: description.clone(), limits }));
        let first = report.results.len();
        let tuned_rows = if on_gpu.as_ref().is_some_and(OnGpu::tunes) { args.tuned() } else { &[true][..] };
        let rows: Vec<(&Workload, bool)> =
            runnable.iter().flat_map(|&workload| tuned_rows.iter().map(move |&tuned| (workload, tuned))).collect();
        for &(workload, tuned) in rows.iter().take_while(|_| goes_on()) {
            progress.set_message(format!("{}, {workload}", description.device));
            progress.tick();
            let measured = match &mut on_gpu {
                Some(on_gpu) => on_gpu.measure(workload, tuned),
                None => block_on(on_cpu(workload, &interrupt::requested)).map(|measured| (measured, Vec::new())),
            };
            if let Err(failure) = &measured {
                *failed += 1;
                progress.suspend(|| complain(&format!("{}, {workload}: {failure}", description.device)));
            }
            let (measured, tried) = measured.map_or((None, Vec::new()), |(measured, tried)| (Some(measured), tried));
            let entry = Entry::new(&description, workload, args.strategy, measured, limits.as_ref());
            report.results.push(Entry { untuned: !tuned, tried, ..entry });
            output::write(args, report, None)?;
            progress.inc(u64::from(tuned || tuned_rows.len() == 1));
        }
        let entries = &report.results[first..];
        let mut text = table(&description, entries);
        if args.verbose {
            text.extend(entries.iter().map(tried));
        }
        text += &limits.map_or_else(String::new, |limits| limits.lines());
        text += &list("too many FLOPs for a CPU", &left_out, workloads.len());
        let why = if interrupt::requested() { "interrupted" } else { "out of time" };
        let left: Vec<&Workload> = rows[entries.len()..].iter().map(|&(workload, _)| workload).collect();
        text += &list(why, &left, rows.len());
        if args.suite() == Some(Suite::Scaling) {
            let ran: Vec<&Workload> = rows.iter().map(|&(workload, _)| workload).collect();
            let series = series(&description, &ran, entries);
            text.extend(series.iter().map(|series| series.line() + "\n"));
            report.scaling.extend(series);
        }
        progress.suspend(|| print(&text))
    }
}

/// What tuning tried for a row.
fn tried(entry: &Entry) -> String {
    let line = |tried: &Tried| {
        let workgroups = if tried.strategy == Strategy::Persistent { format!(" of {}", tried.workgroups) } else { String::new() };
        let time = tried.ms.map_or_else(|| tried.error.clone().unwrap_or_default(), |ms| format!("{} ms", short(ms)));
        format!("  {}{workgroups}: {time}\n", tried.strategy.name())
    };
    if entry.tried.is_empty() {
        return String::new();
    }
    let Entry { cell, hidden_size, batch_size, mode, dtype, .. } = entry;
    let lines: String = entry.tried.iter().map(line).collect();
    format!("tried for {cell} H={hidden_size} B={batch_size} {mode} {dtype}:\n{lines}")
}

/// Names some of what did not run, and says how many there are.
fn list(why: &str, workloads: &[&Workload], of: usize) -> String {
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

fn series(description: &Description, workloads: &[&Workload], entries: &[Entry]) -> Vec<Series> {
    let ran = workloads.iter().zip(entries).filter_map(|(&workload, entry)| Some((workload, entry.ms_median?, entry.strategy)));
    Series::along_axes(description, &ran.collect::<Vec<_>>())
}
