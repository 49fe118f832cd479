//! `gates`: the page holds what the reference computes, and one line on stderr says where something is wrong.
#![cfg(feature = "cli")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::command::{Folder, Tensor, Tensors, fail, fixtures, read, succeed, write};
use serde_json::Value;
use tidegate::reference::{Trace, forward};
use tidegate::{Cell, Direction, Gru, Lstm, Mode, ParamLayout, RnnConfig, SeqShape, Sequence, cell};

/// A run of the command, to be spoilt in one place.
struct Given {
    folder: Folder,
    model: PathBuf,
    input: PathBuf,
    args: Vec<String>,
}

impl Given {
    fn new(model: PathBuf, input: PathBuf) -> Self {
        Self { folder: Folder::new(), model, input, args: Vec::new() }
    }

    fn silero(model: &str) -> Self {
        let folder = fixtures().join("silero");
        Self::new(folder.join(model), folder.join("input.safetensors"))
    }

    /// A bidirectional network of two layers with ragged rows, of a cell with this many blocks of rows.
    fn ragged(cell: &str, gates: usize) -> Self {
        let folder = Folder::new();
        let mut model = Tensors::new();
        for layer in 0..2 {
            for suffix in ["", "_reverse"] {
                let width = if layer == 0 { I } else { 2 * H };
                for (name, shape) in [
                    ("weight_ih", vec![gates * H, width]),
                    ("weight_hh", vec![gates * H, H]),
                    ("bias_ih", vec![gates * H]),
                    ("bias_hh", vec![gates * H]),
                ] {
                    model.insert(format!("{name}_l{layer}{suffix}"), Tensor::some(&shape));
                }
            }
        }
        let input = [
            ("input".to_string(), Tensor::some(&[T, B, I])),
            ("h0".to_string(), Tensor::some(&[4, B, H])),
            ("lengths".to_string(), Tensor::i32(&LENGTHS)),
        ];
        let paths = ["model.safetensors", "input.safetensors"].map(|name| folder.path(name));
        write(&paths[0], &model);
        write(&paths[1], &input.into());
        let [model, input] = paths;
        Self { folder, model, input, args: vec!["--cell".into(), cell.into()] }
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    fn page(&self) -> PathBuf {
        self.folder.path("gates.html")
    }

    fn command(&self) -> Vec<OsString> {
        let paths = [Path::new("gates"), &self.model, &self.input, Path::new("--html"), &self.page()];
        paths.iter().map(OsString::from).chain(self.args.iter().map(OsString::from)).collect()
    }

    /// The page's text and its data.
    fn succeed(&self) -> (String, Value) {
        let said = succeed(self.command());
        assert!(said.starts_with(&format!("wrote {}: ", self.page().display())) && said.ends_with("units\n"), "{said}");
        let text = fs::read_to_string(self.page()).unwrap();
        let (_, rest) = text.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        let data = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
        (text, data)
    }

    fn fail(&self, named: &[&str]) {
        let line = fail(self.command());
        for name in named {
            assert!(line.contains(name), "expected {name} in: {line}");
        }
        assert!(!self.page().exists(), "{line}");
    }
}

const T: usize = 7;
const B: usize = 3;
const I: usize = 2;
const H: usize = 5;
const LENGTHS: [i32; B] = [7, 2, 5];

/// What the reference says of a network in files of PyTorch's names.
fn trace(given: &Given, cell: &dyn Cell, config: &RnnConfig) -> Trace {
    let (model, input) = (read(&given.model), read(&given.input));
    let layout = ParamLayout::new(cell, config).unwrap();
    let params: Vec<f64> = layout.iter().flat_map(|spec| model[&spec.name].values()).collect();
    let &[seq_len, batch_size, _] = &*input["input"].shape else { panic!() };
    let values = input["input"].values();
    let states: Option<Vec<f64>> =
        input.get("h0").map(|h0| [h0.values(), input.get("c0").map_or(Vec::new(), Tensor::values)].concat());
    let lengths = input.contains_key("lengths").then_some(LENGTHS.map(|length| length as u32));
    let seq = Sequence::new(SeqShape { seq_len, batch_size }, &values);
    let seq = Sequence { initial_state: states.as_deref(), lengths: lengths.as_ref().map(|l| &l[..]), ..seq };
    forward(cell, config, &params, &seq, Mode::Training).unwrap()
}

/// Bytes of a string that browsers' `atob` takes.
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other}"),
    };
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(|byte| digit(byte).into()).collect();
    let word = |four: &[u32]| four.iter().enumerate().fold(0, |word, (at, digit)| word | digit << (18 - 6 * at));
    digits.chunks(4).flat_map(|four| word(four).to_be_bytes()[1..four.len()].to_vec()).collect()
}

/// Checks a map of the page against `[T, B, units]` of the reference, over all that is shown.
fn check_map(data: &Value, map: &Value, truth: &[f64], batch: usize) {
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let (units, steps, first) = (number(&data["units"]), number(&data["steps"]), number(&data["first"]));
    let rows = data["rows"].as_array().unwrap();
    let bytes = from_base64(map["data"].as_str().unwrap());
    assert_eq!(bytes.len(), rows.len() * steps * units);
    let (low, high) = (map["low"].as_f64().unwrap(), map["high"].as_f64().unwrap());
    let (mut smallest, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
    for (place, row) in rows.iter().enumerate() {
        for t in 0..number(&row["active"]) {
            for unit in 0..units {
                let expected = truth[((first + t) * batch + number(&row["number"])) * units + unit];
                let byte = bytes[(place * steps + t) * units + unit];
                let actual = low + f64::from(byte) / 255.0 * (high - low);
                let half_level = (high - low) / 510.0 * (1.0 + 1e-9);
                assert!((actual - expected).abs() <= half_level, "{}: {actual} instead of {expected}", map["name"]);
                (smallest, largest) = (smallest.min(expected), largest.max(expected));
            }
        }
    }
    // serde_json reads to the last bit but one.
    for (actual, expected) in [(low, smallest), (high, largest)] {
        assert!((actual - expected).abs() <= 4.0 * f64::EPSILON * expected.abs(), "{}: {actual}, {expected}", map["name"]);
    }
}

/// All maps of a page against the reference.
fn check(data: &Value, cell: &dyn Cell, config: &RnnConfig, trace: &Trace, batch: usize, names: &[(&str, Option<usize>)]) {
    let groups = data["groups"].as_array().unwrap();
    assert_eq!(groups.len(), config.num_layers * config.num_directions());
    for (at, group) in groups.iter().enumerate() {
        let (layer, direction) = (at / config.num_directions(), at % config.num_directions());
        let expected = format!("layer {layer}, {}", ["forward", "reverse"][direction]);
        assert_eq!(group["name"], expected.as_str());
        let maps = group["maps"].as_array().unwrap();
        assert!(maps.iter().map(|map| map["name"].as_str().unwrap()).eq(names.iter().map(|(name, _)| *name)), "{group}");
        for (map, (name, gate)) in maps.iter().zip(names) {
            match gate {
                Some(gate) => check_map(data, map, &trace.gate(cell, layer, direction, *gate).unwrap(), batch),
                None => check_map(data, map, trace.state(layer, direction, usize::from(*name == "c")).unwrap(), batch),
            }
        }
    }
}

const LSTM: [(&str, Option<usize>); 6] =
    [("i", Some(0)), ("f", Some(1)), ("g", Some(2)), ("o", Some(3)), ("c", None), ("h", None)];
const GRU: [(&str, Option<usize>); 4] = [("r", Some(0)), ("z", Some(1)), ("n", Some(2)), ("h", None)];

/// A trained network: maps and tables, whole and a part.
#[test]
fn shows_the_reference_on_speech() {
    let given = Given::silero("lstm.safetensors");
    let (cell, config) = (Lstm::default(), RnnConfig::new(128, 128));
    let trace = trace(&given, &cell, &config);
    let (text, data) = given.succeed();
    check(&data, &cell, &config, &trace, 1, &LSTM);
    let f = trace.gate(&cell, 0, 0, 1).unwrap();
    let share = |holds: &dyn Fn(f64) -> bool| 100.0 * f.iter().filter(|&&v| holds(v)).count() as f64 / f.len() as f64;
    let mean = f.iter().sum::<f64>() / f.len() as f64;
    let (forgotten, copied) = (share(&|v| v < 0.1), share(&|v| v > 0.9));
    assert!(forgotten > 0.1 && copied > 0.1, "{forgotten} {copied}");
    let row = format!("<td>{mean:.4}</td><td>{forgotten:.1} %: c is forgotten</td><td>{copied:.1} %: c is copied</td>");
    assert!(text.contains(&row), "{row}");
    assert!(!text.contains("http:") && !text.contains("https:"), "the page shall need no network");

    let given = given.args(&["--steps", "50..90"]);
    let (_, data) = given.succeed();
    assert_eq!((&data["first"], &data["steps"]), (&50.into(), &40.into()));
    check(&data, &cell, &config, &trace, 1, &LSTM);
}

#[test]
fn takes_onnx_models() {
    let folder = fixtures().join("silero");
    let (_, expected) = Given::silero("lstm.safetensors").succeed();
    let given = Given::silero("node.onnx");
    let mut input = read(&folder.join("input.safetensors"));
    let [x, h, c] = ["input", "h0", "c0"].map(|name| input.remove(name).unwrap());
    let renamed = given.folder.path("input.safetensors");
    write(&renamed, &[("/Transpose_output_0".into(), x), ("h".into(), h), ("c".into(), c)].into());
    let given = Given { input: renamed, ..given };
    assert_eq!(given.succeed().1, expected);
    fs::remove_file(given.page()).unwrap();
    given.args(&["--cell", "lstm"]).fail(&["--cell", "ONNX"]);
}

/// As `run` does: a network out of a checkpoint, and one whose names do not tell whose they are.
#[test]
fn takes_what_run_takes() {
    for (case, args) in [("checkpoint_prefix", ["--prefix", "encoder.lstm."]), ("haste_names", ["--from", "haste"])] {
        let folder = fixtures().join("field").join(case);
        let given = || Given::new(folder.join("model.safetensors"), folder.join("input.safetensors"));
        given().fail(&[]);
        let mut given = given();
        given.args = args.map(String::from).into();
        let (_, data) = given.succeed();
        assert!(!data["groups"].as_array().unwrap().is_empty(), "{case}");
    }
    let mut onnx = Given::silero("node.onnx");
    onnx.args = vec!["--prefix".into(), "a".into()];
    onnx.fail(&["--prefix", "ONNX"]);
}

#[test]
fn shows_layers_directions_and_ragged_rows() {
    let config = RnnConfig::new(I, H).with_num_layers(2).with_direction(Direction::Bidirectional);
    let none: &[(&str, Option<usize>)] = &[("h", None)];
    let cells: [(Arc<dyn Cell>, &[_]); 4] = [
        (Arc::new(Gru::default()), &GRU),
        (cell::by_name("gru_reset_before").unwrap(), &GRU),
        (cell::by_name("binary_gate").unwrap(), &[("g", Some(0)), ("n", Some(1)), ("h", None)]),
        (cell::by_name("rnn_relu").unwrap(), none),
    ];
    for (cell, names) in cells {
        let given = Given::ragged(cell.name(), cell.spec().gates.len());
        let trace = trace(&given, &cell, &config);
        let active =
            |data: &Value| data["rows"].as_array().unwrap().iter().map(|row| row["active"].as_u64().unwrap()).collect::<Vec<_>>();
        let (_, data) = given.succeed();
        assert_eq!(active(&data), [7, 2, 5]);
        check(&data, &cell, &config, &trace, B, names);
        let given = given.args(&["--steps=3..6"]);
        let (_, data) = given.succeed();
        assert_eq!(active(&data), [3, 0, 2]);
        check(&data, &cell, &config, &trace, B, names);
        let (_, data) = given.args(&["--row", "2"]).succeed();
        assert_eq!((active(&data), &data["rows"][0]["number"]), (vec![2], &2.into()));
        check(&data, &cell, &config, &trace, B, names);
    }
}

#[test]
fn refuses_what_it_cannot_show() {
    let gru = || Given::ragged("gru", 3);
    gru().succeed();
    gru().args(&["--row", "3"]).fail(&["--row 3", "3 rows"]);
    gru().args(&["--steps", "2..8"]).fail(&["2..8", "7 steps"]);
    gru().args(&["--steps", "4..4"]).fail(&["4..4", "no step"]);
    gru().args(&["--steps", "4"]).fail(&["--steps", "FROM..TO"]);
    gru().args(&["--row", "1", "--steps", "2..5"]).fail(&["2..5", "longer than 2"]);
    Given::ragged("lstm", 3).fail(&["model.safetensors", "weight_ih_l0", "[20, 2]", "[15, 2]"]);
    Given { input: "missing.safetensors".into(), ..gru() }.fail(&["missing.safetensors"]);

    let given = gru();
    let mut input = read(&given.input);
    input.insert("c0".into(), Tensor::some(&[4, B, H]));
    write(&given.input, &input);
    given.fail(&["unused", "c0", "gru"]);

    // A linear network that grows beyond float64.
    let given = Given::ragged("rnn_linear", 1);
    let mut model = read(&given.model);
    for tensor in model.values_mut() {
        *tensor = Tensor::f32(&tensor.shape, tensor.values().iter().map(|_| 1e38));
    }
    write(&given.model, &model);
    given.fail(&["layer 1, forward", "`h` holds "]);

    // 4 maps of 5 units in 4 groups: 80 values a row and step, and one too many of those.
    let given = gru();
    let mut input = read(&given.input);
    let steps = (8 << 20) / 80 / B + 1;
    input.remove("lengths");
    input.insert("input".into(), Tensor::f32(&[steps, B, I], vec![0.5; steps * B * I]));
    write(&given.input, &input);
    given.fail(&[&(steps * B * 80).to_string(), "8388608", "--row", "--steps"]);
    given.args(&["--steps", "0..100"]).succeed();
}

/// Names of files end neither the title nor the script.
#[test]
fn quotes_what_files_are_called() {
    let given = Given::ragged("gru", 3);
    let model = given.folder.path("<script>&.safetensors");
    fs::rename(&given.model, &model).unwrap();
    let (text, _) = Given { model, ..given }.succeed();
    assert!(text.contains("<h1>&lt;script&gt;&amp;.safetensors on input.safetensors</h1>"));
}
