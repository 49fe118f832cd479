//! A run for `char_lm.py`, which does the same in PyTorch: initial weights, batches, learning rates and the losses that came out.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tidegate::train::Weights;

use crate::Result;
use crate::model::{CLIP, Model};
use crate::text::Rows;

/// Writes the first `losses.len()` steps: weights under their own names, `tokens` [N,T+1,B] and `restarts` [N] (1 where all states
/// are zeros before the step) I64, `learning_rates` [N] F64, `losses` [N] F32; the settings and the bound on gradients as metadata.
pub fn write(path: &Path, model: &Model, initial: &Weights, rows: &Rows<'_>, losses: &[f32]) -> Result<()> {
    let steps = losses.len();
    let shape = model.shape();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for spec in initial.layout().iter() {
        let bytes = initial.get(&spec.name)?.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensors.push((spec.name.clone(), Dtype::F32, spec.shape.clone(), bytes));
    }
    let tokens = (0..steps).flat_map(|step| rows.chunk(step % rows.chunks()));
    let tokens = tokens.flat_map(|token| i64::from(token).to_le_bytes()).collect();
    tensors.push(("tokens".into(), Dtype::I64, vec![steps, shape.seq_len + 1, shape.batch_size], tokens));
    let restarts = (0..steps).flat_map(|step| i64::from(step % rows.chunks() == 0).to_le_bytes()).collect();
    tensors.push(("restarts".into(), Dtype::I64, vec![steps], restarts));
    let rates = (0..steps as u64).flat_map(|step| model.learning_rate(step).to_le_bytes()).collect();
    tensors.push(("learning_rates".into(), Dtype::F64, vec![steps], rates));
    tensors.push(("losses".into(), Dtype::F32, vec![steps], losses.iter().flat_map(|loss| loss.to_le_bytes()).collect()));

    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    let metadata = HashMap::from([("model".to_string(), serde_json::to_string(model)?), ("clip".to_string(), CLIP.to_string())]);
    fs::write(path, safetensors::serialize(views, Some(metadata))?).map_err(|e| format!("{}: {e}", path.display()).into())
}
