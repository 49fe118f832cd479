//! Networks with what another program computed with them in float64, as `tests/fixtures/*/generate.py` record it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use tidegate::check::Tolerance;
use tidegate::import::Model;
use tidegate::reference::forward;
use tidegate::{Context, Mode, Rnn, RnnConfig, SeqShape, Sequence};

/// `NAME.expected.safetensors`, which stands beside the network's own file, `NAME.safetensors`.
pub struct Recorded {
    pub name: String,
    /// The network's file.
    pub network: Vec<u8>,
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, Vec<f64>>,
}

impl Recorded {
    /// All records of a folder of fixtures, by name.
    pub fn all(folder: &str) -> Vec<Self> {
        let folder = super::path("tests/fixtures").join(folder);
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().filter_map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".expected.safetensors")?;
        let network = fs::read(path.with_file_name(format!("{name}.safetensors"))).unwrap();
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = file.iter().map(|(tensor, view)| {
            assert_eq!(view.dtype(), Dtype::F64, "{name}: {tensor}");
            (tensor.to_string(), view.data().as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)).collect())
        });
        Some(Self { name: name.into(), network, metadata: header.metadata().clone().unwrap(), tensors: values.collect() })
    }

    pub fn text(&self, key: &str) -> &str {
        &self.metadata[key]
    }

    pub fn number(&self, key: &str) -> usize {
        self.text(key).parse().unwrap()
    }

    pub fn config(&self) -> RnnConfig {
        RnnConfig::new(self.number("input_size"), self.number("hidden_size"))
            .with_num_layers(self.number("num_layers"))
            .with_bidirectional(self.number("bidirectional") == 1)
            .with_bias(self.number("bias") == 1)
            .with_batch_first(self.number("batch_first") == 1)
            .with_zero_output_for_mask(self.metadata.get("zero_output_for_mask").is_some_and(|zero| zero == "1"))
    }

    /// `[S, L·D, B, H]` from the tensor of h and, where the cell has it, of c; nothing where the record has neither.
    fn states(&self, which: char) -> Option<Vec<f64>> {
        let [h, c] = ["h", "c"].map(|state| self.tensors.get(&format!("{state}{which}")));
        Some([h?.clone(), c.cloned().unwrap_or_default()].concat())
    }

    /// The steps that Keras' mask `[B, T]` leaves out, `[T, B]`.
    pub fn hold(&self) -> Option<Vec<u32>> {
        let (seq_len, batch_size) = (self.number("seq_len"), self.number("batch_size"));
        let mask = self.tensors.get("mask")?;
        let steps = (0..seq_len).flat_map(|t| (0..batch_size).map(move |b| (t, b)));
        Some(steps.map(|(t, b)| u32::from(mask[b * seq_len + t] == 0.0)).collect())
    }

    pub fn input(&self) -> Vec<f32> {
        self.tensors["input"].iter().map(|&value| value as f32).collect()
    }

    /// Checks the model against the record: the reference to float64's precision, the GPU within its tolerance.
    pub fn check(&self, ctx: &Context, model: &Model) {
        let config = self.config();
        let shape = SeqShape { seq_len: self.number("seq_len"), batch_size: self.number("batch_size") };
        let (input, initial, hold) = (&self.tensors["input"], self.states('0'), self.hold());
        let truth = [("output", &self.tensors["output"]), ("final state", &self.states('n').unwrap())];

        let params: Vec<f64> = model.params.values().iter().map(|&value| value.into()).collect();
        let seq = Sequence { initial_state: initial.as_deref(), hold: hold.as_deref(), ..Sequence::new(shape, input) };
        let actual = forward(&model.cell, &config, &params, &seq, Mode::Inference).unwrap().output;
        for ((what, truth), actual) in truth.iter().zip([actual.output, actual.final_state]) {
            assert_eq!(actual.len(), truth.len(), "{}: {what}", self.name);
            for (index, (a, t)) in actual.iter().zip(*truth).enumerate() {
                assert!((a - t).abs() <= 1e-13 + 1e-12 * t.abs(), "{}: {what}[{index}] is {a}, recorded is {t}", self.name);
            }
        }

        let narrow = |values: &Vec<f64>| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
        let (input, initial) = (narrow(input), initial.as_ref().map(narrow));
        let seq = Sequence { initial_state: initial.as_deref(), hold: hold.as_deref(), ..Sequence::new(shape, &input) };
        let rnn = Rnn::new(ctx, model.cell.clone(), config.clone()).unwrap();
        let actual = rnn.forward_blocking(&rnn.upload(&model.params).unwrap(), &seq).unwrap();
        let tolerance = Tolerance::new(&config, shape, false);
        for ((what, truth), actual) in truth.iter().zip([actual.output, actual.final_state]) {
            tolerance.compare(what, truth, &actual).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }
}
