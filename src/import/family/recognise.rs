//! Which family laid out the tensors of a file, by their names and shapes.

use std::collections::BTreeSet;

use super::name::Family;
use super::names::{before, own_name};
use super::table::{Layer, TABLE};
use crate::error::{Error, Result};
use crate::import::file::TensorFile;
use crate::import::keras;

/// Names of tensors that tell a family of which nothing is read, what it is, and what to do.
const REFUSED: [(&str, &str, &str); 5] = [
    ("input_gate.input_transform.weight", "Burn's Lstm", "write its weights as PyTorch's: gates i, f, g, o one below the other"),
    ("update_gate.input_transform.weight", "Burn's Gru", "write its weights as PyTorch's: gates r, z, n one below the other"),
    ("recurrent_scale", "haste's IndRNN", "there is no such cell here"),
    ("gamma_h", "haste's LayerNormLSTM", "there is no such cell here"),
    ("weight_ih_l.0", "a list of layers' own modules", "read each by its prefix"),
];

/// Who laid out the tensors behind `prefix`. Refuses families of which nothing is read, and names and shapes that two families have.
pub(in crate::import) fn recognise(file: &TensorFile<'_>, prefix: &str) -> Result<Family> {
    if let Some(layout) = &file.layout {
        return layout.parse();
    }
    let all = file.names();
    let names: BTreeSet<&str> = all.into_iter().filter(|name| name.starts_with(prefix)).collect();
    for (told, family, todo) in REFUSED {
        if let Some(name) = names.iter().find(|name| before(name, told).is_some()) {
            return Err(Error::Config(format!("`{name}`: {family}, which is not read: {todo}")));
        }
    }
    let is_there = |told: &str| names.iter().any(|name| before(name, told).is_some());
    if names.iter().any(|name| name.ends_with("weight_ih_l0")) {
        return Ok(Family::PyTorch);
    }
    if let Some(first) = names.iter().find_map(|name| before(name, "weight_ih")) {
        let has = |told| own_name(&names, first, told).is_some();
        return Ok(if has("bias_n") || (has("bias") && !has("bias_ih")) { Family::Equinox } else { Family::PyTorch });
    }
    if let Some((name, parent)) = names.iter().find_map(|name| Some((*name, before(name, "recurrent_kernel")?))) {
        return of_kernels(file, &names, name, parent);
    }
    for Layer { family, told_by, .. } in TABLE.iter().filter(|layer| [Family::Flax, Family::Mlx].contains(&layer.family)) {
        if told_by.iter().all(|told| is_there(told)) {
            return Ok(*family);
        }
    }
    Ok(Family::PyTorch)
}

/// Keras, its cuDNN layers or haste: all have a `recurrent_kernel`.
fn of_kernels(file: &TensorFile<'_>, names: &BTreeSet<&str>, name: &str, parent: &str) -> Result<Family> {
    if own_name(names, parent, "recurrent_bias").is_some() {
        return Ok(Family::Haste);
    }
    let recurrent = file.find(name)?;
    let &[hidden, columns] = recurrent.shape() else { return Ok(Family::Keras) };
    let bias = own_name(names, parent, "bias").and_then(|bias| file.get(bias));
    if bias.is_some_and(|bias| *bias.shape() == [2 * columns] && columns > 0) {
        return Err(Error::Config(format!(
            "`{name}`: two biases in one row, as of Keras' CuDNNLSTM and CuDNNGRU: say that the file is from `cudnn`"
        )));
    }
    let of_keras = keras::is_path(parent);
    if !of_keras && hidden.checked_mul(4) == Some(columns) {
        return Err(Error::Config(format!(
            "`{name}`: an LSTM of these names and shapes may be Keras' (gates i, f, g, o) or haste's (i, g, f, o): say whether the \
             file is from `keras` or `haste`, or write that as `layout` into its metadata"
        )));
    }
    Ok(Family::Keras)
}
