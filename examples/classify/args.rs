//! The command line.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};

/// Trains a network that runs over a sequence from both ends to tell its class. Without arguments: nine speakers by one vowel each.
#[derive(Debug, Parser)]
pub struct Args {
    /// A folder with train.safetensors and test.safetensors [default: JapaneseVowels, from the tests' fixtures]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// Also write initial weights, the order of the sequences and all losses for `classify.py`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// What a model is and how it learns; stored in a record.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
pub struct Settings {
    /// A cell of the library: lstm, gru, gru_reset_before, rnn_tanh ..
    #[arg(long, default_value = "lstm")]
    pub cell: String,
    /// Units of a layer, in each direction
    #[arg(long, default_value_t = 32)]
    pub hidden: usize,
    #[arg(long, default_value_t = 1)]
    pub layers: usize,
    /// How often every sequence is seen
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub epochs: usize,
    /// Sequences of one step
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// At its peak; it rises over the first tenth of the steps and falls to a tenth of itself
    #[arg(long, default_value_t = 3e-3)]
    pub learning_rate: f64,
    /// Chooses the initial weights and the order of the sequences
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}
