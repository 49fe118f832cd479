//! Networks of other families: how each lays out a layer's tensors, in one table, and the reader that follows it.
//!
//! Every entry is one layer of one direction. PyTorch's and Keras' own files, which may be stacked, have readers of their own.

pub(super) mod layer;
pub(super) mod name;
pub(super) mod names;
pub(super) mod recognise;
mod table;
