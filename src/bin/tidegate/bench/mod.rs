//! `tidegate bench`: every workload on every device, verified, then timed.

mod args;
mod clocks;
mod columns;
mod dispatches;
mod estimate;
mod output;
mod session;
mod table;
mod targets;
pub mod tunings;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use tidegate::bench::{Phase, Report, Suite, Workload};

use crate::args::exit::{self, Exit};
use crate::args::interrupt;
use crate::args::text::{lines, rows, wrap};
use crate::compare::{Comparison, Source, Verdict, crossover};
use crate::{Result, complain, print};
pub use args::Args;
use estimate::Estimate;
use session::{Session, Watcher};

pub fn run(args: &Args) -> Result<()> {
    let workloads = args.workloads()?;
    if args.list {
        return print(&listed(&workloads, args));
    }
    output::check(args)?;
    // Before anything is measured, so that a wrong file costs no time.
    let base =
        args.fail_if_slower_than.as_deref().map(|path| Ok::<_, crate::Failure>((path, Source::read(path)?))).transpose()?;
    interrupt::listen()?;
    let (devices, unopened) = args.devices()?;
    let mut targets: Vec<_> = devices.into_iter().map(|device| targets::target(device, args)).collect();
    let origin = Instant::now();
    let session = Session {
        suite: args.suite(),
        workloads: &workloads,
        strategy: args.strategy,
        tuned: args.tuned(),
        has_peaks: !args.no_peaks,
        keeps_runs: args.all_runs,
        is_verbose: args.verbose,
        has_dispatches: args.profile,
        is_wide: args.wide,
        budget: args.budget.map(Duration::from_secs),
        now: &|| origin.elapsed(),
        stop: &interrupt::requested,
    };
    let mut terminal = Terminal::new(args, origin)?;
    let (report, failed) = session.run(&mut targets, session::report(), &mut terminal)?;
    terminal.progress.finish_and_clear();
    // Ctrl-C leaves what there is, the page too.
    output::write(args, &report, None)?;
    print(&output::written(args, &report))?;
    let own = output::source(&report)?;
    let crossover = crossover(&Comparison::new(std::slice::from_ref(&own)));
    print(&crossover.iter().map(|line| lines(line, args.wide)).collect::<String>())?;
    let verdict = base.map(|(path, base)| Verdict::new(&own, &base, &path.display().to_string(), args.tolerance));
    let ended = end(&report, [failed, unopened], terminal.rows, verdict);
    let Some(verdict) = ended? else { return Ok(()) };
    print(&verdict.text())?;
    output::write(args, &report, Some(&verdict))?;
    match verdict.slower.is_empty() {
        true => Ok(()),
        false => Err(Exit { status: exit::SLOWER, text: verdict.failure() }.into()),
    }
}

/// A line for each workload; and how many rows a device makes of them, where that is another number.
fn listed(workloads: &[Workload], args: &Args) -> String {
    let line = |workload: &Workload| format!("{workload}: {:.3} GFLOP\n", workload.flops() * 1e-9);
    let lines: String = workloads.iter().map(line).collect();
    let most_flops = args.suite().map_or(f64::INFINITY, Suite::most_flops_on_cpu);
    let (all, on_cpu) = (workloads.len(), workloads.iter().filter(|workload| workload.flops() <= most_flops).count());
    let times = args.tuned().len();
    if (times, on_cpu) == (1, all) {
        return lines;
    }
    let each = if times > 1 { "each of these workloads without tuning and tuned" } else { "these workloads" };
    let mut note = format!("A GPU runs {}, {each}.", rows(all * times));
    if on_cpu < all {
        note += &format!(" An adapter on the CPU runs {}, those of up to {:.0} GFLOP.", rows(on_cpu * times), most_flops * 1e-9);
    }
    lines + &wrap(&note)
}

/// How a run ends: interrupted, with failures, or with a verdict if one was asked for.
fn end(
    report: &Report,
    [failed, unopened]: [usize; 2],
    rows: usize,
    verdict: Option<Result<Verdict>>,
) -> Result<Option<Verdict>> {
    let ran = report.results.len();
    if report.interrupted {
        let text = format!("interrupted after {ran} of {} workloads", rows.max(ran));
        return Err(Exit { status: exit::INTERRUPTED, text }.into());
    }
    match (failed, unopened) {
        (0, 0) => verdict.transpose(),
        (0, 1) => Err("1 adapter did not open".into()),
        (0, _) => Err(format!("{unopened} adapters did not open").into()),
        _ => Err(format!("{failed} of {ran} workloads failed").into()),
    }
}

/// Tells people how far it is; draws itself on stderr, and only if that is a terminal.
struct Terminal<'a> {
    args: &'a Args,
    progress: ProgressBar,
    /// Reports of all devices that were started.
    rows: usize,
    /// The one that runs, and its number.
    row: String,
    origin: Instant,
    /// Drawn once a second, however long a row takes.
    estimate: Arc<Mutex<Estimate>>,
}

fn locked(estimate: &Mutex<Estimate>) -> MutexGuard<'_, Estimate> {
    estimate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Steps of the bar: by work, not by rows, of which the last may take longer than all others.
const STEPS: u64 = 10_000;

impl<'a> Terminal<'a> {
    fn new(args: &'a Args, origin: Instant) -> Result<Self> {
        let progress = ProgressBar::new(STEPS);
        let estimate = Arc::new(Mutex::new(Estimate::new(args.budget.map(Duration::from_secs))));
        let shown = estimate.clone();
        let left = move |_: &ProgressState, line: &mut dyn fmt::Write| {
            let left = locked(&shown).left(origin.elapsed());
            // A line that cannot be written is none.
            let _ = left.map_or(Ok(()), |left| write!(line, "{} left, ", HumanDuration(left)));
        };
        progress.set_style(ProgressStyle::with_template("{bar:12} {left}{wide_msg}")?.with_key("left", left));
        progress.enable_steady_tick(Duration::from_secs(1));
        Ok(Self { args, progress, rows: 0, row: String::new(), origin, estimate })
    }

    fn tells(&self, what: &str) {
        self.progress.set_message(what.to_string());
        self.progress.tick();
    }
}

impl Watcher for Terminal<'_> {
    fn measures_peaks(&mut self, device: &str) {
        self.tells(&format!("measuring peaks of {device}"));
    }

    fn begins(&mut self, row: &str, [done, of]: [usize; 2], parts: [f64; 2]) {
        if done == 0 {
            self.rows += of;
        }
        self.row = format!("{}/{of} {row}", done + 1);
        locked(&self.estimate).begins(self.origin.elapsed(), parts);
        self.progress.set_position((parts[0] * STEPS as f64) as u64);
        self.tells(&self.row);
    }

    fn phase(&self, phase: Phase) {
        self.tells(&format!("{} {}", phase.name(), self.row));
    }

    fn fails(&mut self, text: &str) {
        self.progress.suspend(|| complain(text));
    }

    fn ran(&mut self, report: &Report) -> Result<()> {
        locked(&self.estimate).ends(self.origin.elapsed());
        output::write_json(self.args, report, None)
    }

    fn prints(&mut self, text: &str) -> Result<()> {
        self.progress.suspend(|| print(text))
    }
}

#[cfg(test)]
mod tests;
