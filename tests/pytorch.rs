//! The reference against PyTorch in float64; `tests/fixtures/pytorch/generate.py` made the numbers.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tidegate::cell::by_name;
use tidegate::reference::{backward, forward};
use tidegate::{Mode, OutputGradients, ParamLayout, RnnConfig, SeqShape, Sequence};

/// One file of fixtures.
struct Case<'a> {
    name: String,
    tensors: SafeTensors<'a>,
    metadata: std::collections::HashMap<String, String>,
}

impl<'a> Case<'a> {
    fn read(name: String, bytes: &'a [u8]) -> Self {
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        Self { name, tensors: SafeTensors::deserialize(bytes).unwrap(), metadata: metadata.metadata().clone().unwrap() }
    }

    fn number(&self, key: &str) -> usize {
        self.metadata[key].parse().unwrap()
    }

    fn bytes<const N: usize>(&self, name: &str, dtype: Dtype) -> Option<Vec<[u8; N]>> {
        let tensor = self.tensors.tensor(name).ok()?;
        assert_eq!(tensor.dtype(), dtype, "{}: {name}", self.name);
        Some(tensor.data().chunks_exact(N).map(|bytes| bytes.try_into().unwrap()).collect())
    }

    fn optional(&self, name: &str) -> Option<Vec<f64>> {
        Some(self.bytes(name, Dtype::F64)?.into_iter().map(f64::from_le_bytes).collect())
    }

    fn tensor(&self, name: &str) -> Vec<f64> {
        self.optional(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
    }

    /// `[S, L·D, B, H]` from the tensor of h and, where the cell has it, of c.
    fn states(&self, h: &str, c: &str) -> Vec<f64> {
        [self.tensor(h), self.optional(c).unwrap_or_default()].concat()
    }

    fn check(&self, what: &str, actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len(), "{}: {what}", self.name);
        for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
            assert!((a - e).abs() <= 1e-11 + 1e-9 * e.abs(), "{}: {what}[{index}] is {a}, PyTorch has {e}", self.name);
        }
    }

    fn run(&self) {
        let cell = by_name(&self.metadata["cell"]).unwrap();
        let config = RnnConfig::new(self.number("input_size"), self.number("hidden_size"))
            .with_num_layers(self.number("num_layers"))
            .with_bidirectional(self.number("bidirectional") == 1)
            .with_bias(self.number("bias") == 1)
            .with_batch_first(self.number("batch_first") == 1)
            .with_proj_size(self.metadata.get("proj_size").map_or(0, |size| size.parse().unwrap()));
        let shape = SeqShape { seq_len: self.number("seq_len"), batch_size: self.number("batch_size") };
        let layout = ParamLayout::new(&cell, &config).unwrap();
        let mut params = vec![f64::NAN; layout.len()];
        for spec in layout.iter() {
            assert_eq!(self.tensors.tensor(&spec.name).unwrap().shape(), spec.shape, "{}: {}", self.name, spec.name);
            params[spec.range.clone()].copy_from_slice(&self.tensor(&spec.name));
        }

        let (input, initial_state) = (self.tensor("input"), self.states("h0", "c0"));
        let lengths = self.bytes("lengths", Dtype::I32);
        let lengths = lengths.map(|l| l.into_iter().map(u32::from_le_bytes).collect::<Vec<_>>());
        let seq = Sequence { lengths: lengths.as_deref(), ..Sequence::new(shape, &input).with_initial_state(&initial_state) };
        let trace = forward(&cell, &config, &params, &seq, Mode::Training).unwrap();
        self.check("output", &trace.output.output, &self.tensor("output"));
        self.check("final state", &trace.output.final_state, &self.states("hn", "cn"));
        let inference = forward(&cell, &config, &params, &seq, Mode::Inference).unwrap();
        assert_eq!(inference.output, trace.output, "{}", self.name);

        let (d_output, d_final_state) = (self.tensor("d_output"), self.states("d_hn", "d_cn"));
        let d = OutputGradients { d_output: &d_output, d_final_state: Some(&d_final_state) };
        let gradients = backward(&cell, &config, &params, &seq, &trace, &d).unwrap();
        self.check("d_input", &gradients.d_input, &self.tensor("d_input"));
        self.check("d_initial_state", &gradients.d_initial_state, &self.states("d_h0", "d_c0"));
        for spec in layout.iter() {
            let name = format!("d_{}", spec.name);
            self.check(&name, &gradients.d_params[spec.range.clone()], &self.tensor(&name));
        }
    }
}

/// Runs every case of a folder of fixtures and gives their number.
fn run_all(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = fs::read(&path).unwrap();
            Case::read(path.file_stem().unwrap().to_string_lossy().into(), &bytes).run();
            cases += 1;
        }
    }
    cases
}

#[test]
fn agrees_with_pytorch() {
    let cases = run_all("pytorch");
    assert!(cases >= 12, "only {cases} fixtures");
}

/// LSTMs with `proj_size`.
#[test]
fn projections_agree_with_pytorch() {
    let cases = run_all("lstmp");
    assert!(cases >= 4, "only {cases} fixtures");
}
