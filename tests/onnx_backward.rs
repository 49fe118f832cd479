//! Back through a node of an ONNX model: against PyTorch's gradients, against differences of the reference, and what is refused.
#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::command::{self, Folder, fail, fixtures, succeed};
use tidegate::import::onnx::{Call, Graph, PartGradients, Tensor, Tensors, Values};
use tidegate::{Gradients, Mode, Output, Sequence, reference};

/// Just enough of protobuf to write a model of one node, its tensors all inputs and outputs of the graph.
mod proto {
    pub fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = value as u8 & 0x7f;
            value >>= 7;
            if value == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    }

    pub fn int(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub fn bytes(field: u64, payload: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(payload.len() as u64), payload.to_vec()].concat()
    }

    pub fn attribute(name: &str, ty: u64, value: &[Vec<u8>]) -> Vec<u8> {
        bytes(5, &[bytes(1, name.as_bytes()), int(20, ty), value.concat()].concat())
    }
}

/// The graph's name of a tensor by ONNX's.
fn name(role: &str) -> String {
    format!("my_{role}")
}

/// An attribute that is a number, a text or texts.
enum Value<'a> {
    Int(u64),
    Text(&'a str),
    Texts(&'a [&'a str]),
}

fn model(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value<'_>)]) -> Vec<u8> {
    use proto::{attribute, bytes, int};
    let named = |field: u64, roles: &[&str]| -> Vec<u8> {
        roles.iter().flat_map(|role| bytes(field, if role.is_empty() { String::new() } else { name(role) }.as_bytes())).collect()
    };
    let attributes: Vec<u8> = attributes
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Int(value) => attribute(name, 2, &[int(3, *value)]),
            Value::Text(text) => attribute(name, 3, &[bytes(4, text.as_bytes())]),
            Value::Texts(texts) => attribute(name, 8, &texts.iter().map(|text| bytes(9, text.as_bytes())).collect::<Vec<_>>()),
        })
        .collect();
    let node = [named(1, inputs), named(2, outputs), bytes(3, b"the_node"), bytes(4, op.as_bytes()), attributes].concat();
    let ends = |field, roles: &[&str]| -> Vec<u8> {
        let present = roles.iter().enumerate().filter(|(at, role)| !role.is_empty() && !roles[..*at].contains(role));
        present.map(|(_, role)| role).flat_map(|role| bytes(field, &bytes(1, name(role).as_bytes()))).collect()
    };
    let graph = [bytes(1, &node), ends(11, inputs), ends(12, outputs)].concat();
    [int(1, 8), bytes(8, &int(2, 17)), bytes(7, &graph)].concat()
}

/// A fixture of PyTorch's of one layer, as a node: gates in ONNX's order, `[T, D, B, H]` for `[T, B, D·H]`.
struct Twin {
    tensors: command::Tensors,
    op: &'static str,
    /// The cell's gate of each block of ONNX.
    gates: &'static [usize],
    directions: usize,
    batch_first: bool,
}

impl Twin {
    fn read(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        let (op, gates): (_, &[usize]) = match &*metadata["cell"] {
            "lstm" => ("LSTM", &[0, 3, 1, 2]),
            "gru" => ("GRU", &[1, 0, 2]),
            _ => ("RNN", &[0]),
        };
        let tensors = command::read(path);
        let fits = metadata["num_layers"] == "1" && metadata["bias"] == "1" && !tensors.contains_key("lengths");
        let directions = if metadata["bidirectional"] == "1" { 2 } else { 1 };
        fits.then(|| Self { tensors, op, gates, directions, batch_first: metadata["batch_first"] == "1" })
    }

    fn model(&self, relu: bool) -> Vec<u8> {
        let mut attributes = vec![("layout", Value::Int(self.batch_first.into()))];
        if self.directions == 2 {
            attributes.push(("direction", Value::Text("bidirectional")));
        }
        match self.op {
            // PyTorch's form.
            "GRU" => attributes.push(("linear_before_reset", Value::Int(1))),
            "RNN" if relu => attributes.push(("activations", Value::Texts(&["Relu", "Relu"][..self.directions]))),
            _ => {}
        }
        let inputs = ["X", "W", "R", "B", "", "initial_h", "initial_c"];
        let (inputs, outputs) =
            if self.op == "LSTM" { (&inputs[..], &["Y", "Y_h", "Y_c"][..]) } else { (&inputs[..6], &["Y", "Y_h"][..]) };
        model(self.op, inputs, outputs, &attributes)
    }

    /// A matrix or bias of both directions, `before` standing before PyTorch's names.
    fn gates(&self, before: &str, parts: &[&str]) -> command::Tensor {
        let mut values = Vec::new();
        let mut rows = 0;
        for side in ["", "_reverse"].iter().take(self.directions) {
            for part in parts {
                let tensor = &self.tensors[&format!("{before}{part}_l0{side}")];
                let all = tensor.values();
                let len = all.len() / self.gates.len();
                self.gates.iter().for_each(|gate| values.extend(all[gate * len..][..len].iter().map(|&value| value as f32)));
                rows = tensor.shape[0] * parts.len();
            }
        }
        let columns = values.len() / rows / self.directions;
        let shape = if parts.len() == 2 { vec![self.directions, rows] } else { vec![self.directions, rows, columns] };
        command::Tensor::f32(&shape, values)
    }

    /// `Y` from PyTorch's output.
    fn y(&self, of: &str) -> command::Tensor {
        let tensor = &self.tensors[of];
        let &[first, second, features] = &*tensor.shape else { panic!("{of}") };
        let (values, hidden) = (tensor.values(), features / self.directions);
        if self.batch_first {
            return command::Tensor::f32(&[first, second, self.directions, hidden], values.into_iter().map(|value| value as f32));
        }
        let at = |t: usize, d: usize, b: usize| values[(t * second + b) * features + d * hidden..][..hidden].to_vec();
        let each = (0..first).flat_map(|t| (0..self.directions).flat_map(move |d| (0..second).map(move |b| (t, d, b))));
        let values: Vec<f32> = each.flat_map(|(t, d, b)| at(t, d, b)).map(|value| value as f32).collect();
        command::Tensor::f32(&[first, self.directions, second, hidden], values)
    }

    fn state(&self, of: &str) -> command::Tensor {
        let mut tensor = self.tensors[of].narrowed();
        // Only of one direction, whose values lie the same.
        if self.batch_first {
            tensor.shape.swap(0, 1);
        }
        tensor
    }

    /// INPUT, and what OUTPUT must hold.
    fn files(&self) -> [command::Tensors; 2] {
        let weights = |before: &str| {
            [
                ("W", self.gates(before, &["weight_ih"])),
                ("R", self.gates(before, &["weight_hh"])),
                ("B", self.gates(before, &["bias_ih", "bias_hh"])),
            ]
        };
        let mut input = command::Tensors::from([
            (name("X"), self.tensors["input"].narrowed()),
            (format!("d_{}", name("Y")), self.y("d_output")),
        ]);
        input.extend(weights("").map(|(role, tensor)| (name(role), tensor)));
        let mut expected = command::Tensors::from([
            (name("Y"), self.y("output")),
            (format!("d_{}", name("X")), self.tensors["d_input"].narrowed()),
        ]);
        expected.extend(weights("d_").map(|(role, tensor)| (format!("d_{}", name(role)), tensor)));
        for (state, [initial, last]) in [("h", ["h0", "hn"]), ("c", ["c0", "cn"])] {
            if self.tensors.contains_key(initial) {
                let (first, end) = (name(&format!("initial_{state}")), name(&format!("Y_{state}")));
                input.insert(first.clone(), self.state(initial));
                input.insert(format!("d_{end}"), self.state(&format!("d_{last}")));
                expected.insert(end, self.state(last));
                expected.insert(format!("d_{first}"), self.state(&format!("d_{initial}")));
            }
        }
        [input, expected]
    }
}

fn run(folder: &Folder, model: &[u8], input: &command::Tensors, args: &[&str]) -> Vec<PathBuf> {
    let [model_file, input_file, output] =
        ["model.onnx", "input.safetensors", "output.safetensors"].map(|name| folder.path(name));
    fs::write(&model_file, model).unwrap();
    command::write(&input_file, input);
    let args = args.iter().map(PathBuf::from);
    ["run".into(), model_file, input_file, "--output".into(), output, "--backward".into()].into_iter().chain(args).collect()
}

#[test]
fn gradients_are_pytorchs() {
    let mut files: Vec<PathBuf> = fs::read_dir(fixtures().join("pytorch")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    let twins: Vec<_> =
        files.iter().filter_map(|path| Some((path.file_stem().unwrap().to_str().unwrap(), Twin::read(path)?))).collect();
    assert!(twins.len() >= 7, "{}", twins.len());
    for (fixture, twin) in twins {
        let folder = Folder::new();
        let [input, expected] = twin.files();
        // On the GPU a few; kernels that are not compiled yet take their time.
        let devices = if fixture.contains("l1_t17") { &[Some("cpu"), None][..] } else { &[Some("cpu")] };
        for device in devices {
            let args: Vec<&str> = device.iter().flat_map(|device| ["--device", device]).collect();
            succeed(run(&folder, &twin.model(fixture.contains("relu")), &input, &args));
            let actual = command::read(&folder.path("output.safetensors"));
            assert!(expected.keys().eq(actual.keys()), "{fixture}: {:?}, not {:?}", actual.keys(), expected.keys());
            for (name, truth) in &expected {
                assert_eq!(actual[name].shape, truth.shape, "{fixture}: {name}");
                let largest = truth.values().iter().fold(0.0f64, |most, value| most.max(value.abs()));
                for (at, (truth, actual)) in truth.values().iter().zip(actual[name].values()).enumerate() {
                    assert!(
                        (truth - actual).abs() <= 1e-5 * (1.0 + largest),
                        "{fixture}: {name}[{at}] is {actual}, PyTorch has {truth}"
                    );
                }
            }
        }
    }
}

/// Tensors of these shapes, none of whose values are alike.
fn random(shapes: &[(&str, &[usize])]) -> Tensors {
    let tensor = |(at, &(role, shape)): (usize, &(&str, &[usize]))| {
        let values = common::uniform(at as u64 + 3, shape.iter().product(), 0.9).into_iter().map(|value| value as f32);
        (name(role), Tensor::f32(shape, values.collect()))
    };
    shapes.iter().enumerate().map(tensor).collect()
}

fn floats(tensor: &Tensor) -> &[f32] {
    match &tensor.values {
        Values::F32(values) => values,
        other => panic!("{other:?}"),
    }
}

/// What the reference makes of a call.
fn on_reference(call: &Call, d: Option<&[PartGradients]>) -> (Tensors, Tensors) {
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| value.into()).collect() };
    let narrow = |values: Vec<f64>| -> Vec<f32> { values.into_iter().map(|value| value as f32).collect() };
    let (mut outputs, mut gradients) = (Vec::new(), Vec::new());
    for (at, part) in call.parts().iter().enumerate() {
        let (cell, config, seq) = (&*part.model.cell, &part.model.config, call.sequence(part));
        let (params, input, state) = (wide(part.model.params.values()), wide(seq.input), seq.initial_state.map(wide));
        let seq = Sequence { initial_state: state.as_deref(), lengths: seq.lengths, ..Sequence::new(seq.shape, &input) };
        let trace = reference::forward(cell, config, &params, &seq, Mode::Training).unwrap();
        if let Some(d) = d.map(|d| &d[at]) {
            let (d_output, d_final) = (wide(&d.d_output), d.d_final_state.as_deref().map(wide));
            let d = tidegate::OutputGradients { d_output: &d_output, d_final_state: d_final.as_deref() };
            let found = reference::backward(cell, config, &params, &seq, &trace, &d).unwrap();
            gradients.push(Gradients {
                d_input: narrow(found.d_input),
                d_params: narrow(found.d_params),
                d_initial_state: narrow(found.d_initial_state),
            });
        }
        outputs.push(Output { output: narrow(trace.output.output), final_state: narrow(trace.output.final_state) });
    }
    let made = if d.is_some() { call.input_gradients(&gradients).unwrap() } else { Tensors::new() };
    (call.outputs(&outputs).unwrap(), made)
}

/// Every element of every input, in ONNX's own places, against the slope of the loss.
fn check_slopes(what: &str, model: &[u8], given: &Tensors, lengths: Option<&[i64]>) {
    let graph = Graph::from_bytes(model).unwrap();
    let node = graph.only_node().unwrap();
    let call = |given: &Tensors| {
        let mut given = given.clone();
        given.extend(lengths.map(|lengths| (name("sequence_lens"), Tensor::i64([lengths.len()], lengths.to_vec()))));
        node.call(&given).unwrap()
    };
    let (outputs, _) = on_reference(&call(given), None);
    let d: Tensors = outputs
        .iter()
        .enumerate()
        .map(|(at, (name, tensor))| {
            let values = common::uniform(at as u64 + 90, floats(tensor).len(), 1.0).into_iter().map(|value| value as f32);
            (name.clone(), Tensor::f32(tensor.shape.clone(), values.collect()))
        })
        .collect();
    let loss = |given: &Tensors| -> f64 {
        let (outputs, _) = on_reference(&call(given), None);
        let of = |(name, tensor): (&String, &Tensor)| -> f64 {
            floats(tensor).iter().zip(floats(&d[name])).map(|(&value, &d)| f64::from(value) * f64::from(d)).sum()
        };
        outputs.iter().map(of).sum()
    };
    let called = call(given);
    let (_, gradients) = on_reference(&called, Some(&called.output_gradients(&d).unwrap()));
    assert!(gradients.keys().eq(given.keys()), "{what}: {:?}", gradients.keys());
    for (name, gradient) in &gradients {
        assert_eq!(gradient.shape, given[name].shape, "{what}: {name}");
        for (at, &d) in floats(gradient).iter().enumerate() {
            let moved = |by: f32| {
                let mut given = given.clone();
                let Values::F32(values) = &mut given.get_mut(name).unwrap().values else { unreachable!() };
                values[at] += by;
                loss(&given)
            };
            let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            assert!(
                (f64::from(d) - slope).abs() <= 2e-3 * (1.0 + slope.abs()),
                "{what}: d_{name}[{at}] is {d}, the slope {slope}"
            );
        }
    }
}

#[test]
fn gradients_are_slopes_in_onnxs_own_order() {
    let (lstm, both) = (["X", "W", "R", "B", "", "initial_h", "initial_c", "P"], ("direction", Value::Text("bidirectional")));
    let outputs = ["Y", "Y_h", "Y_c"];
    let shapes: [(&str, &[usize]); 7] = [
        ("X", &[3, 2, 2]),
        ("W", &[2, 12, 2]),
        ("R", &[2, 12, 3]),
        ("B", &[2, 24]),
        ("initial_h", &[2, 2, 3]),
        ("initial_c", &[2, 2, 3]),
        ("P", &[2, 9]),
    ];
    check_slopes("peepholes", &model("LSTM", &lstm, &outputs, &[both]), &random(&shapes), None);

    // Two networks: what enters X is the sum of both.
    let names = ["Sigmoid", "Tanh", "Softsign", "Tanh", "Sigmoid", "Tanh"];
    let attributes = [("direction", Value::Text("bidirectional")), ("activations", Value::Texts(&names))];
    let ragged = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"];
    check_slopes("two networks", &model("LSTM", &ragged, &outputs, &attributes), &random(&shapes), Some(&[3, 2]));

    let gru: [(&str, &[usize]); 4] = [("X", &[2, 3, 2]), ("W", &[1, 9, 2]), ("R", &[1, 9, 3]), ("initial_h", &[2, 1, 3])];
    let inputs = ["X", "W", "R", "", "", "initial_h"];
    let attributes = [("direction", Value::Text("reverse")), ("layout", Value::Int(1))];
    check_slopes("batch first", &model("GRU", &inputs, &outputs[..2], &attributes), &random(&gru), None);
}

#[test]
fn a_tensor_that_is_taken_twice_gets_the_sum() {
    let twice = |state: &str| model("LSTM", &["X", "W", "R", "", "", "h", state], &["Y"], &[]);
    let shapes: [(&str, &[usize]); 5] =
        [("X", &[2, 1, 2]), ("W", &[1, 8, 2]), ("R", &[1, 8, 2]), ("h", &[1, 1, 2]), ("c", &[1, 1, 2])];
    let gradients = |model: &[u8], given: &Tensors| {
        let graph = Graph::from_bytes(model).unwrap();
        let call = graph.nodes()[0].call(given).unwrap();
        let d = random(&[("Y", &[2, 1, 1, 2])]);
        on_reference(&call, Some(&call.output_gradients(&d).unwrap())).1
    };
    let mut given = random(&shapes);
    given.insert(name("c"), given[&name("h")].clone());
    let apart = gradients(&twice("c"), &given);
    given.remove(&name("c"));
    let together = gradients(&twice("h"), &given);
    for (at, sum) in floats(&together[&name("h")]).iter().enumerate() {
        let [h, c] = ["h", "c"].map(|role| floats(&apart[&name(role)])[at]);
        assert!((h + c - sum).abs() <= 1e-6, "{h} and {c} make {sum}");
    }
}

#[test]
fn what_has_no_gradients_here_is_refused_with_a_way_out() {
    let folder = Folder::new();
    let (input, output) = (folder.path("input.safetensors"), folder.path("output.safetensors"));
    command::write(&input, &command::Tensors::from([("x".to_string(), command::Tensor::some(&[1]))]));
    let refused = |model: PathBuf, args: &[&str]| {
        let all = ["run".into(), model, input.clone(), "--output".into(), output.clone(), "--backward".into()];
        let line = fail(all.into_iter().chain(args.iter().map(PathBuf::from)));
        assert!(!output.exists());
        line
    };
    let several = refused(fixtures().join("onnx/exporters/torch_dynamo_encoder.onnx"), &[]);
    assert!(["one recurrent node", "--node", "0: LSTM", "2: LSTM"].iter().all(|part| several.contains(part)), "{several}");
    let quantized = refused(fixtures().join("onnx/graphs/quantized.onnx"), &["--node", "0"]);
    assert!(quantized.contains("its weights are integers"), "{quantized}");

    let twin = Twin::read(&fixtures().join("pytorch/lstm_l1_t17.safetensors")).unwrap();
    let [given, _] = twin.files();
    let spoilt = |spoil: &dyn Fn(&mut command::Tensors)| {
        let mut given = given.clone();
        spoil(&mut given);
        fail(run(&folder, &twin.model(false), &given, &["--device", "cpu"]))
    };
    let none = spoilt(&|given| given.retain(|name, _| !name.starts_with("d_")));
    assert!(["--backward", "d_my_Y", "d_my_Y_h", "d_my_Y_c"].iter().all(|part| none.contains(part)), "{none}");
    let shape = spoilt(&|given| drop(given.insert("d_my_Y_h".into(), command::Tensor::some(&[3, 5]))));
    assert!(["my_Y_h", "[1, 3, 5]", "[3, 5]"].iter().all(|part| shape.contains(part)), "{shape}");
    let unknown = spoilt(&|given| drop(given.insert("d_my_X".into(), command::Tensor::some(&[1]))));
    assert!(["unused tensor `d_my_X`", "gradients"].iter().all(|part| unknown.contains(part)), "{unknown}");
}
