//! The command as other programs use it: files in, files out, one line on stderr where something is wrong.
#![cfg(feature = "cli")]

mod common;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use common::command::{Folder, Tensor, Tensors, command, compare, fail, fixtures, read, succeed, tidegate, write};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tidegate::{RnnConfig, SeqShape};

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
    ] {
        let folder_of_model = fixtures().join("keras");
        let mut truth = read(&folder_of_model.join(format!("{name}.expected.safetensors")));
        let mut given = Tensors::new();
        for name in ["input", "h0", "c0"] {
            given.extend(truth.remove(name).map(|tensor| (name.into(), tensor.narrowed())));
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

/// What a run is given, to be spoilt in one place.
struct Given {
    folder: Folder,
    model: Tensors,
    input: Tensors,
    args: Vec<String>,
}

const T: usize = 4;
const B: usize = 3;
const I: usize = 2;
const H: usize = 5;

impl Given {
    /// A correct forward run of an LSTM on the reference.
    fn lstm() -> Self {
        let model = [
            ("weight_ih_l0", &[4 * H, I][..]),
            ("weight_hh_l0", &[4 * H, H]),
            ("bias_ih_l0", &[4 * H]),
            ("bias_hh_l0", &[4 * H]),
        ];
        let input = [("input", [T, B, I]), ("h0", [1, B, H]), ("c0", [1, B, H])];
        Self {
            folder: Folder::new(),
            model: model.iter().map(|(name, shape)| (name.to_string(), Tensor::some(shape))).collect(),
            input: input.iter().map(|(name, shape)| (name.to_string(), Tensor::some(shape))).collect(),
            args: vec!["--device".into(), "cpu".into()],
        }
    }

    fn backward() -> Self {
        let mut given = Self::lstm().input("d_output", Tensor::some(&[T, B, H]));
        given.args.push("--backward".into());
        given
    }

    fn model(mut self, name: &str, tensor: Tensor) -> Self {
        self.model.insert(name.into(), tensor);
        self
    }

    fn input(mut self, name: &str, tensor: Tensor) -> Self {
        self.input.insert(name.into(), tensor);
        self
    }

    fn without(mut self, name: &str) -> Self {
        assert!(self.model.remove(name).or(self.input.remove(name)).is_some());
        self
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    fn command(&self) -> Vec<PathBuf> {
        let [model, input, output] =
            ["model.safetensors", "input.safetensors", "output.safetensors"].map(|n| self.folder.path(n));
        let args = ["run".into(), model, input, "--output".into(), output].into_iter();
        args.chain(self.args.iter().map(PathBuf::from)).collect()
    }

    fn write(&self) {
        write(&self.folder.path("model.safetensors"), &self.model);
        write(&self.folder.path("input.safetensors"), &self.input);
    }

    fn succeed(&self) -> Tensors {
        self.write();
        succeed(self.command());
        read(&self.folder.path("output.safetensors"))
    }

    /// The run must fail with all of `named` in its line, write no output, and leave alone one that was there.
    fn fail(&self, named: &[&str]) {
        self.write();
        self.fail_as_written(named);
    }

    fn fail_as_written(&self, named: &[&str]) {
        let output = self.folder.path("output.safetensors");
        let entries = || fs::read_dir(&self.folder.0).unwrap().count();
        let before = entries();
        for existing in [None, Some("what was there before")] {
            if let Some(text) = existing {
                fs::write(&output, text).unwrap();
            }
            let line = fail(self.command());
            for name in named {
                assert!(line.contains(name), "expected {name} in: {line}");
            }
            assert_eq!(fs::read_to_string(&output).ok().as_deref(), existing, "{line}");
            assert_eq!(entries(), before + usize::from(existing.is_some()), "{line}");
        }
        fs::remove_file(output).unwrap();
    }
}

#[test]
fn run_writes_exactly_the_contracts_tensors() {
    let names = |tensors: Tensors| tensors.into_keys().collect::<Vec<_>>().join(" ");
    assert_eq!(names(Given::lstm().succeed()), "cn hn output");
    let parameters = "d_bias_hh_l0 d_bias_ih_l0 d_c0 d_h0 d_input d_weight_hh_l0 d_weight_ih_l0";
    // The gradients of initial states come also where none was given.
    assert_eq!(names(Given::backward().without("h0").without("c0").succeed()), format!("cn {parameters} hn output"));
    let gru = Given::backward().without("c0").model("weight_ih_l0", Tensor::some(&[3 * H, I]));
    let gru = gru.model("weight_hh_l0", Tensor::some(&[3 * H, H])).without("bias_ih_l0").without("bias_hh_l0");
    assert_eq!(names(gru.succeed()), "d_h0 d_input d_weight_hh_l0 d_weight_ih_l0 hn output");
}

/// The files stay f32, what the device stores is rounded: output and d_input hold nothing that f16 does not.
#[test]
fn run_stores_f16_where_it_is_told() {
    let truth = Given::backward().succeed();
    for device in ["0", "cpu"] {
        let mut given = Given::backward().args(&["--dtype", "f16"]);
        given.args[1] = device.into();
        let results = given.succeed();
        assert!(results.keys().eq(truth.keys()));
        for (name, tensor) in results {
            let (values, expected) = (tensor.values(), truth[&name].values());
            let halves = values.iter().all(|&v| f64::from(tidegate::Dtype::F16.round(v as f32)) == v);
            assert_eq!(halves, ["output", "d_input"].contains(&name.as_str()), "{name} on {device}");
            let (off, size) =
                values.iter().zip(&expected).fold((0.0, 0.0), |(off, size), (v, e)| (off + (v - e).powi(2), size + e * e));
            let relative = f64::sqrt(off / size);
            assert!(relative > 1e-6 && relative < 2e-3, "{name} on {device} is off by {relative}");
        }
    }
}

#[test]
fn an_absent_state_is_zeros() {
    let zeros = Tensor::f32(&[1, B, H], [0.0; B * H]);
    for name in ["h0", "c0"] {
        let [absent, zero] = [Given::lstm().without(name), Given::lstm().input(name, zeros.clone())].map(|given| given.succeed());
        assert_eq!(absent["output"].bytes, zero["output"].bytes, "{name}");
        assert_ne!(absent["output"].bytes, Given::lstm().succeed()["output"].bytes, "{name}");
    }
}

#[test]
fn takes_every_cell() {
    for (cell, gates) in
        [("gru_reset_before", 3), ("rnn_relu", 1), ("rnn_linear", 1), ("rnn_tanh", 1), ("binary_gate", 2), ("gru", 3)]
    {
        let given = Given::lstm().without("c0").without("bias_ih_l0").without("bias_hh_l0").args(&["--cell", cell]);
        let given =
            given.model("weight_ih_l0", Tensor::some(&[gates * H, I])).model("weight_hh_l0", Tensor::some(&[gates * H, H]));
        given.succeed();
    }
    Given::lstm().model("weight_peephole_l0", Tensor::some(&[3, H])).succeed();
}

/// Names without `_l0` are the same network; its gradients have the names of a network.
#[test]
fn takes_cell_modules() {
    let truth = Given::backward().succeed();
    let mut given = Given::backward();
    given.model = given.model.into_iter().map(|(name, t)| (format!("cell.{}", name.strip_suffix("_l0").unwrap()), t)).collect();
    let actual = given.succeed();
    assert!(actual.contains_key("d_weight_hh_l0") && actual.keys().eq(truth.keys()), "{:?}", actual.keys());
    assert!(actual.values().map(|t| &t.bytes).eq(truth.values().map(|t| &t.bytes)));
}

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
    Given::lstm().model("weight_hr_l0", Tensor::some(&[2, 5])).fail(&["weight_hr_l0", "proj_size", "not supported"]);
    Given::lstm().model("b.weight_ih", Tensor::some(&[20, 2])).fail(&["2 networks", "``", "`b.`"]);
    // One tensor of Keras' makes it a file of Keras'.
    Given::lstm().model("l0.recurrent_kernel", Tensor::some(&[5, 20])).fail(&["unused tensor", "l0.recurrent_kernel"]);
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
    assert!(run(&model, &given.folder.path("none/output.safetensors")).contains("none"));
    assert!(run(&model, &given.folder.0).contains("not a regular file"));
    assert!(fail([OsStr::new("run"), model.as_ref(), input.as_ref()]).contains("--output"));
}

#[test]
fn devices_lists_adapters_and_the_reference() {
    let listing: Value = serde_json::from_str(&succeed(["devices", "--json"])).unwrap();
    let devices = listing["devices"].as_array().unwrap();
    assert!(devices.len() >= 2, "no adapter: {devices:?}");
    assert_eq!(devices.iter().filter(|device| device["default"] == true).count(), 1);
    for (number, device) in devices[..devices.len() - 1].iter().enumerate() {
        assert_eq!(device["id"], number.to_string());
        assert!(["device", "backend", "driver", "device_type"].iter().all(|name| device[name].is_string()), "{device}");
        assert!(["immediates", "timestamps", "f16", "subgroups"].iter().all(|name| device["features"][name].is_boolean()));
        assert!(device["limits"]["max_buffer_size"].as_u64().unwrap() > 0);
        assert!(succeed(["devices"]).contains(device["device"].as_str().unwrap()));
    }
    let reference = devices.last().unwrap();
    assert_eq!((&reference["id"], &reference["device_type"]), (&"cpu".into(), &"cpu-reference".into()));
}

/// As on a machine without any adapter: wgpu is told to look for a kind that this build leaves out.
#[test]
fn without_an_adapter_the_reference_runs_and_says_so() {
    let given = Given { args: Vec::new(), ..Given::lstm() };
    given.write();
    let without = |args: &[PathBuf]| {
        let output = command().args(args).env("WGPU_BACKEND", "gl").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let [stdout, stderr] = without(&given.command());
    assert!(
        stdout.starts_with("wrote ") && stderr.lines().count() == 1 && stderr.contains("mesa-vulkan-drivers"),
        "{stdout}{stderr}"
    );
    assert_eq!(read(&given.folder.path("output.safetensors"))["output"].bytes, Given::lstm().succeed()["output"].bytes);
    let [stdout, stderr] = without(&["devices".into()]);
    assert!(stdout.contains("cpu (default)") && stdout.contains("mesa-vulkan-drivers") && stderr.is_empty(), "{stdout}{stderr}");
    let bench = "bench --cell gru --input 1 --hidden 1 --seq 1 --batch 1".split(' ').map(PathBuf::from);
    let [stdout, stderr] = without(&bench.collect::<Vec<_>>());
    assert!(stdout.contains("cpu-reference") && stderr.contains("mesa-vulkan-drivers"), "{stdout}{stderr}");
}

/// The results that `bench` wrote for a small GRU.
fn bench(device: &str, args: &[&str]) -> Vec<Value> {
    let folder = Folder::new();
    let json = folder.path("bench.json");
    let small = ["bench", "--cell", "gru", "--input", "8", "--hidden", "8", "--seq", "4", "--batch", "2", "--device", device];
    let args = small.iter().chain(args).map(OsStr::new).chain([OsStr::new("--json"), json.as_os_str()]);
    let table = succeed(args);
    assert!(
        ["gru", "mode", "verified against the float64 reference", "wrote "].iter().all(|text| table.contains(text)),
        "{table}"
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 80 || line.starts_with("wrote ") || line.contains("tuning-")),
        "{table}"
    );
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["tidegate_version"]), (&1.into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(report["host"]["os"], std::env::consts::OS);
    assert!(report["host"]["cpus"].as_u64().unwrap() >= 1);
    let rooflines = report["rooflines"].as_array().unwrap();
    assert_eq!(rooflines.len(), usize::from(device != "cpu"));
    for roofline in rooflines {
        let cost = |name: &str| roofline[name].as_f64().unwrap();
        assert!(
            cost("submit_us") > 0.0 && cost("dispatch_us") >= 0.0 && cost("dispatch_us") < cost("submit_us") * 1e3,
            "{roofline}"
        );
        assert!(roofline["round_trip_workgroups"].as_u64().unwrap() >= 1, "{roofline}");
    }
    let peaks = rooflines.iter().flat_map(|roofline| ["peak_gflops", "peak_gbytes"].map(|peak| roofline[peak].as_f64().unwrap()));
    // A core of any machine is somewhere in between.
    assert!(peaks.into_iter().all(|peak| peak > 0.01 && peak < 1e7), "{rooflines:?}");
    // Of suite scaling alone.
    assert_eq!(report["scaling"], serde_json::json!([]));
    report["results"].as_array().unwrap().clone()
}

fn check_result(result: &Value, mode: &str) {
    let mut fields: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut expected = [
        "device",
        "backend",
        "driver",
        "device_type",
        "cell",
        "mode",
        "I",
        "H",
        "L",
        "D",
        "T",
        "B",
        "dtype",
        "strategy",
        "cooperative",
        "dispatches",
        "repairs",
        "includes_input",
        "ms_median",
        "ms_median_spread",
        "ms_min",
        "first_ms",
        "gpu_ms_median",
        "runs",
        "gflops",
        "roofline_fraction",
        "launch_fraction",
        "verified",
        "verified_T",
        "verified_B",
        "max_rel_err",
        "stream",
        "us_per_step_p50",
        "us_per_step_p99",
        "us_per_step_host_p50",
        "us_per_step_host_p99",
        "published_ms",
        "bound_by",
        "bound_fraction",
        "clock_mhz",
        "max_clock_mhz",
        "power_watts",
        "marks",
        "measured_again",
        "untuned",
        "warm_up_ms",
    ];
    // Only where this run tuned, and where the device tells.
    fields.retain(|&name| !["tried", "api_version"].contains(&name));
    expected.sort_unstable();
    assert_eq!(fields, expected);
    let exact = [("I", 8), ("H", 8), ("L", 1), ("D", 1), ("T", 4), ("B", 2), ("verified_T", 4), ("verified_B", 2)];
    assert!(exact.iter().all(|&(name, value)| result[name] == value), "{result}");
    assert_eq!((&result["cell"], &result["mode"]), (&"gru".into(), &mode.into()));
    assert_eq!((&result["verified"], &result["includes_input"]), (&true.into(), &true.into()));
    assert!(result["published_ms"].is_null(), "{result}");
    let number = |name: &str| result[name].as_f64().unwrap();
    assert!(number("ms_min") > 0.0 && number("ms_median") >= number("ms_min") && number("runs") >= 5.0);
    // 2·G·H·(H + I)·B·T FLOPs, three times as many in training.
    let flops = 2.0 * 3.0 * 8.0 * 16.0 * 2.0 * 4.0 * if mode == "train" { 3.0 } else { 1.0 };
    assert!((number("gflops") * number("ms_median") * 1e6 / flops - 1.0).abs() < 1e-9, "{result}");
}

/// Times per step are those of latency and of streams.
fn check_no_steps(result: &Value) {
    let steps = ["us_per_step_p50", "us_per_step_p99", "us_per_step_host_p50", "us_per_step_host_p99"];
    assert!(steps.iter().all(|name| result[name].is_null()) && result["stream"] == false, "{result}");
}

#[test]
fn bench_times_the_reference() {
    let results = bench("cpu", &[]);
    assert_eq!(results.len(), 2);
    for (result, mode) in results.iter().zip(["infer", "train"]) {
        check_result(result, mode);
        check_no_steps(result);
        assert_eq!((&result["device_type"], &result["dispatches"]), (&"cpu-reference".into(), &0.into()));
        assert!(result["roofline_fraction"].is_null());
    }
}

#[test]
fn bench_verifies_and_times_an_adapter() {
    let results = bench("0", &["--mode", "train", "--strategy", "stepwise"]);
    assert_eq!(results.len(), 1);
    check_result(&results[0], "train");
    check_no_steps(&results[0]);
    assert_eq!(results[0]["strategy"], "stepwise");
    let fraction = results[0]["roofline_fraction"].as_f64().unwrap();
    assert!(fraction > 0.0 && fraction < 1.0, "{fraction}");
    assert!(results[0]["dispatches"].as_u64().unwrap() > 4);
    let error = results[0]["max_rel_err"].as_f64().unwrap();
    assert!(error > 0.0 && error < 1e-5, "{error}");
}

#[test]
fn bench_times_f16_storage() {
    let [one, two] = <[Value; 2]>::try_from(bench("0", &["--dtype", "f16"])).unwrap();
    for entry in [one, two] {
        assert_eq!((&entry["dtype"], &entry["verified"]), (&"f16".into(), &true.into()), "{entry}");
        let error = entry["max_rel_err"].as_f64().unwrap();
        assert!(error > 1e-5 && error < 2e-3, "an error of {error} is not that of f16");
    }
}

#[test]
fn bench_times_the_steps_of_a_stream() {
    for device in ["0", "cpu"] {
        let results = bench(device, &["--stream"]);
        assert_eq!(results.len(), 1);
        let result = &results[0];
        check_result(result, "infer");
        assert_eq!(result["stream"], true);
        let number = |name: &str| result[name].as_f64().unwrap();
        // Chunks of 4 steps.
        assert!((number("us_per_step_p50") * 4.0 / 1e3 / number("ms_median") - 1.0).abs() < 1e-9, "{result}");
        assert!(number("us_per_step_p99") >= number("us_per_step_p50"), "{result}");
        if device == "cpu" {
            assert!(result["us_per_step_host_p50"].is_null(), "{result}");
        } else {
            assert!(number("max_rel_err") > 0.0 && number("max_rel_err") < 1e-5, "{result}");
            assert!(number("us_per_step_host_p99") >= number("us_per_step_host_p50"), "{result}");
        }
    }
}

/// The smallest row of suite deepbench: alone with one input feature, and as a whole layer; the rest is too much for a CPU.
#[test]
fn bench_runs_deepbench_as_far_as_a_cpu_can() {
    let folder = Folder::new();
    let json = folder.path("bench.json");
    let command = ["bench", "--suite", "deepbench", "--filter", "gru ", "--device", "cpu", "--json"].map(OsStr::new);
    let table = succeed(command.into_iter().chain([json.as_os_str()]));
    let text = table.split_whitespace().collect::<Vec<_>>().join(" ");
    let table = format!("{table}{text}");
    for text in [
        "gru 512 alone ",
        "gru 512  ",
        "cuDNN: published milliseconds of V100 cuDNN 7.6",
        "0.0880",
        "too many FLOPs for a CPU: 72 of 76",
        "and 62 others",
    ] {
        assert!(table.contains(text), "{text} in {table}");
    }
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let results = report["results"].as_array().unwrap();
    // FLOPs by H, and by I + H where the input's product counts; backward twice forward's.
    let expected =
        [("infer", 1, 512, 0.088), ("train", 1, 3 * 512, 0.278), ("infer", 512, 1024, 0.0), ("train", 512, 3 * 1024, 0.0)];
    assert_eq!(results.len(), expected.len());
    for (result, (mode, input, width, published)) in results.iter().zip(expected) {
        assert_eq!((&result["mode"], &result["I"], &result["B"]), (&mode.into(), &input.into(), &32.into()));
        assert_eq!((&result["includes_input"], &result["verified"]), (&(input > 1).into(), &true.into()));
        assert_eq!(result["published_ms"].as_f64().unwrap_or_default(), published, "{result}");
        let flops = f64::from(2 * 3 * 512 * 32 * width);
        let counted = result["gflops"].as_f64().unwrap() * result["ms_median"].as_f64().unwrap() * 1e6;
        assert!((counted / flops - 1.0).abs() < 1e-9, "{result}");
    }
}

#[test]
fn bench_lists_filters_and_ends_in_time() {
    let list = succeed(["bench", "--suite", "latency", "--filter", "gru I=512", "--list"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    // 2·3·512·1024·64 FLOPs.
    assert!(list.starts_with("gru I=512 H=512 T=64 B=1 infer: 0.201 GFLOP\n"), "{list}");
    let folder = Folder::new();
    let json = folder.path("bench.json");
    let command = ["bench", "--device", "cpu", "--budget", "0", "--json"].map(OsStr::new);
    let table = succeed(command.into_iter().chain([json.as_os_str()]));
    assert!(table.contains("out of time: 16 of 16\n  lstm I=64 H=64 T=32 B=1 infer"), "{table}");
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["results"], serde_json::json!([]));
}

#[test]
fn bench_refuses_what_means_nothing() {
    let small = |args: &[&str]| {
        let all = ["bench", "--device", "cpu", "--seq", "4", "--batch", "2", "--hidden", "8"];
        all.iter().chain(args).map(|arg| arg.to_string()).collect::<Vec<_>>()
    };
    assert!(fail(small(&["--cell", "gru"])).contains("--input"));
    assert!(fail(small(&["--cell", "gro", "--input", "1"])).contains("gro"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--suite", "quick"])).contains("--suite"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--stream", "--bidirectional"])).contains("--bidirectional"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--stream", "--mode", "train"])).contains("--mode"));
    assert!(fail(["bench", "--stream"]).contains("--cell"));
    let refused = fail(["bench", "--suite", "slow"]);
    assert!(
        ["slow", "quick", "deepbench", "latency", "scaling", "product"].iter().all(|name| refused.contains(name)),
        "{refused}"
    );
    assert!(fail(["bench", "--filter", "vanilla"]).contains("vanilla"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--filter", "gru"])).contains("--filter"));
    assert!(fail(["bench", "--device", "none"]).contains("none"));
    let refused = fail(["bench", "--tile", "16x16"]);
    assert!(refused.contains("16x16") && refused.contains("128x64"), "{refused}");
}

#[test]
fn bench_reports_what_it_cannot_run() {
    let folder = Folder::new();
    let json = folder.path("bench.json");
    for device in ["cpu", "0"] {
        for (hidden, seq) in [("0", "4"), ("8", "0"), ("4000000000", "4"), ("18446744073709551615", "4"), ("8", "4000000000")] {
            let command = ["bench", "--device", device, "--cell", "gru", "--input", "8", "--batch", "1", "--mode", "infer"];
            let command = command.into_iter().chain(["--hidden", hidden, "--seq", seq, "--json"]).map(OsStr::new);
            let output = tidegate(command.chain([json.as_os_str()]));
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(stderr.lines().count() == 2 && stderr.ends_with("1 of 1 workloads failed\n"), "{stderr}");
            let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
            let result = &report["results"][0];
            assert_eq!((&result["verified"], &result["ms_median"], &result["runs"]), (&false.into(), &Value::Null, &0.into()));
            assert!(stderr.contains(result["error"].as_str().unwrap()), "{result}: {stderr}");
        }
    }
}

/// What `auto` finds out is measured once, kept for the user, and chosen from then on; a damaged file is measured anew.
/// llvmpipe of Mesa 25.0 has none; where there are some this says so.
#[test]
fn bench_refuses_cooperative_matrices_that_are_not_there() {
    let output = tidegate(
        ["bench", "--device", "0", "--cooperative", "--dtype", "f16", "--cell", "gru", "--input", "8", "--hidden", "8"]
            .iter()
            .chain(["--seq", "4", "--batch", "2", "--mode", "infer"].iter())
            .map(OsStr::new),
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    if !output.status.success() {
        assert!(stderr.contains("cooperative matrices") && stderr.ends_with("1 of 1 workloads failed\n"), "{stderr}");
    } else {
        println!("this adapter has cooperative matrices, and they are right");
    }
}

#[test]
fn bench_keeps_what_it_tuned() {
    let folder = Folder::new();
    let case = ["--cell", "gru", "--input", "3", "--hidden", "5", "--seq", "4", "--batch", "2", "--mode", "infer"];
    let small = [&["bench", "--device", "0"][..], &case].concat();
    let run = || {
        let output = command().args(&small).env("XDG_CACHE_HOME", &folder.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let kept = || {
        let files: Vec<PathBuf> = fs::read_dir(folder.path("tidegate")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        (files[0].clone(), fs::read_to_string(&files[0]).unwrap())
    };
    run();
    let (file, text) = kept();
    let tuning: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(tuning["choices"][0]["class"]["cell"], "gru");
    // Nothing is measured again: what the file says is what runs.
    let chosen = tuning["choices"][0]["strategy"].as_str().unwrap();
    let other = if chosen == "stepwise" { "resident" } else { "stepwise" };
    let forged = text.replace(&format!("\"strategy\": \"{chosen}\""), &format!("\"strategy\": \"{other}\""));
    fs::write(&file, &forged).unwrap();
    let output = command().args(&small).env("XDG_CACHE_HOME", &folder.0).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains(other) && stdout.contains("tuned before: 1 row, from") && stdout.contains("tuning-"), "{stdout}");
    assert_eq!(kept().1, forged);
    fs::write(&file, "{").unwrap();
    run();
    assert!(serde_json::from_str::<Value>(&kept().1).is_ok());
}
