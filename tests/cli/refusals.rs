//! What `run` refuses, and the words it does it with.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use safetensors::Dtype;

use crate::common::command::{Tensor, fail};
use crate::given::{B, Given, H, I, T};

#[test]
fn refuses_wrong_models() {
    Given::lstm().without("bias_hh_l0").fail(&["model.safetensors", "missing", "bias_hh_l0"]);
    Given::lstm().without("weight_ih_l0").fail(&["model.safetensors", "missing", "weight_ih_l0"]);
    Given::lstm().model("fc.weight", Tensor::some(&[1])).fail(&["model.safetensors", "unused", "fc.weight"]);
    Given::lstm().model("a\nb\u{1b}c", Tensor::some(&[1])).fail(&["unused", "a b"]);
    Given::lstm().model("bias_hh_l0", Tensor::some(&[19])).fail(&["bias_hh_l0", "[20]", "[19]"]);
    Given::lstm().model("bias_hh_l0", Tensor { dtype: Dtype::I32, ..Tensor::some(&[20]) }).fail(&["bias_hh_l0", "I32", "F32"]);
    Given::lstm().model("weight_hh_l0", Tensor::some(&[25, 5])).fail(&["weight_hh_l0", "25", "5"]);
    Given::lstm().args(&["--cell", "gru"]).fail(&["weight_ih_l0", "[15, 2]", "[20, 2]"]);
    Given::lstm().args(&["--cell", "lstn"]).fail(&["lstn", "gru_reset_before"]);
    Given::lstm().model("weight_hr_l0", Tensor::some(&[2, 5])).fail(&["weight_hh_l0", "[20, 2]", "[20, 5]"]);
    Given::lstm().model("weight_hr_l0", Tensor::some(&[5, 5])).fail(&["proj_size", "5 is outside 0..=4"]);
    Given::lstm().model("b.weight_ih", Tensor::some(&[20, 2])).fail(&["2 networks", "``", "`b.`"]);
    // One tensor of Keras' makes it a file of Keras'.
    Given::lstm().model("l0.recurrent_kernel", Tensor::some(&[5, 20])).fail(&["unused tensor", "l0.recurrent_kernel"]);
}

#[test]
fn tells_of_a_model_and_an_input_that_are_swapped() {
    let mut given = Given::lstm();
    std::mem::swap(&mut given.model, &mut given.input);
    given.fail(&["model.safetensors", "are MODEL and INPUT swapped?"]);
    // What else a file without a network may be is no INPUT.
    given.model.insert("x".into(), Tensor::some(&[1]));
    given.write();
    let line = fail(given.command());
    assert!(line.contains("model.safetensors") && !line.contains("swapped"), "{line}");
}

#[test]
fn refuses_wrong_inputs() {
    Given::lstm().without("input").fail(&["input.safetensors", "missing", "`input`"]);
    Given::lstm().input("x", Tensor::some(&[1])).fail(&["input.safetensors", "unused", "`x`"]);
    Given::lstm().input("input", Tensor::some(&[T, B])).fail(&["input", "3 dimensions", "[4, 3]"]);
    Given::lstm().input("input", Tensor::some(&[T, B, I + 1])).fail(&["input", "[4, 3, 2]", "[4, 3, 3]"]);
    Given::lstm().input("input", Tensor::some(&[0, B, I])).fail(&["seq_len", "0"]);
    Given::lstm().without("h0").without("c0").input("input", Tensor::some(&[T, 0, I])).fail(&["batch_size", "0"]);
    Given::lstm().input("input", Tensor { dtype: Dtype::I32, ..Tensor::some(&[T, B, I]) }).fail(&["input", "I32", "F32"]);
    Given::lstm().input("h0", Tensor::some(&[1, B, H + 1])).fail(&["h0", "[1, 3, 5]", "[1, 3, 6]"]);
    Given::lstm().input("c0", Tensor { dtype: Dtype::F64, shape: vec![1, B, H], bytes: vec![0; 120] }).fail(&[
        "c0",
        "F64",
        "F32, F16 or BF16",
    ]);
    Given::lstm().args(&["--batch-first"]).fail(&["h0", "[1, 4, 5]", "[1, 3, 5]"]);
    for (lengths, named) in [([4, 5, 1], "lengths[1]"), ([4, 4, i32::MAX], "lengths[2]"), ([-1, 4, 4], "lengths[0]")] {
        Given::lstm().input("lengths", Tensor::i32(&lengths)).fail(&[named, "0..=4"]);
    }
    let mask = || Tensor { shape: vec![T, B], ..Tensor::i32(&[1; T * B]) };
    Given::lstm().input("mask", Tensor { shape: vec![B, T], ..mask() }).fail(&["mask", "[4, 3]", "[3, 4]"]);
    Given::lstm().input("mask", mask()).args(&["--mask-value", "0"]).fail(&["mask", "--mask-value", "one of them"]);
    Given::lstm().input("lengths", Tensor::i32(&[4, 4])).fail(&["lengths", "[3]", "[2]"]);
    Given::lstm().input("lengths", Tensor::some(&[B])).fail(&["lengths", "F32", "I32"]);
    for name in ["d_output", "d_hn", "d_cn"] {
        Given::lstm().input(name, Tensor::some(&[1])).fail(&[name, "--backward"]);
    }
    Given::backward().without("d_output").fail(&["d_output", "--backward"]);
    Given::backward().input("d_output", Tensor::some(&[T, B, H - 1])).fail(&["d_output", "[4, 3, 5]", "[4, 3, 4]"]);
    Given::backward().input("d_hn", Tensor::some(&[B, H])).fail(&["d_hn", "[1, 3, 5]", "[3, 5]"]);
    let gru = || {
        let given = Given::lstm().without("bias_ih_l0").without("bias_hh_l0").model("weight_ih_l0", Tensor::some(&[3 * H, I]));
        given.model("weight_hh_l0", Tensor::some(&[3 * H, H]))
    };
    gru().fail(&["c0", "gru"]);
    gru().without("c0").input("d_cn", Tensor::some(&[1, B, H])).args(&["--backward"]).fail(&["d_cn", "gru"]);
}

#[test]
fn refuses_garbage() {
    for file in ["model.safetensors", "input.safetensors"] {
        let given = Given::lstm();
        given.write();
        let whole = fs::read(given.folder.path(file)).unwrap();
        let huge_header = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        let overflow = br#"{"input":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#;
        let overflow = [&(overflow.len() as u64).to_le_bytes()[..], overflow].concat();
        let twice =
            br#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
        let twice = [&(twice.len() as u64).to_le_bytes()[..], twice].concat();
        fs::write(given.folder.path(file), twice).unwrap();
        given.fail_as_written(&[file, "`a` is there twice"]);
        for garbage in [&[][..], b"garbage", &whole[..whole.len() - 1], &whole[..20], &huge_header, &overflow] {
            fs::write(given.folder.path(file), garbage).unwrap();
            given.fail_as_written(&[file]);
        }
        fs::write(given.folder.path(file), "input,hidden\n1,2\n").unwrap();
        given.fail_as_written(&[file, "begins with the text \"input,hi\""]);
        fs::remove_file(given.folder.path(file)).unwrap();
        given.fail_as_written(&[file]);
        fs::create_dir(given.folder.path(file)).unwrap();
        given.fail_as_written(&[file]);
    }
}

#[test]
fn refuses_wrong_options() {
    for (args, named) in [
        (&["--dtype", "f8"][..], "f32, f16"),
        (&["--strategy", "fast"], "stepwise"),
        (&["--frobnicate"], "--frobnicate"),
        (&["third"], "third"),
    ] {
        Given::lstm().args(args).fail(&[named]);
    }
    for device in ["99", "no such device", "-1"] {
        let mut given = Given::lstm();
        given.args = vec![format!("--device={device}")];
        given.fail(&[device, "cpu"]);
    }
    let given = Given::lstm();
    given.write();
    let [model, input] = ["model.safetensors", "input.safetensors"].map(|name| given.folder.path(name));
    let run = |model: &Path, output: &Path| {
        fail([OsStr::new("run"), model.as_ref(), input.as_ref(), "--output".as_ref(), output.as_ref()])
    };
    assert!(run(&model, &given.folder.path("none/output.safetensors")).contains("there is no folder"));
    assert!(run(&model, &given.folder.0).contains("not a regular file"));
    assert!(fail([OsStr::new("run"), model.as_ref(), input.as_ref()]).contains("--output"));
}
