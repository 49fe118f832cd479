//! Checkpoints: a safetensors file from which training goes on, bit for bit.

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::config::LossScale;
use super::guard::state_words;
use super::layout::{Layout, Weights};
use super::tensors::{Tensor, read_f32, read_u32, write};
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::import::{open_safetensors, safetensors_metadata};
use crate::tune::tuning::Tuning;

/// What the file's metadata say under [`KEY`], as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    optimizer: String,
    step: u64,
    #[serde(default)]
    skipped: u64,
    /// For an f16 network: the loss scale, and how many steps it has stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<(f32, u32)>,
    #[serde(default)]
    tuning: Tuning,
    #[serde(default)]
    note: String,
}

const KEY: &str = "tidegate_checkpoint";
const VERSION: u32 = 1;
const STATE: &str = "carried_state";
const DROPOUT: &str = "dropout_state";
/// Before the names of moments.
const OPTIMIZER: &str = "optimizer.";

/// The bytes that [`Trainer::checkpoint`] gave, opened.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    file: SafeTensors<'a>,
    header: Header,
}

impl<'a> Checkpoint<'a> {
    /// Reads what the file says of itself; its tensors are looked at when they are asked for.
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        let file = open_safetensors(bytes)?;
        let metadata = safetensors_metadata(bytes)?;
        let json = metadata.get(KEY).ok_or_else(|| Error::Checkpoint(format!("the file's metadata have no `{KEY}`")))?;
        let header: Header = serde_json::from_str(json).map_err(|e| Error::Checkpoint(format!("`{KEY}`: {e}")))?;
        if header.version != VERSION {
            return Err(Error::Checkpoint(format!("format version {}, this library reads {VERSION}", header.version)));
        }
        Ok(Self { file, header })
    }

    /// Steps that were done.
    pub fn step(&self) -> u64 {
        self.header.step
    }

    /// What the network's [`Strategy::Auto`](crate::Strategy::Auto) chose by; empty if it was given no tuning. A network that is given
    /// it again by [`Rnn::with_tuning`](crate::Rnn::with_tuning), on the same device, runs the same kernels.
    pub fn tuning(&self) -> &Tuning {
        &self.header.tuning
    }

    /// The app's own words.
    pub fn note(&self) -> &str {
        &self.header.note
    }

    /// The weights alone, without an optimizer: for inference, or for a training of another kind.
    pub fn weights(&self, layout: &Layout) -> Result<Weights> {
        let others = self.file.names().into_iter().filter(|name| [STATE, DROPOUT].contains(name) || name.starts_with(OPTIMIZER));
        Weights::from_file(layout, &self.file, &others.collect::<Vec<_>>())
    }
}

impl Trainer {
    /// Weights, moments, step, carried state, the position of dropout and the loss scale, as the bytes of a safetensors file; two of the same
    /// training are the same bytes.
    ///
    /// Weights have the names of [`Layout`](super::Layout), moments those names behind `optimizer.exp_avg.`, `optimizer.exp_avg_sq.` or
    /// `optimizer.momentum_buffer.`; `carried_state` is `[S, L, B, H]`. The rest is JSON in the metadata, with the network's
    /// [`Tuning`] and a note: whatever the app needs to go on. The file does not hold the config, the rates and decays of the
    /// optimizer, nor which chunk is next. A weight, moment or carried state that is NaN or infinite is an error, by name.
    pub async fn checkpoint(&self, note: &str) -> Result<Vec<u8>> {
        let weights = self.weights().await?;
        self.check_block("", weights.values())?;
        let mut tensors = weights.tensors("");
        for (moment, buffer) in self.optimizer.moments().iter().zip(self.moments()) {
            let [values] = self.ctx.download([buffer]).await?;
            self.check_block(&format!("{OPTIMIZER}{moment}."), &values)?;
            tensors.extend(Weights::from_values(&self.layout, values)?.tensors(&format!("{OPTIMIZER}{moment}.")));
        }
        if self.config().carry_state {
            let state = self.state().await?;
            check_stored(STATE, &state, "`reset_rows` makes it zero")?;
            tensors.push(Tensor::f32(STATE.into(), self.state_shape(), &state));
        }
        if self.has_dropout() {
            let [words] = self.ctx.download([&self.buffers.dropout_state]).await?;
            tensors.push(Tensor::u32(DROPOUT.into(), &words.iter().map(|word| word.to_bits()).collect::<Vec<_>>()));
        }
        let [guard] = self.ctx.download([&self.buffers.guard]).await?;
        let header = Header {
            skipped: guard[0].to_bits().into(),
            loss_scale: self.loss_scale().map(|_| (guard[2], guard[3].to_bits())),
            version: VERSION,
            optimizer: self.optimizer.name().into(),
            step: self.step,
            tuning: self.rnn().tuning().clone(),
            note: note.into(),
        };
        let json = serde_json::to_string(&header).map_err(|e| Error::Checkpoint(e.to_string()))?;
        write(&tensors, Some((KEY, json)))
    }

    /// [`checkpoint`](Trainer::checkpoint) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn checkpoint_blocking(&self, note: &str) -> Result<Vec<u8>> {
        pollster::block_on(self.checkpoint(note))
    }

    /// Goes on from a checkpoint of the same model and kind of optimizer, and with carried states of the same B, from the next submit on. On the same device, driver
    /// and strategy (see [`Checkpoint::tuning`]) the steps that follow give the bits that they would have given without a stop. A file that lacks a tensor, has one
    /// too many or one of another shape is refused, and changes nothing. Losses that were not read are dropped.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let Checkpoint { file, header } = Checkpoint::open(bytes)?;
        if header.optimizer != self.optimizer.name() {
            let (found, ours) = (&header.optimizer, self.optimizer.name());
            return Err(Error::Checkpoint(format!("it is of optimizer {found}, this trainer's is {ours}")));
        }
        let blocks = 1 + self.optimizer.moments().len();
        let mut wanted = Vec::new();
        for prefix in std::iter::once(String::new()).chain(self.optimizer.moments().iter().map(|m| format!("{OPTIMIZER}{m}."))) {
            wanted.extend(self.layout.iter().map(|spec| (format!("{prefix}{}", spec.name), spec.shape.clone())));
        }
        let count = wanted.len() / blocks;
        if self.config().carry_state {
            wanted.push((STATE.into(), self.state_shape()));
        }
        let others: &[&str] = if self.has_dropout() { &[DROPOUT] } else { &[] };
        let tensors = read_f32(&file, &wanted, others)?;
        let loss_scale = header.loss_scale.unwrap_or((self.config().loss_scale.first, 0));
        LossScale { first: loss_scale.0, ..LossScale::default() }.validate()?;
        let dropout = self.has_dropout().then(|| read_u32::<4>(&file, DROPOUT)).transpose()?;

        for (tensors, buffer) in tensors.chunks(count).zip(std::iter::once(&self.buffers.params).chain(self.moments())) {
            let block = Weights::from_tensors(&self.layout, tensors);
            self.ctx.write(buffer, 0, block.values())?;
        }
        if let Some(carried) = &self.buffers.carried {
            self.ctx.write(&carried.state, 0, &tensors[blocks * count])?;
            self.ctx.write(&carried.reset, 0, &vec![0u8; carried.reset.size() as usize])?;
        }
        if let Some(words) = dropout {
            self.ctx.write(&self.buffers.dropout_state, 0, &words)?;
        }
        self.ctx.write(&self.buffers.guard, 0, &state_words(header.step, header.skipped, loss_scale))?;
        (self.step, self.skipped, self.unread, self.has_resets) = (header.step, header.skipped, 0, false);
        (self.loss_scale, _) = loss_scale;
        self.pending.clear();
        Ok(())
    }

    /// The tensors of the weights, or those of a moment by the prefix of their names.
    fn check_block(&self, prefix: &str, values: &[f32]) -> Result<()> {
        let todo = "set_weights or restore gives others";
        self.layout.iter().try_for_each(|spec| check_stored(&format!("{prefix}{}", spec.name), &values[spec.range.clone()], todo))
    }

    fn moments(&self) -> impl Iterator<Item = &DeviceBuffer> {
        self.buffers.first_moment.iter().chain(&self.buffers.second_moment)
    }
}

/// Refuses what no training can go on from.
fn check_stored(name: &str, values: &[f32], todo: &'static str) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(&value) => Err(Error::NonFinite { name: name.into(), value: value.into(), todo }),
        None => Ok(()),
    }
}
