//! `run` on files of PyTorch, onnxruntime and Keras gives what those gave.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tidegate::{RnnConfig, SeqShape};

use crate::common::command::{Folder, Tensor, Tensors, command, compare, fixtures, read, succeed, write};

/// One file of `tests/fixtures/pytorch` as the command takes it.
struct Fixture {
    name: String,
    cell: String,
    config: RnnConfig,
    shape: SeqShape,
    model: Tensors,
    input: Tensors,
    truth: Tensors,
}

impl Fixture {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata: HashMap<String, String> = header.metadata().clone().unwrap();
        let number = |key: &str| metadata[key].parse::<usize>().unwrap();
        let config = RnnConfig::new(number("input_size"), number("hidden_size"))
            .with_num_layers(number("num_layers"))
            .with_bidirectional(number("bidirectional") == 1)
            .with_batch_first(number("batch_first") == 1);
        let mut truth = read(path);
        let mut take = |belongs: &dyn Fn(&str) -> bool, prefix: &str| -> Tensors {
            let taken: Tensors = truth.iter().filter(|(n, _)| belongs(n)).map(|(n, t)| (n.clone(), t.narrowed())).collect();
            truth.retain(|name, _| !belongs(name));
            taken.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
        };
        let model = take(&|name| name.starts_with("weight_") || name.starts_with("bias_"), "encoder.rnn.");
        let input = take(&|name| ["input", "h0", "c0", "lengths", "d_output", "d_hn", "d_cn"].contains(&name), "");
        let shape = SeqShape { seq_len: number("seq_len"), batch_size: number("batch_size") };
        let name = path.file_stem().unwrap().to_string_lossy().into();
        Self { name, cell: metadata["cell"].clone(), config, shape, model, input, truth }
    }

    fn check(&self, folder: &Folder, backward: bool, device: Option<&str>) {
        let (mut input, mut truth) = (self.input.clone(), self.truth.clone());
        if !backward {
            input.retain(|name, _| !name.starts_with("d_"));
            truth.retain(|name, _| !name.starts_with("d_"));
        }
        let paths = ["model.safetensors", "input.safetensors", "output.safetensors"].map(|name| folder.path(name));
        write(&paths[0], &self.model);
        write(&paths[1], &input);
        let mut command = command();
        command.arg("run").args(&paths[..2]).arg("--output").arg(&paths[2]);
        if self.cell == "rnn_relu" {
            command.args(["--cell", "rnn_relu"]);
        }
        if self.config.batch_first {
            command.arg("--batch-first");
        }
        if backward {
            command.arg("--backward");
        }
        command.args(device.iter().flat_map(|device| ["--device", device]));
        let output = command.output().unwrap();
        let case = format!("{} on {}", self.name, device.unwrap_or("the default device"));
        let said = String::from_utf8_lossy(&output.stderr);
        // Whoever named no device is told that a software adapter ran.
        let expected = said.is_empty() || device.is_none() && said.contains("a software adapter") && said.lines().count() == 1;
        assert!(output.status.success() && expected, "{case}: {said}");
        compare(&case, &self.config, self.shape, &truth, &read(&paths[2]));
    }
}

fn agrees_with_pytorch(device: Option<&str>) {
    let folder = Folder::new();
    let files = fs::read_dir(fixtures().join("pytorch")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    assert!(files.len() >= 12);
    for (index, path) in files.iter().enumerate() {
        let fixture = Fixture::read(path);
        fixture.check(&folder, true, device);
        if index % 4 == 0 {
            fixture.check(&folder, false, device);
        }
    }
}

#[test]
fn run_agrees_with_pytorch_on_the_reference() {
    agrees_with_pytorch(Some("cpu"));
}

#[test]
fn run_agrees_with_pytorch_on_the_default_adapter() {
    agrees_with_pytorch(None);
}

#[test]
fn run_agrees_with_onnxruntime_on_speech() {
    let folder = Folder::new();
    let [model, input, expected] =
        ["lstm", "input", "expected"].map(|name| fixtures().join("silero").join(format!("{name}.safetensors")));
    for device in ["0", "cpu"] {
        let output = folder.path("output.safetensors");
        let args: [&OsStr; 7] = [
            "run".as_ref(),
            model.as_ref(),
            input.as_ref(),
            "--output".as_ref(),
            output.as_ref(),
            "--device".as_ref(),
            device.as_ref(),
        ];
        succeed(args);
        compare(device, &RnnConfig::new(128, 128), SeqShape { seq_len: 192, batch_size: 1 }, &read(&expected), &read(&output));
    }
}

#[test]
fn run_agrees_with_keras() {
    let folder = Folder::new();
    let named = |cell| vec!["--cell", cell];
    for (name, cell) in [
        ("lstm_l2_bi_states", vec![]),
        ("gru_l2_bi", vec![]),
        ("gru_reset_before_l2_states", vec![]),
        ("gru_nobias", named("gru")),
        ("rnn_relu_bi", named("rnn_relu")),
        ("masks/lstm_l2_bi_states", vec![]),
        ("masks/lstm_zero", vec!["--zero-output-for-mask"]),
        ("masks/lstm_masking", vec!["--mask-value", "-1.5"]),
    ] {
        let folder_of_model = fixtures().join("keras");
        let mut truth = read(&folder_of_model.join(format!("{name}.expected.safetensors")));
        let mut given = Tensors::new();
        for name in ["input", "h0", "c0"] {
            given.extend(truth.remove(name).map(|tensor| (name.into(), tensor.narrowed())));
        }
        // A Masking layer's mask is for the command to find.
        if let Some(mask) = truth.remove("mask").filter(|_| !cell.contains(&"--mask-value")) {
            let counts = mask.values().into_iter().map(|value| value as i32).collect::<Vec<_>>();
            given.insert("mask".into(), Tensor { shape: mask.shape, ..Tensor::i32(&counts) });
        }
        let [input, output] = ["input", "output"].map(|file| folder.path(file));
        write(&input, &given);
        let model = folder_of_model.join(format!("{name}.safetensors"));
        let files = [OsStr::new("run"), model.as_ref(), input.as_ref(), "--output".as_ref(), output.as_ref()];
        let args = cell.iter().chain(&["--batch-first"]).map(OsStr::new);
        succeed(files.into_iter().chain(args));
        let &[batch_size, seq_len, input_size] = &*given["input"].shape else { panic!("{name}") };
        let hidden_size = truth["hn"].shape[2];
        compare(name, &RnnConfig::new(input_size, hidden_size), SeqShape { seq_len, batch_size }, &truth, &read(&output));
    }
}
