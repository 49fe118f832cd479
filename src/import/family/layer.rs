//! Reads one layer of a family of the table.

use std::collections::BTreeSet;

use super::name::Family;
use super::names::{before, own_name};
use super::table::Form::{Either, Reshaped, Rows, Vector};
use super::table::Target::{BiasHh, BiasIh, Biases, WeightHh, WeightIh};
use super::table::{Layer, Part, TABLE, Target};
use crate::cell::by_name;
use crate::error::{Error, Result};
use crate::import::file::{TensorFile, quoted};
use crate::import::model::{Model, Reading};
use crate::import::tensors::{check_shape, widen};
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, Params};

/// Reads the one layer of a family of the table.
pub(in crate::import) fn read(file: &TensorFile<'_>, family: Family, reading: &Reading<'_>) -> Result<Model> {
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
            return Err(Error::Config(format!(
                "{count} networks in one file, behind {}: read one by its prefix (`Reading::with_prefix`, `--prefix`)",
                quoted(&prefixes)
            )));
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
            check_shape(name, &expected, &self.file.find(name)?)?;
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
