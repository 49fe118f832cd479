//! `run MODEL.onnx`: tensors under the graph's names in and out, one line on stderr where something is wrong.
#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::command::{Folder, Tensor, Tensors, compare, fail, fixtures, read, succeed, write};
use tidegate::{RnnConfig, SeqShape};

/// What a run is given, to be spoilt in one place.
struct Given {
    folder: Folder,
    model: PathBuf,
    input: Tensors,
    expected: Tensors,
    args: Vec<String>,
}

impl Given {
    /// A fixture of the reader, on the reference.
    fn fixture(name: &str) -> Self {
        let model = fixtures().join("onnx").join(name);
        let (expected, input): (Tensors, Tensors) =
            read(&model.with_extension("safetensors")).into_iter().partition(|(name, _)| name.starts_with("expected."));
        let expected = expected.into_iter().map(|(name, tensor)| (name["expected.".len()..].to_string(), tensor)).collect();
        Self { folder: Folder::new(), model, input, expected, args: vec!["--device=cpu".into()] }
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    fn input(mut self, name: &str, tensor: Tensor) -> Self {
        self.input.insert(name.into(), tensor);
        self
    }

    fn output(&self) -> PathBuf {
        self.folder.path("output.safetensors")
    }

    fn command(&self) -> Vec<PathBuf> {
        let input = self.folder.path("input.safetensors");
        write(&input, &self.input);
        let args = ["run".into(), self.model.clone(), input, "--output".into(), self.output()].into_iter();
        args.chain(self.args.iter().map(PathBuf::from)).collect()
    }

    fn check(&self) {
        succeed(self.command());
        // The bound grows with I, H and T; these are at most the fixtures'.
        let (config, shape) = (RnnConfig::new(5, 5), SeqShape { seq_len: 5, batch_size: 3 });
        compare(&self.model.display().to_string(), &config, shape, &self.expected, &read(&self.output()));
    }

    fn fail(&self, named: &[&str]) {
        let line = fail(self.command());
        for name in named {
            assert!(line.contains(name), "expected {name} in: {line}");
        }
        assert!(!self.output().exists(), "{line}");
    }
}

fn models(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(fixtures().join("onnx").join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    models.sort();
    let name = |path: &Path| format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
    models.iter().map(|path| name(path)).collect()
}

#[test]
fn node_tests_and_random_attributes_on_the_reference() {
    let models = [models("node"), models("random")].concat();
    assert!(models.len() >= 80);
    models.iter().for_each(|model| Given::fixture(model).check());
}

#[test]
fn node_tests_on_an_adapter() {
    for (at, model) in models("node").iter().enumerate().step_by(3) {
        let mut given = Given::fixture(model);
        let strategy = ["stepwise", "resident", "persistent"][at / 3 % 3];
        given.args = vec!["--device=0".into(), format!("--strategy={strategy}")];
        given.check();
    }
}

#[test]
fn malformed_models_end_in_one_line() {
    let folder = fixtures().join("onnx/malformed");
    let given = |model: PathBuf| Given {
        folder: Folder::new(),
        model,
        input: [("enc.X".to_string(), Tensor::some(&[4, 1, 3]))].into(),
        expected: Tensors::new(),
        args: vec!["--device=cpu".into()],
    };
    succeed(given(folder.join("valid.onnx")).command());
    let expected: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    // As a graph this one is good: its second node is one that nothing needs.
    succeed(given(folder.join("two_nodes.onnx")).command());
    for (model, named) in expected.as_object().unwrap().iter().filter(|(model, _)| *model != "two_nodes.onnx") {
        let named: Vec<&str> = named.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        given(folder.join(model)).fail(&named);
    }
    given("missing.onnx".into()).fail(&["missing.onnx"]);
}

/// What the container of INPUT may not be, whoever made the model.
#[test]
fn damaged_inputs_are_refused() {
    let given = Given::fixture("node/test_lstm_defaults.onnx");
    let command = given.command();
    for (file, named) in [("duplicate_name", "twice"), ("offsets_overflow_sum", "2305843009213693951")] {
        let bytes = fs::read(fixtures().join("../corpus/safetensors").join(file)).unwrap();
        fs::write(given.folder.path("input.safetensors"), bytes).unwrap();
        let line = fail(command.clone());
        assert!(line.contains("input.safetensors") && line.contains(named), "{file}: {line}");
    }
}

#[test]
fn refuses_wrong_inputs() {
    let lstm = || Given::fixture("node/test_lstm_defaults.onnx");
    lstm().input("lengths", Tensor::i32(&[1, 1, 1])).fail(&["lengths", "W"]);
    lstm().input("X", Tensor::some(&[1, 3, 3])).fail(&["X", "[1, 3, 3]", "[1, 3, 2]"]);
    lstm().input("W", Tensor::i32(&[1])).fail(&["W"]);
    let mut without = lstm();
    without.input.remove("R");
    without.fail(&["missing", "R"]);
    for option in [&["--cell", "lstm"][..], &["--batch-first"]] {
        lstm().args(option).fail(&[option[0], "ONNX"]);
    }
}
