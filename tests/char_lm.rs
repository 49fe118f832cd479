//! The example `char_lm`: it learns, it goes on from a checkpoint bit for bit, and refuses what it cannot take.

#[path = "../examples/char_lm/args.rs"]
mod args;
mod common;
#[path = "../examples/char_lm/model.rs"]
mod model;
#[path = "../examples/char_lm/sample.rs"]
mod sample;
#[path = "../examples/char_lm/text.rs"]
mod text;
#[path = "../examples/char_lm/train.rs"]
mod train;

use std::error::Error;
use std::fs;
use std::sync::atomic::AtomicBool;

use args::Args;
use clap::Parser;
use common::command::{Folder, fixtures};
use model::Model;
use sample::{Draw, choose, generate};
use text::{Rows, Vocabulary, split};
use tidegate::train::Trainer;
use tidegate::{SeqShape, Tuning};
use train::{Options, bits_per_character};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const DRAW: Draw = Draw { temperature: 0.8, seed: 3 };

fn tempest() -> String {
    fs::read_to_string(fixtures().join("shakespeare/tempest.txt")).unwrap()
}

fn parse(args: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(args.split(' '))
}

fn model(text: &str) -> Model {
    let args = parse("char_lm --cell gru --hidden 24 --embedding 8 --seq 16 --batch 8 --learning-rate 0.01").unwrap();
    Model::new(args.settings, 40, &Vocabulary::of(text))
}

/// Trains up to the model's steps and gives the losses.
fn train(trainer: &mut Trainer, model: &Model, rows: &Rows<'_>, held_out: &Rows<'_>) -> Vec<f32> {
    let stop = AtomicBool::new(false);
    let options = Options { report_every: 15, checkpoint: None, draw: DRAW, stop: &stop };
    train::train(trainer, model, rows, held_out, &options).unwrap().losses
}

#[test]
fn a_run_that_was_stopped_goes_on_as_if_it_had_not_been() {
    let (ctx, text) = (common::context(), tempest());
    let model = model(&text);
    let vocabulary = model.vocabulary();
    let tokens = vocabulary.encode(&text).unwrap();
    let (seen, unseen) = split(&tokens);
    // Few enough chunks that the text begins again on the way.
    let rows = Rows::new("seen", &seen[..4000], model.shape()).unwrap();
    assert_eq!(rows.chunks(), 31);
    let held_out = Rows::new("unseen", unseen, model.shape()).unwrap();

    let mut whole = model.trainer(&ctx, &Tuning::default()).unwrap();
    let before = bits_per_character(&mut whole, &held_out, 8).unwrap();
    let losses = train(&mut whole, &model, &rows, &held_out);
    assert_eq!(losses.len(), 40);
    let bits = bits_per_character(&mut whole, &held_out, 8).unwrap();
    let uniform = (vocabulary.len() as f64).log2();
    assert!((before - uniform).abs() < 0.5 && bits < uniform - 1.0, "{before} to {bits}, uniform {uniform}");

    let folder = Folder::new();
    let path = folder.path("checkpoint.safetensors");
    // The report at step 30 saves it.
    let mut first = model.trainer(&ctx, &Tuning::default()).unwrap();
    let stop = AtomicBool::new(false);
    let options = Options { report_every: 30, checkpoint: Some(&path), draw: DRAW, stop: &stop };
    train::train(&mut first, &model, &rows, &held_out, &options).unwrap();
    let (saved, bytes) = Model::load(&path).unwrap();
    assert_eq!(saved, model);
    let mut second = saved.trainer(&ctx, &Tuning::default()).unwrap();
    second.restore(&bytes).unwrap();
    assert_eq!(second.steps(), 30);
    assert_eq!(train(&mut second, &saved, &rows, &held_out), losses[30..]);

    let weights = second.weights_blocking().unwrap();
    assert_eq!(weights, whole.weights_blocking().unwrap());
    let write = |prompt, draw| generate(second.rnn(), &weights, &vocabulary, prompt, 40, draw).unwrap();
    let sample = write(Some("PROSPERO"), DRAW);
    assert_eq!((sample.chars().count(), &write(Some("PROSPERO"), DRAW)), (40, &sample));
    assert_ne!(write(Some("PROSPERO"), Draw { seed: 4, ..DRAW }), sample);
    assert_eq!(write(None, DRAW), write(Some("\n"), DRAW));
}

/// Small, and under 60 steps: see the README for a whole training.
#[test]
fn f16_learns_as_f32_does() {
    let (ctx, text) = (common::context(), tempest());
    let vocabulary = Vocabulary::of(&text);
    let tokens = vocabulary.encode(&text).unwrap();
    let (seen, unseen) = split(&tokens);
    let [whole, half] = ["f32", "f16"].map(|dtype| {
        let args =
            format!("char_lm --cell lstm --hidden 24 --embedding 8 --seq 16 --batch 8 --learning-rate 0.01 --dtype {dtype}");
        let model = Model::new(parse(&args).unwrap().settings, 60, &vocabulary);
        let rows = Rows::new("seen", &seen[..4000], model.shape()).unwrap();
        let held_out = Rows::new("unseen", unseen, model.shape()).unwrap();
        let mut trainer = model.trainer(&ctx, &Tuning::default()).unwrap();
        assert_eq!(trainer.loss_scale().is_some(), dtype == "f16");
        let losses = train(&mut trainer, &model, &rows, &held_out);
        (losses, bits_per_character(&mut trainer, &held_out, 8).unwrap())
    });
    assert!(whole.0 != half.0 && (whole.1 - half.1).abs() < 0.01, "{} bits in f32, {} in f16", whole.1, half.1);
}

#[test]
fn rows_are_parts_of_the_text_one_after_another() {
    let text = "abcdefghijklmnopqrstuvwxyz";
    let vocabulary = Vocabulary::of(text);
    let tokens = vocabulary.encode(text).unwrap();
    let rows = Rows::new("it", &tokens, SeqShape { seq_len: 4, batch_size: 2 }).unwrap();
    let decode = |tokens: &[u32]| tokens.iter().map(|&token| vocabulary.char(token as usize)).collect::<String>();
    let chunk = |k| decode(&rows.chunk(k));
    assert_eq!(rows.chunks(), 3);
    assert_eq!([chunk(0), chunk(1), chunk(2)], ["anbocpdqer", "erfsgthuiv", "ivjwkxlymz"]);
    let last = rows.chunk(2);
    let (inputs, targets) = rows.inputs_and_targets(&last);
    assert_eq!((decode(inputs), decode(targets)), ("ivjwkxly".into(), "jwkxlymz".into()));
    assert_eq!(split(&tokens), (&tokens[..25], &tokens[25..]));
}

#[test]
fn characters_are_drawn_by_their_probability() {
    let logits = [0.0, 3f64.ln(), f64::NEG_INFINITY];
    assert_eq!([0.0, 0.24, 0.26, 0.99].map(|uniform| choose(&logits, 1.0, uniform)), [0, 0, 1, 1]);
    // Nine to one at half the temperature.
    assert_eq!([0.09, 0.11].map(|uniform| choose(&logits, 0.5, uniform)), [0, 1]);
    assert_eq!(choose(&logits, 0.0, 0.0), 1);
}

#[test]
fn what_cannot_be_is_named() {
    let message = |result: Result<()>| result.unwrap_err().to_string();
    let abc = Vocabulary::of("abc");
    assert_eq!(message(abc.encode("abd").map(drop)), "the model does not know the character 'd'");
    let shape = SeqShape { seq_len: 8, batch_size: 3 };
    let short = message(Rows::new("the text", &[0; 26], shape).map(drop));
    assert_eq!(short, "the text has 26 characters, 3 rows of 8 + 1 need 27");
    assert!(Rows::new("the text", &[0; 27], shape).is_ok());
    let none = message(Rows::new("the text", &[0; 26], SeqShape { seq_len: 0, batch_size: 3 }).map(drop));
    assert_eq!(none, "--seq 0 and --batch 3: both must be at least 1");
    assert_eq!(message(Draw::new(-1.0, 0).map(drop)), "--temperature -1: must be a finite number, 0 or above");

    let folder = Folder::new();
    let path = folder.path("missing.safetensors");
    assert!(message(Model::load(&path).map(drop)).starts_with(&format!("{}: ", path.display())));
    let nowhere = folder.path("missing/checkpoint.safetensors");
    assert!(message(Model::check_writable(&nowhere)).starts_with(&format!("{}: ", nowhere.display())));
    assert!(Model::check_writable(&path).is_ok() && !path.exists());
    let other = fixtures().join("silero/lstm.safetensors");
    let reason = "checkpoint: the file's metadata have no `tidegate_checkpoint`";
    assert_eq!(message(Model::load(&other).map(drop)), format!("{}: {reason}", other.display()));

    for refused in
        ["plays.txt --resume --hidden 64", "--resume", "--generate 9", "--generate 9 --checkpoint x --cell gru", "--report 0"]
    {
        let error = parse(&format!("char_lm {refused}")).unwrap_err().to_string();
        assert!(refused.split(' ').any(|word| word.starts_with("--") && error.contains(word)), "{refused}: {error}");
    }
    assert!(parse("char_lm plays.txt --resume --checkpoint x --steps 9").is_ok());
}
