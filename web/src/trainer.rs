//! `Trainer`: a whole model, trained on the device.

use std::cell::Cell;
use std::rc::Rc;

use futures_intrusive::sync::LocalMutex;
use js_sys::{Array, Promise};
use tidegate::train::{Batch, Clip, Inputs, Layout, Objective, Optimizer, Readout, Targets, TrainConfig, Weights};
use tidegate::{Context, Error};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::arrays::{f32s, object, set, tensor};
use crate::fields::Fields;
use crate::options::{self, shape};
use crate::promise::promise;

/// Fields of `TrainerOptions` beside the network's and the shape's.
pub const OPTIONS: &[&str] = &[
    "outputs",
    "vocabulary",
    "objective",
    "readout",
    "optimizer",
    "momentum",
    "weightDecay",
    "carryState",
    "ragged",
    "clipNorm",
];
const BATCH: &[&str] = &["tokens", "features", "labels", "values", "lengths", "mask", "reset"];

/// A whole model, trained on the device. Calls run one after another, in the order in which they were made.
#[wasm_bindgen]
pub struct Trainer {
    inner: Rc<LocalMutex<tidegate::train::Trainer>>,
    steps: Rc<Cell<u64>>,
}

impl Trainer {
    /// From random weights, or from a checkpoint on.
    pub fn new(ctx: &Context, cell: &str, fields: &Fields, checkpoint: Option<&[u8]>) -> Result<Self> {
        let network = options::Network::new(cell, fields)?;
        let rnn = network.on(ctx)?;
        let config = config(fields)?;
        let weights = Weights::init(&Layout::new(&rnn, &config)?, network.seed);
        let mut trainer = tidegate::train::Trainer::new(&rnn, &config, optimizer(fields)?, &weights)?;
        checkpoint.map_or(Ok(()), |checkpoint| trainer.restore(checkpoint))?;
        let steps = Rc::new(Cell::new(trainer.steps()));
        Ok(Self { inner: Rc::new(LocalMutex::new(trainer, true)), steps })
    }
}

fn config(fields: &Fields) -> Result<TrainConfig> {
    let objectives = [("cross_entropy", Objective::CrossEntropy), ("mean_squared_error", Objective::MeanSquaredError)];
    let objective = fields.choice("objective", &objectives)?;
    let mut config = TrainConfig::new(shape(fields)?, objective, fields.needed_size("outputs")?);
    config.vocabulary = fields.size("vocabulary")?;
    config.readout = fields.choice("readout", &[("every_step", Readout::EveryStep), ("final", Readout::Final)])?;
    config.carry_state = fields.flag("carryState")?.unwrap_or_default();
    config.ragged = fields.flag("ragged")?.unwrap_or_default();
    config.clip = fields.number("clipNorm")?.map(|norm| Clip::Norm(norm as f32));
    config.dropout_seed = fields.seed("seed")?;
    Ok(config)
}

/// PyTorch's defaults.
fn optimizer(fields: &Fields) -> Result<Optimizer> {
    let weight_decay = fields.number("weightDecay")?;
    let momentum = fields.number("momentum")?;
    let (betas, eps) = ([0.9, 0.999], 1e-8);
    let adam = Optimizer::Adam { betas, eps, weight_decay: weight_decay.unwrap_or_default() };
    let adamw = Optimizer::AdamW { betas, eps, weight_decay: weight_decay.unwrap_or(0.01) };
    let sgd = Optimizer::Sgd {
        momentum: momentum.unwrap_or_default(),
        nesterov: false,
        weight_decay: weight_decay.unwrap_or_default(),
    };
    let optimizer = fields.choice("optimizer", &[("adam", adam), ("adamw", adamw), ("sgd", sgd)])?;
    match optimizer {
        Optimizer::Adam { .. } | Optimizer::AdamW { .. } if momentum.is_some() => {
            Err(JsError::new("option `momentum` is of optimizer sgd, this one has betas"))
        }
        optimizer => Ok(optimizer),
    }
}

/// Host data of one chunk.
struct Chunk {
    tokens: Option<Vec<u32>>,
    features: Option<Vec<f32>>,
    labels: Option<Vec<u32>>,
    values: Option<Vec<f32>>,
    lengths: Option<Vec<u32>>,
    mask: Option<Vec<u32>>,
    reset: Option<Vec<u32>>,
}

impl Chunk {
    fn new(batch: JsValue) -> Result<Self> {
        let fields = Fields::new(batch, &[BATCH])?;
        Ok(Self {
            tokens: fields.u32s("tokens")?,
            features: fields.f32s("features")?,
            labels: fields.u32s("labels")?,
            values: fields.f32s("values")?,
            lengths: fields.u32s("lengths")?,
            mask: fields.u32s("mask")?,
            reset: fields.u32s("reset")?,
        })
    }

    fn batch(&self) -> Result<Batch<'_>> {
        let inputs = match (&self.tokens, &self.features) {
            (Some(tokens), None) => Inputs::Tokens(tokens),
            (None, Some(features)) => Inputs::Features(features),
            _ => return Err(JsError::new("a batch has either `tokens` or `features`")),
        };
        let targets = match (&self.labels, &self.values) {
            (Some(labels), None) => Targets::Labels(labels),
            (None, Some(values)) => Targets::Values(values),
            _ => return Err(JsError::new("a batch has either `labels` or `values`")),
        };
        let mut batch = Batch::new(inputs, targets);
        (batch.lengths, batch.mask, batch.reset) = (self.lengths.as_deref(), self.mask.as_deref(), self.reset.as_deref());
        Ok(batch)
    }
}

#[wasm_bindgen]
impl Trainer {
    /// Steps that were submitted, those before a restored checkpoint included.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> f64 {
        self.steps.get() as f64
    }

    /// Trains one step on a chunk. Resolves when it is submitted, not when it is done: ask for the losses every so often.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn step(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Batch")] batch: JsValue,
        #[wasm_bindgen(js_name = learningRate)] learning_rate: f64,
    ) -> Promise {
        let (inner, steps, chunk) = (self.inner.clone(), self.steps.clone(), Chunk::new(batch));
        promise(async move {
            let chunk = chunk?;
            let mut trainer = inner.lock().await;
            trainer.write_batch(&chunk.batch()?)?;
            trainer.step(learning_rate)?;
            steps.set(trainer.steps());
            Ok(JsValue::UNDEFINED)
        })
    }

    /// The loss of each step since the last call, at most of the last 128.
    #[wasm_bindgen(unchecked_return_type = "Promise<Float32Array>")]
    pub fn losses(&self) -> Promise {
        let inner = self.inner.clone();
        promise(async move { Ok(f32s(&inner.lock().await.losses().await?)) })
    }

    /// The mean loss of chunks that go on from each other, from a state of zeros, without dropout. The training's own state stays.
    #[wasm_bindgen(unchecked_return_type = "Promise<number>")]
    pub fn evaluate(&self, #[wasm_bindgen(unchecked_param_type = "Batch[]")] batches: Array) -> Promise {
        let inner = self.inner.clone();
        promise(async move {
            let chunks: Vec<Chunk> = batches.iter().map(Chunk::new).collect::<Result<_>>()?;
            if chunks.is_empty() {
                return Err(JsError::new("evaluate needs at least one batch, got 0"));
            }
            let mut trainer = inner.lock().await;
            let carries = trainer.config().carry_state;
            let state = if carries { Some(trainer.state().await?) } else { None };
            if carries {
                reset(&mut trainer)?;
            }
            let mut mean = 0.0;
            for chunk in &chunks {
                trainer.write_batch(&chunk.batch()?)?;
                mean += f64::from(trainer.evaluate().await?) / chunks.len() as f64;
            }
            if let Some(state) = state {
                trainer.set_state(&state)?;
            }
            Ok(mean)
        })
    }

    /// Makes the carried state zero before the next step.
    #[wasm_bindgen(js_name = resetState, unchecked_return_type = "Promise<void>")]
    pub fn reset_state(&self) -> Promise {
        let inner = self.inner.clone();
        promise(async move { Ok(reset(&mut *inner.lock().await).map(|()| JsValue::UNDEFINED)?) })
    }

    /// A copy of all weights: `embedding.weight`, the network's behind `rnn.`, `head.weight` and `head.bias`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Record<string, Tensor>>")]
    pub fn weights(&self) -> Promise {
        let inner = self.inner.clone();
        promise(async move {
            let weights = inner.lock().await.weights().await?;
            let record = object([]);
            for spec in weights.layout().iter() {
                set(&record, &spec.name, &tensor(&spec.shape, weights.get(&spec.name)?));
            }
            Ok(record)
        })
    }

    /// The weights as a safetensors file.
    #[wasm_bindgen(js_name = toSafetensors, unchecked_return_type = "Promise<Uint8Array>")]
    pub fn to_safetensors(&self) -> Promise {
        let inner = self.inner.clone();
        promise(async move { Ok(inner.lock().await.weights().await?.to_safetensors()?) })
    }

    /// Everything that `Device.restore` needs to go on, as a safetensors file.
    #[wasm_bindgen(unchecked_return_type = "Promise<Uint8Array>")]
    pub fn checkpoint(&self, note: Option<String>) -> Promise {
        let inner = self.inner.clone();
        promise(async move { Ok(inner.lock().await.checkpoint(note.as_deref().unwrap_or_default()).await?) })
    }
}

fn reset(trainer: &mut tidegate::train::Trainer) -> Result<(), Error> {
    let rows: Vec<usize> = (0..trainer.config().shape.batch_size).collect();
    trainer.reset_rows(&rows)
}
