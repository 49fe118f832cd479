//! Safetensors files with the weights of Keras 3 layers, under Keras' names.

use std::collections::BTreeSet;

use super::family::names::{before, own_name};
use super::file::{TensorFile, quoted};
use super::model::{Model, count_layers};
use super::tensors::{check_shape, matrix, widen};
use crate::cell::by_name;
use crate::error::{Error, Result, check_len};
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, Params};
use crate::network::sequence::SeqShape;

impl Model {
    /// Reads the recurrent layers of a Keras 3 model, stacked in their order: `SimpleRNN`, `LSTM` or `GRU`, all of one kind and
    /// size, all plain or all in `Bidirectional` (`merge_mode="concat"`), with Keras' default activations; no stacked cells, no
    /// `go_backwards`, which a file of weights does not tell: set [`Direction::Reverse`](crate::Direction) yourself.
    ///
    /// Layer k's tensors are `l{k}.kernel`, `l{k}.recurrent_kernel` and `l{k}.bias`, those of its backward direction
    /// `l{k}_reverse.kernel` .. This Python (`import numpy as np`, `from safetensors.numpy import save_file`) writes the file
    /// of a model. Without `ascontiguousarray`, `save_file` scrambles what lies in memory otherwise:
    ///
    /// ```python
    /// rnns = [(f"l{k}", l) for k, l in enumerate(l for l in model.layers if hasattr(l, "return_sequences"))]
    /// rnns += [(f"{n}_reverse", l.backward_layer) for n, l in rnns if hasattr(l, "backward_layer")]
    /// save_file({f"{n}.{w.name}": np.ascontiguousarray(w) for n, l in rnns for w in getattr(l, "forward_layer", l).weights}, path)
    /// ```
    ///
    /// Layers without weights and `Embedding` stay out of it: what a `Masking` layer or `mask_zero=True` masks is for the call to say,
    /// with [`Sequence::with_hold`](crate::Sequence::with_hold); [`masked_steps`](crate::import::masked_steps) finds it.
    ///
    /// A single plain layer may go without `l0.`: `{w.name: np.ascontiguousarray(w) for w in layer.weights}`.
    ///
    /// Without the name of a `cell` (as [`by_name`] takes it), 4 blocks of columns are an `lstm`, 1 an `rnn_tanh`, and 3 a
    /// `gru` where `bias` has two rows (`reset_after=True`, Keras' default) and a `gru_reset_before` where it has one. Without
    /// `bias` the shapes do not tell the two apart, and the cell must be named.
    pub fn from_keras(bytes: &[u8], cell: Option<&str>) -> Result<Self> {
        Self::from_keras_file(&TensorFile::open(bytes)?, "", cell)
    }

    pub(super) fn from_keras_file(file: &TensorFile<'_>, prefix: &str, cell: Option<&str>) -> Result<Self> {
        let names: BTreeSet<&str> = file.names().into_iter().filter(|name| name.starts_with(prefix)).collect();
        let paths = single_layer(&names, prefix)?;
        let full = |layer: usize, direction: usize, tensor: &str| {
            let own = || format!("{prefix}l{layer}{}.", ["", "_reverse"][direction]);
            let path = paths.get(direction).map_or_else(own, |path| path.to_string());
            own_name(&names, &path, tensor).map_or_else(|| format!("{path}{tensor}"), String::from)
        };
        let first = full(0, 0, RECURRENT_KERNEL);
        let (hidden_size, columns) = matrix(file, &first)?;
        let (input_size, _) = matrix(file, &full(0, 0, "kernel"))?;
        let mut config =
            RnnConfig::new(input_size, hidden_size).with_bias(names.iter().any(|name| before(name, "bias").is_some()));
        if paths.is_empty() {
            let sides = || names.iter().filter_map(|name| name[prefix.len()..].split_once('.')?.0.strip_prefix('l'));
            let layers = sides().filter_map(|side| side.trim_end_matches("_reverse").parse().ok());
            config =
                config.with_num_layers(count_layers(layers)).with_bidirectional(sides().any(|side| side.ends_with("_reverse")));
        }
        config = config.clone().with_bidirectional(config.num_directions() == 2 || paths.len() == 2);
        config.validate()?;

        let bias_rows = file.get(&full(0, 0, "bias")).map(|bias| bias.shape().len());
        let cell = by_name(match cell {
            Some(name) => name,
            None => infer_cell(&first, columns, hidden_size, bias_rows)?,
        })?;
        let Some(blocks) = blocks(cell.name()) else {
            return Err(Error::Config(format!("`{first}`: Keras has no cell `{}`", cell.name())));
        };
        let layout = ParamLayout::new(&cell, &config)?;

        let columns = blocks.len() * hidden_size;
        let bias_shape = if cell.name() == "gru" { vec![2, columns] } else { vec![columns] };
        let mut unused = names.clone();
        let mut tensors = Vec::new();
        for (layer, direction) in (0..config.num_layers).flat_map(|l| (0..config.num_directions()).map(move |d| (l, d))) {
            let mut expected =
                vec![("kernel", vec![config.layer_input_size(layer), columns]), (RECURRENT_KERNEL, vec![hidden_size, columns])];
            expected.extend(config.bias.then(|| ("bias", bias_shape.clone())));
            for (tensor, shape) in expected {
                let name = full(layer, direction, tensor);
                let view = file.find(&name)?;
                check_shape(&name, &shape, &view)?;
                unused.remove(&*name);
                tensors.push((name, view));
            }
        }
        if let Some(&name) = unused.first() {
            return Err(Error::UnusedTensor { name: name.into() });
        }

        // Only now is it known that the file is as large as the layout. The layout has the same order of tensors, but two biases.
        let mut values = Vec::with_capacity(layout.len());
        for (name, view) in &tensors {
            let mut theirs = Vec::new();
            widen(name, view, &mut theirs)?;
            if before(name, "bias").is_some() {
                // A second row is of the recurrent product. A single bias is added to the input's, outside of any reset.
                theirs.resize(2 * columns, 0.0);
                let (input, recurrent) = theirs.split_at(columns);
                transpose(input, hidden_size, blocks, &mut values);
                transpose(recurrent, hidden_size, blocks, &mut values);
            } else {
                transpose(&theirs, hidden_size, blocks, &mut values);
            }
        }
        let params = Params::from_values(&layout, values)?;
        Ok(Self { cell, config, params, prefix: prefix.into() })
    }
}

/// What Keras' layer `Masking(mask_value)` masks of an input, for [`Sequence::with_hold`](crate::Sequence::with_hold): `[T, B]`, 1 at
/// each step whose features are all `mask_value`. `input` is `[T, B, I]`, or `[B, T, I]` if the config is batch-first.
pub fn masked_steps(input: &[f32], config: &RnnConfig, shape: SeqShape, mask_value: f32) -> Result<Vec<u32>> {
    shape.validate()?;
    check_len("input", shape.rows().saturating_mul(config.input_size), input.len())?;
    let masked = |t, b| {
        let row = shape.row(config.batch_first, t, b);
        input[row * config.input_size..][..config.input_size].iter().all(|&x| x == mask_value)
    };
    let steps = (0..shape.seq_len).flat_map(|t| (0..shape.batch_size).map(move |b| (t, b)));
    Ok(steps.map(|(t, b)| masked(t, b).into()).collect())
}

const RECURRENT_KERNEL: &str = "recurrent_kernel";

/// Whether what stands before a layer's tensors is Keras': its own path, or the one that [`Model::from_keras`] names. Keras' paths have
/// slashes: `lstm_cell.` is an attribute of anybody's module.
pub(super) fn is_path(parent: &str) -> bool {
    parent.split_inclusive('/').any(|part| part.contains("_cell") && part.ends_with('/')) || is_numbered(parent)
}

/// Whether it ends with `l0.` or `l0_reverse.`, of any layer.
fn is_numbered(parent: &str) -> bool {
    let last = parent.trim_end_matches(['.', '/']).rsplit(['.', '/']).next().unwrap_or_default();
    let layer = last.trim_end_matches("_reverse").strip_prefix('l');
    layer.is_some_and(|layer| !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What stands before the tensors of the one layer that has no number: of its forward direction, and of its backward one if it has
/// one. Nothing where layers are numbered. Keras' own paths do not tell in which order layers are stacked.
fn single_layer<'f>(names: &BTreeSet<&'f str>, prefix: &str) -> Result<Vec<&'f str>> {
    let parents: BTreeSet<&'f str> = names.iter().filter_map(|name| before(name, RECURRENT_KERNEL)).collect();
    if let Some(bare) = parents.iter().find(|parent| **parent == prefix) {
        return Ok(vec![bare]);
    }
    let parents: Vec<&str> = parents.into_iter().collect();
    if parents.iter().all(|parent| is_numbered(parent)) {
        return Ok(Vec::new());
    }
    match parents[..] {
        [_] => Ok(parents),
        [back, ahead] if back.contains("backward") && ahead.contains("forward") => Ok(vec![ahead, back]),
        _ => Err(Error::Config(format!(
            "{} recurrent layers under Keras' own paths {}, which do not tell their order: name their tensors `l0.kernel`, \
                 `l0.recurrent_kernel`, `l0.bias`, `l1.kernel` .. (`l0_reverse.` of a backward direction), or read one by its prefix",
            parents.len(),
            quoted(&parents.iter().copied().collect())
        ))),
    }
}

/// Which of Keras' blocks of columns each gate is: Keras has i, f, c, o and z, r, h.
fn blocks(cell: &str) -> Option<&'static [usize]> {
    match cell {
        "rnn_linear" | "rnn_tanh" | "rnn_relu" => Some(&[0]),
        "lstm" => Some(&[0, 1, 2, 3]),
        "gru" | "gru_reset_before" => Some(&[1, 0, 2]),
        _ => None,
    }
}

/// The Keras cell with this many blocks of columns and dimensions of the bias.
fn infer_cell(name: &str, columns: usize, hidden_size: usize, bias_dimensions: Option<usize>) -> Result<&'static str> {
    match (columns / hidden_size, columns % hidden_size, bias_dimensions) {
        (4, 0, _) => Ok("lstm"),
        (1, 0, _) => Ok("rnn_tanh"),
        (3, 0, Some(1)) => Ok("gru_reset_before"),
        (3, 0, Some(_)) => Ok("gru"),
        (3, 0, None) => Err(Error::Config(format!(
            "`{name}`: without a bias, 3 blocks of columns are a gru or a gru_reset_before: name the cell"
        ))),
        _ => Err(Error::Config(format!(
            "`{name}`: {columns} columns are not 4 (lstm), 3 (gru) or 1 (rnn_tanh) times hidden_size {hidden_size}"
        ))),
    }
}

/// Appends `[rows, G·H]`, its blocks of columns in the given order, as `[G·H, rows]`.
fn transpose(theirs: &[f32], hidden_size: usize, blocks: &[usize], values: &mut Vec<f32>) {
    let columns = blocks.len() * hidden_size;
    for column in blocks.iter().flat_map(|block| block * hidden_size..(block + 1) * hidden_size) {
        values.extend(theirs.iter().skip(column).step_by(columns));
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;

    /// Name and shape of each tensor; the values of each count up from 0.
    type Shapes = Vec<(&'static str, Vec<usize>)>;

    fn read(shapes: &Shapes, cell: Option<&str>) -> Result<Model> {
        let bytes = shapes.iter().map(|(_, shape)| {
            let count = shape.iter().product::<usize>();
            (0..count).flat_map(|k| (k as f32).to_le_bytes()).collect::<Vec<u8>>()
        });
        let bytes: Vec<Vec<u8>> = bytes.collect();
        let views = shapes.iter().zip(&bytes);
        let views = views.map(|((name, shape), bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        Model::from_keras(&safetensors::serialize(views, None).unwrap(), cell)
    }

    /// I = 1, H = 2.
    fn gru(bias: &[usize]) -> Shapes {
        vec![("l0.kernel", vec![1, 6]), ("l0.recurrent_kernel", vec![2, 6]), ("l0.bias", bias.into())]
    }

    fn lstm() -> Shapes {
        let block = [("l0.kernel", vec![1, 8]), ("l0.recurrent_kernel", vec![2, 8]), ("l0.bias", vec![8])];
        block.into()
    }

    #[test]
    fn blocks_are_reordered_and_transposed() {
        let model = read(&gru(&[2, 6]), None).unwrap();
        assert_eq!(model.cell.name(), "gru");
        // z, r, h becomes r, z, n.
        assert_eq!(model.params.get("weight_ih_l0").unwrap(), [2.0, 3.0, 0.0, 1.0, 4.0, 5.0]);
        let weight_hh = [2.0, 8.0, 3.0, 9.0, 0.0, 6.0, 1.0, 7.0, 4.0, 10.0, 5.0, 11.0];
        assert_eq!(model.params.get("weight_hh_l0").unwrap(), weight_hh);
        assert_eq!(model.params.get("bias_ih_l0").unwrap(), [2.0, 3.0, 0.0, 1.0, 4.0, 5.0]);
        assert_eq!(model.params.get("bias_hh_l0").unwrap(), [8.0, 9.0, 6.0, 7.0, 10.0, 11.0]);

        let model = read(&gru(&[6]), None).unwrap();
        assert_eq!(model.cell.name(), "gru_reset_before");
        assert_eq!(model.params.get("bias_ih_l0").unwrap(), [2.0, 3.0, 0.0, 1.0, 4.0, 5.0]);
        assert_eq!(model.params.get("bias_hh_l0").unwrap(), [0.0; 6]);
    }

    #[test]
    fn infers_what_the_shapes_tell() {
        assert_eq!(read(&lstm(), None).unwrap().cell.name(), "lstm");
        let rnn = vec![("kernel", vec![3, 2]), ("recurrent_kernel", vec![2, 2])];
        let model = read(&rnn, None).unwrap();
        assert_eq!((model.cell.name(), model.config), ("rnn_tanh", RnnConfig::new(3, 2).with_bias(false)));
        assert_eq!(read(&rnn, Some("rnn_relu")).unwrap().cell.name(), "rnn_relu");

        let without_bias = gru(&[6])[..2].to_vec();
        let error = read(&without_bias, None).unwrap_err().to_string();
        assert!(error.contains("l0.recurrent_kernel") && error.contains("gru_reset_before"), "{error}");
        for cell in ["gru", "gru_reset_before"] {
            assert_eq!(read(&without_bias, Some(cell)).unwrap().cell.name(), cell);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let with = |name, shape: &[usize]| {
            let mut shapes = lstm();
            shapes.retain(|(known, _)| *known != name);
            shapes.push((name, shape.into()));
            shapes
        };
        for (shapes, cell, named) in [
            (gru(&[6]), Some("gru"), ["l0.bias", "[2, 6]"]),
            (gru(&[2, 6]), Some("gru_reset_before"), ["l0.bias", "[2, 6]"]),
            (gru(&[1, 1, 6]), None, ["l0.bias", "[1, 1, 6]"]),
            (lstm(), Some("gru"), ["l0.kernel", "[1, 6]"]),
            (lstm(), Some("binary_gate"), ["Keras", "binary_gate"]),
            (lstm(), Some("lstn"), ["lstn", "gru_reset_before"]),
            (with("l0.recurrent_kernel", &[2, 7]), None, ["l0.recurrent_kernel", "7 columns"]),
            (with("l0.recurrent_kernel", &[0, 8]), None, ["hidden_size", "0"]),
            (with("l0.recurrent_kernel", &[16]), None, ["l0.recurrent_kernel", "2 dimensions"]),
            (with("l0.kernel", &[0, 8]), None, ["input_size", "0"]),
            (with("l1.kernel", &[2, 8]), None, ["missing", "l1.recurrent_kernel"]),
            (with("l2.kernel", &[2, 8]), None, ["unused", "l2.kernel"]),
            (with("l0_reverse.kernel", &[1, 8]), None, ["missing", "l0_reverse.recurrent_kernel"]),
            (with("l99999999999999999999.kernel", &[1]), None, ["unused", "l99999999999999999999"]),
            (with("dense.kernel", &[2, 8]), None, ["unused", "dense.kernel"]),
            (with("dense.bias", &[2]), None, ["unused", "dense.bias"]),
            (with("recurrent_kernel", &[2, 8]), None, ["missing", "kernel"]),
            (lstm()[1..].to_vec(), None, ["missing", "l0.kernel"]),
        ] {
            let error = read(&shapes, cell).unwrap_err().to_string();
            assert!(named.iter().all(|part| error.contains(part)), "{shapes:?} {cell:?}: {error}");
        }
    }
}
