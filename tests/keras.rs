//! Weights of Keras 3 through the reader, the reference and the GPU; `tests/fixtures/keras/generate.py` made the numbers.

mod common;

use common::recorded::Recorded;
use tidegate::import::Model;

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
