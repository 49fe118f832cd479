//! Whole models: against float64 and finite differences, bit for bit the same again, and what a trainer refuses.

use tidegate::train::{
    Batch, Checkpoint, Clip, Inputs, Layout, Objective, Optimizer, Readout, Targets, TrainConfig, Trainer, Weights, schedule,
};
use tidegate::{Cell, Context, Gru, Lstm, Params, Result, Rnn, RnnConfig, SeqShape, Sequence, Tuning};

use crate::close;
use crate::common::{self, uniform};
use crate::reference::{self, Chunk};

const SHAPE: SeqShape = SeqShape { seq_len: 7, batch_size: 5 };
const VOCABULARY: usize = 13;

/// All (t, b).
fn steps() -> impl Iterator<Item = (usize, usize)> {
    (0..SHAPE.seq_len).flat_map(|t| (0..SHAPE.batch_size).map(move |b| (t, b)))
}

/// A model and a chunk for it.
struct Model<C> {
    cell: C,
    network: RnnConfig,
    config: TrainConfig,
}

impl<C: Cell + Clone + 'static> Model<C> {
    fn chunk(&self, seed: u64) -> Chunk {
        let config = &self.config;
        let words = |seed, n: usize, below: usize| -> Vec<u32> {
            uniform(seed, n, 1.0).iter().map(|x| ((x + 1.0) / 2.0 * below as f64) as u32).collect()
        };
        let narrow = |values: Vec<f64>| values.into_iter().map(|x| f64::from(x as f32)).collect();
        let lengths = config.ragged.then(|| words(seed, SHAPE.batch_size, SHAPE.seq_len).iter().map(|n| n + 1).collect());
        let lengths: Option<Vec<u32>> = lengths;
        let hold: Option<Vec<u32>> = config.holds.then(|| words(seed + 5, SHAPE.rows(), 2));
        let mut counted = vec![true; config.predictions()];
        if config.readout == Readout::EveryStep {
            for (t, b) in steps() {
                let within = lengths.as_ref().is_none_or(|lengths| t < lengths[b] as usize);
                let held = hold.as_ref().is_some_and(|hold| hold[t * SHAPE.batch_size + b] != 0);
                counted[self.row(t, b)] = within && !held;
            }
        }
        Chunk {
            tokens: words(seed + 1, SHAPE.rows(), VOCABULARY),
            features: narrow(uniform(seed + 2, SHAPE.rows() * self.network.input_size, 1.0)),
            labels: words(seed + 3, config.predictions(), config.out_features),
            values: narrow(uniform(seed + 4, config.predictions() * config.out_features, 1.0)),
            lengths,
            hold,
            counted,
        }
    }

    /// Of data in the order of the inputs.
    fn row(&self, t: usize, b: usize) -> usize {
        if self.network.batch_first { b * SHAPE.seq_len + t } else { t * SHAPE.batch_size + b }
    }

    fn rnn(&self, ctx: &Context) -> Rnn {
        Rnn::new(ctx, self.cell.clone(), self.network.clone()).unwrap()
    }

    fn trainer(&self, ctx: &Context, optimizer: Optimizer) -> Trainer {
        let rnn = self.rnn(ctx);
        let weights = Weights::init(&Layout::new(&rnn, &self.config).unwrap(), 5);
        Trainer::new(&rnn, &self.config, optimizer, &weights).unwrap()
    }

    fn write(&self, trainer: &mut Trainer, chunk: &Chunk) {
        let narrow = |values: &[f64]| -> Vec<f32> { values.iter().map(|&x| x as f32).collect() };
        let (mut features, values) = (narrow(&chunk.features), narrow(&chunk.values));
        let mut tokens = chunk.tokens.clone();
        // Past a length anything may stand.
        for (t, b) in steps() {
            let row = self.row(t, b);
            let past = chunk.lengths.as_ref().is_some_and(|lengths| t >= lengths[b] as usize);
            if past {
                tokens[row] = 1_000_000;
            }
            if past || chunk.hold.as_ref().is_some_and(|hold| hold[t * SHAPE.batch_size + b] != 0) {
                features[row * self.network.input_size] = f32::NAN;
            }
        }
        let inputs = if self.config.vocabulary.is_some() { Inputs::Tokens(&tokens) } else { Inputs::Features(&features) };
        let targets = match self.config.objective {
            Objective::CrossEntropy => Targets::Labels(&chunk.labels),
            Objective::MeanSquaredError => Targets::Values(&values),
        };
        let batch = Batch { lengths: chunk.lengths.as_deref(), hold: chunk.hold.as_deref(), ..Batch::new(inputs, targets) };
        trainer.write_batch(&batch).unwrap();
    }

    fn reference(&self, layout: &Layout, params: &[f64], chunk: &Chunk, state: Option<&[f64]>) -> reference::Outcome {
        reference::step(&self.cell, &self.network, &self.config, layout, params, chunk, state)
    }

    /// The reference's gradient against differences of its loss, the GPU's against the reference's.
    fn check(&self, ctx: &Context) {
        let name = format!("{} {:?}", self.cell.name(), self.config);
        let mut trainer = self.trainer(ctx, Optimizer::sgd(0.0));
        let layout = trainer.layout().clone();
        let chunk = self.chunk(3);
        let weights = trainer.weights_blocking().unwrap();
        let params: Vec<f64> = weights.values().iter().copied().map(f64::from).collect();
        let truth = self.reference(&layout, &params, &chunk, None);
        for spec in layout.iter() {
            for i in spec.range.clone().step_by(spec.range.len().div_ceil(9)) {
                let loss = |off: f64| {
                    let mut params = params.clone();
                    params[i] += off;
                    self.reference(&layout, &params, &chunk, None).loss
                };
                let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                let off = (slope - truth.gradient[i]).abs();
                assert!(off <= 1e-8 + 1e-6 * slope.abs(), "{name}: {} {i}: {} for {slope}", spec.name, truth.gradient[i]);
            }
        }
        self.write(&mut trainer, &chunk);
        let evaluated = trainer.evaluate_blocking().unwrap();
        close(&name, &[truth.loss], &[evaluated], 1e-6);
        if self.config.carry_state {
            let state = pollster::block_on(trainer.state()).unwrap();
            close(&name, &truth.final_state, &state, 1e-6);
            trainer.set_state(&vec![0.0; state.len()]).unwrap();
        }
        trainer.step(0.25).unwrap();
        close(&name, &[truth.loss], &trainer.losses_blocking().unwrap(), 1e-6);
        let [gradient, predictions] = pollster::block_on(ctx.download([trainer.d_params(), trainer.predictions()])).unwrap();
        close(&name, &truth.predictions, &predictions, 1e-6);
        close(&name, &truth.gradient, &gradient, 2e-6);
        let after = trainer.weights_blocking().unwrap();
        let expected: Vec<f64> = params.iter().zip(&truth.gradient).map(|(p, d)| p - 0.25 * d).collect();
        close(&name, &expected, after.values(), 1e-6);
    }
}

fn characters() -> Model<Lstm> {
    let config = TrainConfig::new(SHAPE, Objective::CrossEntropy, VOCABULARY)
        .with_vocabulary(VOCABULARY)
        .with_carry_state(true)
        .with_clip(Clip::Norm(0.5))
        .with_log_len(4);
    Model { cell: Lstm::default(), network: RnnConfig::new(5, 9).with_num_layers(2).with_dropout(0.3), config }
}

#[test]
fn gradients_agree_with_float64_and_its_differences() {
    let ctx = common::context();
    let classes = TrainConfig::new(SHAPE, Objective::CrossEntropy, 3);
    let both = RnnConfig::new(3, 6).with_bidirectional(true).with_num_layers(2);
    let tokens = classes.clone().with_vocabulary(VOCABULARY);
    let last = classes.clone().with_readout(Readout::Final);
    Model { cell: Lstm::default(), network: both.clone(), config: tokens.clone().with_ragged(true) }.check(&ctx);
    let config = last.with_ragged(true).with_vocabulary(VOCABULARY);
    Model { cell: Gru::default(), network: both.clone().with_batch_first(true), config }.check(&ctx);
    let values = TrainConfig::new(SHAPE, Objective::MeanSquaredError, 4).with_head_bias(false);
    let config = values.clone().with_carry_state(true);
    Model { cell: Lstm::default(), network: RnnConfig::new(3, 6).with_num_layers(2), config }.check(&ctx);
    let projected = RnnConfig::new(3, 6).with_num_layers(2).with_proj_size(4);
    Model { cell: Lstm::default(), network: projected, config: values.clone().with_carry_state(true) }.check(&ctx);
    let network = RnnConfig::new(3, 6).with_batch_first(true);
    Model { cell: Gru::reset_before(), network, config: values.clone().with_ragged(true) }.check(&ctx);
    let config = tokens.clone().with_ragged(true).with_holds(true);
    Model { cell: Gru::default(), network: both.clone().with_batch_first(true), config }.check(&ctx);
    let config = classes.with_readout(Readout::Final).with_holds(true);
    Model { cell: Lstm::default(), network: both.clone(), config }.check(&ctx);
    let network = RnnConfig::new(3, 6).with_direction(tidegate::Direction::Reverse);
    Model { cell: Lstm::default(), network, config: values.with_readout(Readout::Final) }.check(&ctx);
}

/// Some steps on chunks of their own, with resets and a readback in between.
fn train(model: &Model<Lstm>, trainer: &mut Trainer, steps: std::ops::Range<u64>) -> Vec<f32> {
    let mut losses = Vec::new();
    for step in steps {
        model.write(trainer, &model.chunk(100 + step));
        if step % 3 == 1 {
            trainer.reset_rows(&[0, 3]).unwrap();
        }
        trainer.step(schedule::warmup_cosine(step, 3, 12, 0.02, 0.001)).unwrap();
        losses.extend(trainer.losses_blocking().unwrap());
    }
    losses
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_run_gives_the_same_bits_again_and_goes_on_from_a_checkpoint() {
    let ctx = common::context();
    let model = characters();
    for optimizer in [Optimizer::adamw(), Optimizer::sgd(0.9), Optimizer::sgd(0.0)] {
        let mut whole = model.trainer(&ctx, optimizer);
        let first = train(&model, &mut whole, 0..5);
        let middle = whole.checkpoint_blocking("").unwrap();
        let rest = train(&model, &mut whole, 5..9);
        let end = whole.checkpoint_blocking("").unwrap();
        assert!(rest[3] != first[0] && first.iter().chain(&rest).all(|loss| loss.is_finite()));

        let mut again = model.trainer(&ctx, optimizer);
        assert_eq!(bits(&train(&model, &mut again, 0..5)), bits(&first), "{optimizer:?}");
        // What is pending or in the log at a stop goes with the file or not at all.
        again.reset_rows(&[1]).unwrap();
        again.restore(&middle).unwrap();
        assert!(again.checkpoint_blocking("").unwrap() == middle, "{optimizer:?}");

        let mut resumed = model.trainer(&ctx, optimizer);
        train(&model, &mut resumed, 2..4);
        resumed.restore(&middle).unwrap();
        assert_eq!(resumed.steps(), 5);
        assert_eq!(bits(&train(&model, &mut resumed, 5..9)), bits(&rest), "{optimizer:?}");
        assert!(resumed.checkpoint_blocking("").unwrap() == end, "{optimizer:?}");
    }
}

/// What the app and the network had to go on by comes back, and the weights come without the rest.
#[test]
fn a_checkpoint_holds_a_note_the_tuning_and_weights_on_their_own() {
    let ctx = common::context();
    let model = characters();
    // Stepwise, where the table would say resident.
    let stored = serde_json::json!({
        "device": Tuning::device_of(&ctx),
        "choices": [{
            "class": { "cell": "lstm", "hidden_size": 9, "num_directions": 1, "batch_size": 8, "training": true },
            "strategy": "stepwise", "workgroups": 1, "fallback": "stepwise",
        }],
        "failures": 0,
    });
    let tuning: Tuning = serde_json::from_value(stored).unwrap();
    let rnn = model.rnn(&ctx).with_tuning(&tuning).unwrap();
    let layout = Layout::new(&rnn, &model.config).unwrap();
    let trainer = |rnn: &Rnn| Trainer::new(rnn, &model.config, Optimizer::adam(), &Weights::init(&layout, 5)).unwrap();
    let mut tuned = trainer(&rnn);
    assert!(tuned.dispatches() > trainer(&model.rnn(&ctx)).dispatches());
    let first = train(&model, &mut tuned, 0..3);
    let file = tuned.checkpoint_blocking("chunk 3 of \"The Tempest\"").unwrap();
    let rest = train(&model, &mut tuned, 3..5);

    let checkpoint = Checkpoint::open(&file).unwrap();
    assert_eq!((checkpoint.step(), checkpoint.note()), (3, "chunk 3 of \"The Tempest\""));
    assert_eq!(checkpoint.tuning(), &tuning);
    let mut resumed = trainer(&model.rnn(&ctx).with_tuning(checkpoint.tuning()).unwrap());
    resumed.restore(&file).unwrap();
    assert_eq!(resumed.weights_blocking().unwrap(), checkpoint.weights(&layout).unwrap());
    assert_eq!(resumed.dispatches(), tuned.dispatches());
    assert_eq!(bits(&train(&model, &mut resumed, 3..5)), bits(&rest));
    assert_ne!(bits(&first[..2]), bits(&rest));

    let wider = Layout::new(&rnn, &model.config.clone().with_vocabulary(14)).unwrap();
    assert!(message(checkpoint.weights(&wider)).contains("`embedding.weight`: expected shape [14, 5], got [13, 5]"));
    let mut headless = model.config.clone();
    headless.head_bias = false;
    let without = Layout::new(&rnn, &headless).unwrap();
    assert!(message(checkpoint.weights(&without)).contains("unused tensor `head.bias`"));
}

/// A reset that waits is in the checkpoint as the zeros that it will be.
#[test]
fn a_pending_reset_is_in_the_checkpoint() {
    let ctx = common::context();
    let model = characters();
    let mut whole = model.trainer(&ctx, Optimizer::adam());
    train(&model, &mut whole, 0..2);
    whole.reset_rows(&[1, 4]).unwrap();
    let file = whole.checkpoint_blocking("").unwrap();
    let rest = train(&model, &mut whole, 2..4);
    let mut resumed = model.trainer(&ctx, Optimizer::adam());
    resumed.restore(&file).unwrap();
    assert_eq!(bits(&train(&model, &mut resumed, 2..4)), bits(&rest));
    let mut without = model.trainer(&ctx, Optimizer::adam());
    train(&model, &mut without, 0..2);
    assert_ne!(bits(&train(&model, &mut without, 2..4)), bits(&rest));
}

/// Several steps in one submit, each with its own rate, and no more losses than the log holds.
#[test]
fn steps_of_one_submit_are_those_of_many() {
    let ctx = common::context();
    let model = characters();
    let rates = [0.01, 0.05, 0.002, 0.03];
    let [mut one, mut many] = [0; 2].map(|_| model.trainer(&ctx, Optimizer::adam()));
    let chunk = model.chunk(1);
    model.write(&mut one, &chunk);
    model.write(&mut many, &chunk);
    let mut encoder = ctx.device().create_command_encoder(&Default::default());
    rates.iter().for_each(|&rate| one.encode(rate, &mut encoder).unwrap());
    ctx.queue().submit([encoder.finish()]);
    rates.iter().for_each(|&rate| many.step(rate).unwrap());
    let losses = [&mut one, &mut many].map(|trainer| bits(&trainer.losses_blocking().unwrap()));
    assert_eq!(losses[0], losses[1]);
    assert!(one.checkpoint_blocking("").unwrap() == many.checkpoint_blocking("").unwrap());

    let mut all = Vec::new();
    for _ in 0..6 {
        many.step(0.01).unwrap();
        one.step(0.01).unwrap();
        all.extend(one.losses_blocking().unwrap());
    }
    assert_eq!(bits(&many.losses_blocking().unwrap()), bits(&all[2..]));
    assert!(many.losses_blocking().unwrap().is_empty());
}

fn message<T>(result: Result<T>) -> String {
    result.err().map_or_else(|| "no error".into(), |error| error.to_string())
}

#[test]
fn a_damaged_checkpoint_is_refused_and_changes_nothing() {
    let ctx = common::context();
    let model = characters();
    let mut trainer = model.trainer(&ctx, Optimizer::adam());
    train(&model, &mut trainer, 0..2);
    let good = trainer.checkpoint_blocking("").unwrap();
    let sgd = model.trainer(&ctx, Optimizer::sgd(0.9)).checkpoint_blocking("").unwrap();
    let weights = trainer.weights_blocking().unwrap().to_safetensors().unwrap();
    let edit = |from: &str, to: &str| {
        let size = u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
        let header = String::from_utf8(good[8..8 + size].to_vec()).unwrap().replacen(from, to, 1);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &good[8 + size..]].concat()
    };
    for (file, what) in [
        (sgd, "it is of optimizer sgd, this trainer's is adam"),
        (weights, "no `tidegate_checkpoint`"),
        (edit("version\\\":1", "version\\\":2"), "format version 2, this library reads 1"),
        (edit("\"step", "\"stop"), "`tidegate_checkpoint`"),
        (edit("\"carried_state\"", "\"state\""), "missing tensor `carried_state`"),
        (edit("\"optimizer.exp_avg.head.bias\"", "\"head.scale\""), "missing tensor `optimizer.exp_avg.head.bias`"),
        (edit("\"shape\":[13,9]", "\"shape\":[9,13]"), "`head.weight`: expected shape [13, 9], got [9, 13]"),
        (edit("\"dropout_state\":{\"dtype\":\"U32\"", "\"dropout_state\":{\"dtype\":\"I32\""), "expected dtype U32, got I32"),
        (good[..good.len() - 1].to_vec(), "safetensors"),
    ] {
        let error = message(trainer.restore(&file));
        assert!(error.contains(what), "{what}: {error}");
        assert!(trainer.checkpoint_blocking("").unwrap() == good, "{what}");
    }
    let config = TrainConfig::new(SHAPE, Objective::CrossEntropy, VOCABULARY).with_vocabulary(VOCABULARY).with_log_len(4);
    let mut plain = Model { config, ..model }.trainer(&ctx, Optimizer::adam());
    let error = message(plain.restore(&good));
    assert!(error.contains("unused tensor `carried_state`"), "{error}");
}

#[test]
fn weights_go_to_a_file_and_back() {
    let ctx = common::context();
    let trainer = characters().trainer(&ctx, Optimizer::sgd(0.0));
    let weights = trainer.weights_blocking().unwrap();
    let file = weights.to_safetensors().unwrap();
    assert_eq!(Weights::from_safetensors(trainer.layout(), &file).unwrap(), weights);
    assert_eq!(weights.rnn_params().unwrap().get("bias_hh_l1").unwrap(), weights.get("rnn.bias_hh_l1").unwrap());
    // PyTorch's deviations: 1, and 1/√3 of the bounds.
    let deviation = |values: &[f32]| (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt();
    let large = TrainConfig::new(SHAPE, Objective::CrossEntropy, 100).with_vocabulary(5000);
    let init = Weights::init(&Layout::new(trainer.rnn(), &large).unwrap(), 1);
    assert!((deviation(init.get("embedding.weight").unwrap()) - 1.0).abs() < 0.02);
    assert!((deviation(init.get("head.weight").unwrap()) - 1.0 / 27f32.sqrt()).abs() < 0.02);
    assert!(init.get("head.bias").unwrap().iter().all(|x| x.abs() <= 1.0 / 3.0));
}

#[test]
fn what_a_trainer_cannot_take_is_refused_by_name() {
    let ctx = common::context();
    let model = characters();
    let rnn = model.rnn(&ctx);
    let build = |rnn: &Rnn, config: &TrainConfig| {
        let layout = Layout::new(rnn, config).unwrap();
        message(Trainer::new(rnn, config, Optimizer::adam(), &Weights::init(&layout, 1)))
    };
    let both = Rnn::new(&ctx, Gru::default(), RnnConfig::new(5, 9).with_bidirectional(true)).unwrap();
    assert!(build(&both, &model.config).contains("`carry_state` needs direction Forward, the network has Bidirectional"));
    assert!(build(&rnn, &model.config.clone().with_log_len(0)).contains("`log_len`: 0 is outside 1..=1048576"));
    let other = Layout::new(&rnn, &model.config.clone().with_vocabulary(14)).unwrap();
    let error = message(Trainer::new(&rnn, &model.config, Optimizer::adam(), &Weights::init(&other, 1)));
    assert!(error.contains("`embedding.weight`: expected shape [13, 5], got [14, 5]"), "{error}");

    let none = TrainConfig::new(SHAPE, Objective::CrossEntropy, 0);
    assert_eq!(message(Layout::new(&rnn, &none)), "`out_features`: 0 is outside 1..=2147483648");

    let mut trainer = model.trainer(&ctx, Optimizer::adam());
    let (tokens, labels) = (vec![1u32; 35], vec![2u32; 35]);
    let good = Batch::new(Inputs::Tokens(&tokens), Targets::Labels(&labels));
    let mut wrong = tokens.clone();
    wrong[7] = 13;
    let short = vec![1u32; 34];
    let features = vec![0.0; 35 * 5];
    for (batch, what) in [
        (Batch { inputs: Inputs::Tokens(&wrong), ..good }, "`tokens[7]`: 13 is outside 0..=12"),
        (Batch { targets: Targets::Labels(&wrong), ..good }, "`labels[7]`: 13 is outside 0..=12"),
        (Batch { inputs: Inputs::Tokens(&short), ..good }, "`tokens [T·B = 7·5]`: expected 35 values, got 34"),
        (Batch { targets: Targets::Labels(&short), ..good }, "`labels [T·B = 7·5]`: expected 35 values, got 34"),
        (Batch { inputs: Inputs::Features(&features), ..good }, "it takes tokens"),
        (Batch { targets: Targets::Values(&features), ..good }, "takes labels"),
        (good.with_mask(&short), "`mask [T·B = 7·5]`: expected 35 values, got 34"),
        (good.with_reset(&short), "`reset [T·B = 7·5]`: expected 35 values, got 34"),
        (good.with_lengths(&[1; 5]), "need a config that is ragged"),
        (good.with_hold(&[0; 35]), "needs a config with `holds`"),
    ] {
        let error = message(trainer.write_batch(&batch));
        assert!(error.contains(what), "{what}: {error}");
    }
    for rate in [f64::NAN, -0.1, f64::INFINITY] {
        assert!(message(trainer.step(rate)).contains("`learning_rate` is"), "{rate}");
    }
    assert_eq!(message(trainer.reset_rows(&[5])), "`row to reset`: 5 is outside 0..=4");
    assert_eq!(trainer.steps(), 0);

    let ragged = Model { config: TrainConfig::new(SHAPE, Objective::CrossEntropy, 3).with_ragged(true), ..model };
    let mut trainer = ragged.trainer(&ctx, Optimizer::adam());
    let good = Batch::new(Inputs::Features(&features), Targets::Labels(&labels));
    assert!(message(trainer.write_batch(&good)).contains("a batch needs `lengths`"));
    let error = message(trainer.write_batch(&good.with_lengths(&[1, 7, 8, 2, 1])));
    assert_eq!(error, "`lengths[2]`: 8 is outside 0..=7");
    assert!(message(trainer.reset_rows(&[0])).contains("`carry_state`"));
    assert!(message(pollster::block_on(trainer.state())).contains("`carry_state`"));
}

/// What PyTorch's schedulers give from 1.0 (2.0 for the last two): tests/fixtures/train/schedules.py prints them.
#[test]
fn schedules_are_pytorchs() {
    let check = |what: &str, expected: &[f64], rate: &dyn Fn(u64) -> f64| {
        for (step, expected) in expected.iter().enumerate() {
            assert!((rate(step as u64) - expected).abs() < 1e-12, "{what}, step {step}: {} for {expected}", rate(step as u64));
        }
    };
    let cosine = [1.0, 0.9779754323328192, 0.9140576474687263, 0.8145033635316129, 0.6890576474687263, 0.55];
    check("warm-up and cosine", &cosine, &|step| schedule::warmup_cosine(step, 0, 10, 1.0, 0.1));
    check("CosineAnnealingLR", &cosine, &|step| schedule::cosine_annealing_lr(step, 1.0, 10, 0.1));
    let around = [1.0, 0.55, 0.1, 0.55, 1.0, 0.55];
    check("CosineAnnealingLR", &around, &|step| schedule::cosine_annealing_lr(step, 1.0, 2, 0.1));
    assert_eq!([10, 11, 99].map(|step| schedule::warmup_cosine(step, 0, 10, 1.0, 0.1)), [0.1; 3]);
    assert_eq!([0, 1, 3, 4].map(|step| schedule::warmup_cosine(step, 4, 10, 2.0, 0.0)), [0.5, 1.0, 2.0, 2.0]);
    check("StepLR", &[1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25], &|step| schedule::step_lr(step, 1.0, 3, 0.5));
    assert_eq!(schedule::step_lr(9, 0.3, 0, 0.5), 0.3);
    check("MultiStepLR", &[1.0, 1.0, 0.1, 0.1, 0.1, 0.01], &|step| schedule::multi_step_lr(step, 1.0, &[2, 5], 0.1));
    check("ExponentialLR", &[2.0, 1.8, 1.62, 1.458], &|step| schedule::exponential_lr(step, 2.0, 0.9));
    check("LinearLR", &[0.5, 0.875, 1.25, 1.625, 2.0, 2.0], &|step| schedule::linear_lr(step, 2.0, 0.25, 1.0, 4));
}

/// Predictions are the head's output without dropout, and no weights move; an orthogonal start and a gate's bias go in.
#[test]
fn predictions_are_the_heads_output() {
    let ctx = common::context();
    for (readout, rows) in [(Readout::EveryStep, 5 * 2), (Readout::Final, 2)] {
        let shape = SeqShape::new(5, 2);
        let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(3, 4).with_num_layers(2).with_dropout(0.5)).unwrap();
        let config = TrainConfig::new(shape, Objective::CrossEntropy, 6).with_readout(readout);
        let own = Params::uniform(rnn.param_layout(), 3).with_orthogonal_weights(3).with_gate_bias(rnn.cell(), "f", 1.0).unwrap();
        let weights = Weights::init(&Layout::new(&rnn, &config).unwrap(), 1).with_rnn_params(&own).unwrap();
        let mut trainer = Trainer::new(&rnn, &config, Optimizer::adam(), &weights).unwrap();
        let input: Vec<f32> = uniform(2, 5 * 2 * 3, 1.0).into_iter().map(|x| x as f32).collect();
        let found = trainer.predict_blocking(Inputs::Features(&input), None).unwrap();
        let outputs = rnn.forward_blocking(&rnn.upload(&own).unwrap(), &Sequence::new(shape, &input)).unwrap().output;
        let features = &outputs[outputs.len() - rows * 4..];
        let (weight, bias) = (weights.get("head.weight").unwrap(), weights.get("head.bias").unwrap());
        assert_eq!(found.len(), rows * 6);
        for (i, found) in found.iter().enumerate() {
            let (row, class) = (&features[i / 6 * 4..][..4], i % 6);
            let expected: f32 = bias[class] + row.iter().zip(&weight[class * 4..]).map(|(x, w)| x * w).sum::<f32>();
            assert!((found - expected).abs() < 1e-6, "{i}: {found} for {expected}");
        }
        assert_eq!(trainer.weights_blocking().unwrap(), weights);
        let error = trainer.predict_blocking(Inputs::Features(&input[1..]), None).unwrap_err().to_string();
        assert!(error.contains("`features [T·B·I = 5·2·3]`: expected 30 values, got 29"), "{error}");
    }
}
