//! The command line.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tidegate::Dtype;

/// Trains a character model on a text, or writes text with one that was trained. Without arguments: a short training on The Tempest.
#[derive(Debug, Parser)]
pub struct Args {
    /// The text to train on, UTF-8; its last 5 % are held out
    pub text: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// Steps in all [default: 2000; without a TEXT 40; of a run that goes on its own]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// The checkpoint, saved at every report, at the end and by Ctrl-C [default: char_lm.safetensors; without a TEXT none]
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Go on from the checkpoint, on the same text and with its settings
    #[arg(long, requires = "text", conflicts_with_all = ["settings", "record", "generate", "tune"])]
    pub resume: bool,
    /// First find the fastest strategy on this device, a few seconds; without it a table decides
    #[arg(long)]
    pub tune: bool,
    /// Steps between reports: held-out loss and a sample [default: a tenth of all, at least 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub report: Option<u64>,
    /// Also write initial weights, batches and losses for `char_lm.py`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Train nothing: write N characters with the checkpoint
    #[arg(long, value_name = "N", requires = "checkpoint", conflicts_with_all = ["settings", "text", "steps", "report", "record", "tune"])]
    pub generate: Option<usize>,
    /// What generated text starts from [default: a line break]
    #[arg(long, requires = "generate")]
    pub prompt: Option<String>,
    /// Below 1 likely characters become likelier; 0 takes the likeliest
    #[arg(long, default_value_t = 0.8)]
    pub temperature: f64,
    /// Chooses the characters that are drawn
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub sample_seed: u64,
}

/// What a model is and how it learns; stored in its checkpoint.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[group(id = "settings", multiple = true)]
pub struct Settings {
    /// A cell of the library: lstm, gru, gru_reset_before, rnn_tanh ..
    #[arg(long, default_value = "lstm")]
    pub cell: String,
    /// Units of a layer
    #[arg(long, default_value_t = 128)]
    pub hidden: usize,
    #[arg(long, default_value_t = 1)]
    pub layers: usize,
    /// Features of a character
    #[arg(long, default_value_t = 32)]
    pub embedding: usize,
    /// How the network's parameters, inputs and outputs are stored: f32, f16 (with a dynamic loss scale; the rest stays f32)
    #[arg(long, default_value = "f32")]
    #[serde(default)]
    pub dtype: Dtype,
    /// Characters of a row in one step
    #[arg(long, default_value_t = 64)]
    pub seq: usize,
    /// Rows side by side
    #[arg(long, default_value_t = 16)]
    pub batch: usize,
    /// At its peak; it rises over the first tenth of the steps, at most 100, and falls to a tenth of itself
    #[arg(long, default_value_t = 3e-3)]
    pub learning_rate: f64,
    /// Chooses the initial weights
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
