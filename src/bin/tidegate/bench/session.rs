//! The loop of `bench`: every workload on every device, while there is time and nobody ends it. What it runs on, what it tells of its
//! way and its clock are traits and functions, so that a test needs no device and no time.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::bench::{
    Description, Entry, Host, Limits, Mark, Measured, Peaks, Phase, Report, Score, Scored, Series, Suite, Workload,
};
use tidegate::{Error, Strategy, Tried};

use super::columns::Rows;
use super::dispatches;
use super::table::{Lines, left_out, title, tried, verified};
use crate::Result;
use crate::args::text::short;

/// A workload, and whether it runs by what tuning finds.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    pub workload: &'a Workload,
    pub tuned: bool,
}

/// Where workloads run: an adapter, the reference, or in tests a device that is not there.
pub trait Target {
    fn description(&self) -> Description;

    /// A software adapter, or the reference.
    fn runs_on_cpu(&self) -> bool;

    /// Whether it takes what tuning finds.
    fn tunes(&self) -> bool;

    /// Nothing where there is none to measure.
    fn limits(&mut self) -> Result<Option<Limits>, Error>;

    /// Measures, and may build what `next` needs meanwhile; gives what tuning tried, too.
    fn measure(&mut self, job: Job<'_>, next: Option<Job<'_>>, phase: &dyn Fn(Phase)) -> Result<(Measured, Vec<Tried>), Error>;

    /// What was tuned, before or now, and where that is kept; empty if nothing was.
    fn tunings(&self) -> String {
        String::new()
    }

    /// Megahertz that it runs at, those that it can, and watts, as far as the system tells.
    fn clocks(&self) -> [Option<f64>; 3] {
        [None; 3]
    }
}

/// Who is told what happens.
pub trait Watcher {
    /// A device's peaks are measured, before its rows.
    fn measures_peaks(&mut self, device: &str);

    /// A row begins: its name, how many rows are done, how many there are, and the parts of all work that are done before and after it.
    fn begins(&mut self, row: &str, done: [usize; 2], parts: [f64; 2]);

    /// What that row is at now.
    fn phase(&self, phase: Phase);

    /// Something failed.
    fn fails(&mut self, text: &str);

    /// A row is done.
    fn ran(&mut self, report: &Report) -> Result<()>;

    /// Lines for people: what stands above a device's rows, each row when it is done, what stands below them.
    fn prints(&mut self, text: &str) -> Result<()>;
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
    /// Whether each dispatch is timed and listed.
    pub has_dispatches: bool,
    /// Whether the table shows every column.
    pub is_wide: bool,
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
        let (start, mut failed, mut named) = ((self.now)(), 0, BTreeSet::new());
        let busy = Mark::of_host(report.host());
        let count = targets.len();
        for (at, target) in targets.iter_mut().enumerate() {
            if (self.stop)() {
                break;
            }
            let until = self.share(start, count - at);
            failed += self.on(&mut **target, [at, count], until, busy, (&mut report, &mut named), watcher)?;
        }
        report.interrupted = (self.stop)();
        Ok((report, failed))
    }

    /// Until when rows of the next of so many devices begin: each gets its share of what is left of the budget, so that the last, by
    /// default the reference that the others are compared with, has some.
    fn share(&self, start: Duration, devices: usize) -> Option<Duration> {
        let now = (self.now)();
        self.budget.map(|budget| now + (start + budget).saturating_sub(now) / devices as u32)
    }

    fn goes_on(&self, until: Option<Duration>) -> bool {
        !(self.stop)() && until.is_none_or(|until| (self.now)() < until)
    }

    /// Runs all rows on one device of several; returns how many failed.
    fn on(
        &self,
        target: &mut dyn Target,
        [at, devices]: [usize; 2],
        until: Option<Duration>,
        busy: Option<Mark>,
        (report, named): (&mut Report, &mut BTreeSet<String>),
        watcher: &mut dyn Watcher,
    ) -> Result<usize> {
        let description = target.description();
        let most_flops = self.suite.filter(|_| target.runs_on_cpu()).map_or(f64::INFINITY, Suite::most_flops_on_cpu);
        let (runnable, too_much): (Vec<&Workload>, Vec<&Workload>) = self.workloads.iter().partition(|w| w.flops() <= most_flops);
        watcher.prints(&title(&description, self.is_wide))?;
        if self.has_peaks {
            watcher.measures_peaks(&description.device);
        }
        let limits = if self.has_peaks { target.limits() } else { Ok(None) };
        let limits = limits.unwrap_or_else(|error| {
            watcher.fails(&format!("{}, peaks: {error}", description.device));
            None
        });
        report.rooflines.extend(limits.map(|limits| Peaks { description: description.clone(), limits }));
        let tuned = if target.tunes() { self.tuned } else { &[true] };
        let jobs: Vec<Job> =
            runnable.iter().flat_map(|&workload| tuned.iter().map(move |&tuned| Job { workload, tuned })).collect();
        let rows = Rows {
            workloads: &runnable,
            description: &description,
            has_peaks: limits.is_some(),
            has_untuned: tuned.contains(&false),
            is_wide: self.is_wide,
        };
        let lines = Lines::new(rows);
        let (first, mut failed) = (report.results.len(), 0);
        let weight = |jobs: &[Job]| jobs.iter().map(|job| FLOPS_OF_A_ROW + job.workload.flops()).sum::<f64>();
        for (done, &job) in jobs.iter().enumerate() {
            if !self.goes_on(until) {
                break;
            }
            let parts = [done, done + 1].map(|end| (at as f64 + weight(&jobs[..end]) / weight(&jobs)) / devices as f64);
            // The device stands above its rows.
            watcher.begins(&job.workload.to_string(), [done, jobs.len()], parts);
            let measured = target.measure(job, jobs.get(done + 1).copied(), &|phase| watcher.phase(phase));
            if let Err(failure) = &measured {
                failed += 1;
                watcher.fails(&format!("{}, {}: {failure}", job.workload, description.device));
            }
            let entry = self.entry(&description, job, measured, limits.as_ref(), target.clocks(), busy);
            let header = if done == 0 { lines.header() } else { String::new() };
            watcher.prints(&(header + &lines.row(&entry)))?;
            if self.is_verbose {
                watcher.prints(&tried(&entry))?;
            }
            if self.has_dispatches {
                watcher.prints(&dispatches::listed(&entry))?;
            }
            report.results.push(entry);
            watcher.ran(report)?;
        }
        let entries = &report.results[first..];
        // Tuned rows, or where nothing was tuned, the others.
        let is_tuned = tuned.contains(&true);
        let counting = || jobs.iter().zip(entries).filter(|(job, _)| job.tuned == is_tuned);
        let score = Score::new(counting().filter_map(|(_, e)| Some((&e.name, e.us_per_step()?))));
        let ran = counting().filter_map(|(job, e)| Some((job.workload, e.ms_median?, e.strategy)));
        let series = self.series(&description, &ran.collect::<Vec<_>>());
        let paragraphs = [verified(entries), score.line(), cost_of_the_default(entries), target.tunings()];
        let mut text: String =
            paragraphs.into_iter().filter(|text| !text.is_empty()).map(|text| lines.wrap(text.trim_end())).collect();
        text += &if entries.is_empty() { String::new() } else { lines.footer(entries) };
        text.extend(limits.iter().flat_map(|limits| limits.lines().lines().map(|line| lines.wrap(line)).collect::<Vec<_>>()));
        text += &left_out("too many FLOPs for a CPU", &too_much, self.workloads.len(), named);
        let why = if (self.stop)() { "interrupted" } else { "out of time" };
        let left: Vec<&Workload> = jobs[entries.len()..].iter().map(|job| job.workload).collect();
        text += &left_out(why, &left, jobs.len(), named);
        text.extend(series.iter().map(|series| lines.wrap(&series.line())));
        report.scaling.extend(series);
        report.scores.push(Scored { description, score });
        watcher.prints(&(text + "\n"))?;
        Ok(failed)
    }

    /// What the report keeps of a row.
    fn entry(
        &self,
        description: &Description,
        Job { workload, tuned }: Job<'_>,
        measured: Result<(Measured, Vec<Tried>), Error>,
        limits: Option<&Limits>,
        clocks: [Option<f64>; 3],
        busy: Option<Mark>,
    ) -> Entry {
        let error = measured.as_ref().err().map(ToString::to_string);
        let (measured, tried) = measured.map_or((None, Vec::new()), |(measured, tried)| (Some(measured), tried));
        let kept = measured.as_ref().filter(|_| self.keeps_runs);
        let runs_ms = kept.map_or_else(Vec::new, |measured| measured.times.runs_ms().to_vec());
        let mut entry = Entry::new(description, workload, self.strategy, measured, limits);
        [entry.clock_mhz, entry.max_clock_mhz, entry.power_watts] = clocks;
        (entry.untuned, entry.tried, entry.runs_ms, entry.error) = (!tuned, tried, runs_ms, error);
        entry.marks.extend(busy.filter(|_| entry.ms_median.is_some()));
        entry
    }

    /// How time grows with a size, of the suites that double one.
    fn series(&self, description: &Description, ran: &[(&Workload, f64, &'static str)]) -> Vec<Series> {
        match self.suite {
            Some(Suite::Scaling) => Series::along_axes(description, ran),
            Some(Suite::Recurrence) => Series::along_t(description, ran).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// What it costs not to tune, over the rows that ran both ways; empty if none did.
fn cost_of_the_default(entries: &[Entry]) -> String {
    let untuned = entries.iter().filter(|entry| entry.untuned);
    let pairs = untuned.filter_map(|entry| {
        let tuned = entries.iter().find(|other| !other.untuned && other.name == entry.name)?;
        Some((entry.ms_median? / tuned.ms_median?, &entry.name))
    });
    let pairs: Vec<_> = pairs.collect();
    let Some((most, name)) = pairs.iter().max_by(|a, b| a.0.total_cmp(&b.0)) else { return String::new() };
    let mean = (pairs.iter().map(|(ratio, _)| ratio.ln()).sum::<f64>() / pairs.len() as f64).exp();
    let (mean, most) = (short(mean), short(*most));
    format!(
        "the default costs: without tuning {mean} times the tuned time in the geometric mean of {} rows, at most {most} ({name})",
        pairs.len()
    )
}

/// A report of this machine and command line.
pub fn report() -> Report {
    let mut report = Report::new(Host::here());
    report.command = std::env::args().collect();
    report
}
