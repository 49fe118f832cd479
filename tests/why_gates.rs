//! The example `why_gates`: what it measures is the Jacobian's norm, its tasks are what they say, its networks start as they say and
//! learn, and its runs go on where they stopped.

#[path = "../examples/why_gates/args.rs"]
mod args;
#[path = "../examples/why_gates/batch.rs"]
mod batch;
mod common;
#[path = "../examples/why_gates/init.rs"]
mod init;
#[path = "../examples/why_gates/norms.rs"]
mod norms;
#[path = "../examples/why_gates/plot.rs"]
mod plot;
#[path = "../examples/why_gates/report.rs"]
mod report;
#[path = "../examples/why_gates/runs.rs"]
mod runs;
#[path = "../examples/why_gates/tasks.rs"]
mod tasks;
#[path = "../examples/why_gates/train.rs"]
mod train;

use std::error::Error;
use std::fs;

use args::{Args, Command};
use batch::{CELLS, Wanted, arms, batch, has_gates};
use clap::Parser;
use common::command::Folder;
use init::{Init, init};
use norms::{directions, norms};
use plot::{Line, Panel, within};
use runs::{Key, Record, Runs};
use tasks::{ALL, ALPHABET, Answers, COPIED, Generator, Part, Problem, Rows, Task};
use tidegate::cell::by_name;
use tidegate::train::IGNORE;
use tidegate::{Cell, Mode, ParamLayout, Params, Rnn, RnnConfig, SeqShape, Sequence, reference};
use train::{Arm, Run, Size};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const SMALL: Size = Size { hidden: 32, batch: 16, updates: 400 };

fn arm(cell: &str, init: Init) -> Arm {
    Arm { cell: cell.into(), init, is_clipped: true }
}

fn key(task: Task, lag: usize, arm: Arm, seed: u64) -> Key {
    Key { problem: Problem { task, lag }, arm, seed, learning_rate: 3e-3 }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

/// ∂h after the input over ∂ of the state before it, `[H, S·H]`, of one row: central differences of the reference.
fn jacobian(cell: &dyn Cell, config: &RnnConfig, params: &[f64], input: &[f64], state: &[f64]) -> Vec<Vec<f64>> {
    let shape = SeqShape { seq_len: input.len() / config.input_size, batch_size: 1 };
    let sequence = Sequence::new(shape, input);
    let frozen = reference::forward(cell, config, params, &sequence.with_initial_state(state), Mode::Training).unwrap();
    let mut columns = Vec::new();
    for at in 0..state.len() {
        let moved = |by: f64| {
            let mut state = state.to_vec();
            state[at] += by;
            let moved = sequence.with_initial_state(&state);
            let trace = reference::forward_surrogate(cell, config, params, &moved, Mode::Training, &frozen).unwrap();
            trace.output.final_state[..config.hidden_size].to_vec()
        };
        let (up, down) = (moved(1e-5), moved(-1e-5));
        columns.push(up.iter().zip(&down).map(|(up, down)| (up - down) / 2e-5).collect::<Vec<f64>>());
    }
    (0..config.hidden_size).map(|row| columns.iter().map(|column| column[row]).collect()).collect()
}

#[test]
fn norms_are_those_of_the_jacobian() {
    let ctx = common::context();
    let (hidden, input_size, rows, before, lags) = (5, 3, 4, 6, [1, 3, 8]);
    let config = RnnConfig::new(input_size, hidden);
    let vectors = directions(rows, hidden, 7);
    let input: Vec<f32> = common::uniform(8, (before + 8) * rows * input_size, 1.0).iter().map(|&x| x as f32).collect();
    let row = |b: usize| wide(&input.chunks_exact(input_size).skip(b).step_by(rows).flatten().copied().collect::<Vec<_>>());
    for name in CELLS {
        let rnn = Rnn::new(&ctx, by_name(name).unwrap(), config.clone()).unwrap();
        let params = Params::uniform(rnn.param_layout(), 3);
        let (cell, wide_params) = (rnn.cell(), wide(params.values()));
        // [lag][state]: the sum over rows of |vᵀ J|².
        let mut expected = vec![vec![0.0; cell.spec().states.len()]; lags.len()];
        let mut frobenius = expected.clone();
        for b in 0..rows {
            let input = row(b);
            let (first, window) = input.split_at(before * input_size);
            let start = Sequence::new(SeqShape { seq_len: before, batch_size: 1 }, first);
            let state = reference::forward(cell, &config, &wide_params, &start, Mode::Inference).unwrap().output.final_state;
            for (k, lag) in lags.iter().enumerate() {
                let j = jacobian(cell, &config, &wide_params, &window[..lag * input_size], &state);
                for at in 0..state.len() {
                    let along: f64 = (0..hidden).map(|i| f64::from(vectors[b * hidden + i]) * j[i][at]).sum();
                    expected[k][at / hidden] += along * along;
                    if b == 0 {
                        frobenius[k][at / hidden] += j.iter().map(|row| row[at] * row[at]).sum::<f64>();
                    }
                }
            }
        }
        let close = |what: &str, expected: f64, actual: f64, tolerance: f64| {
            assert!((actual / expected - 1.0).abs() < tolerance, "{name}, {what}: expected {expected}, got {actual}");
        };
        let found = norms(&rnn, &params, &input, before, &lags, &vectors).unwrap();
        for ((norm, expected), lag) in found.iter().zip(&expected).zip(lags) {
            assert_eq!((norm.lag, norm.of_state.len()), (lag, cell.spec().states.len()));
            for (&actual, expected) in norm.of_state.iter().zip(expected) {
                close(&format!("lag {lag}"), (expected / rows as f64).sqrt(), actual, 1e-3);
            }
            close("all states", (expected.iter().sum::<f64>() / rows as f64).sqrt(), norm.whole(), 1e-3);
        }

        // The first row with many vectors: Frobenius' norm by the root of H.
        let many = 4000;
        let repeated: Vec<f32> = row(0).chunks(input_size).flat_map(|step| step.repeat(many)).map(|x| x as f32).collect();
        let found = norms(&rnn, &params, &repeated, before, &lags, &directions(many, hidden, 9)).unwrap();
        for (norm, frobenius) in found.iter().zip(&frobenius) {
            for (&actual, frobenius) in norm.of_state.iter().zip(frobenius) {
                close("Frobenius", (frobenius / hidden as f64).sqrt(), actual, 0.1);
            }
        }
    }
}

#[test]
fn answers_follow_from_inputs() {
    let count = 300;
    for (task, lag) in ALL.into_iter().flat_map(|task| [4, 10, 33].map(|lag| (task, lag))) {
        let problem = Problem { task, lag };
        let Rows { inputs, targets } = problem.rows(Part::Train, 5, count);
        let size = task.input_size();
        assert_eq!(inputs.len(), problem.seq_len() * count * size);
        for row in 0..count {
            let step = |t: usize| &inputs[(t * count + row) * size..][..size];
            let symbol = |t: usize| step(t).iter().position(|&x| x == 1.0);
            let (lead, second) = (problem.lead(), problem.lead() + lag / 2);
            let check_places = |places: &[usize]| {
                assert!(matches!(places, &[a, b] if a < lead && (lead..second).contains(&b)), "{problem:?}: {places:?}");
                assert!(problem.seq_len() - 1 - places[0] >= lag);
            };
            match &targets {
                Answers::Values(sums) => {
                    let marked: Vec<usize> = (0..problem.seq_len()).filter(|&t| step(t)[1] == 1.0).collect();
                    check_places(&marked);
                    assert_eq!(sums[row], marked.iter().map(|&t| step(t)[0]).sum::<f32>());
                }
                Answers::Labels(labels) if task == Task::Order => {
                    let rare: Vec<usize> = (0..problem.seq_len()).filter(|&t| symbol(t).unwrap() >= size - 2).collect();
                    check_places(&rare);
                    let [first, last] = [rare[0], rare[1]].map(|t| symbol(t).unwrap() - (size - 2));
                    assert_eq!(labels[row] as usize, 2 * first + last);
                }
                Answers::Labels(labels) => {
                    let begin = COPIED + lag;
                    for t in 0..problem.seq_len() {
                        let expected = if t < COPIED { symbol(t) } else { (t == begin).then_some(ALPHABET) };
                        assert_eq!(symbol(t), expected);
                        assert!(t >= COPIED || symbol(t).unwrap() < ALPHABET);
                        let answer = if t < begin { IGNORE } else { symbol(t - begin).unwrap() as u32 };
                        assert_eq!(labels[t * count + row], answer);
                    }
                }
            }
        }
        // Every answer is there.
        if let Answers::Labels(labels) = &targets {
            assert!((0..task.outputs()).all(|label| labels.contains(&(label as u32))));
        }
    }
}

#[test]
fn seeds_repeat_and_parts_are_apart() {
    for task in ALL {
        let problem = Problem { task, lag: 20 };
        let train = problem.rows(Part::Train, 1, 16);
        assert_eq!(train, problem.rows(Part::Train, 1, 16));
        assert_ne!(train, problem.rows(Part::Train, 2, 16));
        assert_ne!(train, problem.rows(Part::Test, 1, 16));
        let mut generator = Generator::new(problem, Part::Train, 1);
        assert_eq!(generator.rows(16), train);
        assert_ne!(generator.rows(16), train);
    }
}

/// The weights that the argument for the bound names have just that error.
#[test]
fn what_a_linear_answer_can_do() {
    let problem = Problem { task: Task::Adding, lag: 10 };
    let count = 20_000;
    let Rows { inputs, targets: Answers::Values(sums) } = problem.rows(Part::Train, 1, count) else { panic!() };
    let [lead, second] = [problem.lead(), 5];
    let errors = (0..count).map(|row| {
        let number = |t: usize| f64::from(inputs[(t * count + row) * 2]) - 0.5;
        let mean = |from: usize, len: usize| (from..from + len).map(number).sum::<f64>() / len as f64;
        (1.0 + mean(0, lead) + mean(lead, second) - f64::from(sums[row])).powi(2)
    });
    let error = errors.sum::<f64>() / count as f64;
    assert!((error / problem.linear_bound() - 1.0).abs() < 0.03, "{error}, {}", problem.linear_bound());
    assert!(!Task::Adding.is_solved(error));
}

#[test]
fn networks_start_as_they_say() {
    let hidden = 24;
    let config = RnnConfig::new(2, hidden);
    let start = |name: &str, which: Init, lag: usize| {
        let cell = by_name(name).unwrap();
        let layout = ParamLayout::new(&cell, &config).unwrap();
        let mut params = Params::uniform(&layout, 1);
        init(&mut params, &cell, which, lag, 1).map(|()| params)
    };
    for name in CELLS {
        let params = start(name, Init::Orthogonal, 10).unwrap();
        let uniform = start(name, Init::Uniform, 10).unwrap();
        assert_eq!(uniform, Params::uniform(uniform.layout(), 1));
        let blocks: Vec<Vec<f64>> = params.get("weight_hh_l0").unwrap().chunks_exact(hidden * hidden).map(wide).collect();
        assert_eq!(blocks.len(), by_name(name).unwrap().spec().gates.len());
        for block in &blocks {
            for (i, j) in (0..hidden).flat_map(|i| (0..hidden).map(move |j| (i, j))) {
                let dot: f64 = (0..hidden).map(|k| block[i * hidden + k] * block[j * hidden + k]).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-5, "{name}: rows {i} and {j}: {dot}");
            }
        }
        assert!(blocks.windows(2).all(|pair| pair[0] != pair[1]), "{name}");
        for other in ["weight_ih_l0", "bias_ih_l0", "bias_hh_l0"] {
            assert_eq!(params.get(other).unwrap(), uniform.get(other).unwrap());
        }
    }

    let params = start("rnn_relu", Init::Identity, 10).unwrap();
    let identity = |at: usize| if at / hidden == at % hidden { 1.0 } else { 0.0 };
    assert!(params.get("weight_hh_l0").unwrap().iter().enumerate().all(|(at, &w)| w == identity(at)));
    assert!(params.get("bias_ih_l0").unwrap().iter().chain(params.get("bias_hh_l0").unwrap()).all(|&b| b == 0.0));
    let weights = wide(params.get("weight_ih_l0").unwrap());
    let deviation = (weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64).sqrt();
    assert!((deviation / 0.001 - 1.0).abs() < 0.3, "{deviation}");

    // Without an input and from nothing a gate is what its bias makes of it.
    for (name, gate, copies) in [("lstm", 1, 1.0), ("gru", 1, 1.0), ("binary_gate", 0, 0.0)] {
        let cell = by_name(name).unwrap();
        let value = |which: Init, lag: usize| {
            let params = wide(start(name, which, lag).unwrap().values());
            let sequence = Sequence::new(SeqShape { seq_len: 1, batch_size: 1 }, &[0.0, 0.0]);
            let trace = reference::forward(&cell, &config, &params, &sequence, Mode::Training).unwrap();
            trace.gate(&cell, 0, 0, gate).unwrap()
        };
        let one = if name == "binary_gate" { 0.0 } else { 1.0 / (1.0 + (-1f64).exp()) };
        assert!(value(Init::Keep, 10).iter().all(|v| (v - one).abs() < 1e-6), "{name}");
        assert!(value(Init::Chrono, 9999).iter().all(|v| (v - copies).abs() < 1.1e-4), "{name}");
        assert!(value(Init::Uniform, 10).iter().any(|v| (v - copies).abs() > 0.2), "{name}");
    }
    let error = start("rnn_tanh", Init::Keep, 10).unwrap_err().to_string();
    assert_eq!(error, "rnn_tanh has no gate that copies: it cannot start as keep");
}

#[test]
fn what_a_cell_can_and_cannot_learn() {
    let ctx = common::context();
    let train = |key: &Key| Record::new(key.clone(), &Run::new(&ctx, key, SMALL).unwrap().train().unwrap());

    let copy = key(Task::Copy, 10, arm("rnn_linear", Init::Orthogonal), 1);
    let record = train(&copy);
    assert!(record.is_solved() && record.updates < SMALL.updates && record.score > 0.99, "{record:?}");
    assert!((record.norm_before - 1.0).abs() < 1e-3 && !record.diverged);
    // Bit for bit, but for the time.
    let again = train(&copy);
    assert_eq!(Record { seconds: record.seconds, ..again }, record);

    // From the same start a gate learns what a linear cell never can.
    let linear = train(&key(Task::Adding, 10, arm("rnn_linear", Init::Orthogonal), 1));
    let bound = linear.key.problem.linear_bound();
    assert!(!linear.is_solved() && linear.score > 0.85 * bound && linear.updates == SMALL.updates, "{linear:?}, bound {bound}");
    let gru = train(&key(Task::Adding, 10, arm("gru", Init::Keep), 1));
    assert!(gru.score < 0.5 * bound, "{gru:?}, bound {bound}");

    // A rate that no network survives ends a run, and no score of it counts.
    let wild = train(&Key { learning_rate: 1e30, ..copy });
    assert!(wild.diverged && !wild.is_solved() && wild.updates < SMALL.updates, "{wild:?}");
}

/// The score of a run against what the trainer itself predicts on the same rows.
#[test]
fn scores_are_of_the_predictions() {
    let ctx = common::context();
    for task in ALL {
        let key = key(task, 10, arm("gru", Init::Uniform), 1);
        let mut run = Run::new(&ctx, &key, SMALL).unwrap();
        run.update(20).unwrap();
        let rows = key.problem.rows(Part::Test, 2, SMALL.batch);
        run.trainer.write_batch(&rows.batch()).unwrap();
        let loss = run.trainer.evaluate_blocking().unwrap();
        let [predictions] = pollster::block_on(ctx.download([run.trainer.predictions()])).unwrap();
        let expected = match &rows.targets {
            Answers::Values(_) => f64::from(loss),
            Answers::Labels(labels) => {
                let answers = predictions.chunks(task.outputs()).zip(labels).filter(|&(_, &label)| label != IGNORE);
                let right = |(logits, label): (&[f32], &u32)| logits.iter().all(|&logit| logit <= logits[*label as usize]);
                let right: Vec<f64> = answers.map(|answer| f64::from(u8::from(right(answer)))).collect();
                right.iter().sum::<f64>() / right.len() as f64
            }
        };
        let score = run.score(&rows).unwrap();
        assert!((score - expected).abs() < 1e-5, "{task:?}: {score}, expected {expected}");
    }
}

fn record(task: Task, lag: usize, arm: Arm, seed: u64, score: f64, norms: [f64; 2]) -> Record {
    let [norm_before, norm_after] = norms;
    Record { key: key(task, lag, arm, seed), updates: 7, score, diverged: false, norm_before, norm_after, seconds: 1.5 }
}

#[test]
fn runs_are_done_once_and_lags_rise_where_they_were_solved() {
    let ctx = common::context();
    let folder = Folder::new();
    let path = folder.path("runs.tsv");
    let size = Size { hidden: 4, batch: 2, updates: 1 };
    let mut runs = Runs::open(&path, &size).unwrap();
    // As if all arms had been run at a lag of 4; one of them solved it, with one of two seeds.
    for (seed, arm) in (1..=2).flat_map(|seed| arms().into_iter().map(move |arm| (seed, arm))) {
        let score = if arm.init == Init::Identity && seed == 2 { 1.0 } else { 0.5 };
        let learning_rate = if has_gates(&arm.cell) { 2e-3 } else { 1e-3 };
        let record = record(Task::Order, 4, arm, seed, score, [0.5, 2.0]);
        runs.push(Record { key: Key { learning_rate, ..record.key }, ..record }).unwrap();
    }
    let before = runs.records.len();
    let wanted = Wanted { tasks: vec![Task::Order], lags: vec![4, 5], seeds: 2, arms: arms(), rates: [1e-3, 2e-3], size };
    batch(&ctx, &mut runs, &wanted).unwrap();
    let new: Vec<&Record> = runs.records[before..].iter().collect();
    assert_eq!(new.len(), 2);
    for (record, seed) in new.iter().zip(1..) {
        let arm = arm("rnn_relu", Init::Identity);
        assert_eq!(record.key, Key { learning_rate: 1e-3, ..key(Task::Order, 5, arm, seed) });
        assert_eq!(record.updates, 1);
    }
    // All of it is in the file, in the same words.
    let again = Runs::open(&path, &size).unwrap();
    let lines = |runs: &Runs| runs.records.iter().map(Record::line).collect::<Vec<_>>();
    assert_eq!(lines(&again), lines(&runs));

    let error = batch(&ctx, &mut runs, &Wanted { lags: vec![5, 5], ..wanted }).unwrap_err().to_string();
    assert_eq!(error, "lags must rise, 5 stands before 5");
    let error = Runs::open(&path, &Size { hidden: 8, ..size }).unwrap_err().to_string();
    assert!(error.contains("hidden 4, batch 2") && error.contains("hidden 8, batch 2"), "{error}");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\t0.50000", "", 1)).unwrap();
    let error = Runs::open(&path, &size).unwrap_err().to_string();
    assert!(error.ends_with("runs.tsv:3: has 12 columns, not 13"), "{error}");
}

#[test]
fn tables_count() {
    let [linear, lstm] = [arm("rnn_linear", Init::Orthogonal), arm("lstm", Init::Uniform)];
    let records = [
        record(Task::Adding, 10, linear.clone(), 1, 0.12, [1.0, 0.1]),
        record(Task::Adding, 10, linear.clone(), 2, 0.11, [1.0, 1e-5]),
        record(Task::Adding, 10, lstm.clone(), 1, 0.009, [1e-4, 1.0]),
        record(Task::Adding, 10, lstm.clone(), 2, 0.1, [1e-6, 1.0]),
        record(Task::Copy, 30, linear.clone(), 1, 1.0, [0.5, 2.0]),
        Record { diverged: true, ..record(Task::Copy, 30, linear, 2, f64::NAN, [0.5, f64::NAN]) },
    ];
    let text = report::report("# a size", &records);
    for line in [
        "a size; 6 runs",
        "| `rnn_linear` | orthogonal | yes | 0.003 | 0/2 (0.110; 1e0 → 1e-3) |",
        "| `lstm` | uniform | yes | 0.003 | 1/2 (0.009; 1e-5 → 1e0) |",
        "| adding | `rnn_linear` | 0/0 | 0/2 | 2 | 1 | 1 | 0 |",
        "| adding | `lstm` | 1/2 | 0/0 | 0 | 0 | 0 | 0 |",
        "| copy | `rnn_linear` | 0/0 | 1/2 | 1 | 0 | 0 | 1 |",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn curves_end_at_the_edge_of_a_figure() {
    let points = |norms: [f64; 3]| [1.0, 10.0, 100.0].into_iter().zip(norms).collect::<Vec<_>>();
    assert_eq!(within(&points([1.0, 1e-2, 1e-4])), points([1.0, 1e-2, 1e-4]));
    // Half way to where it leaves, in logarithms.
    let left = within(&points([1.0, 1e-24, 1.0]));
    assert_eq!(left.len(), 2);
    assert!((left[1].0 - 10f64.sqrt()).abs() < 1e-9 && left[1].1 == 1e-12);
    assert_eq!(within(&points([1.0, 0.0, 0.0])).len(), 2);
    assert_eq!(within(&points([1.0, f64::INFINITY, f64::NAN]))[1].1, 1e6);

    let folder = Folder::new();
    let path = folder.path("figure.svg");
    let lines = ["one", "two"].map(|name| Line { name: name.into(), style: 0, points: points([1.0, 1e-2, 0.0]) });
    plot::draw(&path, 2, &[Panel { title: "a panel".into(), lines: lines.into() }]).unwrap();
    let svg = fs::read_to_string(&path).unwrap();
    assert!(["a panel", "one", "two", "lag, steps"].iter().all(|word| svg.contains(word)), "{svg}");
}

#[test]
fn the_command_line() {
    let parse = |line: &str| Args::try_parse_from(line.split(' '));
    assert!(parse("why_gates").unwrap().command.is_none());
    let wanted = |line: &str| match parse(line).unwrap().command {
        Some(Command::Tasks { tasks, .. }) => tasks.wanted(),
        _ => panic!("{line}"),
    };
    let all = wanted("why_gates tasks --lags 5,7 --hidden 8").unwrap();
    assert_eq!((all.lags, all.seeds, all.tasks, all.arms), (vec![5, 7], 3, ALL.to_vec(), arms()));
    assert_eq!(all.size, Size { hidden: 8, batch: 16, updates: 2000 });
    let some = wanted("why_gates tasks --cells lstm,rnn_tanh --starts keep,orthogonal --tasks copy").unwrap();
    let expected = [arm("rnn_tanh", Init::Orthogonal), arm("lstm", Init::Orthogonal), arm("lstm", Init::Keep)];
    assert_eq!((some.tasks, some.arms), (vec![Task::Copy], expected.to_vec()));
    let error = wanted("why_gates tasks --cells ltsm").unwrap_err().to_string();
    assert!(error.contains("(ltsm)") && error.contains("lstm"), "{error}");
    for wrong in ["tasks --lags 3", "tasks --hidden 0", "tasks --tasks sum", "tasks --starts no", "nothing"] {
        assert!(parse(&format!("why_gates {wrong}")).is_err(), "{wrong}");
    }
}
