//! Whole models in training against PyTorch; `tests/fixtures/train/generate.py` made the numbers.

use std::fs;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tidegate::train::{
    Batch, Clip, IGNORE, Inputs, Layout, Objective, Optimizer, Readout, Targets, TrainConfig, Trainer, Weights,
};
use tidegate::{Context, Rnn, RnnConfig, SeqShape, cell};

use crate::{close, common};

/// One file of fixtures.
struct Case<'a> {
    tensors: SafeTensors<'a>,
    options: Value,
}

impl<'a> Case<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        let options = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["case"]).unwrap();
        Self { tensors: SafeTensors::deserialize(bytes).unwrap(), options }
    }

    fn number(&self, key: &str) -> usize {
        self.options[key].as_u64().unwrap_or_else(|| panic!("{key}")) as usize
    }

    fn flag(&self, key: &str) -> bool {
        self.options[key].as_bool().unwrap_or_else(|| panic!("{key}"))
    }

    fn text(&self, key: &str) -> &str {
        self.options[key].as_str().unwrap_or_else(|| panic!("{key}"))
    }

    fn bytes<const N: usize>(&self, name: &str, dtype: Dtype) -> Vec<[u8; N]> {
        let tensor = self.tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().as_chunks().0.to_vec()
    }

    fn f64(&self, name: &str) -> Vec<f64> {
        self.bytes(name, Dtype::F64).into_iter().map(f64::from_le_bytes).collect()
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.bytes(name, Dtype::F32).into_iter().map(f32::from_le_bytes).collect()
    }

    /// The part of a given tensor that step `step` takes.
    fn words(&self, name: &str, step: usize) -> Vec<u32> {
        let all: Vec<u32> = self.bytes(name, Dtype::I32).into_iter().map(u32::from_le_bytes).collect();
        all.chunks(all.len() / self.number("steps")).nth(step).unwrap().to_vec()
    }

    fn values(&self, name: &str, step: usize) -> Vec<f32> {
        let all = self.f32(name);
        all.chunks(all.len() / self.number("steps")).nth(step).unwrap().to_vec()
    }

    fn optimizer(&self) -> Optimizer {
        let options = &self.options["options"];
        let number = |key: &str, default: f64| options[key].as_f64().unwrap_or(default);
        let betas = [(0, 0.9), (1, 0.999)].map(|(i, default)| options["betas"][i].as_f64().unwrap_or(default));
        let eps = number("eps", 1e-8);
        match self.text("optimizer") {
            "sgd" => Optimizer::Sgd {
                momentum: number("momentum", 0.0),
                nesterov: options["nesterov"].as_bool().unwrap_or(false),
                weight_decay: number("weight_decay", 0.0),
            },
            "adam" => Optimizer::Adam { betas, eps, weight_decay: number("weight_decay", 0.0) },
            _ => Optimizer::AdamW { betas, eps, weight_decay: number("weight_decay", 0.01) },
        }
    }

    fn config(&self) -> TrainConfig {
        let shape = SeqShape { seq_len: self.number("seq_len"), batch_size: self.number("batch_size") };
        let objective = match self.text("objective") {
            "cross_entropy" => Objective::CrossEntropy,
            _ => Objective::MeanSquaredError,
        };
        let mut config = TrainConfig::new(shape, objective, self.number("out_features"))
            .with_readout(if self.flag("final") { Readout::Final } else { Readout::EveryStep })
            .with_head_bias(self.flag("head_bias"))
            .with_ragged(self.flag("ragged"))
            .with_carry_state(self.flag("carry"))
            .with_log_len(7);
        config.vocabulary = self.options["vocabulary"].as_u64().map(|n| n as usize);
        let clip = |key: &str| self.options[key].as_f64().map(|bound| bound as f32);
        config.clip = clip("clip_norm").map(Clip::Norm).or(clip("clip_value").map(Clip::Value));
        config
    }

    fn write(&self, trainer: &mut Trainer, step: usize) {
        let [tokens, mut labels] = [("inputs", "vocabulary"), ("targets", "objective")].map(|(name, key)| {
            let is_words = self.options[key].is_u64() || self.options[key] == "cross_entropy";
            if is_words { self.words(name, step) } else { Vec::new() }
        });
        let mut mask = self.words("mask", step);
        // Both ways to leave a prediction out, by turns.
        if step % 2 == 1 && !labels.is_empty() {
            labels.iter_mut().zip(&mask).filter(|(_, mask)| **mask == 0).for_each(|(label, _)| *label = IGNORE);
            mask.fill(1);
        }
        let (features, values);
        let inputs = if tokens.is_empty() {
            features = self.values("inputs", step);
            Inputs::Features(&features)
        } else {
            Inputs::Tokens(&tokens)
        };
        let targets = if labels.is_empty() {
            values = self.values("targets", step);
            Targets::Values(&values)
        } else {
            Targets::Labels(&labels)
        };
        let lengths = self.flag("ragged").then(|| self.words("lengths", step));
        let mut batch = Batch::new(inputs, targets).with_mask(&mask);
        batch.lengths = lengths.as_deref();
        // Resets by row and by the mask, by turns.
        let rows = if self.flag("carry") { self.words("reset_rows", step) } else { Vec::new() };
        let mut reset = vec![0; self.config().shape.rows()];
        reset[..rows.len()].copy_from_slice(&rows);
        if !rows.is_empty() && step % 2 == 1 {
            batch = batch.with_reset(&reset);
        }
        trainer.write_batch(&batch).unwrap();
        if step.is_multiple_of(2) {
            let rows: Vec<usize> = (0..rows.len()).filter(|&row| rows[row] != 0).collect();
            if !rows.is_empty() {
                trainer.reset_rows(&rows).unwrap();
            }
        }
    }

    fn run(&self, ctx: &Context, name: &str) {
        let network = RnnConfig::new(self.number("input_size"), self.number("hidden_size"))
            .with_num_layers(self.number("num_layers"))
            .with_bidirectional(self.flag("bidirectional"))
            .with_batch_first(self.flag("batch_first"));
        let rnn = Rnn::new(ctx, cell::by_name(self.text("cell")).unwrap(), network).unwrap();
        let (config, optimizer) = (self.config(), self.optimizer());
        let layout = Layout::new(&rnn, &config).unwrap();
        let mut weights = Weights::init(&layout, 1);
        for spec in layout.iter() {
            assert_eq!(self.tensors.tensor(&spec.name).unwrap().shape(), spec.shape, "{name}: {}", spec.name);
            weights.set(&spec.name, &self.f32(&spec.name)).unwrap();
        }
        let mut trainer = Trainer::new(&rnn, &config, optimizer, &weights).unwrap();
        let rates: Vec<f64> = self.options["rates"].as_array().unwrap().iter().map(|rate| rate.as_f64().unwrap()).collect();
        let norms = if matches!(config.clip, Some(Clip::Norm(_))) { self.f64("norms") } else { Vec::new() };
        let mut losses = Vec::new();
        for step in 0..self.number("steps") {
            self.write(&mut trainer, step);
            trainer.step(rates[step % rates.len()]).unwrap();
            let [gradients, predictions, norm] =
                pollster::block_on(ctx.download([trainer.d_params(), trainer.predictions(), trainer.norm()])).unwrap();
            if step == 0 {
                close(&format!("{name}: predictions"), &self.f64("predictions"), &predictions, 1e-6);
                for spec in layout.iter() {
                    let truth = self.f64(&format!("d_{}", spec.name));
                    close(&format!("{name}: d_{}", spec.name), &truth, &gradients[spec.range.clone()], 2e-6);
                }
            }
            if let Some(&truth) = norms.get(step) {
                close(&format!("{name}: norm of step {step}"), &[truth], &norm[..1], 1e-5);
            }
            if step % 6 == 5 {
                losses.extend(trainer.losses_blocking().unwrap());
            }
        }
        losses.extend(trainer.losses_blocking().unwrap());
        close(&format!("{name}: losses"), &self.f64("losses"), &losses, 1e-5);
        if config.carry_state {
            let state = pollster::block_on(trainer.state()).unwrap();
            close(&format!("{name}: state"), &self.f64("state"), &state, 1e-5);
        }
        let checkpoint = trainer.checkpoint_blocking("").unwrap();
        let checkpoint = SafeTensors::deserialize(&checkpoint).unwrap();
        for spec in layout.iter() {
            let moments = optimizer.moments().iter().map(|moment| format!("optimizer.{moment}."));
            let names = moments.map(|prefix| (prefix.clone(), prefix)).chain([("final.".into(), String::new())]);
            for (theirs, ours) in names {
                let tensor = checkpoint.tensor(&format!("{ours}{}", spec.name)).unwrap();
                assert_eq!(tensor.shape(), spec.shape, "{name}: {ours}{}", spec.name);
                let found: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
                close(&format!("{name}: {ours}{}", spec.name), &self.f64(&format!("{theirs}{}", spec.name)), &found, 1e-5);
            }
        }
    }
}

#[test]
fn twenty_steps_agree_with_pytorch() {
    let ctx = common::context();
    let folder = common::path("tests/fixtures/train");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            Case::read(&fs::read(&path).unwrap()).run(&ctx, &path.file_stem().unwrap().to_string_lossy());
            cases += 1;
        }
    }
    assert_eq!(cases, 7);
}
