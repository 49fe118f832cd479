//! A network out of a file, and what whoever reads it may say of the file.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::family::name::Family;
use crate::cell::Cell;
use crate::network::config::RnnConfig;
use crate::network::params::Params;

/// A whole network as a file describes it: what [`Rnn::new`](crate::Rnn::new) and [`Rnn::upload`](crate::Rnn::upload) take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Model {
    /// Inferred from the number of gates, unless it was named.
    pub cell: Arc<dyn Cell>,
    /// Without dropout; time-major, but for an ONNX node of layout 1: a file of parameters tells neither.
    pub config: RnnConfig,
    /// All its tensors.
    pub params: Params,
    /// What stood before every name in a safetensors file: `lstm.`, or nothing.
    pub prefix: String,
}

/// What a file does not tell of itself, or tells in two ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading<'a> {
    /// The cell, as [`by_name`](crate::cell::by_name) takes it, where it is not the one that the shapes tell.
    pub cell: Option<&'a str>,
    /// What stands before the names of the one network that is read, such as `encoder.lstm.`; the rest of the file is not looked at.
    /// Without it the file must hold one network and nothing else.
    pub prefix: Option<&'a str>,
    /// Who laid out the tensors; without it names and shapes, or `layout` in the file's metadata, must tell.
    pub family: Option<Family>,
}

impl<'a> Reading<'a> {
    /// Names the cell.
    pub fn with_cell(self, cell: impl Into<Option<&'a str>>) -> Self {
        Self { cell: cell.into(), ..self }
    }

    /// Reads what lies behind the prefix.
    pub fn with_prefix(self, prefix: impl Into<Option<&'a str>>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Names the family.
    pub fn with_family(self, family: impl Into<Option<Family>>) -> Self {
        Self { family: family.into(), ..self }
    }
}

/// Counts layers from 0 up to the first gap among those that a file names, so that no name makes a layout longer than the file.
pub(super) fn count_layers(named: impl Iterator<Item = usize>) -> usize {
    // Where a set is collected, a sort of 4 kB stands in what a page downloads; this inserts.
    let mut layers = BTreeSet::new();
    layers.extend(named);
    (0..).take_while(|layer| layers.contains(layer)).count()
}
