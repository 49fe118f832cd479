//! Which family laid out the tensors of a file, by their names and shapes.

use std::collections::BTreeSet;

use super::name::Family;
use super::names::{before, own_name};
use super::table::{Layer, TABLE};
use crate::error::{Error, Result};
use crate::import::file::TensorFile;
use crate::import::keras;

/// A layer of which nothing is read.
struct Refused {
    /// Names of tensors that tell it, behind one path.
    told_by: &'static [&'static str],
    family: &'static str,
    todo: &'static str,
}

const fn refused(told_by: &'static [&'static str], family: &'static str, todo: &'static str) -> Refused {
    Refused { told_by, family, todo }
}

const NO_CELL: &str = "there is no such cell here";

const REFUSED: [Refused; 14] = [
    refused(
        &["input_gate.input_transform.weight"],
        "Burn's Lstm",
        "write its weights as PyTorch's: gates i, f, g, o one below the other",
    ),
    refused(
        &["update_gate.input_transform.weight"],
        "Burn's Gru",
        "write its weights as PyTorch's: gates r, z, n one below the other",
    ),
    refused(&["gate.input_transform.weight"], "Burn's Rnn", "write its weights as PyTorch's, `[H, I]` and `[H, H]`"),
    refused(&["recurrent_scale"], "haste's IndRNN", NO_CELL),
    refused(&["gamma_h"], "haste's LayerNormLSTM", NO_CELL),
    refused(&["recurrent_bias", "gamma"], "haste's LayerNormGRU", NO_CELL),
    refused(&["hf.kernel", "hn.kernel"], "Flax' MGUCell", NO_CELL),
    refused(&["ih.kernel", "hh.kernel"], "Flax' ConvLSTMCell", NO_CELL),
    refused(
        &["linear.w", "linear.b"],
        "Haiku's LSTM",
        "write its weights as PyTorch's: of its rows the inputs' come first, then the state's; its gates are i, g, f, o, and a 1 is \
         added to f",
    ),
    refused(&["w_i", "w_h"], "Haiku's GRU", "write its weights as Flax' or Keras', whose GRU is the same as a formula says"),
    refused(
        &["gates.kernel", "candidate.kernel"],
        "a GRUCell of TensorFlow 1",
        "write its weights as Keras' with reset_after=False: of its rows the inputs' come first, then the state's; its gates are r, z",
    ),
    refused(
        &["vars.0"],
        "a .weights.h5 of Keras 3, whose tensors have numbers instead of names",
        "load the model and write its layers' weights under their names",
    ),
    refused(&["w_ih", "w_hh"], "an older tch", "call w_ih weight_ih_l0, w_hh weight_hh_l0 and so on: all else is PyTorch's"),
    refused(&["weight_ih_l.0"], "a list of layers' own modules", "read each by its prefix"),
];

/// Refuses layers of which nothing is read, by their family's name.
fn refuse(names: &BTreeSet<&str>) -> Result<()> {
    let error = |name: &str, family: &str, todo: &str| Err(Error::Config(format!("`{name}`: {family}, not read: {todo}")));
    for Refused { told_by, family, todo } in &REFUSED {
        let mut found = names.iter().filter_map(|name| Some((*name, before(name, told_by[0])?)));
        if let Some((name, _)) = found.find(|(_, parent)| told_by.iter().all(|told| own_name(names, parent, told).is_some())) {
            return error(name, family, todo);
        }
    }
    if let Some(name) = names.iter().find(|name| name.contains("/.ATTRIBUTES/VARIABLE_VALUE")) {
        return error(name, "a TensorFlow checkpoint", "load the model and write its layers' weights under their names");
    }
    let is_joined = |parent: &str| {
        let last = parent.trim_end_matches(['.', '/']).rsplit(['.', '/']).next().unwrap_or_default();
        last.contains("_cell") && own_name(names, parent, "recurrent_kernel").is_none()
    };
    let joined = names.iter().find(|name| before(name, "kernel").is_some_and(is_joined));
    joined.map_or(Ok(()), |name| {
        error(
            name,
            "a cell of TensorFlow 1, one kernel for the inputs and the state",
            "write its weights as PyTorch's: of its rows the inputs' come first, then the state's; an LSTM's gates are i, g, f, o, and \
             its forget_bias, 1 by default, is added to f",
        )
    })
}

/// Who laid out the tensors behind `prefix`. Refuses families of which nothing is read, and names and shapes that two families have.
pub(in crate::import) fn recognise(file: &TensorFile<'_>, prefix: &str) -> Result<Family> {
    if let Some(layout) = &file.layout {
        let whose = |error| match error {
            Error::UnknownName { name, known, .. } => Error::UnknownName { kind: "`layout` in the file's metadata", name, known },
            other => other,
        };
        return layout.parse().map_err(whose);
    }
    let all = file.names();
    let names: BTreeSet<&str> = all.into_iter().filter(|name| name.starts_with(prefix)).collect();
    refuse(&names)?;
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
