//! Safetensors files with PyTorch's names, as `torch.nn.LSTM(...).state_dict()` gives them.

use std::collections::BTreeSet;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::file::TensorFile;
use super::{Model, count_layers};
use crate::cell::{Cell, Lstm, by_name};
use crate::error::{Error, Result};
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, ParamSpec, Params};

/// One tensor of a file, widened.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// As the file has it.
    pub name: String,
    /// From the outermost dimension to the innermost.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// All tensors of a file, in the order of their names: for what stands around a network, such as an embedding. F16 and BF16 are
/// widened, other types refused.
pub fn read_tensors(bytes: &[u8]) -> Result<Vec<Tensor>> {
    let file = TensorFile::open(bytes)?;
    let mut tensors = Vec::new();
    for name in file.names() {
        let view = file.find(name)?;
        let mut values = Vec::new();
        widen(name, &view, &mut values)?;
        tensors.push(Tensor { name: name.into(), shape: view.shape().to_vec(), values });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

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

pub(super) fn check_shape(name: &str, expected: &[usize], tensor: &TensorView<'_>) -> Result<()> {
    if tensor.shape() != expected {
        return Err(Error::Shape { name: name.into(), expected: expected.into(), actual: tensor.shape().to_vec() });
    }
    Ok(())
}

/// The values of a tensor of such a file: F16 and BF16 are widened, other types refused under that name.
pub fn values_of(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    widen(name, tensor, &mut values)?;
    Ok(values)
}

/// Appends a tensor's values as f32. Files are little-endian and need not be aligned.
pub(super) fn widen(name: &str, tensor: &TensorView<'_>, values: &mut Vec<f32>) -> Result<()> {
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
    /// Reads a file of one network, all its names PyTorch's behind at most one common prefix; the sizes follow from names and
    /// shapes.
    ///
    /// Without the name of a `cell` (as [`by_name`] takes it), 4 blocks of rows are an `lstm`, 3 a `gru` and 1 an
    /// `rnn_tanh`. An LSTM with `weight_peephole_l0` has peepholes. The names of `torch.nn.LSTMCell`, `GRUCell` and `RNNCell`,
    /// without `_l0`, are a network of one layer.
    pub fn from_safetensors(bytes: &[u8], cell: Option<&str>) -> Result<Self> {
        Self::from_pytorch_file(&TensorFile::open(bytes)?, None, cell)
    }

    /// Of the one network of the file, or of the one behind `at`.
    pub(super) fn from_pytorch_file(file: &TensorFile<'_>, at: Option<&str>, cell: Option<&str>) -> Result<Self> {
        if let Some(prefix) = at {
            return Self::from_module(&Module::at(file, prefix)?, cell);
        }
        let prefixes = prefixes(file);
        let mut all = prefixes.iter();
        let prefix = match (all.next(), all.next()) {
            (None, _) => "",
            (Some(prefix), None) => prefix,
            _ => return Err(Error::Config(format!("{} networks in one file, behind {}", prefixes.len(), quoted(&prefixes)))),
        };
        let module = Module::at(file, prefix)?;
        let outside: BTreeSet<&str> = file.names().into_iter().filter(|name| !name.starts_with(prefix)).collect();
        match outside.first() {
            Some(&name) => Err(Error::UnusedTensor { name: name.into() }),
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
        let (rows, hidden_size) = matrix(file, &full("weight_hh_l0"))?;
        let mut config = RnnConfig::new(input_size, hidden_size).with_bias(names().any(|name| name.starts_with("bias_")));
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
    /// Of its tensors, without the prefix.
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
            return Err(if known.is_empty() {
                file.find(&format!("{prefix}{}", FIRST[0])).err().unwrap_or_else(|| unreachable!("it is no name of the file"))
            } else {
                Error::UnknownName { kind: "prefix of a network", name: prefix.into(), known: quoted(&known) }
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

fn quoted(names: &BTreeSet<&str>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What PyTorch writes such a tensor for, if it has no counterpart here.
fn unsupported(name: &str) -> Option<&'static str> {
    let is_weight = name.contains("weight_ih_l") || name.contains("weight_hh_l");
    if name.contains("weight_hr_l") {
        Some("an LSTM with a projection (proj_size)")
    } else if is_weight && (name.contains("parametrizations.") || name.ends_with("_g") || name.ends_with("_v")) {
        Some("weight normalization (to be removed before saving)")
    } else {
        None
    }
}

/// Rows and columns.
pub(super) fn matrix(file: &TensorFile<'_>, name: &str) -> Result<(usize, usize)> {
    match *file.find(name)?.shape() {
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
    use safetensors::SafeTensors;

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
            assert_eq!(model.cell.spec().unit_params, lstm.spec().unit_params);
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
        let whole = read_tensors(&file(&tensors)).unwrap();
        let found: Vec<_> = whole.iter().map(|t| (t.name.as_str(), &t.shape[..], &t.values[..])).collect();
        assert_eq!(found, [("weight_hh_l0", &[1, 1][..], &[-3.0][..]), ("weight_ih_l0", &[1, 2], &[1.5, -0.0625])]);
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
                Err(Error::NotInFile { name, .. }) if missing == "m.weight_ih_l0" => assert_eq!(name, "weight_ih_l0"),
                Err(Error::NotInFile { name, .. }) => assert_eq!(name, missing),
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
        assert!(error.contains("2 networks") && error.contains("`a.`, `b.`"), "{error}");
    }

    #[test]
    fn lifts_one_module_out_of_a_checkpoint() {
        let deep = config().with_num_layers(2).with_bidirectional(true);
        let mut checkpoint = tensors("lstm", &deep, "encoder.lstm.");
        checkpoint.extend(tensors("gru", &config(), "decoder.rnn."));
        checkpoint.push(zeros("decoder.out.weight", &[2, 5]));
        checkpoint.push(("step".into(), Dtype::I64, vec![1], vec![0; 8]));
        let at = |checkpoint: &Tensors, prefix: &str| Model::from_safetensors_at(&file(checkpoint), prefix, None);
        for (cell, config, prefix) in [("lstm", &deep, "encoder.lstm."), ("gru", &config(), "decoder.rnn.")] {
            let truth = params(&by_name(cell).unwrap(), config);
            let model = at(&checkpoint, prefix).unwrap();
            assert_eq!((model.cell.name(), &model.config, &*model.prefix), (cell, config, prefix));
            assert_eq!(model.params, truth);
            assert_eq!(Params::from_safetensors(truth.layout(), &file(&checkpoint), prefix).unwrap(), truth);
        }
        // Where there is none, those that are there.
        for prefix in ["", "encoder.", "encoder.lstm", "decoder.out.", "x."] {
            let known = "`decoder.rnn.`, `encoder.lstm.`";
            match at(&checkpoint, prefix) {
                Err(Error::UnknownName { name, known: listed, .. }) => assert_eq!((&*name, &*listed), (prefix, known)),
                other => panic!("{prefix}: {other:?}"),
            }
        }
        // What lies behind the prefix must be the network's.
        checkpoint.push(zeros("encoder.lstm.scale", &[1]));
        assert!(matches!(at(&checkpoint, "encoder.lstm."), Err(Error::UnusedTensor { name }) if name == "encoder.lstm.scale"));
        assert!(at(&checkpoint, "decoder.rnn.").is_ok());
        // The whole file is no network.
        assert!(matches!(read(&checkpoint, None), Err(Error::Config(_))));
        // Nor is a file without any.
        match at(&vec![zeros("fc.weight", &[1])], "a.") {
            Err(Error::NotInFile { name, .. }) => assert_eq!(name, "a.weight_ih_l0"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cell_modules_are_networks_of_one_layer() {
        for cell in ["lstm", "gru", "rnn_tanh"] {
            for config in [config(), config().with_bias(false)] {
                for prefix in ["", "decoder.cell."] {
                    let mut module = tensors(cell, &config, prefix);
                    module.iter_mut().for_each(|t| t.0 = t.0.strip_suffix("_l0").unwrap().into());
                    let truth = params(&by_name(cell).unwrap(), &config);
                    let model = read(&module, None).unwrap();
                    assert_eq!((model.cell.name(), &model.config, &*model.prefix), (cell, &config, prefix));
                    assert_eq!(model.params, truth);
                    assert_eq!(Params::from_safetensors(truth.layout(), &file(&module), prefix).unwrap(), truth);

                    module.push(zeros("fc.weight", &[1]));
                    assert!(matches!(read(&module, None), Err(Error::UnusedTensor { name }) if name == "fc.weight"));
                    if !prefix.is_empty() {
                        assert_eq!(Model::from_safetensors_at(&file(&module), prefix, None).unwrap().params, truth);
                    }
                }
            }
        }
        // Names of both kinds, and what no cell module has.
        for extra in ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_ih_reverse", "weight_peephole_l0"] {
            let mut module = tensors("lstm", &config(), "");
            module.iter_mut().for_each(|t| t.0 = t.0.strip_suffix("_l0").unwrap().into());
            module.push(zeros(extra, &[20, 3]));
            assert!(read(&module, None).is_err(), "{extra}");
        }
    }

    #[test]
    fn says_what_is_not_supported() {
        for (name, feature) in [
            ("weight_hr_l0", "proj_size"),
            ("weight_hr_l1_reverse", "proj_size"),
            ("weight_hh_l0_g", "weight normalization"),
            ("parametrizations.weight_ih_l0.original1", "weight normalization"),
        ] {
            for prefix in ["", "m."] {
                let name = format!("{prefix}{name}");
                let mut tensors = tensors("lstm", &config(), prefix);
                tensors.push(zeros(&name, &[2, 5]));
                let bytes = file(&tensors);
                let layout = ParamLayout::new(&by_name("lstm").unwrap(), &config()).unwrap();
                let errors = [
                    Model::from_safetensors(&bytes, None).unwrap_err(),
                    Model::from_safetensors_at(&bytes, prefix, None).unwrap_err(),
                    Params::from_safetensors(&layout, &bytes, prefix).unwrap_err(),
                ];
                for error in errors.map(|e| e.to_string()) {
                    assert!(error.contains(&name) && error.contains(feature), "{error}");
                }
            }
        }
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
        assert!(matches!(Params::from_safetensors(&layout, &bytes, ""), Err(Error::NotInFile { .. })));
    }

    #[test]
    fn refuses_garbage() {
        let bytes = file(&tensors("gru", &config(), ""));
        let mut longer = bytes.clone();
        longer.push(0);
        for garbage in [&[][..], b"garbage, longer than a header", &bytes[..bytes.len() - 1], &bytes[..9], &longer] {
            let error = Model::from_safetensors(garbage, None).unwrap_err();
            assert!(matches!(error, Error::Safetensors(_) | Error::Header(_)), "{error}");
        }
        let nothing = file(&Vec::new());
        assert!(matches!(Model::from_safetensors(&nothing, None), Err(Error::NotInFile { .. })));
    }
}
