//! The example `classify`: it learns, its losses are PyTorch's, and what it cannot take is named.

#[path = "../examples/classify/args.rs"]
mod args;
#[path = "../examples/classify/batch.rs"]
mod batch;
mod common;
#[path = "../examples/classify/data.rs"]
mod data;
#[path = "../examples/classify/errors.rs"]
mod errors;
#[path = "../examples/classify/model.rs"]
mod model;
#[path = "../examples/classify/train.rs"]
mod train;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fs;
use std::path::Path;

use args::{Args, Settings};
use batch::{Padded, order};
use clap::Parser;
use common::command::{self, Folder, Tensor, Tensors, fixtures};
use data::Data;
use errors::confusions;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tidegate::SeqShape;
use tidegate::train::IGNORE;
use train::{Outcome, Verdict, judge};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn vowels() -> Data {
    Data::read(&fixtures().join("japanese_vowels")).unwrap()
}

fn settings(args: &str) -> Settings {
    Args::try_parse_from(format!("classify {args}").split_whitespace()).unwrap().settings
}

fn train(settings: &Settings, data: &Data) -> Outcome {
    let mut trainer = settings.trainer(&common::context(), data).unwrap();
    let mut epochs = Vec::new();
    let outcome = train::train(&mut trainer, settings, data, |epoch, loss, _| epochs.push((epoch, loss))).unwrap();
    // What is reported of an epoch is the mean over its sequences.
    let mut sum = 0.0;
    for (chosen, loss) in order(data.train.len(), settings.seed, 1).chunks(settings.batch).zip(&outcome.losses) {
        sum += chosen.len() as f64 * f64::from(*loss);
    }
    assert_eq!(epochs[0], (1, sum / data.train.len() as f64));
    assert_eq!(epochs.len(), settings.epochs);
    outcome
}

#[test]
fn it_learns_to_tell_speakers() {
    let data = vowels();
    let sizes = (data.train.len(), data.test.len(), data.train.channels, data.train.classes.len(), data.longest());
    assert_eq!(sizes, (270, 370, 12, 9, 29));
    let outcome = train(&settings("--epochs 10"), &data);
    // The class that most of the held-out sequences have makes 88 of 370.
    let right = outcome.epochs[9].right(&data.test);
    assert!(right >= 300, "{right} of 370");
    assert!(outcome.epochs[9].loss < outcome.epochs[0].loss / 2.0, "{:?}", outcome.epochs.iter().map(|e| e.loss));
}

/// `examples/classify/classify.py --expected` wrote what these files hold.
#[test]
fn losses_and_accuracy_are_those_of_pytorch() {
    let data = vowels();
    for cell in ["lstm", "gru", "rnn_tanh"] {
        let path = fixtures().join("classify").join(cell).with_extension("safetensors");
        let bytes = fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let settings: Settings = serde_json::from_str(&header.metadata().as_ref().unwrap()["settings"]).unwrap();
        assert_eq!(settings.cell, cell);
        let outcome = train(&settings, &data);

        let expected = command::read(&path);
        let right: Vec<i32> = expected["right"].bytes.as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect();
        let (losses, test_losses) = (expected["losses"].values(), expected["test_losses"].values());
        assert_eq!((outcome.losses.len(), outcome.epochs.len(), right.len()), (losses.len(), test_losses.len(), settings.epochs));
        for (step, (truth, loss)) in losses.iter().zip(&outcome.losses).enumerate() {
            assert!((truth - f64::from(*loss)).abs() <= 1e-5, "{cell}, step {step}: {loss}, should be {truth}");
        }
        for (epoch, verdict) in outcome.epochs.iter().enumerate() {
            let (truth, found) = (test_losses[epoch], verdict.right(&data.test));
            assert!((truth - verdict.loss).abs() <= 1e-5, "{cell}, epoch {epoch}: {}, should be {truth}", verdict.loss);
            // One may lie on the edge.
            assert!(found.abs_diff(right[epoch] as usize) <= 1, "{cell}, epoch {epoch}: {found}, should be {}", right[epoch]);
        }
    }
}

#[test]
fn a_verdict_does_not_depend_on_the_batch() {
    let data = vowels();
    let verdict = |batch: usize| {
        let settings = settings(&format!("--batch {batch} --hidden 7"));
        judge(&mut settings.trainer(&common::context(), &data).unwrap(), &data.test).unwrap()
    };
    // 370 sequences: ten full batches; a last one with many rows to spare.
    let (full, spare) = (verdict(37), verdict(100));
    assert_eq!(full.predicted, spare.predicted);
    assert!((full.loss - spare.loss).abs() <= 1e-6, "{} and {}", full.loss, spare.loss);
}

#[test]
fn an_epoch_has_every_sequence_once() {
    let epochs = [(1, 1), (1, 2), (2, 1)].map(|(seed, epoch)| order(50, seed, epoch));
    for epoch in &epochs {
        assert!(epoch.iter().copied().collect::<BTreeSet<_>>().into_iter().eq(0..50) && epoch.len() == 50, "{epoch:?}");
    }
    assert!(epochs[0] != epochs[1] && epochs[0] != epochs[2]);
    assert_eq!(order(50, 1, 2), epochs[1]);
}

#[test]
fn sequences_are_padded_at_their_ends() {
    let folder = Folder::new();
    write(&folder.0, &small(), CLASSES);
    let data = Data::read(&folder.0).unwrap();
    let padded = Padded::new(&data.train, &[2, 0], SeqShape { seq_len: 3, batch_size: 3 });
    // Time-major: rows 2 and 0 of the file, and one that is none.
    #[rustfmt::skip]
    let frames = [
        60.0, 61.0,  10.0, 11.0,  0.0, 0.0,
         0.0,  0.0,  20.0, 21.0,  0.0, 0.0,
         0.0,  0.0,   0.0,  0.0,  0.0, 0.0,
    ];
    assert_eq!(padded.features, frames);
    assert_eq!((padded.lengths, padded.labels), (vec![1, 2, 1], vec![1, 0, IGNORE]));
}

#[test]
fn confusions_are_counted() {
    let folder = Folder::new();
    write(&folder.0, &small(), CLASSES);
    let data = Data::read(&folder.0).unwrap();
    let lines = |predicted: [u32; 3]| confusions(&data.test, &Verdict { loss: 0.0, predicted: predicted.into() });
    assert_eq!(lines([0, 1, 1]), [""; 0]);
    assert_eq!(lines([1, 0, 0]), ["2 of 2 of class b taken for a", "1 of 1 of class a taken for b"]);
    assert_eq!(lines([0, 1, IGNORE]), ["1 of 2 of class b taken for nothing"]);
}

const CLASSES: Option<&str> = Some(r#"["a","b"]"#);

/// Three sequences of 2, 3 and 1 frames of two channels.
fn small() -> Tensors {
    let frames = (1..=6).flat_map(|frame| [10.0 * frame as f32, 10.0 * frame as f32 + 1.0]);
    let tensors =
        [("frames", Tensor::f32(&[6, 2], frames)), ("lengths", Tensor::i32(&[2, 3, 1])), ("labels", Tensor::i32(&[0, 1, 1]))];
    tensors.map(|(name, tensor)| (name.to_string(), tensor)).into()
}

fn write_file(path: &Path, tensors: &Tensors, classes: Option<&str>) {
    let views = tensors.iter().map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata = classes.map(|json| HashMap::from([("classes".to_string(), json.to_string())]));
    fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
}

fn write(folder: &Path, tensors: &Tensors, classes: Option<&str>) {
    ["train", "test"].iter().for_each(|name| write_file(&folder.join(name).with_extension("safetensors"), tensors, classes));
}

#[test]
fn data_that_are_not_whole_are_named() {
    let folder = Folder::new();
    let message = || Data::read(&folder.0).unwrap_err().to_string();
    let train = folder.path("train.safetensors");
    assert!(message().starts_with(&format!("{}: ", train.display())), "{}", message());

    let with = |name: &str, tensor: Tensor| {
        let mut tensors = small();
        tensors.insert(name.into(), tensor);
        tensors
    };
    let mut lacking = small();
    lacking.remove("labels");
    let mut numbers: Vec<f32> = (0..12).map(|n| n as f32).collect();
    numbers[7] = f32::NAN;
    let cases = [
        (small(), None, "its metadata have no `classes`"),
        (small(), Some(r#"["a"]"#), "`labels`[1] is 1, there are 1 classes"),
        (lacking, CLASSES, "there is no tensor `labels`"),
        (with("frames", Tensor::some(&[12])), CLASSES, "`frames`: shape [12], must be [N,channels]"),
        (with("frames", Tensor::i32(&[0; 6])), CLASSES, "`frames`: shape [6], must be [N,channels]"),
        (
            with("frames", Tensor { shape: vec![3, 2], ..Tensor::i32(&[0; 6]) }),
            CLASSES,
            "`frames`: dtype I32, must be F32 or F16",
        ),
        (with("frames", Tensor::f32(&[6, 2], numbers)), CLASSES, "`frames`: channel 1 of frame 3 is NaN"),
        (with("lengths", Tensor::some(&[3])), CLASSES, "`lengths`: F32 [3], must be I32 [sequences]"),
        (with("lengths", Tensor::i32(&[2, 3])), CLASSES, "2 `lengths` and 3 `labels`: one of each a sequence"),
        (with("lengths", Tensor::i32(&[6, 0, 0])), CLASSES, "`lengths`[1] is 0, must be at least 1"),
        (with("lengths", Tensor::i32(&[6, -1, 1])), CLASSES, "`lengths`[1] is -1, must be at least 1"),
        (with("lengths", Tensor::i32(&[2, 3, 2])), CLASSES, "`lengths` add up to 7, `frames` has 6"),
        (with("labels", Tensor::i32(&[0, 1, -1])), CLASSES, "`labels`[2] is -1, there are 2 classes"),
    ];
    for (tensors, classes, expected) in cases {
        write(&folder.0, &tensors, classes);
        assert_eq!(message(), format!("{}: {expected}", train.display()));
    }
    write(&folder.0, &small(), CLASSES);
    assert!(Data::read(&folder.0).is_ok());

    let test = folder.path("test.safetensors");
    write_file(&test, &with("frames", Tensor::some(&[6, 3])), CLASSES);
    assert_eq!(message(), format!("{}: 2 channels to train on, 3 to test with", folder.0.display()));
    write_file(&test, &small(), Some(r#"["b","a"]"#));
    let classes = r#"classes ["a", "b"] to train on, ["b", "a"] to test with"#;
    assert_eq!(message(), format!("{}: {classes}", folder.0.display()));
    fs::write(&test, "{}").unwrap();
    assert!(message().starts_with(&format!("{}: not a safetensors file but a JSON file", test.display())), "{}", message());
}

#[test]
fn settings_that_cannot_be_are_named() {
    let (ctx, data) = (common::context(), vowels());
    let message = |args: &str| settings(args).trainer(&ctx, &data).unwrap_err().to_string();
    assert_eq!(message("--batch 0"), "--batch 0 and --epochs 20: both must be at least 1");
    assert_eq!(message("--epochs 0"), "--batch 32 and --epochs 0: both must be at least 1");
    assert_eq!(message("--learning-rate NaN"), "--learning-rate NaN: must be a finite number, 0 or above");
    assert!(message("--cell lstn").starts_with("unknown cell `lstn`; known: "), "{}", message("--cell lstn"));
}
