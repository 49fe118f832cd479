//! The loop of `bench`: every workload on every device, while there is time and nobody ends it. What it runs on, what it tells of its
//! way and its clock are traits and functions, so that a test needs no device and no time.

use std::time::Duration;

use tidegate::bench::{Description, Entry, Host, Limits, Mark, Measured, Peaks, Report, Score, Scored, Series, Suite, Workload};
use tidegate::{Error, Strategy, Tried};

use super::table::{left_out, table, tried};
use crate::Result;

/// Where workloads run: an adapter, the reference, or in tests a device that is not there.
pub trait Target {
    fn description(&self) -> Description;

    /// A software adapter, or the reference.
    fn runs_on_cpu(&self) -> bool;

    /// Whether it takes what tuning finds.
    fn tunes(&self) -> bool;

    /// Nothing where there is none to measure.
    fn limits(&mut self) -> Result<Option<Limits>, Error>;

    /// Measures by what tuning finds, or without it; gives what tuning tried, too.
    fn measure(&mut self, workload: &Workload, tuned: bool) -> Result<(Measured, Vec<Tried>), Error>;

    /// Megahertz that it runs at, those that it can, and watts, as far as the system tells.
    fn clocks(&self) -> [Option<f64>; 3] {
        [None; 3]
    }
}

/// Who is told what happens.
pub trait Watcher {
    /// A row begins: its name, how many rows are done, how many there are, and the part of all work that is done.
    fn begins(&mut self, row: &str, done: [usize; 2], part: f64);

    /// Something failed.
    fn fails(&mut self, text: &str);

    /// A row is done.
    fn ran(&mut self, report: &Report) -> Result<()>;

    /// A device is done: what it came to.
    fn device(&mut self, text: &str) -> Result<()>;
}

/// What to run, and until when.
pub struct Session<'a> {
    pub suite: Option<Suite>,
    pub workloads: &'a [Workload],
    pub strategy: Strategy,
    /// How often each workload runs on a device that tunes: without tuning, with it, or both.
    pub tuned: &'a [bool],
    pub has_peaks: bool,
    /// Whether the report keeps every run's time.
    pub keeps_runs: bool,
    pub is_verbose: bool,
    /// No row begins after this.
    pub budget: Option<Duration>,
    pub now: &'a dyn Fn() -> Duration,
    pub stop: &'a dyn Fn() -> bool,
}

/// What a row costs beside its own FLOPs, in FLOPs: compiling, warming up, verifying.
const FLOPS_OF_A_ROW: f64 = 1e10;

impl Session<'_> {
    /// Runs all on each device; gives the report, and how many rows failed.
    pub fn run(&self, targets: &mut [Box<dyn Target>], mut report: Report, watcher: &mut dyn Watcher) -> Result<(Report, usize)> {
        let (start, mut failed) = ((self.now)(), 0);
        let busy = Mark::of_host(report.host());
        let count = targets.len();
        for (at, target) in targets.iter_mut().enumerate() {
            if (self.stop)() {
                break;
            }
            failed += self.on(&mut **target, [at, count], start, busy, &mut report, watcher)?;
        }
        report.interrupted = (self.stop)();
        Ok((report, failed))
    }

    fn goes_on(&self, start: Duration) -> bool {
        !(self.stop)() && self.budget.is_none_or(|budget| (self.now)() - start < budget)
    }

    /// Runs all rows on one device of several; returns how many failed.
    fn on(
        &self,
        target: &mut dyn Target,
        [at, devices]: [usize; 2],
        start: Duration,
        busy: Option<Mark>,
        report: &mut Report,
        watcher: &mut dyn Watcher,
    ) -> Result<usize> {
        let description = target.description();
        let most_flops = self.suite.filter(|_| target.runs_on_cpu()).map_or(f64::INFINITY, Suite::most_flops_on_cpu);
        let (runnable, too_much): (Vec<&Workload>, Vec<&Workload>) = self.workloads.iter().partition(|w| w.flops() <= most_flops);
        let limits = if self.has_peaks { target.limits() } else { Ok(None) };
        let limits = limits.unwrap_or_else(|error| {
            watcher.fails(&format!("{}, peaks: {error}", description.device));
            None
        });
        report.rooflines.extend(limits.map(|limits| Peaks { description: description.clone(), limits }));
        let (first, mut failed) = (report.results.len(), 0);
        let tuned = if target.tunes() { self.tuned } else { &[true] };
        let rows: Vec<(&Workload, bool)> = runnable.iter().flat_map(|&w| tuned.iter().map(move |&tuned| (w, tuned))).collect();
        let weight = |rows: &[(&Workload, bool)]| rows.iter().map(|(w, _)| FLOPS_OF_A_ROW + w.flops()).sum::<f64>();
        for (done, &(workload, tuned)) in rows.iter().enumerate() {
            if !self.goes_on(start) {
                break;
            }
            let part = (at as f64 + weight(&rows[..done]) / weight(&rows)) / devices as f64;
            watcher.begins(&format!("{}, {workload}", description.device), [done, rows.len()], part);
            let measured = target.measure(workload, tuned);
            if let Err(failure) = &measured {
                failed += 1;
                watcher.fails(&format!("{}, {workload}: {failure}", description.device));
            }
            let (measured, tried) = measured.map_or((None, Vec::new()), |(measured, tried)| (Some(measured), tried));
            let kept = measured.as_ref().filter(|_| self.keeps_runs);
            let runs_ms = kept.map_or_else(Vec::new, |measured| measured.times.runs_ms().to_vec());
            let mut entry = Entry::new(&description, workload, self.strategy, measured, limits.as_ref());
            [entry.clock_mhz, entry.max_clock_mhz, entry.power_watts] = target.clocks();
            (entry.untuned, entry.tried, entry.runs_ms) = (!tuned, tried, runs_ms);
            entry.marks.extend(busy.filter(|_| entry.ms_median.is_some()));
            report.results.push(entry);
            watcher.ran(report)?;
        }
        let entries = &report.results[first..];
        let score = Score::new(entries.iter().filter(|e| !e.untuned).filter_map(|e| Some((&e.name, e.us_per_step()?))));
        let mut text = score.line() + &table(&description, entries);
        if self.is_verbose {
            text.extend(entries.iter().map(tried));
        }
        text += &limits.map_or_else(String::new, |limits| limits.lines());
        text += &left_out("too many FLOPs for a CPU", &too_much, self.workloads.len());
        let why = if (self.stop)() { "interrupted" } else { "out of time" };
        let left: Vec<&Workload> = rows[entries.len()..].iter().map(|&(workload, _)| workload).collect();
        text += &left_out(why, &left, rows.len());
        if matches!(self.suite, Some(Suite::Scaling | Suite::Recurrence)) {
            let ran = rows.iter().zip(entries).filter(|((_, tuned), _)| *tuned);
            let ran: Vec<_> = ran.filter_map(|(&(w, _), e)| Some((w, e.ms_median?, e.strategy))).collect();
            let series = match self.suite {
                Some(Suite::Recurrence) => Series::along_t(&description, &ran).into_iter().collect(),
                _ => Series::along_axes(&description, &ran),
            };
            text.extend(series.iter().map(|series| series.line() + "\n"));
            report.scaling.extend(series);
        }
        report.scores.push(Scored { description, score });
        watcher.device(&text)?;
        Ok(failed)
    }
}

/// A report of this machine and command line.
pub fn report() -> Report {
    let mut report = Report::new(Host::here());
    report.command = std::env::args().collect();
    report
}
