//! Files with Keras' names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::import::{Family, Model, Reading};
use tidegate_fuzz::{cells, check, whole_file};

fuzz_target!(|input: &[u8]| {
    let bytes = whole_file(input);
    for cell in cells() {
        let Ok(model) = Model::from_keras(&bytes, cell.as_deref()) else { continue };
        check(&model, &bytes);
        // Told whose it is, it is the same; its names alone may be haste's too.
        let reading = Reading::default().with_cell(cell.as_deref()).with_family(Family::Keras);
        let told = Model::read(&bytes, &reading).unwrap();
        assert_eq!((told.config, told.params.layout()), (model.config, model.params.layout()));
    }
});
