//! [`Trainer::predict`]: what the model says of inputs that have no targets.

use super::{Batch, IGNORE, Inputs, Objective, Targets, Trainer};
use crate::error::Result;

impl Trainer {
    /// The head's output for a chunk of inputs, without dropout, loss or update: logits or values `[T, B, C]`, `[B, T, C]` if batch-first,
    /// or `[B, C]` with [`Readout::Final`](super::Readout::Final). `lengths` are needed if the config is ragged; predictions past a
    /// length are those of an output of 0.
    ///
    /// The inputs take the place of the chunk that [`write_batch`](Trainer::write_batch) left, so the next step needs another, and so does
    /// [`evaluate`](Trainer::evaluate), as which it carries states on.
    pub async fn predict(&mut self, inputs: Inputs<'_>, lengths: Option<&[u32]>) -> Result<Vec<f32>> {
        let rows = self.config().predictions();
        let (mut labels, mut values) = (Vec::new(), Vec::new());
        let targets = match self.config().objective {
            Objective::CrossEntropy => {
                labels.resize(rows, IGNORE);
                Targets::Labels(&labels)
            }
            Objective::MeanSquaredError => {
                values.resize(rows * self.config().out_features, 0.0);
                Targets::Values(&values)
            }
        };
        self.write_batch(&Batch { lengths, ..Batch::new(inputs, targets) })?;
        let evaluated = self.evaluate().await;
        self.is_written = false;
        evaluated?;
        let [mut predictions] = self.ctx.download([&self.buffers.prediction]).await?;
        predictions.truncate(rows * self.config().out_features);
        Ok(predictions)
    }

    /// [`predict`](Trainer::predict) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn predict_blocking(&mut self, inputs: Inputs<'_>, lengths: Option<&[u32]>) -> Result<Vec<f32>> {
        pollster::block_on(self.predict(inputs, lengths))
    }
}
