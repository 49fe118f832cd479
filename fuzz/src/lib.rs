//! What the targets of safetensors files share.

use std::borrow::Cow;

use serde_json::Value;
use tidegate::import::Model;

/// Fuzzing finds headers; bytes that lie in the file as a header says would be rare. So an input that begins like one gets its
/// length before it and, behind it, as much data as its offsets want, up to 1 MiB. Any other input is a file as it stands.
pub fn whole_file(input: &[u8]) -> Cow<'_, [u8]> {
    if !input.starts_with(b"{") {
        return input.into();
    }
    let offsets = |entry: &Value| entry.get("data_offsets")?.get(1)?.as_u64();
    let header: Value = serde_json::from_slice(input).unwrap_or_default();
    let end = header.as_object().and_then(|entries| entries.values().filter_map(offsets).max()).unwrap_or(0);
    let data = (0..end.min(1 << 20)).map(|at| (at * 31) as u8);
    (input.len() as u64).to_le_bytes().into_iter().chain(input.iter().copied()).chain(data).collect()
}

/// A model that was accepted is no larger than its file, and writes a file that gives it back, bit for bit.
pub fn check(model: &Model, file: &[u8]) {
    let values = model.params.values();
    assert_eq!(values.len(), model.params.layout().len());
    // Half precision doubles, a bias of Keras may be one of two.
    assert!(values.len() <= file.len(), "{} values out of {} bytes", values.len(), file.len());
    let written = model.params.to_safetensors(&model.prefix).unwrap();
    let cell = Some(model.cell.name());
    for again in [Model::from_safetensors(&written, cell), Model::from_safetensors_at(&written, &model.prefix, cell)] {
        let again = again.unwrap();
        assert_eq!((again.config, again.prefix), (model.config.clone(), model.prefix.clone()));
        assert_eq!(again.params.layout(), model.params.layout());
        assert!(again.params.values().iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())));
    }
}

/// No cell named, then each.
pub fn cells() -> impl Iterator<Item = Option<String>> {
    let named = tidegate::cell::registry().into_iter().map(|cell| Some(cell.name().to_string()));
    std::iter::once(None).chain(named)
}
