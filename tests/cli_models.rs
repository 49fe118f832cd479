//! `run` and `inspect` on models of several nodes, with data beside them, and on nodes out of larger ones.
#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::command::{Folder, Tensor, Tensors, fail, fixtures, read, succeed, write};

fn model(name: &str) -> PathBuf {
    fixtures().join("onnx").join(name)
}

/// What a fixture is given, and what it must give.
fn tensors(model: &str) -> (Tensors, Tensors) {
    let all = read(&self::model(model).with_extension("safetensors"));
    let (expected, given): (Tensors, Tensors) = all.into_iter().partition(|(name, _)| name.starts_with("expected."));
    (given, expected.into_iter().map(|(name, tensor)| (name["expected.".len()..].to_string(), tensor)).collect())
}

fn command(folder: &Folder, model: PathBuf, given: &Tensors, more: &[&str]) -> Vec<PathBuf> {
    let input = folder.path("input.safetensors");
    write(&input, given);
    let args = ["run".into(), model, input, "--output".into(), folder.path("output.safetensors")].into_iter();
    args.chain(more.iter().map(PathBuf::from)).collect()
}

fn check(folder: &Folder, expected: &Tensors) {
    let actual = read(&folder.path("output.safetensors"));
    assert!(actual.keys().eq(expected.keys()), "{:?}, expected {:?}", actual.keys(), expected.keys());
    for (name, truth) in expected {
        assert_eq!(actual[name].shape, truth.shape, "{name}");
        for (a, b) in actual[name].values().iter().zip(truth.values()) {
            assert!((a - b).abs() < 2e-6, "{name}: {a}, expected {b}");
        }
    }
}

#[test]
fn graphs_on_the_reference_and_on_an_adapter() {
    for (name, device) in [
        ("exporters/torch_dynamo_external.onnx", "cpu"),
        ("exporters/torch_script_packed.onnx", "0"),
        ("exporters/torch_dynamo_embedded.onnx", "0"),
        ("exporters/tf2onnx_bidirectional.onnx", "cpu"),
    ] {
        let (folder, (given, expected)) = (Folder::new(), tensors(name));
        succeed(command(&folder, model(name), &given, &["--device", device]));
        check(&folder, &expected);
    }
}

#[test]
fn nodes_run_alone() {
    let (given, expected) = tensors("graphs/branches.onnx");
    for (node, name) in [("then", "then"), ("else", "else"), ("0", "else"), ("1", "then")] {
        let folder = Folder::new();
        let given = [(format!("{name}.x"), given["x"].clone())].into();
        succeed(command(&folder, model("graphs/branches.onnx"), &given, &["--device=cpu", "--node", node]));
        let of_node = expected.iter().filter(|(key, _)| key.starts_with(name)).map(|(k, v)| (k.clone(), v.clone()));
        check(&folder, &of_node.collect());
    }
}

/// Each in one line, with what to do, and without OUTPUT.
#[test]
fn refusals_name_what_is_in_the_way() {
    let (given, _) = tensors("graphs/branches.onnx");
    let refused = |name: &str, given: &Tensors, more: &[&str], named: &[&str]| {
        let folder = Folder::new();
        let line = fail(command(&folder, model(name), given, &[&["--device=cpu"], more].concat()));
        assert!(named.iter().all(|part| line.contains(part)), "{line} without {named:?}");
        assert!(!folder.path("output.safetensors").exists());
    };
    let branches = "graphs/branches.onnx";
    refused(branches, &given, &[], &["If `if`", "Equal", "--node else", "0: LSTM `else`, 1: LSTM `then`"]);
    refused(branches, &given, &["--node=2"], &["--node 2", "2 recurrent nodes"]);
    refused(branches, &given, &["--node=neither"], &["neither", "`else`, `then`"]);
    refused(branches, &given, &["--node=then"], &["unused tensor `x`", "then.x"]);
    refused(branches, &Tensors::new(), &["--node=then"], &["then.x", "made by Relu"]);
    refused("big/lift.onnx", &Tensors::new(), &[], &["MatMul `proj`", "Gemm `head`", "8 nodes", "--node enc"]);
    let mut packed = tensors("exporters/torch_script_packed.onnx").0;
    packed.insert("lengths".into(), Tensor::i32(&[5, 3, 1]));
    refused("exporters/torch_script_packed.onnx", &packed, &[], &["`batch`", "2", "3"]);
    let folder = Folder::new();
    let weights = fixtures().join("keras").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let weights = weights.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).min().unwrap();
    assert!(fail(command(&folder, weights, &Tensors::new(), &["--node=0"])).contains("--node"));
}

/// The weights are not where the model says.
#[test]
fn data_are_looked_for_beside_the_model_alone() {
    let folder = Folder::new();
    let (name, moved) = ("exporters/torch_dynamo_external.onnx", folder.path("moved.onnx"));
    fs::copy(model(name), &moved).unwrap();
    let line = fail(command(&folder, moved, &tensors(name).0, &["--device=cpu"]));
    assert!(line.contains("torch_dynamo_external.onnx.data"), "{line}");
}

#[test]
fn inspect_lists_networks_and_refusals() {
    let inspected = |path: PathBuf| succeed(["inspect".into(), path]);
    for (name, lines) in [
        (
            "exporters/torch_dynamo_lstm.onnx",
            &["`input` FLOAT [5, 2, 3]", "0: LSTM", "lstm, input 3, hidden 4", "runs as a whole"][..],
        ),
        ("exporters/keras_gru.onnx", &["refused: it has no RNN, LSTM or GRU node"]),
        ("graphs/branches.onnx", &["0: LSTM `else`", "1: LSTM `then`", "X = `then.x`", "does not run as a whole", "If `if`"]),
        ("graphs/quantized.onnx", &["DynamicQuantizeLSTM `q`", "hidden 4", "bidirectional", "8 bits, dequantized"]),
        ("node/test_gru_defaults.onnx", &["its weights are inputs (`W`)"]),
    ] {
        let text = inspected(model(name));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(lines.iter().all(|line| text.contains(line)), "{text} without {lines:?}");
    }
    // Two networks in one file, and a third that lacks a half.
    let folder = Folder::new();
    let (path, mut weights) = (folder.path("two.safetensors"), Tensors::new());
    for (name, shape) in
        [("enc.weight_ih_l0", [8, 3]), ("enc.weight_hh_l0", [8, 2]), ("dec.weight_ih_l0", [6, 4]), ("dec.weight_hh_l0", [6, 2])]
    {
        weights.insert(name.into(), Tensor::some(&shape));
    }
    weights.insert("half.weight_ih_l0".into(), Tensor::some(&[6, 4]));
    write(&path, &weights);
    let text = inspected(path).split_whitespace().collect::<Vec<_>>().join(" ");
    for line in ["`enc.`: lstm, input 3, hidden 2", "`dec.`: gru, input 4, hidden 2", "`half.`: refused: ", "half.weight_hh_l0"] {
        assert!(text.contains(line), "{text} without {line}");
    }
    assert!(fail(["inspect".into(), model("malformed/garbage.onnx")]).contains("ONNX"));
    assert!(fail(["inspect".into(), model("README.md")]).contains("safetensors"));
}
