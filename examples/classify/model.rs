//! The model that settings mean.

use tidegate::cell::by_name;
use tidegate::train::{Clip, Layout, Objective, Optimizer, Readout, TrainConfig, Trainer, Weights, schedule};
use tidegate::{Context, Rnn, RnnConfig, SeqShape};

use crate::Result;
use crate::args::Settings;
use crate::data::Data;

/// The bound on the norm of the gradients.
pub const CLIP: f32 = 1.0;

impl Settings {
    /// Steps of an epoch; the last one of it may have fewer sequences.
    pub fn steps_of_epoch(&self, data: &Data) -> usize {
        data.train.len().div_ceil(self.batch)
    }

    pub fn learning_rate(&self, data: &Data, step: u64) -> f64 {
        let (peak, steps) = (self.learning_rate, (self.epochs * self.steps_of_epoch(data)) as u64);
        schedule::warmup_cosine(step, steps / 10, steps, peak, peak / 10.0)
    }

    /// With the initial weights of the seed.
    pub fn trainer(&self, ctx: &Context, data: &Data) -> Result<Trainer> {
        let (batch, epochs, rate) = (self.batch, self.epochs, self.learning_rate);
        if batch == 0 || epochs == 0 {
            return Err(format!("--batch {batch} and --epochs {epochs}: both must be at least 1").into());
        }
        if !(rate >= 0.0 && rate.is_finite()) {
            return Err(format!("--learning-rate {rate}: must be a finite number, 0 or above").into());
        }
        let network = RnnConfig::new(data.train.channels, self.hidden).with_num_layers(self.layers).with_bidirectional(true);
        let rnn = Rnn::new(ctx, by_name(&self.cell)?, network)?;
        let shape = SeqShape { seq_len: data.longest(), batch_size: batch };
        // What each direction ends with: forward at a sequence's own last frame, in reverse at its first.
        let config = TrainConfig::new(shape, Objective::CrossEntropy, data.train.classes.len())
            .with_readout(Readout::Final)
            .with_ragged(true)
            .with_clip(Clip::Norm(CLIP));
        let weights = Weights::init(&Layout::new(&rnn, &config)?, self.seed);
        Ok(Trainer::new(&rnn, &config, Optimizer::adam(), &weights)?)
    }
}
