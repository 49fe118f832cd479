//! Text as tokens, and the chunks of it that a step sees.

use tidegate::SeqShape;

use crate::Result;

/// The distinct characters of a text; a token is a place among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary(Vec<char>);

impl Vocabulary {
    pub fn of(text: &str) -> Self {
        let mut chars: Vec<char> = text.chars().collect();
        chars.sort_unstable();
        chars.dedup();
        Self(chars)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Refuses a character that it does not have.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let token = |c: char| self.0.binary_search(&c).map(|token| token as u32);
        text.chars().map(|c| token(c).map_err(|_| format!("the model does not know the character {c:?}").into())).collect()
    }

    pub fn char(&self, token: usize) -> char {
        self.0[token]
    }

    /// The characters in the order of their tokens, from which [`Vocabulary::of`] makes it again.
    pub fn chars(&self) -> String {
        self.0.iter().collect()
    }
}

/// What is trained on, and the last 5 %, which are not.
pub fn split(tokens: &[u32]) -> (&[u32], &[u32]) {
    tokens.split_at(tokens.len() - tokens.len() / 20)
}

/// A text as B rows, each a part of it as long as the others. Chunk k is the k-th T characters of every row, so that states can go
/// on from each chunk to the next.
pub struct Rows<'a> {
    tokens: &'a [u32],
    shape: SeqShape,
}

impl<'a> Rows<'a> {
    /// `what` names the text in an error.
    pub fn new(what: &str, tokens: &'a [u32], shape: SeqShape) -> Result<Self> {
        let SeqShape { seq_len, batch_size } = shape;
        if seq_len == 0 || batch_size == 0 {
            return Err(format!("--seq {seq_len} and --batch {batch_size}: both must be at least 1").into());
        }
        let rows = Self { tokens, shape };
        if rows.chunks() == 0 {
            let least = batch_size * (seq_len + 1);
            return Err(format!("{what} has {} characters, {batch_size} rows of {seq_len} + 1 need {least}", tokens.len()).into());
        }
        Ok(rows)
    }

    fn row_len(&self) -> usize {
        self.tokens.len() / self.shape.batch_size
    }

    /// How many chunks the text has; what is left over at the end of each row is not seen.
    pub fn chunks(&self) -> usize {
        // Each character's target is the next one: the last has none.
        self.row_len().saturating_sub(1) / self.shape.seq_len
    }

    /// `[T + 1, B]`, see [`inputs_and_targets`](Rows::inputs_and_targets).
    pub fn chunk(&self, k: usize) -> Vec<u32> {
        let SeqShape { seq_len, batch_size } = self.shape;
        let at = |t: usize, b: usize| self.tokens[b * self.row_len() + k * seq_len + t];
        (0..=seq_len).flat_map(|t| (0..batch_size).map(move |b| at(t, b))).collect()
    }

    /// The first T steps of a chunk, and the last T: what comes after each.
    pub fn inputs_and_targets<'c>(&self, chunk: &'c [u32]) -> (&'c [u32], &'c [u32]) {
        (&chunk[..self.shape.rows()], &chunk[self.shape.batch_size..])
    }
}
