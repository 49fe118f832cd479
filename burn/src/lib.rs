#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod autodiff;
mod backend;
mod call;
mod cell;
mod device;
mod error;
mod execute;
mod gru;
mod layers;
mod lstm;
mod network;
mod pack;
mod rnn;

pub use device::{init, register, release_buffers};
pub use error::{Error, Result};
pub use gru::{BiGru, BiGruConfig, Gru, GruConfig, GruGates};
pub use lstm::{BiLstm, BiLstmConfig, Lstm, LstmConfig, LstmGates};
pub use rnn::{BiRnn, BiRnnConfig, Rnn, RnnConfig};
