//! The network: an encoder GRU over a word's letters, whose last state starts a decoder GRU that says one phoneme a step.
//! Embeddings and the last linear layer are a few rows of numbers and stay on the CPU.

use tidegate::{Context, DeviceBuffer, Gru, Params, Result, Rnn, RnnConfig, SeqShape, Sequence, Strategy};

use crate::weights::Weights;

/// Hidden size of both GRUs; letters and phonemes are embedded in as many dimensions.
pub const HIDDEN_SIZE: usize = 256;
/// `<pad>`, `<unk>`, `</s>`, then a to z.
const GRAPHEMES: usize = 29;
const UNKNOWN: usize = 1;
const WORD_END: usize = 2;
/// In the order of the decoder's embedding; `<s>` starts a word.
#[rustfmt::skip]
const PHONEMES: [&str; 74] = [
    "<pad>", "<unk>", "<s>", "</s>", "AA0", "AA1", "AA2", "AE0", "AE1", "AE2", "AH0", "AH1", "AH2", "AO0", "AO1", "AO2", "AW0",
    "AW1", "AW2", "AY0", "AY1", "AY2", "B", "CH", "D", "DH", "EH0", "EH1", "EH2", "ER0", "ER1", "ER2", "EY0", "EY1",
    "EY2", "F", "G", "HH", "IH0", "IH1", "IH2", "IY0", "IY1", "IY2", "JH", "K", "L", "M", "N", "NG", "OW0",
    "OW1", "OW2", "OY0", "OY1", "OY2", "P", "R", "S", "SH", "T", "TH", "UH0", "UH1", "UH2", "UW", "UW0", "UW1",
    "UW2", "V", "W", "Y", "Z", "ZH",
];
const START: usize = 2;
const END: usize = 3;
/// Where the package stops a word that does not end.
const MAX_PHONEMES: usize = 20;

/// The network on a device.
pub struct G2p {
    letters: Vec<f32>,
    phonemes: Vec<f32>,
    encoder: (Rnn, DeviceBuffer),
    decoder: (Rnn, DeviceBuffer),
    fc_w: Vec<f32>,
    fc_b: Vec<f32>,
}

impl G2p {
    pub fn new(ctx: &Context, weights: &Weights, strategy: Strategy) -> Result<Self> {
        Ok(Self {
            letters: weights.get("enc_emb", &[GRAPHEMES, HIDDEN_SIZE])?,
            phonemes: weights.get("dec_emb", &[PHONEMES.len(), HIDDEN_SIZE])?,
            encoder: gru(ctx, weights, "enc", strategy)?,
            decoder: gru(ctx, weights, "dec", strategy)?,
            fc_w: weights.get("fc_w", &[PHONEMES.len(), HIDDEN_SIZE])?,
            fc_b: weights.get("fc_b", &[PHONEMES.len()])?,
        })
    }

    /// The encoder's last state of each word, `[B, H]`: one batch, each word with a length of its own.
    pub fn encode(&self, words: &[String]) -> Result<Vec<f32>> {
        let spelled: Vec<Vec<usize>> = words.iter().map(|word| spell(word)).collect();
        let lengths: Vec<u32> = spelled.iter().map(|letters| letters.len() as u32).collect();
        let shape = SeqShape { seq_len: spelled.iter().map(Vec::len).max().unwrap_or(0), batch_size: words.len() };
        // What lies past a word's end is not read.
        let mut input = vec![0.0; shape.rows() * HIDDEN_SIZE];
        for (b, letters) in spelled.iter().enumerate() {
            for (t, &letter) in letters.iter().enumerate() {
                row_mut(&mut input, t * words.len() + b).copy_from_slice(row(&self.letters, letter));
            }
        }
        let (rnn, params) = &self.encoder;
        Ok(rnn.forward_blocking(params, &Sequence::new(shape, &input).with_lengths(&lengths))?.final_state)
    }

    /// The phonemes of each word from the encoder's states `[B, H]`: all words step together, each takes its likeliest phoneme.
    pub fn decode(&self, states: &[f32]) -> Result<Vec<Vec<&'static str>>> {
        let words = states.len() / HIDDEN_SIZE;
        let (rnn, params) = &self.decoder;
        let mut session = rnn.session(params, SeqShape { seq_len: 1, batch_size: words })?;
        session.set_state(states)?;
        let mut said = vec![Vec::new(); words];
        let mut last = vec![START; words];
        for _ in 0..MAX_PHONEMES {
            let input: Vec<f32> = last.iter().flat_map(|&phoneme| row(&self.phonemes, phoneme)).copied().collect();
            let output = session.advance_blocking(&input)?;
            for (b, said) in said.iter_mut().enumerate() {
                // A word that has ended keeps its row until the others have.
                if last[b] != END {
                    last[b] = self.likeliest(row(&output, b));
                    if last[b] != END {
                        said.push(PHONEMES[last[b]]);
                    }
                }
            }
            if last.iter().all(|&phoneme| phoneme == END) {
                break;
            }
        }
        Ok(said)
    }

    /// The linear layer, and the first phoneme of the largest value.
    fn likeliest(&self, h: &[f32]) -> usize {
        let logits = self.fc_w.chunks_exact(HIDDEN_SIZE).zip(&self.fc_b);
        let logits = logits.map(|(w, b)| w.iter().zip(h).map(|(w, h)| w * h).sum::<f32>() + b);
        let best = logits.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map_or(END, |(phoneme, _)| phoneme)
    }
}

/// The words of a text in lower case: runs of letters and apostrophes.
pub fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphabetic() && c != '\'').map(|word| word.trim_matches('\''));
    parts.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// A word's letters, and its end.
fn spell(word: &str) -> Vec<usize> {
    let letter = |c: char| if c.is_ascii_lowercase() { WORD_END + 1 + (c as usize - 'a' as usize) } else { UNKNOWN };
    word.chars().map(letter).chain([WORD_END]).collect()
}

/// One of the two GRUs: the checkpoint's tensors lie as PyTorch's do, under names of its own.
fn gru(ctx: &Context, weights: &Weights, part: &str, strategy: Strategy) -> Result<(Rnn, DeviceBuffer)> {
    let rnn = Rnn::new(ctx, Gru::default(), RnnConfig::new(HIDDEN_SIZE, HIDDEN_SIZE))?.with_strategy(strategy);
    let mut params = Params::zeros(rnn.param_layout());
    let names = [("w_ih", "weight_ih_l0"), ("w_hh", "weight_hh_l0"), ("b_ih", "bias_ih_l0"), ("b_hh", "bias_hh_l0")];
    for (theirs, ours) in names {
        let shape = params.layout().find(ours)?.shape.clone();
        params.set(ours, &shape, &weights.get(&format!("{part}_{theirs}"), &shape)?)?;
    }
    let buffer = rnn.upload(&params)?;
    Ok((rnn, buffer))
}

fn row(values: &[f32], index: usize) -> &[f32] {
    &values[index * HIDDEN_SIZE..][..HIDDEN_SIZE]
}

fn row_mut(values: &mut [f32], index: usize) -> &mut [f32] {
    &mut values[index * HIDDEN_SIZE..][..HIDDEN_SIZE]
}
