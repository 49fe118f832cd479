//! Safetensors files with PyTorch's names, as `torch.nn.LSTM(...).state_dict()` gives them.

use std::collections::BTreeSet;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::Model;
use crate::cell::{Cell, Lstm, by_name};
use crate::config::RnnConfig;
use crate::error::{Error, Result};
use crate::params::{ParamLayout, Params};

impl Params {
    /// Reads every tensor of the layout, by its name behind `prefix` (`"lstm."`, or `""`). F16 and BF16 are widened.
    ///
    /// The file must hold these tensors and no others, each of its exact shape.
    pub fn from_safetensors(layout: &ParamLayout, bytes: &[u8], prefix: &str) -> Result<Self> {
        Self::read(layout, &SafeTensors::deserialize(bytes)?, prefix)
    }

    fn read(layout: &ParamLayout, file: &SafeTensors<'_>, prefix: &str) -> Result<Self> {
        let mut unused: BTreeSet<&str> = file.names().into_iter().collect();
        let mut tensors = Vec::new();
        for spec in layout.iter() {
            let name = format!("{prefix}{}", spec.name);
            let tensor = find(file, &name)?;
            if tensor.shape() != spec.shape {
                return Err(Error::Shape { name, expected: spec.shape.clone(), actual: tensor.shape().to_vec() });
            }
            unused.remove(&*name);
            tensors.push((name, tensor));
        }
        if let Some(&name) = unused.first() {
            return Err(Error::UnusedTensor { name: name.into() });
        }
        // Only now is it known that the file is as large as the layout, so that the layout may size an allocation.
        let mut values = Vec::with_capacity(layout.len());
        for (name, tensor) in &tensors {
            widen(name, tensor, &mut values)?;
        }
        Self::from_values(layout, values)
    }

    /// The tensors as F32, each under its name behind `prefix`: the bytes of a file.
    pub fn to_safetensors(&self, prefix: &str) -> Result<Vec<u8>> {
        let mut tensors = Vec::new();
        for spec in self.layout().iter() {
            let bytes: Vec<u8> = self.get(&spec.name)?.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((format!("{prefix}{}", spec.name), spec.shape.clone(), bytes));
        }
        let views = tensors.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
        Ok(safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?)
    }
}

fn find<'data>(file: &SafeTensors<'data>, name: &str) -> Result<TensorView<'data>> {
    file.tensor(name).map_err(|_| Error::MissingTensor { name: name.into() })
}

/// Appends a tensor's values as f32. Files are little-endian and need not be aligned.
fn widen(name: &str, tensor: &TensorView<'_>, values: &mut Vec<f32>) -> Result<()> {
    let (words, _) = tensor.data().as_chunks::<2>();
    match tensor.dtype() {
        Dtype::F32 => values.extend(tensor.data().as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word))),
        Dtype::F16 => values.extend(words.iter().map(|&word| f16::from_le_bytes(word).to_f32())),
        Dtype::BF16 => values.extend(words.iter().map(|&word| bf16::from_le_bytes(word).to_f32())),
        other => return Err(Error::Dtype { name: name.into(), expected: "F32, F16 or BF16", actual: other.to_string() }),
    }
    Ok(())
}

impl Model {
    /// Reads a network from PyTorch's names under at most one common prefix; the sizes follow from names and shapes.
    ///
    /// Without the name of a `cell` (as [`by_name`] takes it), 4 blocks of rows are an `lstm`, 3 a `gru` and 1 an
    /// `rnn_tanh`. An LSTM with `weight_peephole_l0` has peepholes.
    pub fn from_safetensors(bytes: &[u8], cell: Option<&str>) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)?;
        let mut names = file.names();
        names.sort_unstable();
        let prefix = common_prefix(&names)?;
        let names = names.into_iter().filter_map(|name| name.strip_prefix(prefix));
        let names: Vec<&str> = names.filter(|name| name.starts_with("weight_") || name.starts_with("bias_")).collect();

        let (_, input_size) = matrix(&file, &format!("{prefix}weight_ih_l0"))?;
        let (rows, hidden_size) = matrix(&file, &format!("{prefix}weight_hh_l0"))?;
        // One tensor of a layer, of the other direction or of the biases calls for all of them: those not there are missing.
        // Layers are counted up to the first gap, so that no name makes the layout longer than the file.
        let layers = names.iter().filter_map(|name| name.trim_end_matches("_reverse").rsplit_once("_l")?.1.parse().ok());
        let layers: BTreeSet<usize> = layers.collect();
        let config = RnnConfig::new(input_size, hidden_size)
            .with_num_layers((0..).take_while(|layer| layers.contains(layer)).count())
            .with_bidirectional(names.iter().any(|name| name.ends_with("_reverse")))
            .with_bias(names.iter().any(|name| name.starts_with("bias_")));
        config.validate()?;

        let cell = match cell {
            Some(name) => by_name(name)?,
            None => by_name(infer_cell(&format!("{prefix}weight_hh_l0"), rows, hidden_size)?)?,
        };
        let peepholes = cell.name() == "lstm" && names.iter().any(|name| name.starts_with("weight_peephole_"));
        let cell: Arc<dyn Cell> = if peepholes { Arc::new(Lstm::default().with_peepholes(true)) } else { cell };
        let params = Params::read(&ParamLayout::new(&cell, &config)?, &file, prefix)?;
        Ok(Self { cell, config, params, prefix: prefix.into() })
    }
}

/// What stands before the one name that every network has.
fn common_prefix<'a>(names: &[&'a str]) -> Result<&'a str> {
    const FIRST: &str = "weight_ih_l0";
    let mut prefixes = names.iter().filter_map(|name| name.strip_suffix(FIRST));
    match (prefixes.next(), prefixes.next()) {
        (Some(prefix), None) => Ok(prefix),
        (None, _) => Err(Error::MissingTensor { name: FIRST.into() }),
        (Some(a), Some(b)) => Err(Error::Config(format!("`{a}{FIRST}` and `{b}{FIRST}` are two networks in one file"))),
    }
}

/// Rows and columns.
fn matrix(file: &SafeTensors<'_>, name: &str) -> Result<(usize, usize)> {
    match *find(file, name)?.shape() {
        [rows, columns] => Ok((rows, columns)),
        ref shape => Err(Error::Config(format!("`{name}`: expected 2 dimensions, got {} ({shape:?})", shape.len()))),
    }
}

/// The cell that PyTorch has for so many blocks of rows.
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
mod tests {
    use super::*;
    use crate::cell::registry;

    /// Name, type, shape and bytes of each tensor of a file under test.
    type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

    fn file(tensors: &Tensors) -> Vec<u8> {
        let views =
            tensors.iter().map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    fn config() -> RnnConfig {
        RnnConfig::new(3, 5)
    }

    fn params(cell: &dyn Cell, config: &RnnConfig) -> Params {
        Params::uniform(&ParamLayout::new(cell, config).unwrap(), 7)
    }

    /// The tensors of a network, to be spoilt.
    fn tensors(cell: &str, config: &RnnConfig, prefix: &str) -> Tensors {
        let bytes = params(&by_name(cell).unwrap(), config).to_safetensors(prefix).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Tensors =
            file.iter().map(|(n, t)| (n.into(), t.dtype(), t.shape().to_vec(), t.data().to_vec())).collect();
        tensors.sort();
        tensors
    }

    fn zeros(name: &str, shape: &[usize]) -> (String, Dtype, Vec<usize>, Vec<u8>) {
        (name.into(), Dtype::F32, shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()])
    }

    fn spoil(tensors: &mut Tensors, name: &str, shape: &[usize]) {
        *tensors.iter_mut().find(|t| t.0 == name).unwrap() = zeros(name, shape);
    }

    fn read(tensors: &Tensors, cell: Option<&str>) -> Result<Model> {
        Model::from_safetensors(&file(tensors), cell)
    }

    #[test]
    fn every_network_comes_back() {
        for cell in registry() {
            for config in [config(), config().with_num_layers(12), config().with_bidirectional(true).with_bias(false)] {
                for prefix in ["", "encoder.rnn."] {
                    let params = params(&cell, &config);
                    let bytes = params.to_safetensors(prefix).unwrap();
                    assert_eq!(Params::from_safetensors(params.layout(), &bytes, prefix).unwrap(), params);
                    let model = Model::from_safetensors(&bytes, Some(cell.name())).unwrap();
                    assert_eq!((model.cell.name(), &model.config, &*model.prefix), (cell.name(), &config, prefix));
                    assert_eq!(model.params, params);
                }
            }
        }
    }

    #[test]
    fn infers_the_cell() {
        for cell in ["lstm", "gru", "rnn_tanh"] {
            assert_eq!(read(&tensors(cell, &config(), "a."), None).unwrap().cell.name(), cell);
        }
        // H = 1 tells the same.
        assert_eq!(read(&tensors("gru", &RnnConfig::new(1, 1), ""), None).unwrap().cell.name(), "gru");
        let error = read(&tensors("binary_gate", &config(), ""), None).unwrap_err().to_string();
        assert!(error.contains("weight_hh_l0") && error.contains("10 rows") && error.contains("hidden_size 5"), "{error}");
        let error = read(&tensors("lstm", &config(), ""), Some("gru")).unwrap_err();
        assert!(matches!(error, Error::Shape { expected, actual, .. } if expected == [15, 3] && actual == [20, 3]));
        let error = read(&tensors("lstm", &config(), ""), Some("lstn")).unwrap_err();
        assert!(matches!(error, Error::UnknownName { kind: "cell", .. }));
    }

    #[test]
    fn a_peephole_tensor_makes_peepholes() {
        let lstm = Lstm::default().with_peepholes(true);
        let truth = params(&lstm, &config());
        for cell in [None, Some("lstm")] {
            let model = Model::from_safetensors(&truth.to_safetensors("").unwrap(), cell).unwrap();
            assert_eq!(model.cell.unit_params(), lstm.unit_params());
            assert_eq!(model.params, truth);
        }
        let mut gru = tensors("gru", &config(), "");
        gru.push(zeros("weight_peephole_l0", &[3, 5]));
        assert!(matches!(read(&gru, None), Err(Error::UnusedTensor { name }) if name == "weight_peephole_l0"));
    }

    #[test]
    fn widens_half_precision() {
        let mut tensors = tensors("rnn_tanh", &RnnConfig::new(2, 1).with_bias(false), "");
        let values = [1.5f32, -0.0625];
        tensors[1] = (
            "weight_ih_l0".into(),
            Dtype::F16,
            vec![1, 2],
            values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        );
        tensors[0] = ("weight_hh_l0".into(), Dtype::BF16, vec![1, 1], bf16::from_f32(-3.0).to_le_bytes().into());
        let params = read(&tensors, None).unwrap().params;
        assert_eq!(params.values(), [1.5, -0.0625, -3.0]);
    }

    #[test]
    fn refuses_other_types() {
        let mut tensors = tensors("rnn_tanh", &config(), "");
        let bias = tensors.iter_mut().find(|t| t.0 == "bias_hh_l0").unwrap();
        (bias.1, bias.3) = (Dtype::F64, vec![0; 40]);
        let error = read(&tensors, None).unwrap_err();
        assert!(matches!(error, Error::Dtype { name, actual, .. } if name == "bias_hh_l0" && actual == "F64"));
    }

    #[test]
    fn refuses_missing_tensors() {
        let config = config().with_num_layers(2).with_bidirectional(true);
        let whole = tensors("lstm", &config, "m.");
        for at in 0..whole.len() {
            let mut tensors = whole.clone();
            let (missing, ..) = tensors.remove(at);
            match read(&tensors, None) {
                // Named without the prefix, for without that tensor there is none.
                Err(Error::MissingTensor { name }) if missing == "m.weight_ih_l0" => assert_eq!(name, "weight_ih_l0"),
                Err(Error::MissingTensor { name }) => assert_eq!(name, missing),
                other => panic!("without {missing}: {other:?}"),
            }
        }
    }

    #[test]
    fn refuses_unused_tensors() {
        // Beside the network, without its prefix, after a gap, of a projection.
        for extra in ["m.extra", "weight_hh_l0", "m.weight_ih_l2", "m.weight_ih_l99999999999999999999", "n.x_l1", "m.fc_l1"] {
            let mut tensors = tensors("lstm", &config(), "m.");
            tensors.push(zeros(extra, &[1]));
            match read(&tensors, None) {
                Err(Error::UnusedTensor { name }) => assert_eq!(name, extra),
                other => panic!("with {extra}: {other:?}"),
            }
        }
        let mut two = tensors("lstm", &config(), "a.");
        two.extend(tensors("lstm", &config(), "b."));
        let error = read(&two, None).unwrap_err().to_string();
        assert!(error.contains("a.weight_ih_l0") && error.contains("b.weight_ih_l0"), "{error}");
    }

    #[test]
    fn refuses_wrong_shapes() {
        for (name, shape) in [("bias_ih_l0", &[19][..]), ("bias_ih_l0", &[20, 1]), ("weight_ih_l0", &[19, 3])] {
            let mut tensors = tensors("lstm", &config(), "");
            spoil(&mut tensors, name, shape);
            match read(&tensors, None) {
                Err(Error::Shape { name: at, actual, .. }) => assert_eq!((&*at, &*actual), (name, shape)),
                other => panic!("{name} {shape:?}: {other:?}"),
            }
        }
        // Shapes that tell no size, without values: they may be as large as they like.
        for (name, shape) in [
            ("weight_hh_l0", &[20][..]),
            ("weight_hh_l0", &[20, 5, 1]),
            ("weight_hh_l0", &[]),
            ("weight_hh_l0", &[0, 5]),
            ("weight_hh_l0", &[20, 0]),
            ("weight_hh_l0", &[24, 5]),
            ("weight_hh_l0", &[0, 1 << 62]),
            ("weight_ih_l0", &[0, 1 << 62]),
            ("weight_ih_l0", &[20, 0]),
            ("weight_ih_l0", &[20]),
        ] {
            let mut tensors = tensors("lstm", &config(), "");
            spoil(&mut tensors, name, shape);
            for cell in [None, Some("lstm"), Some("rnn_relu")] {
                assert!(read(&tensors, cell).is_err(), "{name} {shape:?} {cell:?}");
            }
        }
    }

    #[test]
    fn a_layout_larger_than_the_file_allocates_nothing() {
        let layout = ParamLayout::new(&by_name("lstm").unwrap(), &RnnConfig::new(1, 32000)).unwrap();
        let bytes = file(&vec![zeros("weight_ih_l0", &[128000, 1])]);
        assert!(matches!(Params::from_safetensors(&layout, &bytes, ""), Err(Error::MissingTensor { .. })));
    }

    #[test]
    fn refuses_garbage() {
        let bytes = file(&tensors("gru", &config(), ""));
        let mut longer = bytes.clone();
        longer.push(0);
        for garbage in [&[][..], b"garbage, longer than a header", &bytes[..bytes.len() - 1], &bytes[..9], &longer] {
            assert!(matches!(Model::from_safetensors(garbage, None), Err(Error::Safetensors(_))));
        }
        let nothing = file(&Vec::new());
        assert!(matches!(Model::from_safetensors(&nothing, None), Err(Error::MissingTensor { .. })));
    }
}
