//! A trained encoder and decoder on real words: g2p-en's, against float64 on the same weights and the package's own phonemes.

mod common;
#[path = "../examples/g2p/model.rs"]
mod model;
#[path = "../examples/g2p/weights.rs"]
mod weights;

use std::fs;
use std::io::Cursor;

use model::{G2p, HIDDEN_SIZE, words};
use ndarray_npy::NpzWriter;
use safetensors::SafeTensors;
use tidegate::check::Tolerance;
use tidegate::{Error, RnnConfig, SeqShape, Strategy};
use weights::Weights;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(common::path("tests/fixtures/g2p").join(name)).unwrap()
}

/// The words, the encoder's steps of the longest, the phonemes of each.
fn expected() -> (Vec<String>, usize, Vec<Vec<String>>) {
    let all: Vec<serde_json::Value> = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    let longest = all.iter().map(|word| word["steps"].as_u64().unwrap()).max().unwrap();
    let phonemes = |word: &serde_json::Value| word["phonemes"].as_array().unwrap().iter().map(text).collect();
    (all.iter().map(|word| text(&word["word"])).collect(), longest as usize, all.iter().map(phonemes).collect())
}

#[test]
fn words_become_the_packages_phonemes() {
    let ctx = common::context();
    let weights = Weights::read(&fixture("model.safetensors")).unwrap();
    let (words, seq_len, phonemes) = expected();
    let bytes = fixture("expected.safetensors");
    let tensor = SafeTensors::deserialize(&bytes).unwrap().tensor("states").unwrap();
    let states: Vec<f64> = tensor.data().as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)).collect();
    let shape = SeqShape { seq_len, batch_size: words.len() };
    let tolerance = Tolerance::new(&RnnConfig::new(HIDDEN_SIZE, HIDDEN_SIZE), shape, false);
    for strategy in Strategy::all(&ctx) {
        let g2p = G2p::new(&ctx, &weights, strategy).unwrap();
        let encoded = g2p.encode(&words).unwrap();
        let error = tolerance.compare(strategy.name(), &states, &encoded).unwrap();
        println!("{}: states within {error:.1e}", strategy.name());
        for ((word, expected), said) in words.iter().zip(&phonemes).zip(g2p.decode(&encoded).unwrap()) {
            assert_eq!(&said, expected, "{word} under {}", strategy.name());
        }
    }
}

#[test]
fn text_becomes_words() {
    assert_eq!(words("Don't 'quote', e.g. 3 naïve–words!"), ["don't", "quote", "e", "g", "naïve", "words"]);
    assert!(words(" ' 42 ").is_empty());
}

/// The fixture's tensors in the format of the package's checkpoint, those that `spoil` keeps.
fn npz(spoil: impl Fn(&str, &mut Vec<usize>) -> bool) -> Vec<u8> {
    let bytes = fixture("model.safetensors");
    let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().iter() {
        let values = tensor.data().as_chunks().0.iter().map(|&word| half::f16::from_le_bytes(word).to_f32());
        let mut shape = tensor.shape().to_vec();
        if spoil(name, &mut shape) {
            let values = values.take(shape.iter().product()).collect();
            npz.add_array(name, &ndarray::ArrayD::from_shape_vec(shape, values).unwrap()).unwrap();
        }
    }
    npz.finish().unwrap().into_inner()
}

/// The package's own format holds what ours does, and a file that is not the network's is refused by name.
#[test]
fn checkpoints_are_read_and_checked() {
    let ctx = common::context();
    assert_eq!(Weights::read(&npz(|_, _| true)).unwrap(), Weights::read(&fixture("model.safetensors")).unwrap());

    let refused = |bytes: &[u8]| G2p::new(&ctx, &Weights::read(bytes).unwrap(), Strategy::Auto).err().unwrap();
    let error = refused(&npz(|name, _| name != "dec_w_hh"));
    assert!(matches!(&error, Error::MissingTensor { name } if name == "dec_w_hh"), "{error}");
    let error = refused(&npz(|name, shape| {
        shape[0] -= usize::from(name == "fc_w");
        true
    }));
    assert!(matches!(&error, Error::Shape { name, actual, .. } if name == "fc_w" && actual == &[73, 256]), "{error}");
    for bytes in [&b"PK"[..], b"", &fixture("expected.safetensors")] {
        assert!(Weights::read(bytes).is_err());
    }
}
