//! The model that settings mean, and its checkpoint: the trainer's own, with what else it takes to go on in its note.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate::cell::by_name;
use tidegate::train::{Checkpoint, Clip, Layout, Objective, Optimizer, TrainConfig, Trainer, Weights, schedule};
use tidegate::{Context, Rnn, RnnConfig, SeqShape, Tuning};

use crate::Result;
use crate::args::Settings;
use crate::text::Vocabulary;

/// The bound on the norm of the gradients. Low enough that it acts at the beginning of a run.
pub const CLIP: f32 = 0.25;

/// What a checkpoint's note says, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub settings: Settings,
    /// Steps in all: the learning rate follows from it.
    pub steps: u64,
    /// The characters in the order of their tokens.
    vocabulary: String,
}

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

    /// The network, and what stands around it.
    pub fn network(&self, ctx: &Context) -> Result<(Rnn, TrainConfig)> {
        let settings = &self.settings;
        let rate = settings.learning_rate;
        if !(rate >= 0.0 && rate.is_finite()) {
            return Err(format!("--learning-rate {rate}: must be a finite number, 0 or above").into());
        }
        let network = RnnConfig::new(settings.embedding, settings.hidden).with_num_layers(settings.layers);
        let rnn = Rnn::new(ctx, by_name(&settings.cell)?, network)?.with_dtype(settings.dtype)?;
        let tokens = self.vocabulary().len();
        let config = TrainConfig::new(self.shape(), Objective::CrossEntropy, tokens)
            .with_vocabulary(tokens)
            .with_carry_state(true)
            .with_clip(Clip::Norm(CLIP));
        Ok((rnn, config))
    }

    /// With the initial weights of the settings' seed.
    pub fn trainer(&self, ctx: &Context, tuning: &Tuning) -> Result<Trainer> {
        let (rnn, config) = self.network(ctx)?;
        let rnn = rnn.with_tuning(tuning)?;
        let weights = Weights::init(&Layout::new(&rnn, &config)?, self.settings.seed);
        Ok(Trainer::new(&rnn, &config, Optimizer::adam(), &weights)?)
    }

    pub fn learning_rate(&self, step: u64) -> f64 {
        let peak = self.settings.learning_rate;
        schedule::warmup_cosine(step, (self.steps / 10).min(100), self.steps, peak, peak / 10.0)
    }

    pub fn save(&self, trainer: &Trainer, path: &Path) -> Result<()> {
        let bytes = trainer.checkpoint_blocking(&serde_json::to_string(self)?)?;
        // Renamed when it is whole: whatever happens meanwhile, the one before it stays.
        let part = part(path);
        fs::write(&part, bytes).and_then(|()| fs::rename(&part, path)).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// Whether [`save`](Model::save) will be able to write there, asked before hours of training.
    pub fn check_writable(path: &Path) -> Result<()> {
        let part = part(path);
        fs::write(&part, []).and_then(|()| fs::remove_file(&part)).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// The model, and the whole file.
    pub fn load(path: &Path) -> Result<(Self, Vec<u8>)> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let bytes = fs::read(path).map_err(|e| named(&e))?;
        let checkpoint = Checkpoint::open(&bytes).map_err(|e| named(&e))?;
        let model = serde_json::from_str(checkpoint.note());
        let model = model.map_err(|e| named(&format!("not a checkpoint of this example, by its note: {e}")))?;
        Ok((model, bytes))
    }
}

fn part(path: &Path) -> PathBuf {
    path.with_extension("part")
}
