//! Files with PyTorch's names, and the container itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::import::{Model, open_safetensors};
use tidegate_fuzz::{cells, check, whole_file};

fuzz_target!(|input: &[u8]| {
    let bytes = whole_file(input);
    let Ok(file) = open_safetensors(&bytes) else {
        assert!(Model::from_weights(&bytes, None).is_err());
        return;
    };
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(header + file.iter().map(|(_, tensor)| tensor.data().len()).sum::<usize>(), bytes.len());
    for cell in cells() {
        let Ok(model) = Model::from_safetensors(&bytes, cell.as_deref()) else { continue };
        check(&model, &bytes);
        let lifted = Model::from_safetensors_at(&bytes, &model.prefix, cell.as_deref()).unwrap();
        assert_eq!((lifted.config, lifted.params.layout()), (model.config, model.params.layout()));
    }
    // A module of what may be a larger checkpoint.
    if let Some(prefix) = file.names().first().and_then(|name| Some(&name[..=name.rfind('.')?]))
        && let Ok(model) = Model::from_safetensors_at(&bytes, prefix, None)
    {
        check(&model, &bytes);
    }
});
