//! Text out of a model: the network steps in a session, whose state stays on the GPU; the head and the draw are on the host.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidegate::train::Weights;
use tidegate::{Rnn, SeqShape};

use crate::Result;
use crate::text::Vocabulary;

/// How characters are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    pub temperature: f64,
    pub seed: u64,
}

impl Draw {
    pub fn new(temperature: f64, seed: u64) -> Result<Self> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(format!("--temperature {temperature}: must be a finite number, 0 or above").into());
        }
        Ok(Self { temperature, seed })
    }
}

/// `length` characters that follow `prompt`, from a state of zeros. Without a prompt a line break goes in first, or the first
/// character of a vocabulary that has none.
pub fn generate(
    rnn: &Rnn,
    weights: &Weights,
    vocabulary: &Vocabulary,
    prompt: Option<&str>,
    length: usize,
    draw: Draw,
) -> Result<String> {
    let prompt = match prompt {
        Some("") => return Err("--prompt is empty: the model needs a character to start from".into()),
        Some(prompt) => vocabulary.encode(prompt)?,
        None => vocabulary.encode("\n").unwrap_or_else(|_| vec![0]),
    };
    let params = rnn.upload(&weights.rnn_params()?)?;
    let mut session = rnn.session(&params, SeqShape { seq_len: 1, batch_size: 1 })?;
    let (embedding, head, bias) = (weights.get("embedding.weight")?, weights.get("head.weight")?, weights.get("head.bias")?);
    let features = rnn.config().input_size;
    let mut advance = |token: u32| session.advance_blocking(&embedding[token as usize * features..][..features]);

    let mut rng = ChaCha8Rng::seed_from_u64(draw.seed);
    let mut hidden = Vec::new();
    for token in prompt {
        hidden = advance(token)?;
    }
    let mut text = String::new();
    for _ in 0..length {
        let dot = |row: &[f32]| row.iter().zip(&hidden).map(|(w, h)| w * h).sum::<f32>();
        let logits: Vec<f64> = head.chunks(hidden.len()).zip(bias).map(|(row, b)| f64::from(dot(row) + b)).collect();
        let token = choose(&logits, draw.temperature, rng.random());
        text.push(vocabulary.char(token));
        hidden = advance(token as u32)?;
    }
    Ok(text)
}

/// A token, by its probability under the softmax of logits over temperature; `uniform` lies in 0..1.
pub fn choose(logits: &[f64], temperature: f64, uniform: f64) -> usize {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or_default();
    if temperature == 0.0 {
        return best;
    }
    let weights: Vec<f64> = logits.iter().map(|logit| ((logit - logits[best]) / temperature).exp()).collect();
    let mut left = uniform * weights.iter().sum::<f64>();
    for (token, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return token;
        }
    }
    best
}
