//! ONNX models: the operators' own node tests, models of random attributes, layers out of a larger graph, damaged files.
#![cfg(feature = "onnx")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tidegate::check::Tolerance;
use tidegate::import::onnx::{Call, Graph, Part, Tensor, Tensors, Values};
use tidegate::{Context, Direction, Mode, Output, Rnn, SeqShape, Sequence, Strategy, reference};

fn folder(name: &str) -> PathBuf {
    common::path("tests/fixtures/onnx").join(name)
}

/// A model, the tensors to give it, and what must come out.
struct Fixture {
    name: String,
    graph: Graph,
    given: Tensors,
    expected: Vec<(String, Vec<usize>, Vec<f64>)>,
}

fn tensor(view: &TensorView<'_>) -> Tensor {
    let words = view.data().as_chunks::<4>().0.iter();
    match view.dtype() {
        Dtype::F32 => Tensor::f32(view.shape(), words.map(|&word| f32::from_le_bytes(word)).collect()),
        Dtype::I32 => Tensor::i32(view.shape(), words.map(|&word| i32::from_le_bytes(word)).collect()),
        Dtype::I64 => {
            let words = view.data().as_chunks().0.iter();
            Tensor::i64(view.shape(), words.map(|&word| i64::from_le_bytes(word)).collect())
        }
        other => panic!("{other}"),
    }
}

fn doubles(view: &TensorView<'_>) -> Vec<f64> {
    match view.dtype() {
        Dtype::F64 => view.data().as_chunks::<8>().0.iter().map(|&word| f64::from_le_bytes(word)).collect(),
        _ => floats(&tensor(view)).iter().map(|&value| value.into()).collect(),
    }
}

fn floats(tensor: &Tensor) -> &[f32] {
    match &tensor.values {
        Values::F32(values) => values,
        other => panic!("{other:?}"),
    }
}

impl Fixture {
    fn read(model: &Path) -> Self {
        let bytes = fs::read(model.with_extension("safetensors")).unwrap();
        let (mut given, mut expected) = (Tensors::new(), Vec::new());
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            match name.strip_prefix("expected.") {
                Some(name) => expected.push((name.to_string(), view.shape().to_vec(), doubles(&view))),
                None => drop(given.insert(name.into(), tensor(&view))),
            }
        }
        let name = model.file_stem().unwrap().to_string_lossy().into();
        let graph = Graph::from_bytes(&fs::read(model).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name, graph, given, expected }
    }

    /// Those of a folder, by name.
    fn all(name: &str) -> Vec<Self> {
        let mut models: Vec<PathBuf> = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        models.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
        models.sort();
        models.iter().map(|path| Self::read(path)).collect()
    }

    fn call(&self) -> Call {
        let call = self.graph.only_node().and_then(|node| node.call(&self.given));
        call.unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Checks the outputs of a run against what is expected; returns the largest relative error.
    fn check(&self, on: &str, forward: impl Fn(&Part, &Sequence<'_>) -> Output) -> f64 {
        let call = self.call();
        let mut actual = outputs(&call, forward);
        actual.retain(|name, _| self.graph.outputs().any(|output| output == name));
        assert_eq!(actual.len(), self.expected.len(), "{}", self.name);
        compare(&format!("{} on {on}", self.name), &call, &actual, &self.expected)
    }
}

fn outputs(call: &Call, forward: impl Fn(&Part, &Sequence<'_>) -> Output) -> Tensors {
    let parts: Vec<Output> = call.parts().iter().map(|part| forward(part, &call.sequence(part))).collect();
    call.outputs(&parts).unwrap()
}

fn compare(what: &str, call: &Call, actual: &Tensors, expected: &[(String, Vec<usize>, Vec<f64>)]) -> f64 {
    let tolerance = Tolerance::new(&call.parts()[0].model.config, call.shape(), false);
    let mut worst = 0.0f64;
    for (name, shape, truth) in expected {
        let tensor = actual.get(name).unwrap_or_else(|| panic!("{what}: no `{name}`"));
        assert_eq!(&tensor.shape, shape, "{what}: {name}");
        let found = tolerance.compare(name, truth, floats(tensor)).unwrap_or_else(|e| panic!("{what}: {e}"));
        worst = worst.max(found);
    }
    worst
}

fn on_gpu(ctx: &Context, strategy: Strategy, part: &Part, seq: &Sequence<'_>) -> Output {
    let rnn = Rnn::new(ctx, part.model.cell.clone(), part.model.config.clone()).unwrap().with_strategy(strategy);
    rnn.forward_blocking(&rnn.upload(&part.model.params).unwrap(), seq).unwrap()
}

fn on_cpu(part: &Part, seq: &Sequence<'_>) -> Output {
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let (input, initial) = (wide(seq.input), seq.initial_state.map(wide));
    let wide_seq = Sequence { initial_state: initial.as_deref(), lengths: seq.lengths, ..Sequence::new(seq.shape, &input) };
    let params = wide(part.model.params.values());
    let output = reference::forward(&part.model.cell, &part.model.config, &params, &wide_seq, Mode::Inference).unwrap().output;
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    Output { output: narrow(output.output), final_state: narrow(output.final_state) }
}

/// All 18 that ONNX has for RNN, LSTM and GRU.
#[test]
fn node_tests_under_every_strategy() {
    let ctx = common::own_context();
    let fixtures = Fixture::all("node");
    assert_eq!(fixtures.len(), 18);
    let mut worst = 0.0f64;
    for fixture in fixtures {
        for strategy in Strategy::all(&ctx) {
            worst = worst.max(fixture.check(strategy.name(), |part, seq| on_gpu(&ctx, strategy, part, seq)));
        }
        fixture.check("the reference", on_cpu);
    }
    println!("node tests: largest relative error {worst:.1e}");
}

#[test]
fn random_attributes_on_the_reference() {
    let fixtures = Fixture::all("random");
    assert!(fixtures.len() >= 60, "only {} fixtures", fixtures.len());
    for fixture in fixtures {
        fixture.check("the reference", on_cpu);
    }
}

#[test]
fn random_attributes_on_the_gpu() {
    common::side_by_side(&Fixture::all("random"), |ctx, at, fixture| {
        let all = Strategy::all(ctx);
        // Two in a row go to either device.
        let strategy = all[at / 2 % all.len()];
        let error = fixture.check(strategy.name(), |part, seq| on_gpu(ctx, strategy, part, seq));
        println!("{}: {}, relative error {error:.1e}", fixture.name, strategy.name());
    });
}

/// Each names what is wrong, whether the graph or the call tells, in one line.
#[test]
fn malformed_files() {
    let read = |name: &str| -> tidegate::Result<Tensors> {
        let graph = Graph::from_bytes(&fs::read(folder("malformed").join(name)).unwrap())?;
        // Layers are lifted out of whatever it is without a panic, too.
        for node in graph.nodes() {
            let _ = node.models();
        }
        let given = [("enc.X".to_string(), Tensor::f32([4, 1, 3], vec![0.5; 12]))].into();
        let call = graph.only_node()?.call(&given)?;
        Ok(outputs(&call, on_cpu))
    };
    assert_eq!(read("valid.onnx").unwrap().len(), 3);
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(folder("malformed").join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() > 80);
    let mut wrong = Vec::new();
    for (name, substrings) in expected {
        match read(name) {
            Err(error) => {
                let message = error.to_string();
                let named = substrings.as_array().unwrap().iter().all(|part| message.contains(part.as_str().unwrap()));
                if !named || message.contains('\n') {
                    wrong.push(format!("{name}: `{message}` without {substrings}"));
                }
            }
            Ok(_) => wrong.push(format!("{name}: was read")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The layers of a larger graph, by name and by index, on what its other nodes give them.
#[test]
fn layers_of_a_larger_graph() {
    let ctx = common::context();
    let fixture = Fixture::read(&folder("big").join("lift.onnx"));
    let error = fixture.graph.only_node().unwrap_err().to_string();
    assert!(error.contains("8 nodes") && error.contains("MatMul `proj`"), "{error}");
    let nodes = fixture.graph.nodes();
    let found: Vec<_> = nodes.iter().map(|node| (node.name(), node.op_type())).collect();
    assert_eq!(found, [("enc", "LSTM"), ("dec", "GRU")]);
    for (at, name) in ["enc", "dec"].into_iter().enumerate() {
        let node = fixture.graph.node(name).unwrap();
        let config = node.model().unwrap().config;
        let sizes = [(4, 5, Direction::Forward), (5, 4, Direction::Bidirectional)][at];
        assert_eq!((config.input_size, config.hidden_size, config.direction), sizes);
        let x = format!("{name}.X");
        let call = node.call(&[(x.clone(), fixture.given[&x].clone())].into()).unwrap();
        let made = outputs(&call, |part, seq| on_gpu(&ctx, Strategy::Auto, part, seq));
        let expected: Vec<_> = node.outputs().into_iter().map(|(_, name)| (name.to_string(), &fixture.given[name])).collect();
        let wide = |tensor: &Tensor| floats(tensor).iter().map(|&value| value.into()).collect();
        let expected: Vec<_> = expected.into_iter().map(|(name, t)| (name, t.shape.clone(), wide(t))).collect();
        compare(name, &call, &made, &expected);
        // Nothing else may be given, nor less.
        let error = node.call(&Tensors::new()).unwrap_err().to_string();
        assert!(error.contains(&x) && error.contains("made by"), "{error}");
        let weights = format!("{name}.R");
        let error = node.call(&[(weights.clone(), Tensor::f32([1], vec![0.0]))].into()).unwrap_err().to_string();
        assert!(error.contains(&weights) && error.contains("constant"), "{error}");
        assert!(node.call(&[("logits".to_string(), Tensor::f32([1], vec![0.0]))].into()).is_err());
    }
    let error = fixture.graph.node("encoder").unwrap_err().to_string();
    assert!(error.contains("encoder") && error.contains("`enc`, `dec`"), "{error}");
}

/// Silero VAD's node as it is, fed in chunks: the state stays on the GPU from one to the next.
#[test]
fn silero_in_chunks() {
    let silero = folder("../silero");
    let file = |name: &str| fs::read(silero.join(name)).unwrap();
    let [input, expected] = ["input.safetensors", "expected.safetensors"].map(file);
    let [input, expected] = [&input, &expected].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let values = |file: &SafeTensors<'_>, name: &str| floats(&tensor(&file.tensor(name).unwrap())).to_vec();
    let graph = Graph::from_bytes(&file("node.onnx")).unwrap();
    let model = graph.only_node().unwrap().model().unwrap();
    let (x, features) = (values(&input, "input"), model.config.input_size);
    let state = [values(&input, "h0"), values(&input, "c0")].concat();
    let truth = doubles(&expected.tensor("output").unwrap());
    let ctx = common::context();
    for strategy in Strategy::all(&ctx) {
        let rnn = Rnn::new(&ctx, model.cell.clone(), model.config.clone()).unwrap().with_strategy(strategy);
        let params = rnn.upload(&model.params).unwrap();
        for chunk in [1, 8, 64] {
            let shape = SeqShape { seq_len: chunk, batch_size: 1 };
            let mut session = rnn.session(&params, shape).unwrap();
            session.set_state(&state).unwrap();
            let chunks = x.chunks_exact(chunk * features);
            let output: Vec<f32> = chunks.flat_map(|chunk| pollster::block_on(session.advance(chunk)).unwrap()).collect();
            let whole = SeqShape { seq_len: truth.len() / model.config.hidden_size, batch_size: 1 };
            let tolerance = Tolerance::new(&model.config, whole, false);
            let what = format!("{} in chunks of {chunk}", strategy.name());
            let error = tolerance.compare(&what, &truth, &output).unwrap();
            println!("silero, {what}: relative error {error:.1e}");
        }
    }
}

/// A graph that says how long its input is means it.
#[test]
fn declared_shapes_and_types_hold() {
    let mut fixture = Fixture::read(&folder("node").join("test_lstm_defaults.onnx"));
    let mut refused = |x: Tensor, named: [&str; 3]| {
        fixture.given.insert("X".into(), x);
        let error = fixture.graph.only_node().unwrap().call(&fixture.given).unwrap_err().to_string();
        assert!(named.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(Tensor::f32([2, 3, 2], vec![0.0; 12]), ["X", "[1, 3, 2]", "[2, 3, 2]"]);
    refused(Tensor::i32([1, 3, 2], vec![0; 6]), ["X", "FLOAT", "INT32"]);
    refused(Tensor::f32([1, 3, 2], vec![0.0; 5]), ["X", "6", "5"]);
}
