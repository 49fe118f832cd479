//! The model that settings mean, and its checkpoint: the trainer's own, with what else it takes to go on in its metadata.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use tidegate::cell::by_name;
use tidegate::train::{Clip, Layout, Objective, Optimizer, TrainConfig, Trainer, Weights, schedule};
use tidegate::{Context, Rnn, RnnConfig, SeqShape};

use crate::Result;
use crate::args::Settings;
use crate::text::Vocabulary;

/// The bound on the norm of the gradients. Low enough that it acts at the beginning of a run.
pub const CLIP: f32 = 0.25;

/// What a checkpoint's metadata say under [`KEY`], as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub settings: Settings,
    /// Steps in all: the learning rate follows from it.
    pub steps: u64,
    /// The characters in the order of their tokens.
    vocabulary: String,
}

const KEY: &str = "char_lm";

impl Model {
    pub fn new(settings: Settings, steps: u64, vocabulary: &Vocabulary) -> Self {
        Self { settings, steps, vocabulary: vocabulary.chars() }
    }

    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::of(&self.vocabulary)
    }

    pub fn shape(&self) -> SeqShape {
        SeqShape { seq_len: self.settings.seq, batch_size: self.settings.batch }
    }

    /// With the initial weights of the settings' seed.
    pub fn trainer(&self, ctx: &Context) -> Result<Trainer> {
        let settings = &self.settings;
        let rate = settings.learning_rate;
        if !(rate >= 0.0 && rate.is_finite()) {
            return Err(format!("--learning-rate {rate}: must be a finite number, 0 or above").into());
        }
        let network = RnnConfig::new(settings.embedding, settings.hidden).with_num_layers(settings.layers);
        let rnn = Rnn::new(ctx, by_name(&settings.cell)?, network)?;
        let tokens = self.vocabulary().len();
        let config = TrainConfig::new(self.shape(), Objective::CrossEntropy, tokens)
            .with_vocabulary(tokens)
            .with_carry_state(true)
            .with_clip(Clip::Norm(CLIP));
        let weights = Weights::init(&Layout::new(&rnn, &config)?, settings.seed);
        Ok(Trainer::new(&rnn, &config, Optimizer::adam(), &weights)?)
    }

    pub fn learning_rate(&self, step: u64) -> f64 {
        let peak = self.settings.learning_rate;
        schedule::warmup_cosine(step, (self.steps / 10).min(100), self.steps, peak, peak / 10.0)
    }

    pub fn save(&self, trainer: &Trainer, path: &Path) -> Result<()> {
        let bytes = trainer.checkpoint_blocking()?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let mut metadata = header.metadata().clone().unwrap_or_default();
        metadata.insert(KEY.into(), serde_json::to_string(self)?);
        let bytes = safetensors::serialize(SafeTensors::deserialize(&bytes)?.iter(), Some(metadata))?;
        // Renamed when it is whole: whatever happens meanwhile, the one before it stays.
        let part = path.with_extension("part");
        fs::write(&part, bytes).and_then(|()| fs::rename(&part, path)).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// The model, and the bytes that its trainer restores.
    pub fn load(path: &Path) -> Result<(Self, Vec<u8>)> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let bytes = fs::read(path).map_err(|e| named(&e))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| named(&e))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let json = json.ok_or_else(|| named(&format!("its metadata have no `{KEY}`: not a checkpoint of this example")))?;
        let model = serde_json::from_str(json).map_err(|e| named(&e))?;
        Ok((model, bytes))
    }
}
