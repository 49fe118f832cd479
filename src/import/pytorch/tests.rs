//! What comes back of PyTorch's files, and what is refused and how.

use half::{bf16, f16};
use safetensors::SafeTensors;

use super::*;
use crate::cell::registry;
use crate::import::tensors::read_tensors;

/// Name, type, shape and bytes of each tensor of a file under test.
type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn file(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
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
    let mut tensors: Tensors = file.iter().map(|(n, t)| (n.into(), t.dtype(), t.shape().to_vec(), t.data().to_vec())).collect();
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
            Err(Error::UnusedTensor { name } | Error::OutsideNetwork { name, .. }) => assert_eq!(name, extra),
            other => panic!("with {extra}: {other:?}"),
        }
    }
    let mut two = tensors("lstm", &config(), "a.");
    two.extend(tensors("lstm", &config(), "b."));
    let error = read(&two, None).unwrap_err().to_string();
    assert!(error.contains("2 networks") && error.contains("`a.`, `b.`"), "{error}");
    assert!(error.contains("by its prefix (`Reading::with_prefix`, `--prefix`)"), "{error}");
    let mut beside = tensors("lstm", &config(), "a.");
    beside.push(zeros("fc.weight", &[1]));
    let error = read(&beside, None).unwrap_err().to_string();
    assert!(
        ["`fc.weight`", "behind `a.`", "`Reading::with_prefix`", "`--prefix`"].iter().all(|part| error.contains(part)),
        "{error}"
    );
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
    match at(&tensors("lstm", &config(), ""), "a.") {
        Err(Error::UnknownName { name, known, .. }) => {
            assert_eq!((&*name, &*known), ("a.", "none, the file's names have no prefix"))
        }
        other => panic!("{other:?}"),
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
                let error = read(&module, None).unwrap_err();
                assert!(error.to_string().contains("unused tensor `fc.weight`"), "{error}");
                assert!(prefix.is_empty() || error.to_string().contains("behind `decoder.cell.`"), "{error}");
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
    for (name, feature) in
        [("weight_hh_l0_g", "weight normalization"), ("parametrizations.weight_ih_l0.original1", "weight normalization")]
    {
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
