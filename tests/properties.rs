//! Networks, shapes and data drawn at random, against the float64 reference, and what must hold of any network: a sequence may be
//! cut, rows do not know of each other, and a bidirectional network does not know which way is forward.
//!
//! The seed is fixed, so every run draws the same cases: nothing needs to be kept of a failure. More of them, and others:
//! `PROPTEST_CASES=500 PROPTEST_RNG_SEED=2 ./tests/run --test properties`. Compiling kernels takes most of the time, so sizes that
//! kernels know come from few values.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Strategy as Draw;
use proptest::test_runner::RngSeed;
use tidegate::check::{Case, CaseData, Tolerance};
use tidegate::{
    Cell, Direction, Dtype, Error, Mode, OutputGradients, Params, Rnn, RnnConfig, SeqShape, Sequence, Strategy, Tile, reference,
};

fn config(cases: u32) -> ProptestConfig {
    let from_env = ProptestConfig::default();
    let set = |name| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if set("PROPTEST_CASES") { from_env.cases } else { cases },
        rng_seed: if set("PROPTEST_RNG_SEED") { from_env.rng_seed } else { RngSeed::Fixed(7) },
        failure_persistence: None,
        // Each may compile kernels.
        max_shrink_iters: 60,
        ..from_env
    }
}

/// Whether the time for drawn cases is over: `TIDEGATE_PROPERTIES_SECONDS`; on GPUs, whose drivers may take half a second a kernel, 60 by
/// themselves. The first case of each property always runs.
fn is_time_up() -> bool {
    static START: OnceLock<Instant> = OnceLock::new();
    thread_local! { static HAS_RUN: AtomicBool = const { AtomicBool::new(false) } }
    let given = std::env::var("TIDEGATE_PROPERTIES_SECONDS").ok();
    let given = given.map(|text| text.parse().expect("TIDEGATE_PROPERTIES_SECONDS is a number of seconds"));
    let seconds: Option<u64> = given.or_else(|| (!common::context().is_software()).then_some(60));
    let start = START.get_or_init(Instant::now);
    let has_run = HAS_RUN.with(|has_run| has_run.swap(true, Ordering::Relaxed));
    has_run && seconds.is_some_and(|seconds| start.elapsed() >= Duration::from_secs(seconds))
}

/// With its name, which a failure prints.
fn variant() -> impl Draw<Value = (String, Arc<dyn Cell>)> {
    select(common::cell_variants())
}

fn network(directions: &'static [Direction]) -> impl Draw<Value = RnnConfig> {
    let (input, hidden) = (select(&[1usize, 3, 8, 17][..]), select(&[1usize, 4, 7, 33, 36][..]));
    (input, hidden, 1..=3usize, select(directions), any::<[bool; 2]>()).prop_map(|(input, hidden, layers, direction, on)| {
        RnnConfig::new(input, hidden).with_num_layers(layers).with_direction(direction).with_bias(on[0]).with_batch_first(on[1])
    })
}

const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Reverse, Direction::Bidirectional];

/// A case without dropout, ragged or reset as it comes.
fn case(directions: &'static [Direction]) -> impl Draw<Value = Case> {
    (network(directions), 1..=20usize, 1..=20usize, any::<[bool; 4]>(), 1..1000u64).prop_map(|(config, t, b, on, seed)| Case {
        initial_state: on[0],
        ragged: on[1],
        resets: on[2],
        d_final_state: on[3],
        seed,
        ..Case::new(config, t, b)
    })
}

/// The same with everything that changes how it is computed. What f16 rounds would cross kinks: there the cell is a smooth one.
fn any_case() -> impl Draw<Value = (Case, (String, Arc<dyn Cell>))> {
    use proptest::option::weighted;
    let tiles = select(&[Tile::Of32x32, Tile::Of64x64][..]);
    let many_rows = weighted(0.1, 60..70usize);
    let bounds = (weighted(0.3, 1..200_000u64), weighted(0.3, 1..50_000u64), weighted(0.2, tiles), many_rows);
    let smooth: Vec<_> = common::cell_variants().into_iter().filter(|(name, _)| is_smooth(name)).collect();
    let cells = prop_oneof![
        2 => variant().prop_map(|cell| (Dtype::F32, cell)),
        1 => select(smooth).prop_map(|cell| (Dtype::F16, cell)),
    ];
    (case(&DIRECTIONS), bounds, any::<[bool; 2]>(), cells).prop_map(|(case, bounds, on, (dtype, cell))| {
        let (dispatch_flops, window_bytes, tile, many_rows) = bounds;
        let mut config = case.config.clone().with_dropout(if on[0] { 0.3 } else { 0.0 });
        // Of a single unit, what f16 rounds averages over nothing: gradients are off by up to 2.4e-3, where 2e-3 is allowed.
        if dtype == Dtype::F16 {
            config.hidden_size = config.hidden_size.max(4);
        }
        let shape = SeqShape { batch_size: many_rows.unwrap_or(case.shape.batch_size), ..case.shape };
        (Case { config, shape, accumulate: on[1], dtype, dispatch_flops, window_bytes, tile, ..case }, cell)
    })
}

fn is_smooth(name: &str) -> bool {
    !["elu", "Hard", "clip", "all options"].iter().any(|kinked| name.contains(kinked))
}

fn any_strategy() -> impl Draw<Value = Strategy> {
    select(Strategy::all(&common::context()))
}

/// Whether what f32 rounds changes the reference's own results by more than they may be off: a derivative has a kink so near that
/// the GPU may take the other side, or a cell without bounds makes small numbers of large ones. Asked of failures alone.
fn is_touchy(case: &Case, cell: &dyn Cell, data: &CaseData) -> bool {
    let d = OutputGradients { d_output: &data.d_output, d_final_state: data.d_final_state.as_deref() };
    let [forward, backward] =
        [false, true].map(|backward| Tolerance::new(&case.config, case.shape, backward).for_dtype(case.dtype));
    // About ten roundings, and one.
    let [far, near] = if case.dtype == Dtype::F16 { [5e-4, 1e-4] } else { [1e-6, 1e-7] };
    (0..20).any(|seed| {
        let moved = |bound: f64| {
            let noise = common::uniform(seed, data.params.len(), bound);
            let params: Vec<f64> = data.params.iter().zip(noise).map(|(param, noise)| param * (1.0 + noise)).collect();
            reference::forward(cell, &case.config, &params, &data.sequence(), Mode::Training)
                .map(|trace| (params, trace))
                .unwrap()
        };
        let (params, trace) = moved(far);
        let gradients = reference::backward(cell, &case.config, &params, &data.sequence(), &trace, &d).unwrap();
        let (_, trace) = moved(near);
        let truth = &data.trace.output.output;
        let output: Vec<f64> =
            truth.iter().zip(&trace.output.output).map(|(truth, moved)| truth + 4.0 * (moved - truth)).collect();
        let layout = tidegate::ParamLayout::new(cell, &case.config).unwrap();
        let d_params = layout.iter().map(|spec| [&data.gradients.d_params, &gradients.d_params].map(|d| &d[spec.range.clone()]));
        backward.compare("d_input", &data.gradients.d_input, &narrow(&gradients.d_input)).is_err()
            || d_params.into_iter().any(|[truth, moved]| backward.compare("d_params", truth, &narrow(moved)).is_err())
            || forward.compare("output", truth, &narrow(&output)).is_err()
    })
}

/// The data of a case. A cell with jumps may have none that stay clear of them, one without bounds may outgrow f32.
fn data(case: &Case, cell: &dyn Cell) -> Result<CaseData, TestCaseError> {
    match case.data(cell) {
        Err(Error::Check { what, .. }) => Err(TestCaseError::reject(what)),
        Err(error) => Err(TestCaseError::fail(error.to_string())),
        Ok(data) if data.trace.output.final_state.iter().chain(&data.gradients.d_params).any(|v| v.abs() > 1e6) => {
            Err(TestCaseError::reject("values beyond a million"))
        }
        Ok(data) => Ok(data),
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// A network on the GPU with the parameters of a case, and what it is to compute.
struct Network<'a> {
    rnn: Rnn,
    params: tidegate::DeviceBuffer,
    tolerance: [Tolerance; 2],
    touchy: Box<dyn Fn() -> bool + 'a>,
}

impl<'a> Network<'a> {
    fn new(case: &'a Case, cell: &'a Arc<dyn Cell>, strategy: Strategy, data: &'a CaseData, params: &[f64]) -> Self {
        let rnn = Rnn::new(&common::context(), cell.clone(), case.config.clone()).unwrap().with_strategy(strategy);
        let params = Params::from_values(rnn.param_layout(), narrow(params)).unwrap();
        let params = rnn.upload(&params).unwrap();
        let tolerance = [false, true].map(|backward| Tolerance::new(&case.config, case.shape, backward));
        Self { rnn, params, tolerance, touchy: Box::new(|| is_touchy(case, &**cell, data)) }
    }

    fn compare(&self, name: &str, backward: bool, truth: &[f64], actual: &[f32]) -> Result<(), TestCaseError> {
        let compared = self.tolerance[usize::from(backward)].compare(name, truth, actual);
        compared.map(drop).map_err(|error| match (self.touchy)() {
            true => TestCaseError::reject("rounding alone may do this"),
            false => TestCaseError::fail(error.to_string()),
        })
    }
}

/// `[T, B, ·]` or `[B, T, ·]` data with row (t, b) taken from where `from` says.
fn moved<V: Copy>(case: &Case, values: &[V], from: impl Fn(usize, usize) -> (usize, usize)) -> Vec<V> {
    let SeqShape { seq_len, batch_size } = case.shape;
    let features = values.len() / case.shape.rows();
    let row = |t: usize, b: usize| if case.config.batch_first { b * seq_len + t } else { t * batch_size + b };
    let mut result = values.to_vec();
    for t in 0..seq_len {
        for b in 0..batch_size {
            let (from_t, from_b) = from(t, b);
            result[row(t, b) * features..][..features].copy_from_slice(&values[row(from_t, from_b) * features..][..features]);
        }
    }
    result
}

/// Blocks of `len` values in the order that `from` says: states by row, or by direction.
fn shuffled<V: Copy>(values: &[V], len: usize, count: usize, from: impl Fn(usize) -> usize) -> Vec<V> {
    let blocks = values.len() / len;
    (0..blocks).flat_map(|at| values[(at / count * count + from(at % count)) * len..][..len].to_vec()).collect()
}

proptest! {
    #![proptest_config(config(14))]

    #[test]
    fn any_network_agrees_with_the_reference((case, cell) in any_case(), strategy in any_strategy()) {
        if is_time_up() {
            return Ok(());
        }
        let data = data(&case, &*cell.1)?;
        if let Err(error) = pollster::block_on(case.check_gpu(&common::context(), &cell.1, strategy)) {
            prop_assume!(!is_touchy(&case, &*cell.1, &data));
            return Err(TestCaseError::fail(error.to_string()));
        }
    }
}

proptest! {
    #![proptest_config(config(6))]

    /// In pieces of any lengths, each from the state that the last one left; and as a stream of equal chunks.
    #[test]
    fn a_sequence_may_be_cut_anywhere(
        case in case(&[Direction::Forward]), cell in variant(), strategy in any_strategy(), pieces in proptest::collection::vec(1..6usize, 1..5),
        by_one in any::<bool>(),
    ) {
        if is_time_up() {
            return Ok(());
        }
        let seq_len: usize = pieces.iter().sum();
        let config = case.config.clone().with_batch_first(false);
        let case = Case { config, ragged: false, shape: SeqShape { seq_len, ..case.shape }, ..case };
        let data = data(&case, &*cell.1)?;
        let network = Network::new(&case, &cell.1, strategy, &data, &data.params);
        let (input, batch) = (narrow(&data.input), case.shape.batch_size);
        let step = batch * case.config.input_size;
        let initial = data.initial_state.as_deref().map(narrow);

        let (mut start, mut output, mut state) = (0, Vec::new(), initial.clone());
        for seq_len in pieces {
            let shape = SeqShape { seq_len, batch_size: batch };
            let mut seq = Sequence::new(shape, &input[start * step..][..seq_len * step]);
            seq.initial_state = state.as_deref();
            seq.reset = data.reset.as_ref().map(|reset| &reset[start * batch..][..seq_len * batch]);
            let made = network.rnn.forward_blocking(&network.params, &seq).unwrap();
            output.extend(made.output);
            state = Some(made.final_state);
            start += seq_len;
        }
        network.compare("output in pieces", false, &data.inference.output, &output)?;
        network.compare("final state of the last piece", false, &data.inference.final_state, &state.unwrap_or_default())?;

        // A session takes resets between its chunks alone.
        let divides = |chunk: &usize| seq_len.is_multiple_of(*chunk) && data.reset.is_none();
        let chunk = if by_one { 1 } else { (1..=seq_len).rev().skip(1).find(divides).unwrap_or(1) };
        let mut session = network.rnn.session(&network.params, SeqShape { seq_len: chunk, batch_size: batch }).unwrap();
        if let Some(state) = initial {
            session.set_state(&state).unwrap();
        }
        let mut output = Vec::new();
        for (at, input) in input.chunks(chunk * step).enumerate() {
            let reset = data.reset.as_ref().map_or(&[][..], |reset| &reset[at * batch..][..batch]);
            session.reset(&(0..reset.len()).filter(|&row| reset[row] != 0).collect::<Vec<_>>()).unwrap();
            output.extend(session.advance_blocking(input).unwrap());
        }
        network.compare("output of a session", false, &data.inference.output, &output)?;
    }

    /// Each row alone gives what it gives among others, and rows in another order give that order.
    #[test]
    fn rows_do_not_know_of_each_other(
        case in case(&DIRECTIONS), cell in variant(), strategy in any_strategy(), by in 0..20usize, alone in 0..20usize,
    ) {
        if is_time_up() {
            return Ok(());
        }
        let data = data(&case, &*cell.1)?;
        let network = Network::new(&case, &cell.1, strategy, &data, &data.params);
        let SeqShape { seq_len, batch_size: batch } = case.shape;
        let hidden = case.config.hidden_size;
        // Turned round and moved on.
        let from = |b: usize| (2 * batch - 1 - b + by) % batch;
        let rows = |values: &[f64]| moved(&case, values, |t, b| (t, from(b)));
        let states = |values: &[f64]| shuffled(values, hidden, batch, from);
        let (input, d_output) = (narrow(&rows(&data.input)), narrow(&rows(&data.d_output)));
        let [initial, d_final] = [&data.initial_state, &data.d_final_state].map(|s| s.as_ref().map(|s| narrow(&states(s))));
        let lengths = data.lengths.as_ref().map(|lengths| shuffled(lengths, 1, batch, from));
        let reset = data.reset.as_ref().map(|reset| shuffled(reset, 1, batch, from));
        let mut seq = Sequence::new(case.shape, &input);
        (seq.initial_state, seq.lengths, seq.reset) = (initial.as_deref(), lengths.as_deref(), reset.as_deref());
        let d = OutputGradients { d_output: &d_output, d_final_state: d_final.as_deref() };
        let (output, gradients) = network.rnn.backward_blocking(&network.params, &seq, &d).unwrap();
        let (truth, d_truth) = (&data.inference, &data.gradients);
        network.compare("permuted output", false, &rows(&truth.output), &output.output)?;
        network.compare("permuted final state", false, &states(&truth.final_state), &output.final_state)?;
        network.compare("permuted d_input", true, &rows(&d_truth.d_input), &gradients.d_input)?;
        network.compare("permuted d_initial_state", true, &states(&d_truth.d_initial_state), &gradients.d_initial_state)?;
        for spec in network.rnn.param_layout().iter() {
            let name = format!("d_{} of permuted rows", spec.name);
            network.compare(&name, true, &d_truth.d_params[spec.range.clone()], &gradients.d_params[spec.range.clone()])?;
        }

        let alone = alone % batch;
        let features = |values: &[f64], len: usize| -> Vec<f64> {
            let row = |t: usize| if case.config.batch_first { alone * seq_len + t } else { t * batch + alone };
            (0..seq_len).flat_map(|t| values[row(t) * len..][..len].to_vec()).collect()
        };
        let state = |values: &[f64]| values.chunks(hidden).skip(alone).step_by(batch).flatten().copied().collect::<Vec<f64>>();
        let input = narrow(&features(&data.input, case.config.input_size));
        let initial = data.initial_state.as_deref().map(|values| narrow(&state(values)));
        let length = data.lengths.as_ref().map(|lengths| [lengths[alone]]);
        let reset = data.reset.as_ref().map(|reset| reset.iter().copied().skip(alone).step_by(batch).collect::<Vec<u32>>());
        let mut seq = Sequence::new(SeqShape { seq_len, batch_size: 1 }, &input);
        seq.initial_state = initial.as_deref();
        seq.lengths = length.as_ref().map(|length| &length[..]);
        seq.reset = reset.as_deref();
        let output = network.rnn.forward_blocking(&network.params, &seq).unwrap();
        network.compare("output of a row alone", false, &features(&truth.output, case.config.output_size()), &output.output)?;
        network.compare("final state of a row alone", false, &state(&truth.final_state), &output.final_state)?;
    }

    /// The input from end to start, with both directions' weights swapped, gives everything swapped and from end to start.
    #[test]
    fn reversal_swaps_the_directions(case in case(&[Direction::Bidirectional]), cell in variant(), strategy in any_strategy()) {
        if is_time_up() {
            return Ok(());
        }
        let case = Case { resets: false, ..case };
        let data = data(&case, &*cell.1)?;
        let SeqShape { seq_len, batch_size: batch } = case.shape;
        let hidden = case.config.hidden_size;
        let network = Network::new(&case, &cell.1, strategy, &data, &swapped(&case, &*cell.1, &data.params));
        let length = |b: usize| data.lengths.as_ref().map_or(seq_len, |lengths| lengths[b] as usize);
        let back = |values: &[f64]| moved(&case, values, |t, b| (if t < length(b) { length(b) - 1 - t } else { t }, b));
        let halves = |values: &[f64]| shuffled(values, hidden, 2, |half| 1 - half);
        let states = |values: &[f64]| shuffled(values, batch * hidden, 2, |direction| 1 - direction);
        let (input, d_output) = (narrow(&back(&data.input)), narrow(&back(&halves(&data.d_output))));
        let [initial, d_final] = [&data.initial_state, &data.d_final_state].map(|s| s.as_ref().map(|s| narrow(&states(s))));
        let mut seq = Sequence::new(case.shape, &input);
        (seq.initial_state, seq.lengths) = (initial.as_deref(), data.lengths.as_deref());
        let d = OutputGradients { d_output: &d_output, d_final_state: d_final.as_deref() };
        let (output, gradients) = network.rnn.backward_blocking(&network.params, &seq, &d).unwrap();
        let (truth, d_truth) = (&data.inference, &data.gradients);
        network.compare("reversed output", false, &back(&halves(&truth.output)), &output.output)?;
        network.compare("reversed final state", false, &states(&truth.final_state), &output.final_state)?;
        network.compare("reversed d_input", true, &back(&d_truth.d_input), &gradients.d_input)?;
        network.compare("reversed d_initial_state", true, &states(&d_truth.d_initial_state), &gradients.d_initial_state)?;
    }
}

/// The flat block with the directions of each layer swapped, and with them what a layer above reads of each.
fn swapped(case: &Case, cell: &dyn Cell, params: &[f64]) -> Vec<f64> {
    let layout = tidegate::ParamLayout::new(cell, &case.config).unwrap();
    let mut result = vec![0.0; params.len()];
    for spec in layout.iter() {
        let other = spec.name.strip_suffix("_reverse").map_or_else(|| format!("{}_reverse", spec.name), String::from);
        let mut values = params[layout.find(&other).unwrap().range.clone()].to_vec();
        if spec.name.starts_with("weight_ih") && !spec.name.starts_with("weight_ih_l0") {
            values = shuffled(&values, case.config.hidden_size, 2, |half| 1 - half);
        }
        result[spec.range.clone()].copy_from_slice(&values);
    }
    result
}
