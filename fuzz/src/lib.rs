//! What the targets of safetensors files share.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use tidegate::import::Model;

/// A file out of an input. Mutation finds damage by itself, but hardly ever a whole network: names, shapes and offsets must agree.
/// So an input that begins with `{` is a header whose offsets are put right, and one that begins with `#` lists tensors, four
/// bytes each; both get the data that their shapes want. Any other input is a file as it stands.
pub fn whole_file(input: &[u8]) -> Cow<'_, [u8]> {
    file_of(input, listed)
}

/// The same, of tensors listed with names of other families.
pub fn whole_file_of_families(input: &[u8]) -> Cow<'_, [u8]> {
    file_of(input, listed_of_families)
}

fn file_of(input: &[u8], listed: fn(&[u8; 4]) -> (String, Value)) -> Cow<'_, [u8]> {
    let header = match input.first() {
        Some(b'{') => serde_json::from_slice(input).ok(),
        Some(b'#') => Some(input[1..].as_chunks().0.iter().map(listed).collect()),
        _ => None,
    };
    header.and_then(file).map_or(input.into(), Cow::Owned)
}

/// A tensor of four bytes: its name and path; its rank, number of blocks and type; its sizes, small enough to agree often.
fn listed_of_families(&[name, form, rows, columns]: &[u8; 4]) -> (String, Value) {
    const NAMES: [&str; 42] = [
        "kernel",
        "recurrent_kernel",
        "bias",
        "recurrent_bias",
        "gamma",
        "weight_ih",
        "weight_hh",
        "bias_ih",
        "bias_hh",
        "bias_n",
        "Wx",
        "Wh",
        "b",
        "bhn",
        "Wxh",
        "Whh",
        "dense_i.kernel",
        "dense_h.kernel",
        "dense_i.bias",
        "dense_h.bias",
        "ii.kernel",
        "if.kernel",
        "if_.kernel",
        "ig.kernel",
        "io.kernel",
        "hi.kernel",
        "hf.kernel",
        "hg.kernel",
        "ho.kernel",
        "hi.bias",
        "hf.bias",
        "hg.bias",
        "ho.bias",
        "ir.kernel",
        "iz.kernel",
        "in.kernel",
        "hr.kernel",
        "hz.kernel",
        "hn.kernel",
        "hn.bias",
        "i.kernel",
        "h.kernel",
    ];
    let of = |byte: u8, divisor: u8, count: u8| usize::from(byte / divisor % count);
    let path = ["", "m.", "lstm/lstm_cell/", "a."][of(name, 42, 4)];
    let blocks = [1, 3, 4, 6, 8][of(form, 6, 5)];
    let (rows, columns) = (usize::from(rows) % 8, usize::from(columns) % 8);
    let shape = [json!([rows, blocks * columns]), json!([blocks * columns, rows]), json!([blocks * columns])];
    let dtype = ["F32", "F32", "F16", "BF16"][of(form, 30, 4)];
    (format!("{path}{}", NAMES[of(name, 1, 42)]), json!({"dtype": dtype, "shape": shape[of(form, 1, 3)]}))
}

/// A tensor of four bytes: its name; its layer, kind of name and rank; its sizes.
fn listed(&[name, place, rows, columns]: &[u8; 4]) -> (String, Value) {
    const NAMES: [&str; 9] =
        ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_peephole", "weight_hr", "kernel", "recurrent_kernel", "bias"];
    let of = |byte: u8, divisor: u8, count: u8| usize::from(byte / divisor % count);
    let (tensor, layer) = (of(name, 1, 9), of(place, 1, 4));
    let side = ["", "_reverse"][of(name, 9, 2)];
    let prefix = ["", "m."][of(name, 18, 2)];
    let dtype = ["F32", "F16", "BF16"][of(name, 36, 3)];
    let name = match (of(place, 4, 4), tensor) {
        (0, _) => NAMES[tensor].to_string(),
        (_, ..6) => format!("{}_l{layer}{side}", NAMES[tensor]),
        _ => format!("l{layer}{side}.{}", NAMES[tensor]),
    };
    let shape = [json!([rows, columns]), json!([columns, rows]), json!([rows])];
    (format!("{prefix}{name}"), json!({"dtype": dtype, "shape": shape[of(place, 16, 3)]}))
}

/// The header with offsets as its shapes want them, and as much data, up to 1 MiB.
fn file(mut header: Map<String, Value>) -> Option<Vec<u8>> {
    let mut end = 0u64;
    for (_, entry) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let size: u64 = match entry.get("dtype")?.as_str()? {
            "F16" | "BF16" => 2,
            _ => 4,
        };
        let sizes = entry.get("shape")?.as_array()?.iter().map(Value::as_u64);
        let size = sizes.fold(Some(size), |product, size| product?.checked_mul(size?))?;
        let begin = end;
        end = end.checked_add(size).filter(|end| *end <= 1 << 20)?;
        entry.as_object_mut()?.insert("data_offsets".into(), json!([begin, end]));
    }
    let header = serde_json::to_vec(&header).ok()?;
    let data = (0..end).map(|at| (at * 31) as u8);
    Some((header.len() as u64).to_le_bytes().into_iter().chain(header).chain(data).collect())
}

/// A model that was accepted is no larger than its file, and writes a file that gives it back, bit for bit.
pub fn check(model: &Model, file: &[u8]) {
    let values = model.params.values();
    assert_eq!(values.len(), model.params.layout().len());
    // Half precision doubles, a bias of Keras may be one of two; tied names may stand for 64 times the file.
    let most = if file.windows(12).any(|at| at == b"__metadata__") { 65 * file.len() } else { file.len() };
    assert!(values.len() <= most, "{} values out of {} bytes", values.len(), file.len());
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
