//! Reference against GPU: every cell, every option, ragged sizes, forward and backward, into poisoned buffers.

mod common;

use std::sync::Arc;

use common::covering::pairwise;
use tidegate::check::Case;
use tidegate::{Cell, Context, Direction, Dtype, Lstm, RnnConfig, SeqShape, Strategy, Tile, cell};

const SIZES: [usize; 6] = [1, 3, 17, 63, 64, 65];
const LAYERS: [usize; 3] = [1, 2, 3];
const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Bidirectional, Direction::Reverse];

/// Factors of the covering array: I, H, T, B, layers, directions, then the on-off options.
const LEVELS: [usize; 18] = [6, 6, 6, 6, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2];

fn case(row: &[usize]) -> Case {
    let on = |factor: usize| row[factor] == 1;
    let config = RnnConfig::new(SIZES[row[0]], SIZES[row[1]])
        .with_num_layers(LAYERS[row[4]])
        .with_direction(DIRECTIONS[row[5]])
        .with_bias(on(6))
        .with_batch_first(on(7))
        .with_dropout(if on(8) { 0.3 } else { 0.0 })
        .with_zero_output_for_mask(on(17));
    Case {
        initial_state: on(9),
        ragged: on(10),
        resets: on(11),
        holds: on(16),
        d_final_state: on(12),
        accumulate: on(13),
        // Cuts a sequence of any but the smallest H into dispatches of a few steps.
        dispatch_flops: on(14).then_some(200_000),
        // Likewise into windows.
        window_bytes: on(15).then_some(50_000),
        ..Case::new(config, SIZES[row[2]], SIZES[row[3]])
    }
}

/// For the cell with jumps, smaller in T and B until it has a chance to stay clear of all of them.
fn clear_of_jumps(cell: &dyn Cell, mut case: Case) -> Case {
    if cell.name() != "binary_gate" {
        return case;
    }
    // A single unit may hold one value of bad cancellation through the whole sequence, and hand it to the layer above.
    if case.config.hidden_size == 1 {
        case.config.num_layers = 1;
    }
    let units = |c: &Case| c.shape.rows() * c.config.output_size() * c.config.num_layers;
    while units(&case) > 6000 && case.shape.rows() > 1 {
        let SeqShape { seq_len, batch_size } = &mut case.shape;
        let larger = if seq_len > batch_size { seq_len } else { batch_size };
        *larger = SIZES.into_iter().rev().find(|size| *size < *larger).unwrap_or(1);
    }
    case
}

fn full() -> bool {
    std::env::var_os("TIDEGATE_FULL").is_some_and(|v| v == "1")
}

fn check(ctx: &Context, name: &str, cell: &Arc<dyn Cell>, case: &Case) -> f64 {
    let mut worst = 0.0f64;
    // A CPU adapter takes seconds to compile persistent's kernels, which have tests of their own: a third of the cases there.
    let sizes = case.config.hidden_size + case.shape.batch_size + case.shape.seq_len;
    let persistent = full() || !ctx.is_software() || sizes.is_multiple_of(3);
    for strategy in Strategy::all(ctx).into_iter().filter(|&strategy| persistent || strategy != Strategy::Persistent) {
        let outcome = pollster::block_on(case.check_gpu(ctx, cell, strategy));
        let outcome = outcome.unwrap_or_else(|e| panic!("{name} under {}: {e}\n{case:?}", strategy.name()));
        worst = worst.max(outcome.max_rel_err);
    }
    worst
}

/// One cell through the covering array; through the whole product of the sizes with TIDEGATE_FULL=1.
fn check_cell_everywhere(name: &str) {
    let ctx = common::own_context();
    let cell = cell::by_name(name).unwrap();
    let mut rows = pairwise(&LEVELS, 7);
    if full() {
        let product = (0..6usize.pow(4)).map(|n| {
            let options = rows[n % rows.len()][4..].to_vec();
            [vec![n % 6, n / 6 % 6, n / 36 % 6, n / 216], options].concat()
        });
        rows = product.collect();
    }
    let mut worst = 0.0f64;
    for row in &rows {
        worst = worst.max(check(&ctx, name, &cell, &clear_of_jumps(&*cell, case(row))));
    }
    println!("{name}: {} cases, largest relative error {worst:.2e}", rows.len());
}

macro_rules! everywhere {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check_cell_everywhere(stringify!($name));
        })*

        /// A cell without a test of its own name is tested all the same.
        #[test]
        fn every_other_cell() {
            let named = [$(stringify!($name)),*];
            let registered: Vec<_> = cell::registry().iter().map(|c| c.name().to_owned()).collect();
            assert!(named.iter().all(|name| registered.iter().any(|cell| cell == name)), "{named:?}, {registered:?}");
            registered.iter().filter(|cell| !named.contains(&cell.as_str())).for_each(|cell| check_cell_everywhere(cell));
        }
    };
}

everywhere!(rnn_linear rnn_tanh rnn_relu binary_gate lstm gru gru_reset_before);

#[test]
fn every_option_of_every_cell() {
    let ctx = common::own_context();
    let everything = RnnConfig::new(7, 9).with_num_layers(2).with_bidirectional(true).with_batch_first(true).with_dropout(0.3);
    for (name, cell) in common::cell_variants().into_iter().skip(cell::registry().len()) {
        check(&ctx, &name, &cell, &Case::new(everything.clone(), 6, 5));
    }
}

/// A step's product whose sum over H is cut into parts, which the cell's kernel adds up.
#[test]
fn batched_adds_up_the_parts_of_its_product() {
    let ctx = common::context();
    let cell = cell::by_name("gru").unwrap();
    let case = Case { tile: Some(Tile::Of64x64), ..Case::new(RnnConfig::new(3, 130), 3, 5) };
    pollster::block_on(case.check_gpu(&ctx, &cell, Strategy::Batched)).unwrap_or_else(|e| panic!("{e}"));
}

/// Steps that are held where lengths end, states are cut and chunks and windows begin; a step's f16 output; and a single step.
#[test]
fn held_steps() {
    let ctx = common::own_context();
    let config = RnnConfig::new(3, 7).with_num_layers(2).with_bidirectional(true).with_batch_first(true);
    let held = |config: &RnnConfig, seq_len, batch| Case { holds: true, ..Case::new(config.clone(), seq_len, batch) };
    let cell = cell::by_name("gru_reset_before").unwrap();
    let chunks = Case { dispatch_flops: Some(5_000), window_bytes: Some(2_000), ..held(&config, 70, 3) };
    for (case, strategy) in [
        (chunks, Strategy::Resident),
        (Case { dtype: Dtype::F16, ..held(&config, 6, 3) }, Strategy::Batched),
        (held(&RnnConfig::new(5, 8), 1, 4), Strategy::Stepwise),
        (held(&RnnConfig::new(5, 8), 1, 80), Strategy::Stepwise),
    ] {
        let outcome = pollster::block_on(case.check_gpu(&ctx, &cell, strategy));
        outcome.unwrap_or_else(|e| panic!("{}: {e}\n{case:?}", strategy.name()));
    }
}

/// Projections of h under every strategy: lengths, resets and held steps, whole chunks and parts of them, windows and a single step.
#[test]
fn projections() {
    let ctx = common::own_context();
    let config = RnnConfig::new(3, 7).with_num_layers(2).with_bidirectional(true).with_dropout(0.3).with_proj_size(5);
    let lstm: Arc<dyn Cell> = Arc::new(Lstm::default().with_peepholes(true));
    let all = Case { holds: true, accumulate: true, ..Case::new(config.clone(), 6, 4) };
    let windows = Case { window_bytes: Some(1_000), ..Case::new(config.with_batch_first(true), 9, 3) };
    let plain = Case { ragged: false, resets: false, initial_state: false, d_final_state: false, ..all.clone() };
    let one = Case::new(RnnConfig::new(4, 8).with_proj_size(3).with_bias(false), 1, 3);
    // A CPU adapter takes half a minute for persistent's kernels.
    let affordable = |strategy: &Strategy| full() || !ctx.is_software() || *strategy != Strategy::Persistent;
    for (case, strategies) in [
        (all, Strategy::all(&ctx).into_iter().filter(affordable).collect()),
        (windows, vec![Strategy::Batched]),
        (plain, vec![Strategy::Resident]),
        (one, vec![Strategy::Stepwise]),
    ] {
        for strategy in strategies {
            let outcome = pollster::block_on(case.check_gpu(&ctx, &lstm, strategy));
            outcome.unwrap_or_else(|e| panic!("{}: {e}\n{case:?}", strategy.name()));
        }
    }
}

/// Enough rows that a workgroup takes several of them on any device.
#[test]
fn many_rows() {
    let ctx = common::context();
    for cell in cell::registry() {
        let case = clear_of_jumps(&*cell, Case::new(RnnConfig::new(3, 17).with_bidirectional(true), 3, 300));
        check(&ctx, cell.name(), &cell, &case);
    }
}

/// At full size some gate of a binary cell lies too close to 0 to say on which side; all others must agree.
#[test]
fn binary_gate_flips_only_where_it_may() {
    let ctx = common::context();
    let (input_size, hidden, batch) = (64, 65, 65);
    let shape = SeqShape { seq_len: 1, batch_size: batch };
    let rnn = tidegate::Rnn::new(&ctx, tidegate::BinaryGate, RnnConfig::new(input_size, hidden)).unwrap();
    let params = tidegate::Params::uniform(rnn.param_layout(), 3);
    let as_f32 = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    let input = as_f32(common::uniform(4, batch * input_size, 1.0));
    let state = as_f32(common::uniform(5, batch * hidden, 1.0));
    let seq = tidegate::Sequence::new(shape, &input).with_initial_state(&state);
    let output = rnn.forward_blocking(&rnn.upload(&params).unwrap(), &seq).unwrap().output;

    let tensor = |name| params.get(name).unwrap().iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let [w_ih, w_hh, b_ih, b_hh] = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"].map(tensor);
    let dot = |w: &[f64], x: &[f32]| w.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
    let (mut undecided, mut wrong, mut open) = (0, 0, 0);
    for b in 0..batch {
        for j in 0..hidden {
            let pre = |row: usize| {
                let x = &input[b * input_size..][..input_size];
                let h = &state[b * hidden..][..hidden];
                dot(&w_ih[row * input_size..], x) + b_ih[row] + dot(&w_hh[row * hidden..], h) + b_hh[row]
            };
            let (a, n) = (pre(j), pre(hidden + j).tanh());
            let expected = if a > 0.0 { n } else { f64::from(state[b * hidden + j]) };
            open += usize::from(a > 0.0);
            undecided += usize::from(a.abs() < 1e-4);
            let right = (f64::from(output[b * hidden + j]) - expected).abs() <= 1e-5;
            wrong += usize::from(!right);
        }
    }
    assert!(wrong <= undecided, "{wrong} units are wrong, {undecided} lie within 1e-4 of the jump");
    assert!(undecided < 10 && (1000..3000).contains(&open), "{undecided} undecided, {open} open: not the data this test wants");
}

/// Whole networks on the products of GPUs: by fours, ragged, in windows, and in splits of the sums of weight gradients.
#[test]
fn networks_on_tiles() {
    let ctx = common::context();
    let stacked = RnnConfig::new(20, 12).with_num_layers(2).with_bidirectional(true).with_batch_first(true);
    for (name, config) in [("lstm", stacked), ("gru", RnnConfig::new(7, 11))] {
        let cell = cell::by_name(name).unwrap();
        for window_bytes in [None, Some(50_000)] {
            let case = Case { tile: Some(Tile::Of32x32), window_bytes, ..Case::new(config.clone(), 9, 17) };
            let outcome = pollster::block_on(case.check_gpu(&ctx, &cell, Strategy::Resident));
            outcome.unwrap_or_else(|e| panic!("{name}: {e}\n{case:?}"));
        }
    }
}

/// Found by `tests/properties.rs`: five partial sums of weight gradients, 105 elements apart, of which the fifth begins at a
/// multiple of four, but none between.
#[test]
fn partial_sums_an_odd_number_of_elements_apart() {
    let ctx = common::context();
    let case = Case { ragged: false, tile: Some(Tile::Of32x32), ..Case::new(RnnConfig::new(8, 7).with_bias(false), 19, 14) };
    let outcome = pollster::block_on(case.check_gpu(&ctx, &cell::by_name("rnn_linear").unwrap(), Strategy::Stepwise));
    outcome.unwrap_or_else(|e| panic!("{e}\n{case:?}"));
}
