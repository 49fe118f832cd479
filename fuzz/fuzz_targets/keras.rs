//! Files with Keras' names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::import::Model;
use tidegate_fuzz::{cells, check, whole_file};

fuzz_target!(|input: &[u8]| {
    let bytes = whole_file(input);
    for cell in cells() {
        let Ok(model) = Model::from_keras(&bytes, cell.as_deref()) else { continue };
        check(&model, &bytes);
        // Told by its names, it is the same.
        let told = Model::from_weights(&bytes, cell.as_deref()).unwrap();
        assert_eq!((told.config, told.params.layout()), (model.config, model.params.layout()));
    }
});
