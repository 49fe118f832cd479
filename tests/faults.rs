//! Bad input gets an error that names the thing and both numbers; nothing panics.

mod common;

use std::fmt::Debug;

use tidegate::{
    BackwardBuffers, Context, Direction, ForwardBuffers, Lstm, Mode, OutputGradients, Params, Plan, Result, Rnn, RnnConfig,
    SeqShape, Sequence, Strategy, cell, check,
};
use wgpu::{Buffer, BufferUsages};

const SHAPE: SeqShape = SeqShape { seq_len: 4, batch_size: 2 };

/// The error's text holds every one of `parts`.
#[track_caller]
fn refused<T: Debug>(result: Result<T>, parts: &[&str]) {
    let text = result.expect_err("must be refused").to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

fn lstm(config: RnnConfig) -> Rnn {
    Rnn::new(&common::context(), Lstm::default(), config).unwrap()
}

#[test]
fn configs() {
    let ctx = common::context();
    let new = |config| Rnn::new(&ctx, Lstm::default(), config);
    refused(new(RnnConfig::new(3, 0)), &["hidden_size", "0", "1.."]);
    refused(new(RnnConfig::new(0, 3)), &["input_size", "0"]);
    refused(new(RnnConfig::new(3, 3).with_num_layers(0)), &["num_layers", "0"]);
    refused(new(RnnConfig::new(3, 3).with_num_layers(70_000)), &["num_layers", "70000", "65536"]);
    refused(new(RnnConfig::new(3, 3).with_dropout(1.0)), &["dropout", "1"]);
    refused(new(RnnConfig::new(3, 3).with_dropout(f32::NAN)), &["dropout", "NaN"]);
    refused(new(RnnConfig::new(3, usize::MAX)), &["hidden_size", "18446744073709551615", "4294967295"]);
    refused(new(RnnConfig::new(1, 40_000)), &["u32 index of parameters", "4294967295"]);
    refused(Rnn::new(&ctx, Lstm::default().with_cell_clip(-1.0), RnnConfig::new(3, 3)), &["cell_clip", "-1"]);
    refused(Rnn::new(&ctx, Lstm::default().with_clip(f32::INFINITY), RnnConfig::new(3, 3)), &["clip", "inf"]);
    refused(cell::by_name("lstn"), &["lstn", "lstm"]);
}

#[test]
fn shapes() {
    let rnn = lstm(RnnConfig::new(3, 5));
    let plan = |seq_len, batch_size| rnn.plan(SeqShape { seq_len, batch_size }, Mode::Training);
    refused(plan(0, 2), &["seq_len", "0"]);
    refused(plan(2, 0), &["batch_size", "0"]);
    refused(plan(usize::MAX, 2), &["seq_len"]);
    refused(plan(1 << 20, 1 << 20), &["T·B", "1099511627776", "4294967295"]);
    refused(plan(1 << 14, 1 << 14), &["u32 index of workspace and reserve; at this B the longest T is 4369: go on in chunks"]);
    refused(plan(1, 1 << 28), &["u32 index", "at most B = 71582788: take fewer rows"]);
    let wide = lstm(RnnConfig::new(1, 1)).with_strategy(Strategy::Stepwise);
    refused(
        wide.plan(SeqShape { seq_len: 2, batch_size: 65_536 * 8 }, Mode::Inference),
        &["max_compute_workgroups", "65535", "65536"],
    );
    // Left to itself, a network goes by a strategy whose grids have room; the smallest networks would else be resident.
    let shape = SeqShape { seq_len: 2, batch_size: 524_296 };
    let narrow = lstm(RnnConfig::new(1, 1));
    assert_eq!(narrow.plan(shape, Mode::Inference).unwrap().strategy(), Strategy::Batched);
    refused(narrow.with_strategy(Strategy::Resident).plan(shape, Mode::Training), &["strategy resident", "65535", "65537"]);
}

#[test]
fn host_data() {
    let rnn = lstm(RnnConfig::new(3, 5));
    let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
    let input = [0.5; 4 * 2 * 3];
    let seq = Sequence::new(SHAPE, &input);
    let forward = |seq: Sequence<'_>| rnn.forward_blocking(&params, &seq);
    forward(seq).unwrap();
    refused(forward(Sequence::new(SHAPE, &input[1..])), &["input", "24", "23"]);
    refused(forward(seq.with_initial_state(&[0.0; 19])), &["initial_state", "20", "19"]);
    refused(forward(seq.with_lengths(&[4])), &["lengths", "2", "1"]);
    refused(forward(seq.with_lengths(&[4, 5])), &["lengths[1]", "5", "0..=4"]);
    forward(seq.with_lengths(&[0, 4])).unwrap();
    refused(forward(seq.with_reset(&[0; 7])), &["reset", "8", "7"]);
    let backward =
        |d_output: &[f32], d_final_state| rnn.backward_blocking(&params, &seq, &OutputGradients { d_output, d_final_state });
    refused(backward(&[0.0; 39], None), &["d_output", "40", "39"]);
    refused(backward(&[0.0; 40], Some(&[0.0; 21])), &["d_final_state", "20", "21"]);
    let small = lstm(RnnConfig::new(2, 5));
    refused(rnn.upload(&Params::zeros(small.param_layout())), &["weight_ih_l0", "[20, 3]", "[20, 2]"]);
    let plain = lstm(RnnConfig::new(3, 5).with_bias(false));
    refused(rnn.upload(&Params::zeros(plain.param_layout())), &["missing", "bias_ih_l0"]);
    refused(plain.upload(&Params::zeros(rnn.param_layout())), &["unused", "bias_ih_l0"]);
    let other = small.upload(&Params::zeros(small.param_layout())).unwrap();
    refused(rnn.forward_blocking(&other, &seq), &["params", "800", "720"]);
    let mut host = Params::zeros(rnn.param_layout());
    refused(host.set("weight_ih_l1", &[20, 3], &[0.0; 60]), &["weight_ih_l1", "weight_ih_l0"]);
    refused(host.set("weight_ih_l0", &[3, 20], &[0.0; 60]), &["weight_ih_l0", "[20, 3]", "[3, 20]"]);
    refused(host.set("weight_ih_l0", &[20, 3], &[0.0; 59]), &["weight_ih_l0", "60", "59"]);
    refused(host.get("bias").map(<[f32]>::len), &["bias", "bias_ih_l0"]);
}

#[test]
fn sessions() {
    let both = lstm(RnnConfig::new(3, 5).with_bidirectional(true));
    let params = both.upload(&Params::zeros(both.param_layout())).unwrap();
    refused(both.session(&params, SHAPE), &["bidirectional"]);
    let reverse = lstm(RnnConfig::new(3, 5).with_direction(Direction::Reverse));
    let params = reverse.upload(&Params::zeros(reverse.param_layout())).unwrap();
    refused(reverse.session(&params, SHAPE), &["reverse"]);
    let rnn = lstm(RnnConfig::new(3, 5));
    let params = rnn.upload(&Params::zeros(rnn.param_layout())).unwrap();
    let mut session = rnn.session(&params, SHAPE).unwrap();
    refused(session.reset(&[0, 2]), &["2", "0..=1"]);
    refused(session.advance_blocking(&[0.0; 23]), &["input", "24", "23"]);
}

struct Buffers {
    plan: Plan,
    all: Vec<tidegate::DeviceBuffer>,
}

impl Buffers {
    /// params, input, output, workspace, reserve, state, small, d_output, d_params.
    fn new(mode: Mode) -> Self {
        let rnn = lstm(RnnConfig::new(3, 5).with_num_layers(2).with_dropout(0.5));
        let plan = rnn.plan(SHAPE, mode).unwrap();
        let s = plan.sizes();
        let sizes = [s.params, s.input, s.output, s.workspace, s.reserve.max(4), s.state, s.reset, s.output, s.params];
        let all = sizes.map(|size| rnn.context().upload("test", &vec![0u32; (size / 4) as usize]).unwrap()).to_vec();
        Self { plan, all }
    }

    fn forward(&self) -> ForwardBuffers<'_> {
        let [params, input, output, workspace, reserve, _, small, ..] = &self.all[..] else { unreachable!() };
        let whole = Buffer::as_entire_buffer_binding;
        ForwardBuffers {
            reserve: Some(whole(reserve)),
            dropout_state: Some(whole(small)),
            ..ForwardBuffers::new(whole(params), whole(input), whole(output), whole(workspace))
        }
    }

    fn backward(&self) -> BackwardBuffers<'_> {
        BackwardBuffers::new(self.forward(), self.all[7].as_entire_buffer_binding(), self.all[8].as_entire_buffer_binding())
    }
}

#[test]
fn buffers() {
    let ctx = common::context();
    let b = Buffers::new(Mode::Training);
    let (plan, sizes) = (&b.plan, b.plan.sizes());
    plan.bind_forward(&b.forward()).unwrap();
    plan.bind_backward(&b.backward()).unwrap();
    let small = ctx.upload("small", &[0u32; 2]).unwrap();
    let no_storage = ctx.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 1 << 16,
        usage: BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let bound = |change: &dyn Fn(&mut ForwardBuffers<'_>)| {
        let mut forward = b.forward();
        change(&mut forward);
        plan.bind_forward(&forward)
    };
    let needed = |bytes: u64| bytes.to_string();
    let wrong = |buffer: &Buffer, name: &str, bytes: u64| {
        let whole = || buffer.as_entire_buffer_binding();
        let f = b.forward();
        let f = match name {
            "params" => ForwardBuffers { params: whole(), ..f },
            "input" => ForwardBuffers { input: whole(), ..f },
            "output" => ForwardBuffers { output: whole(), ..f },
            "workspace" => ForwardBuffers { workspace: whole(), ..f },
            "reserve" => ForwardBuffers { reserve: Some(whole()), ..f },
            "initial_state" => ForwardBuffers { initial_state: Some(whole()), ..f },
            "final_state" => ForwardBuffers { final_state: Some(whole()), ..f },
            "reset" => ForwardBuffers { reset: Some(whole()), ..f },
            "dropout_state" => ForwardBuffers { dropout_state: Some(whole()), ..f },
            _ => unreachable!(),
        };
        let text = plan.bind_forward(&f).expect_err(name).to_string();
        assert!(text.contains(name) && text.contains(&needed(bytes)), "{text}");
    };
    let all = [
        ("params", sizes.params),
        ("input", sizes.input),
        ("output", sizes.output),
        ("workspace", sizes.workspace),
        ("reserve", sizes.reserve),
        ("initial_state", sizes.state),
        ("final_state", sizes.state),
        ("reset", sizes.reset),
        ("dropout_state", sizes.dropout_state),
    ];
    for (name, bytes) in all {
        wrong(&small, name, bytes);
    }
    refused(bound(&|f| f.reserve = None), &["reserve", "backward"]);
    refused(bound(&|f| f.dropout_state = None), &["dropout_state"]);
    refused(bound(&|f| f.input.offset = 4), &["input", "4", "multiple of"]);
    refused(bound(&|f| f.input.offset = 1 << 40), &["input", "96", "0"]);
    refused(bound(&|f| f.input.size = wgpu::BufferSize::new(92)), &["input", "96", "92"]);
    let unusable = ForwardBuffers { input: no_storage.as_entire_buffer_binding(), ..b.forward() };
    refused(plan.bind_forward(&unusable), &["input", "STORAGE", "COPY_DST"]);
    let aliased = ForwardBuffers { input: b.all[3].as_entire_buffer_binding(), ..b.forward() };
    refused(plan.bind_forward(&aliased), &["input", "workspace"]);
    let output = || b.all[2].as_entire_buffer_binding();
    let overlapping = ForwardBuffers { final_state: Some(output()), ..b.forward() };
    refused(plan.bind_forward(&overlapping), &["output", "final_state", "written"]);
    let state = || Some(b.all[5].as_entire_buffer_binding());
    refused(
        plan.bind_forward(&ForwardBuffers { initial_state: state(), final_state: state(), ..b.forward() }),
        &["initial_state", "final_state"],
    );
    let overlapping = BackwardBuffers { d_input: Some(b.all[8].as_entire_buffer_binding()), ..b.backward() };
    refused(plan.bind_backward(&overlapping), &["d_params", "d_input"]);
    let short = BackwardBuffers { d_output: small.as_entire_buffer_binding(), ..b.backward() };
    refused(plan.bind_backward(&short), &["d_output", &needed(sizes.output), "8"]);
    let short = BackwardBuffers { d_params: small.as_entire_buffer_binding(), ..b.backward() };
    refused(plan.bind_backward(&short), &["d_params", &needed(sizes.params), "8"]);
    let inference = Buffers::new(Mode::Inference);
    let state = || Some(inference.all[5].as_entire_buffer_binding());
    let in_place = ForwardBuffers { initial_state: state(), final_state: state(), ..inference.forward() };
    inference.plan.bind_forward(&in_place).unwrap();
    refused(inference.plan.bind_backward(&inference.backward()), &["Mode::Training"]);
}

/// A device at WebGPU's defaults, but for what `change` does.
fn device_with(change: impl Fn(&mut wgpu::Limits)) -> Context {
    let adapter = common::adapter();
    let mut required_limits = wgpu::Limits::default();
    change(&mut required_limits);
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Context::from_device(&adapter, &device, &queue).unwrap()
}

#[test]
fn small_devices() {
    let four = device_with(|limits| limits.max_storage_buffers_per_shader_stage = 4);
    refused(Rnn::new(&four, Lstm::default(), RnnConfig::new(3, 5)), &["max_storage_buffers_per_shader_stage", "8", "4"]);
    let little = device_with(|limits| limits.max_compute_workgroup_storage_size = 8192);
    refused(Rnn::new(&little, Lstm::default(), RnnConfig::new(3, 5)), &["workgroup_storage", "16384", "8192"]);
    let narrow = device_with(|limits| limits.max_compute_workgroups_per_dimension = 256);
    let rnn = Rnn::new(&narrow, Lstm::default(), RnnConfig::new(2, 8)).unwrap().with_strategy(Strategy::Resident);
    let rows = rnn.plan(SeqShape { seq_len: 2, batch_size: 8192 }, Mode::Inference);
    refused(rows, &["max_compute_workgroups_per_dimension", "in strategy resident; take fewer rows at a time", "has 256"]);
    let default = device_with(|_| {});
    let rnn = Rnn::new(&default, Lstm::default(), RnnConfig::new(64, 64)).unwrap();
    let long = SeqShape { seq_len: 100_000, batch_size: 16 };
    let chunks = [
        "max_buffer_size",
        "`input`; at this B up to",
        "truncated BPTT; a `Trainer` by `TrainConfig::with_carry_state`",
        "268435456",
    ];
    refused(rnn.plan(long, Mode::Training), &chunks);
    // The products of the whole sequence would not fit one binding; those of a window do.
    let windows = SeqShape { seq_len: 3_000, batch_size: 64 };
    assert!(rnn.plan(windows, Mode::Inference).is_ok());
    let bound = SeqShape { seq_len: 9_000, batch_size: 64 };
    refused(
        rnn.plan(bound, Mode::Inference),
        &["max_storage_buffer_binding_size", "`input`", "134217728", "steps fit: go on in chunks"],
    );
}

/// Parameters may lie in a part of a buffer, wherever host data are run and where they are written.
#[test]
fn parameters_in_a_part_of_a_buffer() {
    let rnn = lstm(RnnConfig::new(3, 5));
    let ctx = rnn.context();
    let host = Params::uniform(rnn.param_layout(), 1);
    let bytes = 4 * host.values().len() as u64;
    let shared = ctx.upload("shared", &vec![f32::NAN; 64 + host.values().len() + 64]).unwrap();
    let part = |offset, size| wgpu::BufferBinding { buffer: &shared, offset, size: std::num::NonZeroU64::new(size) };
    refused(rnn.write_params(part(256, bytes - 4), &host), &["params", &bytes.to_string(), &(bytes - 4).to_string()]);
    // Without a size it goes to the end of the buffer.
    refused(rnn.write_params(part(512 + 4, 0), &host), &["params", &bytes.to_string(), &(bytes - 4).to_string()]);
    rnn.write_params(part(256, bytes), &host).unwrap();
    let [all] = ctx.download_blocking([&shared]).unwrap();
    assert!(all[..64].iter().chain(&all[64 + host.values().len()..]).all(|value| value.is_nan()));
    let input = [0.5; 4 * 2 * 3];
    let seq = Sequence::new(SHAPE, &input);
    let expected = rnn.forward_blocking(&rnn.upload(&host).unwrap(), &seq).unwrap().output;
    assert_eq!(rnn.forward_blocking(part(256, bytes), &seq).unwrap().output, expected);
    assert_eq!(rnn.forward_training_blocking(part(256, bytes), &seq).unwrap().output().output, expected);
    assert_eq!(rnn.session(part(256, bytes), SHAPE).unwrap().advance_blocking(&input).unwrap(), expected);
}

#[test]
fn transfers() {
    let ctx = common::context();
    refused(ctx.upload("odd", &[1u8, 2, 3]), &["odd", "3 bytes"]);
    let buffer = |size, usage| ctx.create_buffer("test", size, usage).unwrap();
    let download = |buffer: &Buffer| ctx.download_blocking([buffer]);
    refused(download(&buffer(8, BufferUsages::STORAGE)), &["download[0]", "COPY_SRC"]);
    refused(download(&buffer(6, BufferUsages::COPY_SRC)), &["download[0]", "6 bytes"]);
    // A `DeviceBuffer` beside wgpu's own; of several the wrong one is named.
    let own = ctx.upload("own", &[3.0f32]).unwrap();
    let plain: Buffer = (*own).clone();
    assert_eq!(ctx.download_blocking([&own, &plain]).unwrap(), [[3.0], [3.0]]);
    let wrong = buffer(8, BufferUsages::STORAGE);
    refused(ctx.download_blocking([&own, &plain, &wrong]), &["download[2]", "COPY_SRC"]);
    refused(ctx.create_buffer("huge", u64::MAX, BufferUsages::STORAGE), &["max_buffer_size"]);
}

/// Counts that contradict each other.
#[test]
fn impossible_cells() {
    #[derive(Debug)]
    struct Counts(&'static [&'static str], usize, usize);
    impl tidegate::Cell for Counts {
        fn name(&self) -> &str {
            "counts"
        }
        fn spec(&self) -> cell::CellSpec {
            let mut spec = cell::CellSpec::new(self.0, 0).with_first_phase_gates(self.1);
            spec.states.truncate(self.2);
            spec
        }
        fn wgsl(&self) -> std::borrow::Cow<'_, str> {
            "".into()
        }
        fn forward(&self, _: cell::ForwardStep<'_>) {}
        fn backward(&self, _: cell::BackwardStep<'_>) {}
    }
    let new = |cell| Rnn::new(&common::context(), cell, RnnConfig::new(3, 5));
    refused(new(Counts(&[], 0, 1)), &["counts", "no gates"]);
    refused(new(Counts(&["a"], 1, 0)), &["counts", "no states"]);
    refused(new(Counts(&["a"], 2, 1)), &["first_phase_gates", "2", "1..=1"]);
    refused(new(Counts(&["a"], 0, 1)), &["first_phase_gates", "0", "1..=1"]);
}

/// A linear cell whose WGSL is what a test makes of it, and whose CPU twin is right or not.
#[derive(Debug, Clone)]
struct Own {
    wgsl: &'static str,
    /// What the CPU twin's gradient is multiplied by: 1 where it is right.
    twin: f64,
}

/// As it should be.
const LINEAR: &str = "
fn cell_forward(wx: Gates, rh: Gates, prev: State, unit: Unit) -> Forward {
    var result: Forward;
    result.next[0] = wx[0] + rh[0];
    return result;
}
fn cell_backward(saved: Saved, prev: State, next: State, unit: Unit, d_next: State, d_mid: f32) -> Backward {
    var result: Backward;
    result.d_wx[0] = d_next[0];
    result.d_rh[0] = d_next[0];
    result.d_prev[0] = 0.0;
    return result;
}
";

impl tidegate::Cell for Own {
    fn name(&self) -> &str {
        "own"
    }
    fn spec(&self) -> cell::CellSpec {
        cell::CellSpec::new(&["h"], 0)
    }
    fn wgsl(&self) -> std::borrow::Cow<'_, str> {
        self.wgsl.into()
    }
    fn forward(&self, step: cell::ForwardStep<'_>) {
        step.next[0] = step.wx[0] + step.rh[0];
    }
    fn backward(&self, step: cell::BackwardStep<'_>) {
        step.d_wx[0] = self.twin * step.d_next[0];
        step.d_rh[0] = step.d_wx[0];
        step.d_prev[0] = 0.0;
    }
}

fn check_own(wgsl: &'static str, twin: f64) -> tidegate::Result<check::CellReport> {
    pollster::block_on(check::check_cell(&common::context(), Own { wgsl, twin }))
}

/// A cell whose WGSL does not compile is an error that says where in the author's own text, not a panic in the app's error handler.
#[test]
fn broken_wgsl() {
    let broken = "// The author's first line.\nfn cell_forward(wx: Gates) -> Forward { return nonsense; }";
    refused(check_own(broken, 1.0), &["cell `own`", "line 2, column 48", "`fn cell_forward(wx: Gates)", "nonsense"]);
    refused(check_own("fn cell_forward() {}", 1.0), &["cell `own`", "are all functions there", "cell_forward"]);
}

/// What disagrees is named: the twin with itself, forward, or backward, with strategy and case.
#[test]
fn the_odd_one_is_named() {
    let differences =
        ["cell `own`", "finite differences of 3→4, 1 layer, forward, T=4 B=2", "d_input", "backward of the CPU twin"];
    refused(check_own(LINEAR, 2.0), &differences);
    let edited = |from: &str, to: &str| -> &'static str { LINEAR.replacen(from, to, 1).leak() };
    let forward = edited("wx[0] + rh[0]", "wx[0] - rh[0]");
    refused(check_own(forward, 1.0), &["cell `own`", "strategy stepwise, 3→4", "`output", "`cell_forward` in WGSL and"]);
    let backward = edited("d_wx[0] = d_next[0]", "d_wx[0] = 0.5 * d_next[0]");
    refused(check_own(backward, 1.0), &["strategy stepwise", "`d_", "`cell_backward` in WGSL is the odd one"]);
}
