//! Weights of Keras 3 through the reader, the reference and the GPU; `tests/fixtures/keras/generate.py` made the numbers.

mod common;

use common::recorded::Recorded;
use tidegate::SeqShape;
use tidegate::import::{Model, masked_steps};

#[test]
fn agrees_with_keras() {
    let ctx = common::own_context();
    let records = Recorded::all("keras");
    for record in &records {
        let cell = (record.number("named") == 1).then(|| record.text("cell"));
        let mut model = Model::from_keras(&record.network, cell).unwrap_or_else(|error| panic!("{}: {error}", record.name));
        assert_eq!(model.cell.name(), record.text("cell"), "{}", record.name);
        model.config.batch_first = true;
        assert_eq!(model.config, record.config(), "{}", record.name);
        record.check(&ctx, &model);
    }
    assert!(records.len() >= 12, "only {} records", records.len());
}

/// Padding on the left and on the right, holes, a row that is nothing else; masks that are given, and those that layers make.
#[test]
fn agrees_with_keras_under_masks() {
    let ctx = common::own_context();
    let records = Recorded::all("keras/masks");
    for record in &records {
        let mut model = Model::from_keras(&record.network, None).unwrap_or_else(|error| panic!("{}: {error}", record.name));
        assert_eq!(model.cell.name(), record.text("cell"), "{}", record.name);
        (model.config.batch_first, model.config.zero_output_for_mask) = (true, record.number("zero_output_for_mask") == 1);
        assert_eq!(model.config, record.config(), "{}", record.name);
        record.check(&ctx, &model);
        if record.name.ends_with("masking") {
            let shape = SeqShape { seq_len: record.number("seq_len"), batch_size: record.number("batch_size") };
            let value = record.text("mask_value").parse().unwrap();
            assert_eq!(masked_steps(&record.input(), &model.config, shape, value).unwrap(), record.hold().unwrap());
        }
    }
    assert!(records.len() >= 8, "only {} records", records.len());
}

#[test]
fn a_file_of_either_naming_is_told_by_its_names() {
    for folder in ["keras", "pytorch/export"] {
        for record in Recorded::all(folder) {
            let cell = Some(record.text("cell"));
            let read = if folder == "keras" { Model::from_keras } else { Model::from_safetensors };
            let [told, known] = [Model::from_weights, read].map(|read| read(&record.network, cell).unwrap());
            assert_eq!((told.config, told.params), (known.config, known.params), "{}", record.name);
        }
    }
}
