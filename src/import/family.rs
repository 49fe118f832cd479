//! Networks of other families: how each lays out a layer's tensors, in one table, and the reader that follows it.
//!
//! Every entry is one layer of one direction. PyTorch's and Keras' own files, which may be stacked, have readers of their own.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::file::TensorFile;
use super::pytorch::widen;
use super::{Model, Reading};
use crate::cell::by_name;
use crate::error::{Error, Result};
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, Params};

/// Who named and laid out the tensors of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// `weight_ih_l0`, or a cell module's `weight_ih`.
    PyTorch,
    /// `kernel`, `recurrent_kernel`, `bias` of Keras 2 and 3: see [`Model::from_keras`].
    Keras,
    /// Keras 2's `CuDNNLSTM` and `CuDNNGRU`: as Keras, but with two biases in one row, and kernels as cuDNN keeps them.
    CuDnn,
    /// haste's `LSTM` and `GRU`: as one Keras layer by name and shape, but an LSTM's gates stand as i, g, f, o.
    Haste,
    /// Flax' `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`: a matrix for each gate.
    Flax,
    /// MLX' `LSTM`, `GRU` and `RNN`: `Wx`, `Wh`.
    Mlx,
    /// Equinox' `LSTMCell` and `GRUCell`: `weight_ih`, `weight_hh`, `bias`, `bias_n`.
    Equinox,
}

impl Family {
    const ALL: [Self; 7] = [Self::PyTorch, Self::Keras, Self::CuDnn, Self::Haste, Self::Flax, Self::Mlx, Self::Equinox];

    /// The name that the command and a file's metadata use.
    pub fn name(self) -> &'static str {
        match self {
            Self::PyTorch => "pytorch",
            Self::Keras => "keras",
            Self::CuDnn => "cudnn",
            Self::Haste => "haste",
            Self::Flax => "flax",
            Self::Mlx => "mlx",
            Self::Equinox => "equinox",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "family of files",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Which of a layer's tensors a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    WeightIh,
    WeightHh,
    BiasIh,
    BiasHh,
    /// The input's, then the recurrent one.
    Biases,
}
use Target::*;

/// How a part lies, with G blocks of H and n inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `[n, G·H]`.
    Columns,
    /// `[n, G·H]`, in which the memory of each block of columns, `[n, H]`, is that of `[H, n]`.
    Reshaped,
    /// `[G·H, n]`.
    Rows,
    /// `[G·H, n]` or, in older versions, `[n, G·H]`: whichever the recurrent weights are.
    Either,
    /// `[G·H]`.
    Vector,
}
use Form::*;

/// One tensor of a layer.
struct Part {
    name: &'static str,
    target: Target,
    form: Form,
    /// Which of our gates each of its blocks is.
    gates: &'static [usize],
}

const fn part(name: &'static str, target: Target, form: Form, gates: &'static [usize]) -> Part {
    Part { name, target, form, gates }
}

/// A layer of a family.
struct Layer {
    family: Family,
    cell: &'static str,
    /// Names that tell it from the others.
    told_by: &'static [&'static str],
    parts: &'static [Part],
}

/// Ours are i, f, g, o of an LSTM and r, z, n of a GRU.
const ZRN: &[usize] = &[1, 0, 2];
const RZN: &[usize] = &[0, 1, 2];
const IFGO: &[usize] = &[0, 1, 2, 3];
const IGFO: &[usize] = &[0, 2, 1, 3];

const TABLE: &[Layer] = &[
    Layer {
        family: Family::Haste,
        cell: "lstm",
        told_by: &["kernel", "recurrent_kernel", "bias"],
        parts: &[
            part("kernel", WeightIh, Columns, IGFO),
            part("recurrent_kernel", WeightHh, Columns, IGFO),
            part("bias", BiasIh, Vector, IGFO),
        ],
    },
    Layer {
        family: Family::Haste,
        cell: "gru",
        told_by: &["kernel", "recurrent_kernel", "recurrent_bias"],
        parts: &[
            part("kernel", WeightIh, Columns, ZRN),
            part("recurrent_kernel", WeightHh, Columns, ZRN),
            part("bias", BiasIh, Vector, ZRN),
            part("recurrent_bias", BiasHh, Vector, ZRN),
        ],
    },
    Layer {
        family: Family::CuDnn,
        cell: "lstm",
        told_by: &["kernel", "recurrent_kernel", "bias"],
        parts: &[
            part("kernel", WeightIh, Reshaped, IFGO),
            part("recurrent_kernel", WeightHh, Reshaped, IFGO),
            part("bias", Biases, Vector, IFGO),
        ],
    },
    Layer {
        family: Family::CuDnn,
        cell: "gru",
        told_by: &["kernel", "recurrent_kernel", "bias"],
        parts: &[
            part("kernel", WeightIh, Reshaped, ZRN),
            part("recurrent_kernel", WeightHh, Reshaped, ZRN),
            part("bias", Biases, Vector, ZRN),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "lstm",
        told_by: &["if.kernel", "hf.kernel"],
        parts: &[
            part("ii.kernel", WeightIh, Columns, &[0]),
            part("if.kernel", WeightIh, Columns, &[1]),
            part("ig.kernel", WeightIh, Columns, &[2]),
            part("io.kernel", WeightIh, Columns, &[3]),
            part("hi.kernel", WeightHh, Columns, &[0]),
            part("hf.kernel", WeightHh, Columns, &[1]),
            part("hg.kernel", WeightHh, Columns, &[2]),
            part("ho.kernel", WeightHh, Columns, &[3]),
            part("hi.bias", BiasHh, Vector, &[0]),
            part("hf.bias", BiasHh, Vector, &[1]),
            part("hg.bias", BiasHh, Vector, &[2]),
            part("ho.bias", BiasHh, Vector, &[3]),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "gru",
        told_by: &["ir.kernel", "hn.kernel"],
        parts: &[
            part("ir.kernel", WeightIh, Columns, &[0]),
            part("iz.kernel", WeightIh, Columns, &[1]),
            part("in.kernel", WeightIh, Columns, &[2]),
            part("hr.kernel", WeightHh, Columns, &[0]),
            part("hz.kernel", WeightHh, Columns, &[1]),
            part("hn.kernel", WeightHh, Columns, &[2]),
            part("ir.bias", BiasIh, Vector, &[0]),
            part("iz.bias", BiasIh, Vector, &[1]),
            part("in.bias", BiasIh, Vector, &[2]),
            part("hn.bias", BiasHh, Vector, &[2]),
        ],
    },
    Layer {
        family: Family::Flax,
        cell: "rnn_tanh",
        told_by: &["i.kernel", "h.kernel"],
        parts: &[
            part("i.kernel", WeightIh, Columns, &[0]),
            part("h.kernel", WeightHh, Columns, &[0]),
            part("i.bias", BiasIh, Vector, &[0]),
            part("h.bias", BiasHh, Vector, &[0]),
        ],
    },
    Layer {
        family: Family::Mlx,
        cell: "gru",
        told_by: &["Wx", "Wh"],
        parts: &[
            part("Wx", WeightIh, Either, RZN),
            part("Wh", WeightHh, Either, RZN),
            part("b", BiasIh, Vector, RZN),
            part("bhn", BiasHh, Vector, &[2]),
        ],
    },
    Layer {
        family: Family::Mlx,
        cell: "lstm",
        told_by: &["Wx", "Wh"],
        parts: &[part("Wx", WeightIh, Either, IFGO), part("Wh", WeightHh, Either, IFGO), part("bias", BiasIh, Vector, IFGO)],
    },
    Layer {
        family: Family::Mlx,
        cell: "rnn_tanh",
        told_by: &["Wxh", "Whh"],
        parts: &[part("Wxh", WeightIh, Either, &[0]), part("Whh", WeightHh, Either, &[0]), part("bias", BiasIh, Vector, &[0])],
    },
    Layer {
        family: Family::Equinox,
        cell: "gru",
        told_by: &["weight_ih", "weight_hh", "bias_n"],
        parts: &[
            part("weight_ih", WeightIh, Rows, RZN),
            part("weight_hh", WeightHh, Rows, RZN),
            part("bias", BiasIh, Vector, RZN),
            part("bias_n", BiasHh, Vector, &[2]),
        ],
    },
    Layer {
        family: Family::Equinox,
        cell: "lstm",
        told_by: &["weight_ih", "weight_hh", "bias"],
        parts: &[
            part("weight_ih", WeightIh, Rows, IFGO),
            part("weight_hh", WeightHh, Rows, IFGO),
            part("bias", BiasIh, Vector, IFGO),
        ],
    },
];

/// Names of tensors that tell a family of which nothing is read, what it is, and what to do.
const REFUSED: [(&str, &str, &str); 5] = [
    ("input_gate.input_transform.weight", "Burn's Lstm", "write its weights as PyTorch's: gates i, f, g, o one below the other"),
    ("update_gate.input_transform.weight", "Burn's Gru", "write its weights as PyTorch's: gates r, z, n one below the other"),
    ("recurrent_scale", "haste's IndRNN", "there is no such cell here"),
    ("gamma_h", "haste's LayerNormLSTM", "there is no such cell here"),
    ("weight_ih_l.0", "a list of layers' own modules", "read each by its prefix"),
];

/// A name as the table has it: parts of a path by dots, without Keras 2's `:0`.
fn plain(name: &str) -> String {
    name.strip_suffix(":0").unwrap_or(name).replace('/', ".")
}

/// What stands before a name of the table, if `name` ends with it.
pub(super) fn before<'n>(name: &'n str, told: &str) -> Option<&'n str> {
    let plain = plain(name);
    let prefix = plain.strip_suffix(told)?;
    (prefix.is_empty() || prefix.ends_with('.')).then(|| &name[..prefix.len()])
}

/// The name in the file that is `prefix` and then a name of the table.
pub(super) fn own_name<'f>(names: &BTreeSet<&'f str>, prefix: &str, told: &str) -> Option<&'f str> {
    [told.to_string(), told.replace('.', "/")].iter().find_map(|told| {
        let name = format!("{prefix}{told}");
        names.get(&*name).or_else(|| names.get(&*format!("{name}:0"))).copied()
    })
}

/// Who laid out the tensors behind `prefix`. Refuses families of which nothing is read, and names and shapes that two families have.
pub(super) fn recognise(file: &TensorFile<'_>, prefix: &str) -> Result<Family> {
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
    let of_keras = super::keras::is_path(parent);
    if !of_keras && hidden.checked_mul(4) == Some(columns) {
        return Err(Error::Config(format!(
            "`{name}`: an LSTM of these names and shapes may be Keras' (gates i, f, g, o) or haste's (i, g, f, o): say whether the \
             file is from `keras` or `haste`, or write that as `layout` into its metadata"
        )));
    }
    Ok(Family::Keras)
}

/// Reads the one layer of a family of the table.
pub(super) fn read(file: &TensorFile<'_>, family: Family, reading: &Reading<'_>) -> Result<Model> {
    let names = file.names();
    let asked = reading.prefix.unwrap_or("");
    let behind: BTreeSet<&str> = names.iter().copied().filter(|name| name.starts_with(asked)).collect();
    let layers = TABLE.iter().filter(|layer| layer.family == family);
    let (mut prefixes, mut fitting) = (BTreeSet::new(), Vec::new());
    for layer in layers {
        for prefix in behind.iter().filter_map(|name| before(name, layer.told_by[0])) {
            let is_whole = layer.told_by.iter().all(|told| own_name(&behind, prefix, told).is_some());
            if is_whole && (reading.prefix.is_none() || prefix == asked) && has_gates(file, &behind, layer, prefix) {
                prefixes.insert(prefix);
                fitting.push((layer, prefix));
            }
        }
    }
    let wanted: Vec<&str> =
        TABLE.iter().filter(|layer| layer.family == family).flat_map(|layer| layer.told_by).copied().collect();
    let first = wanted.first().copied().unwrap_or_default();
    let (layer, prefix) = match (prefixes.len(), fitting.first()) {
        (1, Some(&found)) => found,
        (0, _) | (_, None) => {
            // Names the tensor that is missing, or the shape that no cell has.
            let name = own_name(&behind, asked, first).map_or(format!("{asked}{first}"), String::from);
            let view = file.find(&name)?;
            return Err(Error::Config(format!("`{name}` {:?} and those beside it are no cell of {family}", view.shape())));
        }
        (count, _) => {
            let listed: Vec<String> = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
            return Err(Error::Config(format!("{count} networks in one file, behind {}: choose one", listed.join(", "))));
        }
    };
    let read = LayerReader { file, names: &behind, layer, prefix };
    let model = read.model(reading.cell)?;
    let used: BTreeSet<&str> = layer.parts.iter().filter_map(|part| own_name(&behind, prefix, part.name)).collect();
    match behind.iter().find(|name| !used.contains(*name)) {
        Some(&name) => Err(Error::UnusedTensor { name: name.into() }),
        None => Ok(model),
    }
}

/// Whether the recurrent weights have as many blocks as the layer's cell has gates.
fn has_gates(file: &TensorFile<'_>, names: &BTreeSet<&str>, layer: &Layer, prefix: &str) -> bool {
    let Some(part) = layer.parts.iter().find(|part| part.target == WeightHh) else { return false };
    let shape = own_name(names, prefix, part.name).and_then(|name| file.get(name)).map(|view| view.shape().to_vec());
    match shape.as_deref() {
        Some(&[a, b]) => {
            let blocks = part.gates.len();
            let is = |hidden: usize, rows: usize| hidden.checked_mul(blocks) == Some(rows);
            match part.form {
                Rows => is(b, a),
                Either => is(b, a) || is(a, b),
                _ => is(a, b),
            }
        }
        _ => false,
    }
}

struct LayerReader<'a, 'data> {
    file: &'a TensorFile<'data>,
    names: &'a BTreeSet<&'a str>,
    layer: &'a Layer,
    prefix: &'a str,
}

impl LayerReader<'_, '_> {
    fn name(&self, part: &Part) -> Option<&str> {
        own_name(self.names, self.prefix, part.name)
    }

    fn shape(&self, target: Target) -> Result<(&'static Part, usize, usize)> {
        let part = self.layer.parts.iter().find(|part| part.target == target);
        let part = part.unwrap_or_else(|| unreachable!("every layer has both products"));
        let name = self.name(part).map_or_else(|| format!("{}{}", self.prefix, part.name), String::from);
        match *self.file.find(&name)?.shape() {
            [a, b] => Ok((part, a, b)),
            ref shape => Err(Error::Config(format!("`{name}`: expected 2 dimensions, got {} ({shape:?})", shape.len()))),
        }
    }

    /// Whether parts of either form are rows here.
    fn is_rows(&self, inputs: [usize; 2], recurrent: [usize; 2]) -> Result<bool> {
        if recurrent[0] != recurrent[1] {
            return Ok(recurrent[0] > recurrent[1]);
        }
        // One gate: only inputs of another number than units tell.
        match (inputs[0] == recurrent[0], inputs[1] == recurrent[0]) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => Err(Error::Config(format!(
                "`{}{}` {inputs:?}: as many inputs as units, so the shapes do not tell which version of MLX wrote it",
                self.prefix, self.layer.parts[0].name
            ))),
        }
    }

    fn model(&self, cell: Option<&str>) -> Result<Model> {
        let (hh, a, b) = self.shape(WeightHh)?;
        let (_, c, d) = self.shape(WeightIh)?;
        let rows = match hh.form {
            Rows => true,
            Either => self.is_rows([c, d], [a, b])?,
            _ => false,
        };
        let (hidden, inputs) = if rows { (b, d) } else { (a, c) };
        let has_bias = self.layer.parts.iter().any(|part| part.form == Vector && self.name(part).is_some());
        let config = RnnConfig::new(inputs, hidden).with_bias(has_bias);
        config.validate()?;
        let cell = by_name(cell.unwrap_or(self.layer.cell))?;
        let gates = cell.spec().gates.len();
        let expected = by_name(self.layer.cell)?.spec().gates.len();
        if gates != expected {
            let (ours, theirs) = (cell.name(), self.layer.cell);
            return Err(Error::Config(format!("cell `{ours}` has {gates} gates, the file's {theirs} {expected}")));
        }
        let layout = ParamLayout::new(&cell, &config)?;
        let mut values = vec![0.0; self.checked_len(&layout, rows, inputs, hidden)?];
        for part in self.layer.parts {
            if let Some(name) = self.name(part) {
                self.put(part, name, rows, [inputs, hidden], &layout, &mut values)?;
            }
        }
        let params = Params::from_values(&layout, values)?;
        Ok(Model { cell, config, params, prefix: self.prefix.into() })
    }

    /// The layout's length, once all shapes are known to be those of the file.
    fn checked_len(&self, layout: &ParamLayout, rows: bool, inputs: usize, hidden: usize) -> Result<usize> {
        let all_biases = self.layer.parts.iter().filter(|part| part.form == Vector);
        let some = all_biases.clone().any(|part| self.name(part).is_some());
        for part in self.layer.parts {
            let Some(name) = self.name(part) else {
                // A bias of Flax' input is optional; the others are there or not together.
                if part.form == Vector && (!some || self.layer.family == Family::Flax) {
                    continue;
                }
                self.file.find(&format!("{}{}", self.prefix, part.name))?;
                continue;
            };
            let blocks = part.gates.len() * hidden;
            let n = if part.target == WeightIh { inputs } else { hidden };
            let expected = match (part.form, part.target) {
                (Vector, Biases) => vec![2 * blocks],
                (Vector, _) => vec![blocks],
                (Rows, _) => vec![blocks, n],
                (Either, _) if rows => vec![blocks, n],
                _ => vec![n, blocks],
            };
            super::pytorch::check_shape(name, &expected, &self.file.find(name)?)?;
        }
        Ok(layout.len())
    }

    /// Brings one tensor to where the layout wants it.
    fn put(
        &self,
        part: &Part,
        name: &str,
        rows: bool,
        [inputs, hidden]: [usize; 2],
        layout: &ParamLayout,
        values: &mut [f32],
    ) -> Result<()> {
        let mut theirs = Vec::new();
        widen(name, &self.file.find(name)?, &mut theirs)?;
        let count = part.gates.len();
        let start = |name: &str| layout.iter().find(|spec| spec.name == name).map_or(0, |spec| spec.range.start);
        if part.form == Vector {
            let targets: &[&str] = match part.target {
                BiasIh => &["bias_ih_l0"],
                BiasHh => &["bias_hh_l0"],
                _ => &["bias_ih_l0", "bias_hh_l0"],
            };
            for (target, theirs) in targets.iter().zip(theirs.chunks(count * hidden)) {
                for (block, &gate) in theirs.chunks(hidden).zip(part.gates) {
                    values[start(target) + gate * hidden..][..hidden].copy_from_slice(block);
                }
            }
            return Ok(());
        }
        let (target, n) = if part.target == WeightIh { ("weight_ih_l0", inputs) } else { ("weight_hh_l0", hidden) };
        let is_rows = part.form == Rows || (part.form == Either && rows);
        for (block, &gate) in part.gates.iter().enumerate() {
            for unit in 0..hidden {
                for k in 0..n {
                    let at = if is_rows {
                        (block * hidden + unit) * n + k
                    } else if part.form == Reshaped {
                        let flat = unit * n + k;
                        flat / hidden * count * hidden + block * hidden + flat % hidden
                    } else {
                        k * count * hidden + block * hidden + unit
                    };
                    values[start(target) + (gate * hidden + unit) * n + k] = theirs[at];
                }
            }
        }
        Ok(())
    }
}
