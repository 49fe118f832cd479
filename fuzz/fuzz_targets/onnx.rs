//! ONNX models: every node that can be called is, on tensors as small as it allows, and its outputs have the shapes of what it
//! would make; the whole graph runs on small inputs, layers that give ones in place of results.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::import::onnx::{Call, Graph, Node, Tensor, Tensors, Values};
use tidegate::{Error, Output};

/// Most values of an output that are worth making: two dimensions of a small file multiply to gigabytes.
const MOST: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = Graph::from_bytes(bytes) else { return };
    for node in graph.nodes() {
        for model in node.models().unwrap_or_default() {
            assert_eq!(model.params.layout().len(), model.params.values().len());
        }
        let _ = graph.node(node.name());
        call(&node);
    }
    if let Ok(node) = graph.only_node() {
        call(&node);
    }
    run(&graph);
});

/// Runs the graph on inputs of several ranks; what it gives is as large as it says.
fn run(graph: &Graph) {
    let _ = (graph.unsupported(), graph.describe_nodes(), graph.describe_inputs());
    for shape in [&[2, 1, 3][..], &[1, 2], &[2], &[]] {
        let len = shape.iter().product();
        for integers in [false, true] {
            let tensor = if integers { Tensor::i64(shape, vec![1; len]) } else { Tensor::f32(shape, vec![0.5; len]) };
            let given: Tensors = graph.inputs().map(|name| (name.to_string(), tensor.clone())).collect();
            let made = graph.run_with(&given, |part, seq| {
                let (config, shape) = (&part.model.config, seq.shape);
                let (output, state) = (shape.rows() * config.output_size(), shape.batch_size * config.output_size());
                if output > MOST || state > MOST {
                    return Err(Error::Onnx("large".into()));
                }
                let final_state = vec![1.0; part.model.cell.spec().states.len() * state];
                Ok(Output { output: vec![1.0; output], final_state })
            });
            for (name, tensor) in made.unwrap_or_default() {
                let len = match &tensor.values {
                    Values::F32(values) => values.len(),
                    Values::I32(values) => values.len(),
                    Values::I64(values) => values.len(),
                    other => panic!("{other:?}"),
                };
                assert_eq!(len, tensor.shape.iter().product::<usize>(), "{name}");
            }
        }
    }
}

/// Calls a node with what it asks for, in a batch of 1 or 2, its shapes taken from what can be read.
fn call(node: &Node<'_>) {
    let config = node.model().ok().map(|model| model.config);
    let [input, hidden] = config.map_or([3, 2], |config| [config.input_size, config.hidden_size]);
    let gates = [("LSTM", 4), ("GRU", 3)].into_iter().find(|(op, _)| *op == node.op_type()).map_or(1, |(_, gates)| gates);
    for (seq_len, batch, directions) in [(2, 1, 1), (1, 2, 2)] {
        let mut given = Tensors::new();
        for (role, name) in node.inputs() {
            let tensor = match role {
                "X" => zeros(&[seq_len, batch, input]),
                "W" => zeros(&[directions, gates * hidden, input]),
                "R" => zeros(&[directions, gates * hidden, hidden]),
                "B" => zeros(&[directions, 2 * gates * hidden]),
                "P" => zeros(&[directions, 3 * hidden]),
                "sequence_lens" => Tensor::i64([batch], vec![1; batch]),
                _ => zeros(&[directions, batch, hidden]),
            };
            given.insert(name.into(), tensor);
        }
        // With all of them, then with those alone that are no constants.
        for _ in 0..2 {
            if let Ok(call) = node.call(&given) {
                check(&call);
            }
            given.retain(|name, _| {
                node.inputs().iter().any(|(role, known)| known == name && !["W", "R", "B", "P"].contains(role))
            });
        }
    }
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::f32(shape, vec![0.0; shape.iter().product()])
}

fn check(call: &Call) {
    let mut outputs = Vec::new();
    for part in call.parts() {
        let (config, shape) = (&part.model.config, call.shape());
        let (output, state) = (shape.rows() * config.output_size(), shape.batch_size * config.output_size());
        if output > MOST || state > MOST {
            return;
        }
        assert_eq!(call.sequence(part).validate(&*part.model.cell, config).map_err(|e| e.to_string()), Ok(()));
        let final_state = vec![2.0; part.model.cell.spec().states.len() * state];
        outputs.push(Output { output: vec![1.0; output], final_state });
    }
    for (name, tensor) in call.outputs(&outputs).unwrap() {
        let Values::F32(values) = tensor.values else { panic!("`{name}` is not of floats") };
        assert_eq!(values.len(), tensor.shape.iter().product::<usize>(), "{name}");
        assert!(values.iter().all(|&value| value == values[0] && value > 0.0), "{name}: {values:?}");
    }
}
