//! Files of other families, told by their names or said to be of each; metadata that tie names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::import::{Family, Model, Reading, read_tensors};
use tidegate_fuzz::{check, whole_file_of_families};

const FAMILIES: [Family; 5] = [Family::CuDnn, Family::Haste, Family::Flax, Family::Mlx, Family::Equinox];

fuzz_target!(|input: &[u8]| {
    let bytes = whole_file_of_families(input);
    let tensors = read_tensors(&bytes);
    for family in std::iter::once(None).chain(FAMILIES.map(Some)) {
        for prefix in [None, Some("m."), Some("lstm/lstm_cell/")] {
            for cell in [None, Some("gru_reset_before"), Some("rnn_relu")] {
                let reading = Reading::default().with_cell(cell).with_prefix(prefix).with_family(family);
                let Ok(model) = Model::read(&bytes, &reading) else { continue };
                check(&model, &bytes);
                // Nothing is lost and nothing made up: without a prefix the sum of all bits is that of the file.
                if prefix.is_none()
                    && let Ok(tensors) = &tensors
                {
                    let all = tensors.iter().flat_map(|tensor| &tensor.values);
                    let sum = |values: &mut dyn Iterator<Item = &f32>| {
                        values.filter(|value| **value != 0.0).fold(0u64, |sum, value| sum.wrapping_add(value.to_bits().into()))
                    };
                    assert_eq!(sum(&mut model.params.values().iter()), sum(&mut all.into_iter()));
                }
            }
        }
    }
});
