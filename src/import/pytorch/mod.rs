//! Safetensors files with PyTorch's names, as `torch.nn.LSTM(...).state_dict()` gives them.

use std::collections::BTreeSet;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::cell::{Cell, Lstm, by_name};
use crate::error::{Error, Result};
use crate::import::file::{TensorFile, quoted};
use crate::import::model::{Model, count_layers};
use crate::import::tensors::{check_shape, matrix, widen};
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, ParamSpec, Params};

impl Params {
    /// Reads every tensor of the layout, by its name behind `prefix`. F16 and BF16 are widened.
    ///
    /// With a prefix (`"encoder.lstm."`) the file may be a larger checkpoint, of which the other tensors are not looked at.
    /// Those behind the prefix, in a file without one all, must be the layout's and no others, each of its exact shape. The
    /// names of `torch.nn.LSTMCell` and its like, `weight_ih` for `weight_ih_l0`, do for a layout of one layer.
    pub fn from_safetensors(layout: &ParamLayout, bytes: &[u8], prefix: &str) -> Result<Self> {
        Self::read(layout, &Module::at(&TensorFile::open(bytes)?, prefix)?)
    }

    fn read(layout: &ParamLayout, module: &Module<'_, '_>) -> Result<Self> {
        let mut unused = module.names.clone();
        let mut tensors = Vec::new();
        for spec in layout.iter() {
            let own = module.own_name(&spec.name);
            let name = format!("{}{own}", module.prefix);
            let tensor = module.file.find(&name)?;
            check_shape(&name, &spec.shape, &tensor)?;
            unused.remove(own);
            tensors.push((name, tensor));
        }
        if let Some(name) = unused.first() {
            return Err(Error::UnusedTensor { name: format!("{}{name}", module.prefix) });
        }
        // Only now is it known that the file is as large as the layout, so that the layout may size an allocation.
        let mut values = Vec::with_capacity(layout.len());
        for (name, tensor) in &tensors {
            widen(name, tensor, &mut values)?;
        }
        Self::from_values(layout, values)
    }

    /// The tensors as F32, each under its name behind `prefix`: the bytes of a file, which `load_state_dict` of the PyTorch
    /// module with that prefix takes as it is where PyTorch has the cell.
    pub fn to_safetensors(&self, prefix: &str) -> Result<Vec<u8>> {
        let tensor = |spec: &ParamSpec| {
            let values = &self.values()[spec.range.clone()];
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (format!("{prefix}{}", spec.name), spec.shape.clone(), bytes)
        };
        let tensors: Vec<_> = self.layout().iter().map(tensor).collect();
        let views = tensors.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
        Ok(safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?)
    }
}

impl Model {
    /// Reads a file of one network, all its names PyTorch's behind at most one common prefix; the sizes follow from names and
    /// shapes.
    ///
    /// Without the name of a `cell` (as [`by_name`] takes it), 4 blocks of rows are an `lstm`, 3 a `gru` and 1 an
    /// `rnn_tanh`. An LSTM with `weight_peephole_l0` has peepholes, one with `weight_hr_l0` projects
    /// h (`proj_size`). The names of `torch.nn.LSTMCell`, `GRUCell` and `RNNCell`,
    /// without `_l0`, are a network of one layer.
    pub fn from_safetensors(bytes: &[u8], cell: Option<&str>) -> Result<Self> {
        Self::from_pytorch_file(&TensorFile::open(bytes)?, None, cell)
    }

    /// Reads the one network of the file, or the one behind `at`.
    pub(super) fn from_pytorch_file(file: &TensorFile<'_>, at: Option<&str>, cell: Option<&str>) -> Result<Self> {
        if let Some(prefix) = at {
            return Self::from_module(&Module::at(file, prefix)?, cell);
        }
        let prefixes = prefixes(file);
        let mut all = prefixes.iter();
        let prefix = match (all.next(), all.next()) {
            (None, _) => "",
            (Some(prefix), None) => prefix,
            _ => {
                let (count, all) = (prefixes.len(), quoted(&prefixes));
                return Err(Error::Config(format!(
                    "{count} networks in one file, behind {all}: read one by its prefix (`Reading::with_prefix`, `--prefix`)"
                )));
            }
        };
        let module = Module::at(file, prefix)?;
        let outside: BTreeSet<&str> = file.names().into_iter().filter(|name| !name.starts_with(prefix)).collect();
        match outside.first() {
            Some(&name) => Err(Error::OutsideNetwork { name: name.into(), prefix: prefix.to_string() }),
            None => Self::from_module(&module, cell),
        }
    }

    /// Reads the one network behind `prefix`, such as `"encoder.lstm."`, out of a larger checkpoint, as
    /// [`from_safetensors`](Model::from_safetensors) does: every name behind the prefix must be the network's. Tensors without
    /// the prefix are not looked at.
    pub fn from_safetensors_at(bytes: &[u8], prefix: &str, cell: Option<&str>) -> Result<Self> {
        Self::from_pytorch_file(&TensorFile::open(bytes)?, Some(prefix), cell)
    }

    fn from_module(module: &Module<'_, '_>, cell: Option<&str>) -> Result<Self> {
        let Module { file, prefix, .. } = *module;
        let names = || module.names.iter().filter(|name| name.starts_with("weight_") || name.starts_with("bias_"));
        let full = |name| format!("{prefix}{}", module.own_name(name));
        let (_, input_size) = matrix(file, &full("weight_ih_l0"))?;
        let (rows, h_size) = matrix(file, &full("weight_hh_l0"))?;
        // A projection tells H; without one it is the size of h.
        let projects = !module.is_cell && module.names.contains("weight_hr_l0");
        let (proj_size, hidden_size) = if projects { matrix(file, &full("weight_hr_l0"))? } else { (0, h_size) };
        let config = RnnConfig::new(input_size, hidden_size).with_proj_size(proj_size);
        let mut config = config.with_bias(names().any(|name| name.starts_with("bias_")));
        let mut peepholes = false;
        if !module.is_cell {
            // One tensor of a layer, of the other direction or of the biases calls for all of them: those not there are missing.
            let layers = names().filter_map(|name| name.trim_end_matches("_reverse").rsplit_once("_l")?.1.parse().ok());
            config =
                config.with_num_layers(count_layers(layers)).with_bidirectional(names().any(|name| name.ends_with("_reverse")));
            peepholes = names().any(|name| name.starts_with("weight_peephole_"));
        }
        config.validate()?;

        let cell = match cell {
            Some(name) => by_name(name)?,
            None => by_name(infer_cell(&full("weight_hh_l0"), rows, hidden_size)?)?,
        };
        let peepholes = peepholes && cell.name() == "lstm";
        let cell: Arc<dyn Cell> = if peepholes { Arc::new(Lstm::default().with_peepholes(true)) } else { cell };
        let params = Params::read(&ParamLayout::new(&cell, &config)?, module)?;
        Ok(Self { cell, config, params, prefix: prefix.into() })
    }
}

/// The names that every network has one of: of a module, of a cell module.
const FIRST: [&str; 2] = ["weight_ih_l0", "weight_ih"];

/// A network's part of a file.
struct Module<'a, 'data> {
    file: &'a TensorFile<'data>,
    prefix: &'a str,
    /// Names of its tensors, without the prefix.
    names: BTreeSet<&'a str>,
    /// Whether they are named as those of `torch.nn.LSTMCell` and its like: without `_l0`.
    is_cell: bool,
}

impl<'a, 'data> Module<'a, 'data> {
    fn at(file: &'a TensorFile<'data>, prefix: &'a str) -> Result<Self> {
        let names: BTreeSet<&str> = file.names().into_iter().filter_map(|name| name.strip_prefix(prefix)).collect();
        if let Some((name, feature)) = names.iter().find_map(|name| Some((name, unsupported(name)?))) {
            return Err(Error::Unsupported { name: format!("{prefix}{name}"), feature });
        }
        let [has_layers, has_cell] = FIRST.map(|first| names.contains(first));
        if !has_layers && !has_cell {
            let known = prefixes(file);
            let has_no_prefix = known.len() == 1 && known.contains("");
            return Err(if known.is_empty() {
                file.find(&format!("{prefix}{}", FIRST[0])).err().unwrap_or_else(|| unreachable!("it is no name of the file"))
            } else {
                let known = if has_no_prefix { "none, the file's names have no prefix".into() } else { quoted(&known) };
                Error::UnknownName { kind: "prefix of a network", name: prefix.into(), known }
            });
        }
        Ok(Self { file, prefix, names, is_cell: !has_layers })
    }

    /// What this file calls a tensor of a layout, without the prefix.
    fn own_name<'n>(&self, name: &'n str) -> &'n str {
        name.strip_suffix("_l0").filter(|_| self.is_cell).unwrap_or(name)
    }
}

/// Everything that stands before the name that a network begins with.
fn prefixes<'a>(file: &'a TensorFile<'_>) -> BTreeSet<&'a str> {
    file.names().into_iter().filter_map(|name| FIRST.iter().find_map(|first| name.strip_suffix(first))).collect()
}

/// What PyTorch writes such a tensor for, if it has no counterpart here.
fn unsupported(name: &str) -> Option<&'static str> {
    let is_weight = name.contains("weight_ih_l") || name.contains("weight_hh_l");
    if is_weight && (name.contains("parametrizations.") || name.ends_with("_g") || name.ends_with("_v")) {
        Some("weight normalization (to be removed before saving)")
    } else {
        None
    }
}

/// The PyTorch cell with this many blocks of rows.
fn infer_cell(name: &str, rows: usize, hidden_size: usize) -> Result<&'static str> {
    match (rows / hidden_size, rows % hidden_size) {
        (4, 0) => Ok("lstm"),
        (3, 0) => Ok("gru"),
        (1, 0) => Ok("rnn_tanh"),
        (2, 0) => Err(Error::Config(format!(
            "`{name}`: {rows} rows are 2 blocks of hidden_size {hidden_size}: no cell of PyTorch; for a binary_gate, name the cell"
        ))),
        _ => Err(Error::Config(format!(
            "`{name}`: {rows} rows are not 4 (lstm), 3 (gru) or 1 (rnn_tanh) times hidden_size {hidden_size}"
        ))),
    }
}

#[cfg(test)]
mod tests;
