//! ONNX graphs of several nodes: files of PyTorch's, tf2onnx' and Keras' exporters, random ones beside onnxruntime, hostile ones.
#![cfg(feature = "onnx")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tidegate::import::onnx::{Graph, Node, Part, Tensor, Tensors, Values};
use tidegate::{Mode, Output, Result, Sequence, reference};

/// What a result may be off by, of 1 + the largest value: float32 on both sides, of a few layers.
const TOLERANCE: f64 = 2e-6;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx").join(name)
}

fn models(name: &str) -> Vec<PathBuf> {
    let mut models: Vec<PathBuf> = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    models.sort();
    models
}

fn tensor(view: &TensorView<'_>) -> Tensor {
    let (words, wide) = (view.data().as_chunks::<4>().0.iter(), view.data().as_chunks::<8>().0.iter());
    match view.dtype() {
        Dtype::F32 => Tensor::f32(view.shape(), words.map(|&word| f32::from_le_bytes(word)).collect()),
        Dtype::I32 => Tensor::i32(view.shape(), words.map(|&word| i32::from_le_bytes(word)).collect()),
        Dtype::I64 => Tensor::i64(view.shape(), wide.map(|&word| i64::from_le_bytes(word)).collect()),
        Dtype::F64 => Tensor::f32(view.shape(), wide.map(|&word| f64::from_le_bytes(word) as f32).collect()),
        other => panic!("{other}"),
    }
}

/// What to give a model, and what must come out.
fn tensors(model: &Path) -> (Tensors, Tensors) {
    let bytes = fs::read(model.with_extension("safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (mut given, mut expected) = (Tensors::new(), Tensors::new());
    for (name, view) in file.iter() {
        match name.strip_prefix("expected.") {
            Some(name) => expected.insert(name.into(), tensor(&view)),
            None => given.insert(name.into(), tensor(&view)),
        };
    }
    (given, expected)
}

fn floats(tensor: &Tensor) -> &[f32] {
    match &tensor.values {
        Values::F32(values) => values,
        other => panic!("{other:?}"),
    }
}

fn on_cpu(part: &Part, seq: &Sequence<'_>) -> Result<Output> {
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let (input, initial) = (wide(seq.input), seq.initial_state.map(wide));
    let wide_seq = Sequence { initial_state: initial.as_deref(), lengths: seq.lengths, ..Sequence::new(seq.shape, &input) };
    let params = wide(part.model.params.values());
    let output = reference::forward(&part.model.cell, &part.model.config, &params, &wide_seq, Mode::Inference)?.output;
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    Ok(Output { output: narrow(output.output), final_state: narrow(output.final_state) })
}

/// Names, shapes and values.
fn check(what: &str, actual: &Tensors, expected: &Tensors) {
    assert!(actual.keys().eq(expected.keys()), "{what}: {:?}, expected {:?}", actual.keys(), expected.keys());
    for (name, truth) in expected {
        assert_eq!(actual[name].shape, truth.shape, "{what}: {name}");
        let largest = floats(truth).iter().fold(0.0f64, |most, &value| most.max(value.abs().into()));
        for (at, (&a, &b)) in floats(&actual[name]).iter().zip(floats(truth)).enumerate() {
            let error = (f64::from(a) - f64::from(b)).abs() / (1.0 + largest);
            assert!(error <= TOLERANCE, "{what}: {name}[{at}] is {a}, expected {b}");
        }
    }
}

fn run(model: &Path, given: &Tensors) -> Result<Tensors> {
    Graph::open(model)?.run_with(given, on_cpu)
}

/// What exporters write of recurrent layers where they do not write a recurrent node.
const REFUSED: [(&str, &str); 4] =
    [("jax_scan", "Scan"), ("keras_gru", "Loop"), ("tf2onnx_gru", "Loop"), ("torch_dynamo_rnn", "MatMul")];

#[test]
fn files_of_exporters() {
    let models = models("exporters");
    assert!(models.len() >= 15, "only {} models", models.len());
    for model in models {
        let name = model.file_stem().unwrap().to_string_lossy();
        let (given, expected) = tensors(&model);
        match (run(&model, &given), REFUSED.iter().find(|(refused, _)| *refused == name)) {
            (Ok(actual), None) => check(&name, &actual, &expected),
            (Err(error), Some((_, operator))) => {
                let error = error.to_string();
                assert!(error.contains(operator) && error.contains("not run here"), "{name}: {error}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn files_of_exporters_on_a_device() {
    let ctx = common::context();
    for name in ["torch_dynamo_encoder", "torch_script_packed", "torch_script_embedded", "keras_bidirectional"] {
        let model = folder("exporters").join(name).with_extension("onnx");
        let (given, expected) = tensors(&model);
        let graph = Graph::open(&model).unwrap();
        check(name, &pollster::block_on(graph.run(&ctx, &given)).unwrap(), &expected);
    }
}

/// Layers of one network run as one, those of other sizes or kinds each by itself.
#[test]
fn layers_one_behind_the_other_are_one_network() {
    for (name, layers) in [
        ("torch_dynamo_external", &[2][..]),
        ("torch_dynamo_encoder", &[2, 1]),
        ("torch_script_opset9", &[2]),
        ("torch_script_encoder", &[2, 1]),
        ("tf2onnx_lstm", &[1, 1]),
    ] {
        let model = folder("exporters").join(name).with_extension("onnx");
        let (given, expected) = tensors(&model);
        let mut run = Vec::new();
        let forward = |part: &Part, seq: &Sequence<'_>| {
            run.push(part.model.config.num_layers);
            on_cpu(part, seq)
        };
        check(name, &Graph::open(&model).unwrap().run_with(&given, forward).unwrap(), &expected);
        assert_eq!(run, layers, "{name}");
    }
}

/// Opsets 7 to 22, three of each.
#[test]
fn random_graphs() {
    let mut models = models("graphs");
    models.retain(|model| model.file_stem().is_some_and(|stem| stem.to_string_lossy().parse::<u32>().is_ok()));
    assert_eq!(models.len(), 48);
    for model in models {
        let (given, expected) = tensors(&model);
        check(&model.display().to_string(), &run(&model, &given).unwrap(), &expected);
    }
}

#[test]
fn quantized_weights_are_dequantized() {
    let model = folder("graphs/quantized.onnx");
    let (given, expected) = tensors(&model);
    let graph = Graph::open(&model).unwrap();
    assert!(graph.nodes()[0].is_quantized());
    check("quantized", &graph.run_with(&given, on_cpu).unwrap(), &expected);
}

/// An LSTM in each branch of an If, its weights made of constants.
#[test]
fn nodes_of_branches_run_alone() {
    let model = folder("graphs/branches.onnx");
    let (given, expected) = tensors(&model);
    let graph = Graph::open(&model).unwrap();
    let rate = ("rate".to_string(), Tensor::i64([], vec![16000]));
    let error = graph.run_with(&given.iter().map(|(k, v)| (k.clone(), v.clone())).chain([rate]).collect(), on_cpu);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("If `if` not run here") && error.contains("Equal"), "{error}");
    for name in ["then", "else"] {
        let node: Node<'_> = graph.node(name).unwrap();
        let x = format!("{name}.x");
        assert_eq!(node.open_inputs(), [("X", &*x)]);
        let call = node.call(&[(x, given["x"].clone())].into()).unwrap();
        let made = call.outputs(&[on_cpu(&call.parts()[0], &call.sequence(&call.parts()[0])).unwrap()]).unwrap();
        let expected: Tensors =
            expected.iter().filter(|(key, _)| key.starts_with(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
        check(name, &made, &expected);
    }
}

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|name| field(1, name.as_bytes()));
    let rest = [field(2, output.as_bytes()), field(3, format!("n_{output}").as_bytes()), field(4, operator.as_bytes())].concat();
    field(1, &inputs.chain(rest).collect::<Vec<_>>())
}

/// An INT64 initializer of one dimension.
fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let dims = [vec![1 << 3], varint(values.len() as u64)].concat();
    field(5, &[dims, vec![2 << 3, 7], field(8, name.as_bytes()), field(9, &raw)].concat())
}

fn output(name: &str) -> Vec<u8> {
    field(12, &field(1, name.as_bytes()))
}

/// A model of opset 18 with an input `x` of any shape.
fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    let graph = [field(11, &field(1, b"x")), parts.concat()].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 18])].concat()
}

fn refused(parts: &[Vec<u8>], named: &[&str]) {
    let given: Tensors = [("x".to_string(), Tensor::f32([2, 1, 3], vec![0.5; 6]))].into();
    let graph = Graph::from_bytes(&model(parts)).unwrap();
    let error = graph.run_with(&given, on_cpu).map(|_| ()).unwrap_err().to_string();
    assert!(!error.contains('\n') && named.iter().all(|part| error.contains(part)), "{error} without {named:?}");
}

/// A GRU whose weights are of a shape that `wanted` says, of zeros.
fn gru(wanted: [&[i64]; 2]) -> Vec<Vec<u8>> {
    let [w, r] = wanted;
    let zeros = |name: &str| node("ConstantOfShape", &[&format!("{name}.shape")], name);
    vec![ints("W.shape", w), ints("R.shape", r), zeros("W"), zeros("R"), node("GRU", &["x", "W", "R"], "y"), output("y")]
}

#[test]
fn a_graph_made_by_hand_runs() {
    let given: Tensors = [("x".to_string(), Tensor::f32([2, 1, 3], vec![0.5; 6]))].into();
    let graph = Graph::from_bytes(&model(&gru([&[1, 6, 3], &[1, 6, 2]]))).unwrap();
    assert_eq!(graph.run_with(&given, on_cpu).unwrap()["y"], Tensor::f32([2, 1, 1, 2], vec![0.0; 4]));
}

/// Nothing of these takes the memory that it speaks of, or the stack.
#[test]
fn hostile_graphs_are_refused() {
    let small: [&[i64]; 2] = [&[1, 6, 3], &[1, 6, 2]];
    refused(&gru([&[1, 1 << 40, 3], small[1]]), &["GRU", "256 MiB", "3298534883328"]);
    refused(&gru([&[1, 1 << 40, 1 << 40], small[1]]), &["ConstantOfShape", "memory"]);
    refused(&gru([&[0, 1 << 40, 1 << 40], small[1]]), &["W"]);
    refused(&gru([&[-1, 6, 3], small[1]]), &["-1"]);
    let after = |parts: &[Vec<u8>]| {
        let mut all = gru(small);
        all.pop();
        [all, parts.to_vec()].concat()
    };
    // A view of an exabyte is one thing, a copy of it another.
    let large = ints("large", &[1 << 20, 1 << 20, 2, 1, 1, 2]);
    let flat = ints("flat", &[-1]);
    refused(
        &after(&[large.clone(), flat, node("Expand", &["y", "large"], "e"), node("Reshape", &["e", "flat"], "z"), output("z")]),
        &["Reshape", "MiB"],
    );
    refused(&after(&[large, node("Expand", &["y", "large"], "z"), output("z")]), &["MiB"]);
    refused(
        &after(&[ints("axis", &[2]), node("Squeeze", &["y", "axis"], "a"), node("Squeeze", &["a", "axis"], "z"), output("z")]),
        &["Squeeze `n_z`", "axis 2", "size 2"],
    );
    refused(&after(&[ints("at", &[5]), node("Gather", &["y", "at"], "z"), output("z")]), &["Gather", "index 5", "has 2"]);
    refused(&after(&[node("Concat", &["y", "z"], "z"), output("z")]), &["`z`", "cycle"]);
    refused(&after(&[node("Softmax", &["y"], "z"), output("z")]), &["Softmax `n_z`", "GRU `n_y`", "4 nodes"]);
    refused(&after(&[node("Add", &["y", "nobody"], "z"), output("z")]), &["`nobody`"]);
    refused(&after(&[ints("spare", &[1]), output("y")]), &["spare"]);
    refused(&[node("Identity", &["x"], "y"), output("y")], &["no RNN"]);
}

#[test]
fn deep_graphs_do_not_recurse() {
    let mut parts = gru([&[1, 6, 3], &[1, 6, 2]]);
    parts.pop();
    const DEPTH: usize = 50_000;
    let name = |at: usize| if at == 0 { "y".to_string() } else { format!("t{at}") };
    parts.extend((0..DEPTH).map(|at| node("Identity", &[&name(at)], &name(at + 1))));
    parts.push(output(&name(DEPTH)));
    let given: Tensors = [("x".to_string(), Tensor::f32([2, 1, 3], vec![0.5; 6]))].into();
    let graph = Graph::from_bytes(&model(&parts)).unwrap();
    assert_eq!(graph.run_with(&given, on_cpu).unwrap().len(), 1);
}

/// Sizes with a name are those of the inputs, and one name means one size.
#[test]
fn named_sizes_agree() {
    let path = folder("graphs");
    let mut checked = 0;
    for model in models("graphs") {
        let graph = Graph::open(&model).unwrap();
        let (mut given, _) = tensors(&model);
        let Some(state) = given.keys().find(|name| name.starts_with("h_")).cloned() else { continue };
        let [d, b, h] = given[&state].shape[..] else { panic!("{path:?}") };
        given.insert(state.clone(), Tensor::f32([d, b + 1, h], vec![0.0; d * (b + 1) * h]));
        let error = graph.run_with(&given, on_cpu).unwrap_err().to_string();
        assert!(error.contains("`batch`") && error.contains(&b.to_string()), "{error}");
        checked += 1;
    }
    assert!(checked > 3);
}

/// Data in a file beside the model, and what may not be read for it.
#[test]
fn external_data_stay_in_their_folder() {
    let source = folder("exporters");
    let (bytes, data) = (
        fs::read(source.join("torch_dynamo_external.onnx")).unwrap(),
        fs::read(source.join("torch_dynamo_external.onnx.data")).unwrap(),
    );
    let (given, expected) = tensors(&source.join("torch_dynamo_external.onnx"));
    let error = Graph::from_bytes(&bytes).unwrap().run_with(&given, on_cpu).unwrap_err().to_string();
    assert!(error.contains("torch_dynamo_external.onnx.data") && error.contains("opened by its path"), "{error}");

    let top = std::env::temp_dir().join(format!("tidegate-external-{}", std::process::id()));
    let below = top.join("model");
    fs::create_dir_all(&below).unwrap();
    let (path, beside) = (below.join("m.onnx"), below.join("torch_dynamo_external.onnx.data"));
    fs::write(&path, &bytes).unwrap();
    let error = || run(&path, &given).unwrap_err().to_string();
    assert!(error().contains("torch_dynamo_external.onnx.data"));
    fs::write(&beside, &data).unwrap();
    check("beside", &run(&path, &given).unwrap(), &expected);
    // A file that is shorter than what the model says of it.
    fs::write(&beside, &data[..data.len() - 1]).unwrap();
    assert!(error().contains(&format!("has {}", data.len() - 1)), "{}", error());
    fs::write(&beside, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n").unwrap();
    assert!(error().contains("is a pointer of Git LFS") && error().contains("git lfs pull"), "{}", error());
    fs::remove_file(&beside).unwrap();
    fs::create_dir(&beside).unwrap();
    assert!(error().contains("not a regular file"));
    fs::remove_dir(&beside).unwrap();
    // Other places under names of the same length.
    let at = |location: &str| {
        let old = b"torch_dynamo_external.onnx.data";
        let mut new = bytes.clone();
        for start in 0..new.len() - old.len() {
            if &new[start..start + old.len()] == old {
                new[start..start + old.len()].copy_from_slice(location.as_bytes());
            }
        }
        fs::write(&path, new).unwrap();
    };
    fs::write(top.join("dynamo_external.onnx.data12"), &data).unwrap();
    at("../dynamo_external.onnx.data12x");
    assert!(error().contains("outside the model's folder"), "{}", error());
    at("/tmp/dynamo_external.onnx.data1");
    assert!(error().contains("outside the model's folder"), "{}", error());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(top.join("dynamo_external.onnx.data12"), &beside).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert!(error().contains("link out"), "{}", error());
        // A link that stays within is a file like others.
        fs::write(below.join("weights"), &data).unwrap();
        fs::remove_file(&beside).unwrap();
        std::os::unix::fs::symlink("weights", &beside).unwrap();
        check("link", &run(&path, &given).unwrap(), &expected);
    }
    fs::remove_dir_all(&top).unwrap();
}
