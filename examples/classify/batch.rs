//! Batches: which sequences a step sees, padded to one length.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tidegate::SeqShape;
use tidegate::train::{Batch, IGNORE, Inputs, Targets};

use crate::data::Sequences;

/// All sequences in the order of an epoch.
pub fn order(sequences: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sequences).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Streams 0 and 1 of the seed are the initial weights'.
    rng.set_stream(2 + epoch as u64);
    order.shuffle(&mut rng);
    order
}

/// Host data of some sequences.
pub struct Padded {
    /// `[T, B, channels]`, zeros past a length.
    pub features: Vec<f32>,
    pub lengths: Vec<u32>,
    pub labels: Vec<u32>,
}

impl Padded {
    /// At most B of the sequences. A row that none is left for has length 1 and counts for nothing.
    pub fn new(sequences: &Sequences, chosen: &[usize], shape: SeqShape) -> Self {
        let channels = sequences.channels;
        let mut features = vec![0.0; shape.rows() * channels];
        let (mut lengths, mut labels) = (vec![1; shape.batch_size], vec![IGNORE; shape.batch_size]);
        for (b, &at) in chosen.iter().enumerate() {
            lengths[b] = sequences.length(at) as u32;
            labels[b] = sequences.labels[at];
            for t in 0..sequences.length(at) {
                features[(t * shape.batch_size + b) * channels..][..channels].copy_from_slice(sequences.frame(at, t));
            }
        }
        Self { features, lengths, labels }
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch::new(Inputs::Features(&self.features), Targets::Labels(&self.labels)).with_lengths(&self.lengths)
    }
}
