//! A run for `classify.py`, which does the same in PyTorch: initial weights, the order of the sequences, and what came out.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tidegate::train::Weights;

use crate::Result;
use crate::args::Settings;
use crate::batch::order;
use crate::data::Data;
use crate::model::CLIP;
use crate::train::Outcome;

/// Weights under their own names; `order` [epochs,S] I32; `learning_rates` [N] F64, `losses` [N] F32 of all steps; `test_losses` [epochs]
/// F64 and `predicted` [epochs,tests] I32. The settings, the bound on gradients and the seconds of the steps are metadata.
pub fn write(path: &Path, settings: &Settings, data: &Data, initial: &Weights, outcome: &Outcome) -> Result<()> {
    let (epochs, steps) = (outcome.epochs.len(), outcome.losses.len());
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for spec in initial.layout().iter() {
        tensors.push((spec.name.clone(), Dtype::F32, spec.shape.clone(), f32s(initial.get(&spec.name)?)));
    }
    let orders = (1..=epochs).flat_map(|epoch| order(data.train.len(), settings.seed, epoch));
    tensors.push(("order".into(), Dtype::I32, vec![epochs, data.train.len()], i32s(orders.map(|at| at as i32))));
    let rates = (0..steps as u64).map(|step| settings.learning_rate(data, step));
    tensors.push(("learning_rates".into(), Dtype::F64, vec![steps], f64s(rates)));
    tensors.push(("losses".into(), Dtype::F32, vec![steps], f32s(&outcome.losses)));
    tensors.push(("test_losses".into(), Dtype::F64, vec![epochs], f64s(outcome.epochs.iter().map(|verdict| verdict.loss))));
    let predicted = outcome.epochs.iter().flat_map(|verdict| verdict.predicted.iter().map(|&class| class as i32));
    tensors.push(("predicted".into(), Dtype::I32, vec![epochs, data.test.len()], i32s(predicted)));

    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    let metadata = HashMap::from([
        ("settings".to_string(), serde_json::to_string(settings)?),
        ("clip".to_string(), CLIP.to_string()),
        ("seconds".to_string(), outcome.time.as_secs_f64().to_string()),
    ]);
    fs::write(path, safetensors::serialize(views, Some(metadata))?).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn f64s(values: impl Iterator<Item = f64>) -> Vec<u8> {
    values.flat_map(f64::to_le_bytes).collect()
}

fn i32s(values: impl Iterator<Item = i32>) -> Vec<u8> {
    values.flat_map(i32::to_le_bytes).collect()
}
