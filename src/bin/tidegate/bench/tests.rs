//! The loop and its ends on devices that are not there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tidegate::bench::{Description, Host, Kind, Limits, Mark, Measured, Suite, Times, Verified};
use tidegate::cell::by_name;
use tidegate::{Dtype, Error, Mode, RnnConfig, SeqShape, Strategy, Tried};

use super::session::{Job, Target};
use super::*;

/// Takes ten seconds a row.
struct Simulated {
    clock: Rc<Cell<u64>>,
    tunes: bool,
    /// Rows with this H fail.
    fails_at: usize,
    is_software: bool,
    /// What was said to come next.
    next: Rc<RefCell<Vec<Option<usize>>>>,
}

impl Target for Simulated {
    fn description(&self) -> Description {
        Description { device: "simulated".into(), device_type: "discrete-gpu", ..Description::cpu() }
    }

    fn runs_on_cpu(&self) -> bool {
        self.is_software
    }

    fn tunes(&self) -> bool {
        self.tunes
    }

    fn limits(&mut self) -> Result<Option<Limits>, Error> {
        Err(Error::Device("no peaks".into()))
    }

    fn measure(&mut self, job: Job<'_>, next: Option<Job<'_>>, phase: &dyn Fn(Phase)) -> Result<(Measured, Vec<Tried>), Error> {
        let Job { workload, tuned } = job;
        self.next.borrow_mut().push(next.map(|next| next.workload.config.hidden_size));
        phase(Phase::Timing);
        self.clock.set(self.clock.get() + 10);
        if workload.config.hidden_size == self.fails_at {
            return Err(Error::Device("broken".into()));
        }
        let ms = if tuned { 1.0 } else { 5.0 };
        let measured = Measured {
            strategy: "stepwise",
            dispatches: 3,
            first: 9.0,
            tuning: 0.0,
            verifying: 0.0,
            warm_up: 300.0,
            times: Times::of([ms; 12]),
            is_again: false,
            gpu_times: None,
            dispatch_times: Vec::new(),
            host_times: None,
            cooperative: false,
            verified: Verified { shape: workload.shape, max_rel_err: 0.0 },
            repairs: 0,
        };
        Ok((measured, Vec::new()))
    }
}

/// What was told.
#[derive(Default)]
struct Told {
    rows: Vec<(String, [usize; 2], f64)>,
    failures: Vec<String>,
    written: usize,
    phases: RefCell<Vec<Phase>>,
    /// How many rows had begun, and what was printed.
    printed: Vec<(usize, String)>,
    next: Vec<Option<usize>>,
}

impl Told {
    fn text(&self) -> String {
        self.printed.iter().map(|(_, text)| text.as_str()).collect()
    }
}

impl Watcher for Told {
    fn measures_peaks(&mut self, _: &str) {}

    fn begins(&mut self, row: &str, done: [usize; 2], parts: [f64; 2]) {
        assert!(parts[0] < parts[1] && parts[1] < 1.0 + 1e-9, "{parts:?}");
        self.rows.push((row.into(), done, parts[0]));
    }

    fn fails(&mut self, text: &str) {
        self.failures.push(text.into());
    }

    fn ran(&mut self, _: &Report) -> Result<()> {
        self.written += 1;
        Ok(())
    }

    fn phase(&self, phase: Phase) {
        self.phases.borrow_mut().push(phase);
    }

    fn prints(&mut self, text: &str) -> Result<()> {
        self.printed.push((self.rows.len(), text.into()));
        Ok(())
    }
}

/// H = 1 to 4.
fn workloads() -> Vec<Workload> {
    let workload = |hidden| Workload {
        cell: by_name("gru").unwrap(),
        config: RnnConfig::new(3, hidden),
        shape: SeqShape { seq_len: 4, batch_size: 1 },
        mode: Mode::Inference,
        kind: Kind::Throughput,
        dtype: Dtype::F32,
    };
    (1..=4).map(workload).collect()
}

struct Setting {
    tuned: &'static [bool],
    budget: Option<u64>,
    /// Ctrl-C after this many seconds.
    stop_at: u64,
    fails_at: usize,
    host: Host,
    devices: usize,
    suite: Option<Suite>,
    workloads: Vec<Workload>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            tuned: &[true],
            budget: None,
            stop_at: u64::MAX,
            fails_at: 0,
            host: Host::default(),
            devices: 1,
            suite: None,
            workloads: workloads(),
        }
    }
}

fn run(setting: Setting) -> (Report, usize, Told) {
    let clock = Rc::new(Cell::new(100));
    let (next, fails_at) = (Rc::new(RefCell::default()), setting.fails_at);
    let simulated = || Simulated { clock: clock.clone(), tunes: true, fails_at, is_software: false, next: next.clone() };
    let mut targets: Vec<Box<dyn Target>> = (0..setting.devices).map(|_| Box::new(simulated()) as Box<dyn Target>).collect();
    let session = Session {
        suite: setting.suite,
        workloads: &setting.workloads,
        strategy: Strategy::Auto,
        tuned: setting.tuned,
        has_peaks: true,
        keeps_runs: false,
        is_verbose: true,
        has_dispatches: false,
        is_wide: false,
        budget: setting.budget.map(Duration::from_secs),
        now: &|| Duration::from_secs(clock.get()),
        stop: &|| clock.get() - 100 >= setting.stop_at,
    };
    let mut told = Told::default();
    let (report, failed) = session.run(&mut targets, Report::new(setting.host), &mut told).unwrap();
    told.next = next.take();
    (report, failed, told)
}

fn status(report: &Report, failed: [usize; 2], verdict: Option<Result<Verdict>>) -> (u8, String) {
    match end(report, failed, 4, verdict) {
        Ok(_) => (0, String::new()),
        Err(failure) => (failure.downcast_ref::<Exit>().map_or(1, |exit| exit.status), failure.to_string()),
    }
}

#[test]
fn all_rows_run_and_are_told_of() {
    let (report, failed, told) = run(Setting { devices: 2, ..Setting::default() });
    assert_eq!((report.results.len(), failed, told.written, told.phases.borrow().len()), (8, 0, 8, 8));
    // Of each device what stands above its rows, each row and what was tried for it as soon as it is done, and what stands below.
    let begun: Vec<usize> = told.printed.iter().map(|(rows, _)| *rows).collect();
    assert_eq!(begun, [0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 8]);
    assert!(
        told.printed[1].1.lines().nth(2).is_some_and(|line| line.starts_with("gru 3→1 4 1 infer stepwise ")),
        "{}",
        told.printed[1].1
    );
    assert!(told.printed[9].1.starts_with("4 of 4 verified against the float64 reference\n"), "{}", told.printed[9].1);
    assert_eq!(told.next[..5], [Some(2), Some(3), Some(4), None, Some(2)]);
    assert!(!report.interrupted && report.results.iter().all(|entry| entry.verified && entry.runs_ms.is_empty()));
    // Peaks that cannot be measured cost no row.
    assert_eq!(
        told.failures,
        ["simulated, peaks: no peaks"; 2].map(|text| text.replace("no peaks", &Error::Device("no peaks".into()).to_string()))
    );
    assert!(told.rows.windows(2).all(|pair| pair[0].2 < pair[1].2) && told.rows[0].2 == 0.0 && told.rows[4].2 == 0.5);
    assert_eq!(told.rows[5].1, [1, 4]);
    assert_eq!(status(&report, [0, 0], None), (0, String::new()));
}

#[test]
fn without_tuning_first_and_then_with_it() {
    let (report, _, told) = run(Setting { tuned: &[false, true], ..Setting::default() });
    let rows: Vec<_> = report.results.iter().map(|entry| (entry.hidden_size, entry.untuned, entry.ms_median)).collect();
    assert_eq!(rows[..3], [(1, true, Some(5.0)), (1, false, Some(1.0)), (2, true, Some(5.0))]);
    assert_eq!((rows.len(), told.rows[7].1), (8, [7, 8]));
    assert_eq!(told.next[..3], [Some(1), Some(2), Some(2)]);
    let text = told.text().split_whitespace().collect::<Vec<_>>().join(" ");
    let cost = "the default costs: without tuning 5.00 times the tuned time in the geometric mean of 4 rows, at most 5.00 (gru";
    assert!(text.contains(cost), "{text}");
}

#[test]
fn no_row_begins_after_the_budget() {
    let (report, _, told) = run(Setting { budget: Some(15), ..Setting::default() });
    assert_eq!(report.results.len(), 2);
    assert!(told.text().contains("left out, out of time: 2 of 4"), "{}", told.text());
    assert_eq!(status(&report, [0, 0], None).0, 0);
}

/// The last device, by default the reference, is what the others are compared with.
#[test]
fn devices_share_the_budget_and_a_list() {
    let (report, _, told) = run(Setting { budget: Some(40), devices: 2, ..Setting::default() });
    assert_eq!(report.results.len(), 4);
    assert_eq!(told.rows.iter().map(|(_, done, _)| *done).collect::<Vec<_>>(), [[0, 4], [1, 4], [0, 4], [1, 4]]);
    let text = told.text();
    assert!(text.contains("out of time: 2 of 4\n  gru I=3 H=3"), "{text}");
    assert!(text.contains("out of time: 2 of 4, 2 of them listed above\n\n"), "{text}");
    assert_eq!(text.matches("GFLOP a run").count(), 2, "{text}");
    // What one leaves of its share is the next one's.
    let (report, ..) = run(Setting { budget: Some(90), devices: 2, ..Setting::default() });
    assert_eq!(report.results.len(), 8);
}

#[test]
fn ctrl_c_ends_after_the_row_and_says_so() {
    let (report, _, told) = run(Setting { stop_at: 10, devices: 2, ..Setting::default() });
    assert_eq!((report.results.len(), report.interrupted, told.rows.len()), (1, true, 1));
    assert!(told.text().contains("left out, interrupted: 3 of 4"));
    // Whatever failed before: who ended it knows.
    assert_eq!(status(&report, [1, 1], None), (exit::INTERRUPTED, "interrupted after 1 of 4 workloads".into()));
}

#[test]
fn what_fails_is_named_and_the_rest_runs() {
    let (report, failed, told) = run(Setting { fails_at: 2, ..Setting::default() });
    assert_eq!((report.results.len(), failed), (4, 1));
    assert!(!report.results[1].verified && report.results[1].ms_median.is_none() && report.results[2].verified);
    assert!(report.results[1].error.as_ref().is_some_and(|error| error.contains("broken")), "{:?}", report.results[1].error);
    assert!(told.text().contains("FAILED") && told.text().contains("3 of 4 verified"), "{}", told.text());
    assert!(told.failures[1].contains("H=2") && told.failures[1].contains("broken"), "{:?}", told.failures);
    assert_eq!(status(&report, [failed, 0], None), (1, "1 of 4 workloads failed".into()));
    assert_eq!(status(&report, [0, 1], None), (1, "1 adapter did not open".into()));
    assert_eq!(status(&report, [0, 0], Some(Err("no base".into()))), (1, "no base".into()));
}

#[test]
fn a_busy_machine_marks_every_row() {
    let host = Host { load_average: Some(3.0), cpus: Some(4), ..Host::default() };
    let (report, _, told) = run(Setting { host, fails_at: 4, ..Setting::default() });
    assert!(report.results[..3].iter().all(|entry| entry.marks == [Mark::Busy]) && report.results[3].marks.is_empty());
    let text = told.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(Mark::Busy.sentence()) && !text.contains("doubted"), "{text}");
    assert!(text.contains("3 of 4 verified"), "{text}");
}

/// Suite recurrence's one shape with T doubled; a step of the simulated device takes the less the longer T is.
#[test]
fn growth_with_t_is_told_of_both_figures_apart() {
    let all = Suite::Recurrence.workloads().unwrap();
    let grows =
        all.into_iter().filter(|w| w.to_string().starts_with("lstm I=256 H=256 T=") && w.to_string().ends_with(" B=1 infer"));
    let setting =
        Setting { suite: Some(Suite::Recurrence), workloads: grows.collect(), tuned: &[false, true], ..Setting::default() };
    let (report, _, told) = run(setting);
    assert_eq!((report.results.len(), report.scaling.len()), (14, 1));
    let text = told.text();
    let line = "lstm infer, T = 256 to 16384: ms ~ T^0.00, a doubling ×1.00 ×1.00 ×1.00 ×1.00";
    assert!(text.contains(line) && text.contains(" cuDNN  TF32"), "{text}");
    // The last two rows of 14 are a quarter of all work, not a seventh: 208 GFLOP with 10 beside each row's own.
    assert!((told.rows[12].2 - 0.739).abs() < 0.005, "{:?}", told.rows[12]);
    // Both published figures of the one row that has them, in milliseconds.
    let row = text.lines().find(|line| line.starts_with("lstm 256   256 1 infer stepwise* ")).unwrap();
    assert!(row.ends_with("  2.94  2.97   0.0e0"), "{row}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

/// What is told of tuned rows is told of the others where those alone ran.
#[test]
fn what_was_not_tuned_counts_where_nothing_was() {
    let workloads = Suite::Recurrence.workloads().unwrap();
    let grows = workloads.into_iter().filter(|w| w.to_string().starts_with("lstm I=256 H=256 T=") && w.shape.seq_len > 256);
    let setting = Setting { suite: Some(Suite::Recurrence), workloads: grows.collect(), tuned: &[false], ..Setting::default() };
    let (report, _, told) = run(setting);
    assert_eq!((report.results.len(), report.scaling.len()), (6, 1));
    assert!(told.text().contains("T = 512 to 16384") && !told.text().contains("the default costs"), "{}", told.text());
    let quick = Suite::Quick.workloads().unwrap();
    let (report, ..) = run(Setting { suite: Some(Suite::Quick), workloads: quick, tuned: &[false], ..Setting::default() });
    assert_eq!(report.scores[0].score.cases, [2, 6, 8]);
}

/// Nothing stands above rows that never ran.
#[test]
fn a_device_without_rows_has_no_table() {
    let (_, _, told) = run(Setting { budget: Some(0), ..Setting::default() });
    let text = told.text();
    assert!(text.starts_with("simulated (") && !text.contains("network") && !text.contains("verified"), "{text}");
}
