//! Files as people have them, whose right numbers `tests/fixtures/field/*/generate.py` computed, through the command.
#![cfg(feature = "cli")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use common::command::{Folder, Tensor, Tensors, fail, fixtures, read, succeed, write};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

fn case(name: &str) -> PathBuf {
    fixtures().join("field").join(name)
}

/// Every tensor of the truth, NaN where it has NaN and nowhere else.
fn compare(name: &str, truth: &Tensors, actual: &Tensors, tolerance: f64) {
    for (tensor, truth) in truth {
        let found = actual.get(tensor).unwrap_or_else(|| panic!("{name}: no `{tensor}`"));
        assert_eq!(truth.shape, found.shape, "{name}: {tensor}");
        let (truth, found) = (truth.values(), found.values());
        let largest = truth.iter().filter(|value| value.is_finite()).fold(0.0f64, |most, value| most.max(value.abs()));
        for (index, (t, f)) in truth.iter().zip(&found).enumerate() {
            let same = if t.is_nan() { f.is_nan() } else { (t - f).abs() <= tolerance * (1.0 + largest) };
            assert!(same, "{name}: {tensor}[{index}] is {f}, truth is {t}");
        }
    }
}

#[test]
fn comparing_sees_a_hidden_nan() {
    let of = |value| Tensors::from([("y".to_string(), Tensor::f32(&[1], [value]))]);
    compare("", &of(f32::NAN), &of(f32::NAN), 1e-6);
    for (truth, found) in [(f32::NAN, 0.5), (0.5, f32::NAN), (0.5, 0.6), (0.5, f32::INFINITY)] {
        assert!(std::panic::catch_unwind(|| compare("", &of(truth), &of(found), 1e-6)).is_err(), "{truth} {found}");
    }
}

#[test]
fn numbers_are_right() {
    let folder = Folder::new();
    for (name, args, tolerance) in [
        ("nan_parameter", &["--backward"][..], 1e-5),
        ("f16_overflow", &["--dtype", "f16"], 2e-3),
        ("tied_layers", &[], 2e-6),
        ("haste_names", &["--from", "haste"], 2e-6),
        ("length_zero", &[], 2e-6),
        ("checkpoint_prefix", &["--prefix", "encoder.lstm."], 2e-6),
    ] {
        for device in [&[][..], &["--device", "cpu"]] {
            let model = ["model.onnx", "model.safetensors"].map(|file| case(name).join(file));
            let model = model.iter().find(|path| path.exists()).unwrap();
            let output = folder.path("output.safetensors");
            let files =
                [PathBuf::from("run"), model.clone(), case(name).join("input.safetensors"), "--output".into(), output.clone()];
            succeed(files.into_iter().chain(args.iter().chain(device).map(PathBuf::from)));
            compare(name, &read(&case(name).join("expected.safetensors")), &read(&output), tolerance);
        }
    }
}

fn run(folder: &Folder, model: &str, args: &[&str]) -> Vec<PathBuf> {
    let files = [PathBuf::from("run"), folder.path(model), folder.path("input.safetensors"), "--output".into()];
    let output = folder.path("output.safetensors");
    let files = files.into_iter().chain([output, "--device".into(), "cpu".into()]);
    files.chain(args.iter().map(PathBuf::from)).collect()
}

/// Names that two families have are refused until one is named, and the file itself may name it.
#[test]
fn an_ambiguous_file_must_say_whose_it_is() {
    let folder = Folder::new();
    let given = case("haste_names");
    let model = read(&given.join("model.safetensors"));
    fs::copy(given.join("input.safetensors"), folder.path("input.safetensors")).unwrap();
    write(&folder.path("model.safetensors"), &model);
    let line = fail(run(&folder, "model.safetensors", &[]));
    assert!(["`keras`", "`haste`", "recurrent_kernel"].iter().all(|part| line.contains(part)), "{line}");
    let line = fail(run(&folder, "model.safetensors", &["--from", "caffe"]));
    assert!(line.contains("caffe") && line.contains("cudnn"), "{line}");

    // An attribute `lstm_cell` of anybody's module is no path of Keras, whose paths have slashes.
    let attribute = model.iter().map(|(name, tensor)| (format!("encoder.lstm_cell.{name}"), tensor.clone()));
    write(&folder.path("attribute.safetensors"), &attribute.collect());
    let line = fail(run(&folder, "attribute.safetensors", &[]));
    assert!(line.contains("`keras`") && line.contains("`haste`"), "{line}");

    let views = model.iter().map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let layout = HashMap::from([("layout".to_string(), "haste".to_string())]);
    fs::write(folder.path("told.safetensors"), safetensors::serialize(views, Some(layout)).unwrap()).unwrap();
    succeed(run(&folder, "told.safetensors", &[]));
    let truth = read(&given.join("expected.safetensors"));
    compare("told", &truth, &read(&folder.path("output.safetensors")), 2e-6);
    // As Keras' the same bytes are another network.
    succeed(run(&folder, "model.safetensors", &["--from", "keras"]));
    let keras = read(&folder.path("output.safetensors"));
    assert!(std::panic::catch_unwind(|| compare("keras", &truth, &keras, 2e-6)).is_err());
}

/// What a cell of PyTorch computes, however its file was laid out.
fn same_as_pytorch(pytorch: &Tensors, theirs: &Tensors, args: &[&str]) {
    let folder = Folder::new();
    let inputs = pytorch["weight_ih_l0"].shape[1];
    let input = Tensors::from([("input".to_string(), Tensor::some(&[3, 2, inputs]))]);
    write(&folder.path("input.safetensors"), &input);
    let outputs = [(pytorch, &[][..]), (theirs, args)].map(|(model, args)| {
        write(&folder.path("model.safetensors"), model);
        succeed(run(&folder, "model.safetensors", args));
        read(&folder.path("output.safetensors"))
    });
    compare(&format!("{args:?}"), &outputs[0], &outputs[1], 1e-6);
}

/// `[G·H, n]` with another number in every place.
fn numbers(rows: usize, columns: usize, start: f32) -> Vec<Vec<f32>> {
    (0..rows).map(|r| (0..columns).map(|c| (start + (r * columns + c) as f32 * 0.37).sin() * 0.7).collect()).collect()
}

fn tensor(rows: &[Vec<f32>]) -> Tensor {
    Tensor::f32(&[rows.len(), rows[0].len()], rows.concat())
}

fn transposed(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    (0..rows[0].len()).map(|c| rows.iter().map(|row| row[c]).collect()).collect()
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::f32(&[values.len()], values.to_vec())
}

/// Weights and biases of a cell, by gates in our order.
struct Cell {
    ih: Vec<Vec<f32>>,
    hh: Vec<Vec<f32>>,
    bias_ih: Vec<f32>,
    bias_hh: Vec<f32>,
}

const I: usize = 3;
const H: usize = 2;

impl Cell {
    fn new(gates: usize) -> Self {
        let bias = |start| numbers(1, gates * H, start).remove(0);
        let (ih, hh) = (numbers(gates * H, I, 0.3), numbers(gates * H, H, 1.7));
        Self { ih, hh, bias_ih: bias(2.9), bias_hh: bias(4.1) }
    }

    /// With only the recurrent biases of these gates.
    fn recurrent_bias_of(mut self, kept: &[usize]) -> Self {
        self.bias_hh.iter_mut().enumerate().filter(|(at, _)| !kept.contains(&(at / H))).for_each(|(_, bias)| *bias = 0.0);
        self
    }

    fn pytorch(&self) -> Tensors {
        let tensors = [tensor(&self.ih), tensor(&self.hh), vector(&self.bias_ih), vector(&self.bias_hh)];
        let names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"].map(String::from);
        names.into_iter().zip(tensors).collect()
    }

    fn reordered<T: Clone>(rows: &[T], gates: &[usize]) -> Vec<T> {
        gates.iter().flat_map(|gate| rows[gate * H..][..H].to_vec()).collect()
    }
}

fn named<const N: usize>(tensors: [(&str, Tensor); N]) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect()
}

#[test]
fn haste_lays_gates_out_in_its_own_order() {
    let lstm = Cell::new(4).recurrent_bias_of(&[]);
    let order = |rows: &[Vec<f32>]| tensor(&transposed(&Cell::reordered(rows, &[0, 2, 1, 3])));
    let theirs = named([
        ("kernel", order(&lstm.ih)),
        ("recurrent_kernel", order(&lstm.hh)),
        ("bias", vector(&Cell::reordered(&lstm.bias_ih, &[0, 2, 1, 3]))),
    ]);
    same_as_pytorch(&lstm.pytorch(), &theirs, &["--from", "haste"]);
    let gru = Cell::new(3);
    let order = |rows: &[Vec<f32>]| tensor(&transposed(&Cell::reordered(rows, &[1, 0, 2])));
    let bias = |bias: &[f32]| vector(&Cell::reordered(bias, &[1, 0, 2]));
    let theirs = named([
        ("kernel", order(&gru.ih)),
        ("recurrent_kernel", order(&gru.hh)),
        ("bias", bias(&gru.bias_ih)),
        ("recurrent_bias", bias(&gru.bias_hh)),
    ]);
    same_as_pytorch(&gru.pytorch(), &theirs, &[]);
}

/// The memory of each gate's kernel, `[I, H]`, is cuDNN's `[H, I]`.
#[test]
fn cudnn_layers_of_keras() {
    for (gates, order) in [(4, &[0, 1, 2, 3][..]), (3, &[1, 0, 2])] {
        let cell = Cell::new(gates);
        let kernel = |rows: &[Vec<f32>], n: usize| {
            let mut columns = vec![vec![0.0; gates * H]; n];
            for (block, gate) in order.iter().enumerate() {
                for (at, value) in rows[gate * H..][..H].concat().into_iter().enumerate() {
                    columns[at / H][block * H + at % H] = value;
                }
            }
            tensor(&columns)
        };
        let bias = [Cell::reordered(&cell.bias_ih, order), Cell::reordered(&cell.bias_hh, order)].concat();
        let theirs = named([("kernel", kernel(&cell.ih, I)), ("recurrent_kernel", kernel(&cell.hh, H)), ("bias", vector(&bias))]);
        same_as_pytorch(&cell.pytorch(), &theirs, &["--from", "cudnn"]);
        let folder = Folder::new();
        write(&folder.path("model.safetensors"), &theirs);
        write(&folder.path("input.safetensors"), &named([("input", Tensor::some(&[3, 2, I]))]));
        let line = fail(run(&folder, "model.safetensors", &[]));
        assert!(line.contains("CuDNNLSTM") && line.contains("`cudnn`"), "{line}");
    }
}

#[test]
fn flax_has_a_matrix_for_each_gate() {
    for (gates, names, input_biases, recurrent) in
        [(4, "ifgo", &[][..], &[0, 1, 2, 3][..]), (3, "rzn", &[0, 1, 2], &[2]), (1, "", &[0], &[0])]
    {
        let mut cell = Cell::new(gates).recurrent_bias_of(recurrent);
        if input_biases.is_empty() {
            cell.bias_ih.fill(0.0);
        }
        // The newer modules (nnx) cannot call a gate `if`.
        for (separator, keyword) in [(".", "f"), ("/", "f"), (".", "f_")] {
            let mut theirs = Tensors::new();
            for gate in 0..gates {
                let rows = gate * H..(gate + 1) * H;
                let name = |side: &str, what: &str| {
                    let gate = names.get(gate..gate + 1).unwrap_or("");
                    let gate = if (side, gate) == ("i", "f") { keyword } else { gate };
                    format!("params{separator}cell{separator}{side}{gate}{separator}{what}")
                };
                theirs.insert(name("i", "kernel"), tensor(&transposed(&cell.ih[rows.clone()])));
                theirs.insert(name("h", "kernel"), tensor(&transposed(&cell.hh[rows.clone()])));
                if input_biases.contains(&gate) {
                    theirs.insert(name("i", "bias"), vector(&cell.bias_ih[rows.clone()]));
                }
                if recurrent.contains(&gate) {
                    theirs.insert(name("h", "bias"), vector(&cell.bias_hh[rows]));
                }
            }
            same_as_pytorch(&cell.pytorch(), &theirs, &[]);
            same_as_pytorch(&cell.pytorch(), &theirs, &["--from", "flax"]);
        }
    }
}

/// nnx has one matrix for all gates of three cells, and one bias.
#[test]
fn flax_nnx_has_dense_layers() {
    for (gates, bias) in [(4, "dense_h.bias"), (3, "dense_i.bias"), (1, "dense_i.bias")] {
        let mut cell = Cell::new(gates);
        let (kept, other) = (&mut cell.bias_hh, &mut cell.bias_ih);
        let (kept, other) = if bias == "dense_h.bias" { (kept, other) } else { (other, kept) };
        other.fill(0.0);
        let bias = (format!("cell.{bias}"), vector(kept));
        let [i, h] = [&cell.ih, &cell.hh].map(|rows| tensor(&transposed(rows)));
        let theirs = Tensors::from([("cell.dense_i.kernel".into(), i), ("cell.dense_h.kernel".into(), h), bias]);
        same_as_pytorch(&cell.pytorch(), &theirs, &[]);
    }
}

/// Older versions have the weights transposed, and shapes tell.
#[test]
fn mlx_and_equinox() {
    let lstm = Cell::new(4).recurrent_bias_of(&[]);
    let gru = Cell::new(3).recurrent_bias_of(&[2]);
    let rnn = Cell::new(1).recurrent_bias_of(&[]);
    for (ih, hh) in [("Wx", "Wh"), ("weight_ih", "weight_hh")] {
        let n = vector(&gru.bias_hh[2 * H..]);
        let (bias, bias_n) = if ih == "Wx" { ("b", "bhn") } else { ("bias", "bias_n") };
        let theirs = [
            named([(ih, tensor(&lstm.ih)), (hh, tensor(&lstm.hh)), ("bias", vector(&lstm.bias_ih))]),
            named([(ih, tensor(&gru.ih)), (hh, tensor(&gru.hh)), (bias, vector(&gru.bias_ih)), (bias_n, n)]),
        ];
        for (cell, theirs) in [&lstm, &gru].into_iter().zip(&theirs) {
            same_as_pytorch(&cell.pytorch(), theirs, &[]);
        }
    }
    let old = |rows: &[Vec<f32>]| tensor(&transposed(rows));
    let theirs = named([("Wx", old(&lstm.ih)), ("Wh", old(&lstm.hh)), ("bias", vector(&lstm.bias_ih))]);
    same_as_pytorch(&lstm.pytorch(), &theirs, &["--from", "mlx"]);
    for ih in [tensor(&rnn.ih), old(&rnn.ih)] {
        // The recurrent weights are square, so those of the input tell for both.
        let hh = if ih.shape[0] == H { tensor(&rnn.hh) } else { old(&rnn.hh) };
        same_as_pytorch(&rnn.pytorch(), &named([("Wxh", ih), ("Whh", hh), ("bias", vector(&rnn.bias_ih))]), &[]);
    }
}

#[test]
fn what_is_not_read_is_named() {
    let folder = Folder::new();
    write(&folder.path("input.safetensors"), &named([("input", Tensor::some(&[3, 2, I]))]));
    for (names, parts) in [
        (&["lstm.input_gate.input_transform.weight"][..], &["Burn's Lstm"][..]),
        (&["gate.input_transform.weight"], &["Burn's Rnn"]),
        (&["indrnn.recurrent_scale"], &["IndRNN"]),
        (&["kernel", "recurrent_kernel", "bias", "recurrent_bias", "gamma"], &["LayerNormGRU", "no such cell"]),
        (&["cell.if.kernel", "cell.in.kernel", "cell.hf.kernel", "cell.hn.kernel"], &["MGUCell"]),
        (&["lstm/linear/w", "lstm/linear/b"], &["Haiku's LSTM", "i, g, f, o"]),
        (&["lstm.w_ih", "lstm.w_hh", "lstm.b_ih", "lstm.b_hh"], &["tch", "weight_ih_l0"]),
        (&["gru.w_i", "gru.w_h", "gru.b"], &["Haiku's GRU"]),
        (&["rnn/basic_lstm_cell/kernel", "rnn/basic_lstm_cell/bias"], &["TensorFlow 1", "forget_bias"]),
        (&["rnn/gru_cell/gates/kernel", "rnn/gru_cell/candidate/kernel"], &["GRUCell of TensorFlow 1"]),
        (&["layers/lstm/cell/vars/0", "layers/lstm/cell/vars/1"], &["Keras 3", "numbers instead of names"]),
        (&["layer/cell/kernel/.ATTRIBUTES/VARIABLE_VALUE"], &["TensorFlow checkpoint"]),
        (&["dense.kernel"], &["missing tensor `weight_ih_l0`", "`dense.kernel` [3, 2]"]),
    ] {
        let tensors = names.iter().map(|name| (name.to_string(), Tensor::some(&[3, 2])));
        write(&folder.path("model.safetensors"), &tensors.collect());
        let line = fail(run(&folder, "model.safetensors", &[]));
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    let line = fail(run(&folder, "model.safetensors", &["--prefix", "enc."]));
    assert!(line.contains("begins with `enc.`; the file has `dense.kernel` [3, 2]"), "{line}");
    let lstm = |path: &str| named([(&*format!("{path}/lstm_cell/recurrent_kernel"), Tensor::some(&[2, 8]))]);
    write(&folder.path("model.safetensors"), &[lstm("lstm"), lstm("lstm_1")].into_iter().flatten().collect());
    let line = fail(run(&folder, "model.safetensors", &[]));
    assert!(line.contains("Keras' own paths") && line.contains("`lstm/lstm_cell/`, `lstm_1/lstm_cell/`"), "{line}");
    for name in ["model.onnx.data", "model.onnx_data"] {
        fs::write(folder.path(name), [0; 64]).unwrap();
        assert!(fail(run(&folder, name, &[])).contains(".onnx file beside it"));
    }
    // Under the wrong name.
    fs::copy(folder.path("model.safetensors"), folder.path("model.onnx")).unwrap();
    let line = fail(run(&folder, "model.onnx", &[]));
    assert!(line.contains("not an ONNX model but a safetensors file") && line.contains("does not end in .onnx"), "{line}");
    fs::write(folder.path("model.onnx"), "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n").unwrap();
    assert!(fail(run(&folder, "model.onnx", &[])).contains("git lfs pull"));
    fs::write(folder.path("model.onnx"), "").unwrap();
    assert!(fail(run(&folder, "model.onnx", &[])).contains("the file is empty"));
    fs::write(folder.path("model.pt"), [b"PK\x03\x04".as_slice(), &[0; 26], b"archive/data.pkl", &[0; 60]].concat()).unwrap();
    let line = fail(run(&folder, "model.pt", &[]));
    assert!(line.contains("PyTorch") && line.contains("torch.load"), "{line}");
}

/// A layer under Keras' own path is told by it.
#[test]
fn a_layer_under_keras_own_path() {
    let cell = Cell::new(4).recurrent_bias_of(&[]);
    let tensors = |path: &str| {
        [
            (format!("{path}kernel:0"), tensor(&transposed(&cell.ih))),
            (format!("{path}recurrent_kernel:0"), tensor(&transposed(&cell.hh))),
            (format!("{path}bias:0"), vector(&cell.bias_ih)),
        ]
    };
    same_as_pytorch(&cell.pytorch(), &tensors("lstm/lstm_cell/").into_iter().collect(), &[]);
    let mut both = cell.pytorch();
    both.extend(cell.pytorch().into_iter().map(|(name, tensor)| (name + "_reverse", tensor)));
    let sides = ["bidirectional/forward_lstm/lstm_cell/", "bidirectional/backward_lstm/lstm_cell/"];
    same_as_pytorch(&both, &sides.into_iter().flat_map(tensors).collect(), &[]);
}

/// Lengths of 64 bits, a length of 0, resets, and halves.
#[test]
fn inputs_of_other_types() {
    let folder = Folder::new();
    write(&folder.path("model.safetensors"), &Cell::new(4).pytorch());
    let input = Tensor::some(&[3, 2, I]);
    let halves = |tensor: &Tensor, bits: fn(f32) -> u16, dtype| {
        let bytes = tensor.values().into_iter().flat_map(|value| bits(value as f32).to_le_bytes()).collect();
        Tensor { dtype, shape: tensor.shape.clone(), bytes }
    };
    let bf16 = halves(&input, |value| (value.to_bits() >> 16) as u16, Dtype::BF16);
    let widened = bf16.bytes.chunks(2).map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16));
    let widened = Tensor::f32(&input.shape, widened.collect::<Vec<_>>());
    let i64s = |values: &[i64]| Tensor {
        dtype: Dtype::I64,
        shape: vec![values.len()],
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let bools = |bytes: [u8; 6]| Tensor { dtype: Dtype::BOOL, shape: vec![3, 2], bytes: bytes.into() };
    let run_on = |tensors: Tensors| {
        write(&folder.path("input.safetensors"), &tensors);
        succeed(run(&folder, "model.safetensors", &[]));
        read(&folder.path("output.safetensors"))
    };
    let (a, b) = (run_on(named([("input", bf16)])), run_on(named([("input", widened)])));
    compare("bf16", &a, &b, 0.0);
    let lengths = run_on(named([("input", input.clone()), ("lengths", i64s(&[3, 0]))]));
    let of_i32 = run_on(named([("input", input.clone()), ("lengths", Tensor::i32(&[3, 0]))]));
    compare("lengths", &lengths, &of_i32, 0.0);
    // The second row: zeros, and the state it began with.
    assert!(lengths["output"].values().chunks(H).skip(1).step_by(2).flatten().all(|&value| value == 0.0));
    assert_eq!(lengths["hn"].values()[H..], [0.0; H]);
    // A reset before the last step of the first row: what follows is a sequence of its own.
    let reset = run_on(named([("input", input.clone()), ("reset", bools([0, 0, 0, 0, 1, 0]))]));
    for (dtype, one) in
        [(Dtype::I8, vec![1]), (Dtype::I16, vec![0, 1]), (Dtype::U32, vec![0, 0, 1, 0]), (Dtype::I64, vec![255; 8])]
    {
        let zeros = |steps: usize| vec![0; steps * one.len()];
        let bytes = [zeros(4), one.clone(), zeros(1)].concat();
        let other = run_on(named([("input", input.clone()), ("reset", Tensor { dtype, shape: vec![3, 2], bytes })]));
        compare("resets of other types", &reset, &other, 0.0);
    }
    write(&folder.path("input.safetensors"), &named([("input", input.clone()), ("reset", Tensor::some(&[3, 2]))]));
    let line = fail(run(&folder, "model.safetensors", &[]));
    assert!(line.contains("`reset`: expected dtype BOOL or integers, got F32"), "{line}");
    let last = Tensor::f32(&[1, 2, I], input.values().into_iter().skip(4 * I).map(|value| value as f32));
    let alone = run_on(named([("input", last)]));
    assert_eq!(reset["output"].values()[4 * H..][..H], alone["output"].values()[..H]);
    assert_ne!(reset["output"].values()[5 * H..][..H], alone["output"].values()[H..][..H]);
}
