//! Strategy persistent where it is weakest: workgroups whose waits time out, more workgroups than can run, weights in registers; and every
//! strategy at the ends of each axis.

mod common;

use std::sync::Arc;

use tidegate::check::{Case, Outcome};
use tidegate::{Cell, Context, Dtype, Mode, Params, Rnn, RnnConfig, ScheduleOptions, SeqShape, Sequence, Strategy, Tuning, cell};

fn run(ctx: &Context, cell: &Arc<dyn Cell>, case: &Case, strategy: Strategy) -> Outcome {
    let outcome = pollster::block_on(case.check_gpu(ctx, cell, strategy));
    outcome.unwrap_or_else(|e| panic!("{} under {}: {e}\n{case:?}", cell.name(), strategy.name()))
}

/// Nothing may have been repaired: else a kernel that does not work would pass as resident.
fn run_unrepaired(ctx: &Context, cell: &Arc<dyn Cell>, case: &Case) {
    // A busy machine may keep one of a software adapter's threads from running: patience for many seconds.
    let case = Case { spin_limit: case.spin_limit.or(Some(1 << 30)), ..case.clone() };
    let outcome = run(ctx, cell, &case, Strategy::Persistent);
    assert!(outcome.persistent > 0 && outcome.repairs == 0, "{}: {outcome:?}\n{case:?}", cell.name());
}

/// Persistent can run here, or this suite says nothing.
fn context() -> Context {
    let ctx = common::context();
    assert!(Strategy::all(&ctx).contains(&Strategy::Persistent), "this adapter has too few bindings for strategy persistent");
    ctx
}

/// Both directions and several chunks, in each direction one workgroup.
fn case(seq_len: usize, batch: usize) -> Case {
    let config = RnnConfig::new(3, 17).with_num_layers(2).with_bidirectional(true);
    Case { dispatch_flops: Some(20_000), ..Case::new(config, seq_len, batch) }
}

/// Two workgroups share the units of a row, over many chunks and resets, which must not let one of them run ahead.
#[test]
fn members_of_a_team_keep_step() {
    let ctx = context();
    for cell in cell::registry() {
        for batch in [1, 3] {
            let case = Case { dispatch_flops: Some(100_000), ..Case::new(RnnConfig::new(5, 37), 17, batch) };
            let case = Case { workgroups: Some(2), ..case };
            // The binary gate's data must stay clear of its jumps.
            if cell.name() != "binary_gate" || batch == 1 {
                run_unrepaired(&ctx, &cell, &case);
            }
        }
    }
}

/// Two values to a word of exchange, the last of an odd H alone.
#[test]
fn halves_are_exchanged_in_pairs() {
    let ctx = context();
    for (name, batch) in [("lstm", 1), ("gru_reset_before", 3)] {
        let case = Case { dispatch_flops: Some(100_000), dtype: Dtype::F16, ..Case::new(RnnConfig::new(5, 37), 17, batch) };
        run_unrepaired(&ctx, &cell::by_name(name).unwrap(), &Case { workgroups: Some(2), ..case });
    }
}

/// Layouts for cooperative matrices, whose products the threads make here: rows and units that do not fill a matrix, both directions,
/// several turns of rows, K in one part and in several, one gate, three and four, one chunk and many, steps that are held.
#[test]
fn layouts_for_matrices_give_right_numbers() {
    let ctx = context();
    for (name, hidden, batch, flops, layout) in [
        ("lstm", 16, 3, 100_000, ""),
        ("lstm", 30, 18, 1_000_000, ""),
        ("gru", 25, 5, 100_000, " along=1"),
        ("gru", 21, 9, 1_000_000, " along=4 rows=4 back-rows=2"),
        ("lstm", 15, 4, 1_000_000, " back-units=8 back-teams=1"),
        ("gru", 13, 9, 100_000, " back-units=8 back-teams=1"),
        ("rnn_tanh", 30, 33, 100_000, " teams=1 back-along=4"),
    ] {
        let config = RnnConfig::new(5, hidden).with_bidirectional(hidden == 16);
        let case = Case { layout: Some(format!("matrices=emulated{layout}")), ..Case::new(config, 9, batch) };
        let case = Case { workgroups: Some(2), dtype: Dtype::F16, dispatch_flops: Some(flops), ..case };
        run_unrepaired(&ctx, &cell::by_name(name).unwrap(), &Case { holds: hidden == 30, ..case });
    }
}

/// The gradient of the last output of six steps, and of the initial state: each step multiplies it by `weight` and does nothing else, and
/// it goes from step to step as f16. And what status counts of the same pass without the initial state's gradient.
fn through_six_steps(weight: f32, dispatch_flops: u64) -> ([Vec<f32>; 2], [u32; 4]) {
    let ctx = context();
    let (shape, hidden) = (SeqShape { seq_len: 6, batch_size: 3 }, 20);
    let options = ScheduleOptions::default().with_workgroups(2).with_dispatch_flops(dispatch_flops);
    let rnn =
        Rnn::new(&ctx, tidegate::Elman::new(tidegate::Activation::Affine { alpha: 1.0, beta: 0.0 }), RnnConfig::new(1, hidden))
            .and_then(|rnn| rnn.with_dtype(Dtype::F16))
            .and_then(|rnn| rnn.with_strategy(Strategy::Persistent).with_schedule(options).with_layout("matrices=emulated"))
            .unwrap();
    let mut params = Params::zeros(rnn.param_layout());
    let weights: Vec<f32> = (0..hidden * hidden).map(|i| if i % (hidden + 1) == 0 { weight } else { 0.0 }).collect();
    params.set("weight_hh_l0", &[hidden, hidden], &weights).unwrap();
    let (input, state) = (vec![0.0; shape.rows()], vec![0.0; shape.batch_size * hidden]);
    let mut d_output = vec![0.0; shape.rows() * hidden];
    let last = d_output.len() - state.len();
    (last..d_output.len()).for_each(|i| d_output[i] = (i % 7) as f32 - 3.0);
    let seq = Sequence { initial_state: Some(&state), ..Sequence::new(shape, &input) };
    let d = tidegate::OutputGradients { d_output: &d_output, d_final_state: None };
    let (_, gradients) = rnn.backward_blocking(&rnn.upload(&params).unwrap(), &seq, &d).unwrap();
    let d_last = d_output[last..].to_vec();

    let plan = rnn.plan(shape, Mode::Training).unwrap();
    let (buffers, of) = (plan.allocate().unwrap(), plan.allocate_gradients().unwrap());
    let upload = |name, values: &[f32]| ctx.upload(name, &Dtype::F16.encode(values)).unwrap();
    let (params, input, d_output) = (rnn.upload(&params).unwrap(), upload("input", &input), upload("d_output", &d_output));
    let forward = || buffers.forward(&params, &input);
    let mut encoder = ctx.device().create_command_encoder(&Default::default());
    plan.bind_forward(&forward()).unwrap().encode(&mut encoder);
    plan.bind_backward(&of.backward(forward(), &d_output)).unwrap().encode(&mut encoder);
    ctx.queue().submit([encoder.finish()]);
    let [status] = ctx.download_blocking([&buffers.status]).unwrap();
    ([d_last, gradients.d_initial_state], [0, 1, 2, 3].map(|i| status[i].to_bits()))
}

/// Gradients that outgrow f16 on their way between workgroups are made again in f32, over several chunks: here each step makes them 16
/// times as large, 2^24 in all. Status tells such repairs apart from those of waits in vain.
#[test]
fn gradients_beyond_f16_are_repaired() {
    let ([d_output, d_state], [ran, repaired, _, outgrew]) = through_six_steps(16.0, 10_000);
    assert_eq!(d_state, d_output.iter().map(|d| d * 16f32.powi(6)).collect::<Vec<_>>());
    assert!(repaired > 0 && repaired == outgrew && ran > repaired, "{ran} {repaired} {outgrew}");
}

/// Each chunk scales by what enters it, though that be what the step before left and nothing else: 2^-36 of the first, in all.
#[test]
fn gradients_of_the_chunk_before_are_in_range() {
    let ([d_output, d_state], [_, _, _, outgrew]) = through_six_steps(1.0 / 64.0, 1);
    assert_eq!(d_state, d_output.iter().map(|d| d / 64f32.powi(6)).collect::<Vec<_>>());
    assert_eq!(outgrew, 0);
}

/// A device opened with cooperative matrices, where a GPU of NVIDIA has them.
fn with_cooperative_matrices() -> Option<Context> {
    let adapter = pollster::block_on(Context::instance().request_adapter(&Default::default())).expect("an adapter");
    let feature = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    if adapter.get_info().vendor != 0x10DE || !adapter.features().contains(feature) {
        return None;
    }
    let descriptor = wgpu::DeviceDescriptor {
        required_features: Context::wanted_features(&adapter) | feature,
        required_limits: Context::wanted_limits(&adapter),
        #[expect(unsafe_code, reason = "the token says that experimental features may have bugs")]
        // SAFETY: this test is there to find them.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
    let ctx = Context::from_device(&adapter, &device, &queue).expect("a context");
    pollster::block_on(ctx.measure_residency()).expect("a residency");
    Some(ctx)
}

/// By the device's own matrices: gates that fill them and do not, ragged units and rows, several turns of rows, both directions; and
/// steps enough that training's products go by them too. `forced` has a test that the layouts fit.
#[test]
fn cooperative_matrices_give_right_numbers() {
    let Some(ctx) = with_cooperative_matrices() else {
        println!("not run: no GPU of NVIDIA with cooperative matrices");
        return;
    };
    for (name, hidden, batch, steps, layout) in [
        ("lstm", 512, 16, 24, ""),
        ("lstm", 512, 16, 6, " units=16 along=2"),
        ("lstm", 512, 16, 6, " units=16 along=4 threads=512 rows=4 teams=4 back-teams=2 back-rows=8"),
        ("lstm", 520, 9, 6, ""),
        ("lstm", 1024, 40, 6, ""),
        ("gru", 520, 18, 24, ""),
        ("rnn_tanh", 700, 33, 6, ""),
    ] {
        let inputs = if steps > 6 { 264 } else { 5 };
        let config = RnnConfig::new(inputs, hidden).with_bidirectional(hidden == 520);
        let case = Case { layout: Some(format!("matrices=on{layout}")), cooperative: true, ..Case::new(config, steps, batch) };
        run_unrepaired(&ctx, &cell::by_name(name).unwrap(), &Case { dtype: Dtype::F16, ..case });
    }
}

#[test]
fn without_patience_every_dispatch_is_repaired() {
    let ctx = context();
    for cell in cell::registry() {
        let outcome = run(&ctx, &cell, &Case { spin_limit: Some(0), ..case(9, 3) }, Strategy::Persistent);
        assert!(outcome.persistent >= 6, "{}: {outcome:?}", cell.name());
        assert_eq!(outcome.persistent, outcome.repairs, "{}", cell.name());
    }
}

/// The same where resident, which repairs, keeps its weights in registers.
#[test]
fn held_weights_repair_too() {
    let ctx = context();
    for name in ["lstm", "gru_reset_before"] {
        let config = RnnConfig::new(3, 65).with_bidirectional(true);
        let case = Case { spin_limit: Some(0), dispatch_flops: Some(100_000), ..Case::new(config, 5, 3) };
        let outcome = run(&ctx, &cell::by_name(name).unwrap(), &case, Strategy::Persistent);
        assert!(outcome.persistent > 3 && outcome.persistent == outcome.repairs, "{name}: {outcome:?}");
    }
}

/// Fails in the middle of a sequence as often as at its start.
#[test]
fn little_patience_gives_the_same_numbers() {
    let ctx = context();
    for spin_limit in [1, 10, 100, 1000] {
        for name in ["lstm", "gru_reset_before"] {
            run(&ctx, &cell::by_name(name).unwrap(), &Case { spin_limit: Some(spin_limit), ..case(9, 3) }, Strategy::Persistent);
        }
    }
}

#[test]
fn more_workgroups_than_run_side_by_side() {
    let ctx = context();
    for name in ["lstm", "gru_reset_before"] {
        let case = Case { workgroups: Some(64), spin_limit: Some(2000), ..case(9, 40) };
        let outcome = run(&ctx, &cell::by_name(name).unwrap(), &case, Strategy::Persistent);
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!(!ctx.is_software() || cores >= 64 || outcome.repairs > 0, "{name}: {outcome:?}");
    }
}

/// Every H below is too small for it on a software adapter.
#[test]
fn weights_in_registers() {
    let ctx = context();
    for (name, hidden, batch) in [("lstm", 97, 3), ("gru_reset_before", 97, 1)] {
        let case = Case::new(RnnConfig::new(3, hidden), 5, batch);
        run_unrepaired(&ctx, &cell::by_name(name).unwrap(), &case);
    }
}

#[test]
fn every_axis_at_its_ends() {
    let ctx = context();
    for cell in cell::registry() {
        // (I, H, T, B)
        for (input, hidden, seq_len, batch) in
            [(3, 5, 1, 4), (2, 3, 10_000, 2), (3, 1, 7, 4), (5, 1024, 2, 2), (3, 9, 5, 1), (3, 5, 3, 257)]
        {
            // Far too many steps, or units, to stay clear of all jumps.
            if cell.name() == "binary_gate" && (seq_len > 100 || hidden > 100) {
                continue;
            }
            // Over 10,000 steps a growing state would leave nothing to compare.
            let ragged = seq_len < 10_000;
            let case = Case { ragged, ..Case::new(RnnConfig::new(input, hidden), seq_len, batch) };
            for strategy in Strategy::all(&ctx) {
                if strategy == Strategy::Persistent && hidden > 1000 {
                    // Too many weights for the workgroups of a few cores, and for a GPU's while nobody has counted them.
                    if let Err(error) = pollster::block_on(case.check_gpu(&ctx, &cell, strategy)) {
                        let error = error.to_string();
                        assert!(error.contains("strategy persistent at hidden_size 1024"), "{error}");
                    }
                } else {
                    run(&ctx, &cell, &case, strategy);
                }
            }
        }
    }
}

/// Values of a forward pass in inference.
fn output(rnn: &Rnn, shape: SeqShape) -> Vec<f32> {
    let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
    let input: Vec<f32> = common::uniform(2, shape.rows() * rnn.config().input_size, 1.0).iter().map(|&v| v as f32).collect();
    rnn.forward_blocking(&params, &Sequence::new(shape, &input)).unwrap().output
}

#[test]
fn tuning_chooses_what_runs_and_can_be_stored() {
    let ctx = context();
    let shape = SeqShape { seq_len: 6, batch_size: 3 };
    let rnn = Rnn::new(&ctx, tidegate::Gru::default(), RnnConfig::new(3, 9)).unwrap();
    for mode in [Mode::Inference, Mode::Training] {
        let tuning = pollster::block_on(rnn.tune(shape, mode)).unwrap();
        let text = serde_json::to_string(&tuning).unwrap();
        let restored: Tuning = serde_json::from_str(&text).unwrap();
        assert_eq!(tuning, restored);
        let tuned = rnn.clone().with_tuning(&restored).unwrap();
        let chosen = tuned.plan(shape, mode).unwrap().strategy();
        assert!(text.contains(&format!("\"strategy\":\"{}\"", chosen.name())), "{text}");
        // Persistent in place of what was found, then two failures, then another device.
        let forged = text.replace(&format!("\"strategy\":\"{}\"", chosen.name()), "\"strategy\":\"persistent\"");
        let mut forged: Tuning = serde_json::from_str(&forged).unwrap();
        let strategy = |tuning: &Tuning| rnn.clone().with_tuning(tuning).unwrap().plan(shape, mode).unwrap().strategy();
        assert_eq!(strategy(&forged), Strategy::Persistent);
        forged.record([4, 2, 0, 0]);
        assert_eq!(strategy(&forged), Strategy::Persistent);
        forged.record([4, 1, 0, 0]);
        assert_ne!(strategy(&forged), Strategy::Persistent);
        let foreign: Tuning = serde_json::from_str(&text.replace(tuning.device(), "another")).unwrap();
        let error = rnn.clone().with_tuning(&foreign).unwrap_err().to_string();
        assert!(error.contains("another") && error.contains(tuning.device()), "{error}");
    }
}

/// Convenience calls see repairs: after two the context chooses persistent no more.
#[test]
fn repairs_drop_persistent_from_auto() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).unwrap();
    let ctx = pollster::block_on(Context::from_adapter(&adapter)).unwrap();
    let shape = SeqShape { seq_len: 6, batch_size: 3 };
    let rnn = Rnn::new(&ctx, tidegate::Gru::default(), RnnConfig::new(3, 9))
        .unwrap()
        .with_schedule(ScheduleOptions::default().with_spin_limit(0));
    let tuning = pollster::block_on(rnn.tune(shape, Mode::Inference)).unwrap();
    let text = serde_json::to_string(&tuning).unwrap();
    let chosen = rnn.clone().with_tuning(&tuning).unwrap().plan(shape, Mode::Inference).unwrap().strategy();
    assert_ne!(chosen, Strategy::Persistent, "with no patience it cannot have worked");
    let forged = text.replace(&format!("\"strategy\":\"{}\"", chosen.name()), "\"strategy\":\"persistent\"");
    let rnn = rnn.with_tuning(&serde_json::from_str(&forged).unwrap()).unwrap();
    let truth = output(&rnn.clone().with_strategy(Strategy::Stepwise), shape);
    for expected in [Strategy::Persistent, Strategy::Persistent, chosen] {
        assert_eq!(rnn.plan(shape, Mode::Inference).unwrap().strategy(), expected);
        let found = output(&rnn, shape);
        assert!(truth.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-5), "{expected:?}");
    }
}

/// Backward as GPUs are laid out: K in one part and in many, rows in turns, a team for every row, on one thread's registers' worth
/// of weights or less.
#[test]
fn backward_in_other_layouts() {
    let ctx = context();
    let layouts =
        ["vendor=nvidia", "vendor=intel back-along=1", "vendor=apple back-threads=32", "back-rows=2 back-units=16 back-teams=1"];
    for (cell, layout) in cell::registry().into_iter().zip(layouts.into_iter().cycle()) {
        let config = RnnConfig::new(5, 21).with_bidirectional(true);
        let case = Case { workgroups: Some(2), layout: Some(layout.into()), ..Case::new(config, 7, 3) };
        if cell.name() != "binary_gate" {
            run_unrepaired(&ctx, &cell, &case);
        }
    }
}

/// Turns of rows that threads of their own finish, with the operand in registers: the last turn with fewer rows; turns of one row; over
/// several chunks; by words and by fours.
#[test]
fn several_turns_of_backward() {
    let ctx = context();
    let subgroup = ctx.adapter_info().subgroup_min_size.max(1);
    for (name, rows, groups, exchange, dispatch_flops) in [
        ("lstm", 2, 8, "words", 1_000_000),
        ("gru", 1, 4, "words", 100_000),
        ("lstm", 4, 8, "vectors", 100_000),
        ("rnn_tanh", 2, 2, "vectors", 40_000),
    ] {
        let threads = groups * subgroup;
        let layout =
            format!("vendor=nvidia back-teams=1 back-rows={rows} back-threads={threads} back-along={groups} exchange={exchange}");
        let config = RnnConfig::new(5, 20).with_bidirectional(name != "lstm");
        let case = Case { layout: Some(layout), dispatch_flops: Some(dispatch_flops), ..Case::new(config, 7, 5) };
        run_unrepaired(&ctx, &cell::by_name(name).unwrap(), &Case { workgroups: Some(2), holds: rows == 2, ..case });
    }
}

/// The exchange by fours, through a buffer that is coherent and volatile, in both directions of time and of a cell of two phases.
#[test]
fn the_exchange_goes_by_fours() {
    let ctx = context();
    for (name, hidden, batch) in [("lstm", 20, 3), ("gru_reset_before", 36, 1)] {
        let layout = Some("vendor=nvidia exchange=vectors".into());
        let config = RnnConfig::new(3, hidden).with_bidirectional(true);
        // Chunks of more than one step.
        let case = Case { workgroups: Some(2), layout, dispatch_flops: Some(100_000), ..Case::new(config, 7, batch) };
        run_unrepaired(&ctx, &cell::by_name(name).unwrap(), &case);
    }
    // Rows that are no vectors go by words.
    let case = Case { layout: Some("exchange=vectors".into()), ..case(9, 3) };
    run_unrepaired(&ctx, &cell::by_name("lstm").unwrap(), &case);
}

/// Layouts of a forward kernel: threads, units, parts of K and rows at a time, H and B. Sums stay in a lane that holds one, or some of
/// one unit's, or several units'; or they meet in workgroup memory. Rows come in one turn or several.
const LAYOUTS: [(&str, usize, usize); 7] = [
    ("threads=128 units=32 along=1 rows=1 teams=1", 37, 1),
    ("threads=64 units=8 along=1 rows=1 teams=1", 20, 1),
    ("threads=64 units=16 along=2 rows=2 teams=1", 37, 3),
    ("threads=32 units=16 along=1 rows=4 teams=1", 37, 6),
    ("threads=32 units=16 along=1 rows=2 teams=2", 29, 3),
    ("threads=128 units=32 along=4 rows=8 teams=1", 70, 5),
    ("", 70, 5),
];

/// The generators that GPUs get, at this adapter's subgroups of 8 with four workgroups side by side, which takes four threads.
#[test]
fn layouts_of_gpus_give_right_numbers() {
    let test = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(test);
    command.args(["--ignored", "--exact", "--nocapture", "four_workgroups_side_by_side"]).env("LP_NUM_THREADS", "4");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by layouts_of_gpus_give_right_numbers, with threads for four workgroups"]
fn four_workgroups_side_by_side() {
    let ctx = context();
    let all = std::env::var_os("TIDEGATE_FULL").is_some();
    for (name, cell) in common::cell_variants() {
        // The binary gate's data must stay clear of its jumps.
        let shy = cell.name() == "binary_gate";
        for (i, (layout, hidden, batch)) in LAYOUTS.into_iter().enumerate() {
            let sample = match (name.as_str(), i) {
                ("lstm", 1 | 3) | ("gru_reset_before", 2) | ("rnn_tanh", 0 | 5) => true,
                _ => all,
            };
            if !sample || shy && batch > 1 {
                continue;
            }
            for dtype in [Dtype::F32, Dtype::F16] {
                // The smaller sample has this one case of f16, and no other of it.
                let halves = name == "lstm" && i == 1;
                if (dtype == Dtype::F16) != halves && !all || shy && dtype == Dtype::F16 {
                    continue;
                }
                let config = RnnConfig::new(3, hidden).with_bidirectional(i == 0).with_num_layers(1 + usize::from(i == 1 && all));
                let layout = Some(format!("vendor=nvidia workgroups=4 {layout}"));
                // Two chunks, of more than one step: else nothing would be waited for.
                let step = 2 * cell.spec().gates.len() * hidden * hidden * batch;
                let case = Case { layout, dtype, dispatch_flops: Some(3 * step as u64), ..Case::new(config, 4, batch) };
                let start = std::time::Instant::now();
                run_unrepaired(&ctx, &cell, &case);
                println!("{name} {dtype:?} {:?} {:.1} s", case.layout, start.elapsed().as_secs_f64());
            }
        }
    }
}
