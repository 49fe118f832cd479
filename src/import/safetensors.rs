//! The container of safetensors files. What the `safetensors` crate lets pass, or refuses without a name and numbers, is refused
//! here before the crate sees it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use safetensors::tensor::TensorInfo;
use safetensors::{SafeTensorError, SafeTensors};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Most dimensions of a tensor in a file: as many as NumPy has, and few enough to print.
pub(super) const MAX_DIMENSIONS: usize = 64;

/// Opens a safetensors file. Every tensor's bytes must lie in the file, and the tensors must fill it without gap or overlap. Files
/// of other formats are told by their first bytes, and the error says how to convert them.
///
/// The crate of that name takes the last of two tensors of one name where their offsets allow it, and an offset near 2⁶⁴
/// overflows its sum, which is a panic in debug builds (0.8.0); both are errors here.
pub fn open_safetensors(bytes: &[u8]) -> Result<SafeTensors<'_>> {
    super::foreign::refuse(bytes)?;
    let Some((length, rest)) = bytes.split_first_chunk() else {
        let is_empty = if bytes.is_empty() { ": it is empty" } else { "" };
        return Err(Error::Header(format!("8 bytes of header length expected, the file has {}{is_empty}", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let Some((header, data)) = header else {
        return Err(Error::Header(format!("a header of {length} bytes, the file has {} behind its length", rest.len())));
    };
    if header.len() > MAX_HEADER {
        return Err(Error::Header(format!("a header of {length} bytes, at most {MAX_HEADER}")));
    }
    let header = str::from_utf8(header).map_err(SafeTensorError::InvalidHeader)?;
    let Entries(entries) = serde_json::from_str(header).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    check(entries, data.len()).map_err(Error::Header)?;
    Ok(SafeTensors::deserialize(bytes)?)
}

/// The metadata of a file that [`open_safetensors`] took.
pub(crate) fn safetensors_metadata(bytes: &[u8]) -> Result<HashMap<String, String>> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

/// What the header says of each tensor, in its order, twice where a name is there twice.
struct Entries(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Header;
        impl<'de> Visitor<'de> for Header {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        let info = map.next_value().map_err(|e| A::Error::custom(format!("`{name}`: {e}")))?;
                        entries.push((name, info));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Header)
    }
}

/// The crate's own limit. Reading a header takes up to some 20 times its bytes of memory.
const MAX_HEADER: usize = 100_000_000;

fn check(mut entries: Vec<(String, TensorInfo)>, data_len: usize) -> Result<(), String> {
    entries.sort_by_key(|(_, info)| info.data_offsets);
    let mut names = BTreeSet::new();
    let mut previous = 0;
    for (name, TensorInfo { dtype, shape, data_offsets: (begin, end) }) in &entries {
        if !names.insert(name) {
            return Err(format!("`{name}` is there twice"));
        }
        if shape.len() > MAX_DIMENSIONS {
            return Err(format!("`{name}`: {} dimensions, at most {MAX_DIMENSIONS}", shape.len()));
        }
        if *end > data_len {
            return Err(format!("`{name}`: its data end at {end}, the file's at {data_len}: the file is cut"));
        }
        let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &size| bits.checked_mul(size));
        let Some(bits) = bits else {
            return Err(format!("`{name}`: shape {shape:?} of {dtype} has more than {} bits", usize::MAX));
        };
        if end.checked_sub(*begin).and_then(|bytes| bytes.checked_mul(8)) != Some(bits) {
            return Err(format!("`{name}`: shape {shape:?} of {dtype} takes {bits} bits, its data are bytes {begin} to {end}"));
        }
        if *begin != previous {
            return Err(format!("`{name}`: its data begin at {begin}, those before it end at {previous}"));
        }
        previous = *end;
    }
    if previous != data_len {
        return Err(format!("the last tensor's data end at {previous}, the file's at {data_len}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::import::Model;

    /// What the error about each file of `tests/corpus/safetensors` says, but for those called `ok_..`: whole networks.
    const REFUSED: [(&str, &str); 48] = [
        ("backwards", "`a`: shape [0] of F32 takes 0 bits, its data are bytes 4 to 0"),
        ("checkpoint", "2 networks in one file, behind `a.`, `b.`"),
        ("data_cut", "`a`: its data end at 16, the file's at 15"),
        ("data_longer", "the last tensor's data end at 16, the file's at 17"),
        ("deep", "expected an object of tensors"),
        ("deep_in_metadata", "expected a string"),
        ("deep_in_tensor", "`a`: "),
        ("dtype_i32", "`weight_ih_l0`: expected dtype F32, F16 or BF16, got I32"),
        ("dtype_unknown", "`a`: unknown variant `F31`"),
        ("duplicate_name", "`weight_ih_l0` is there twice"),
        ("duplicate_name_escaped", "`a` is there twice"),
        ("empty", "missing tensor `weight_ih_l0`"),
        ("field_missing", "`a`: missing field `data_offsets`"),
        ("field_twice", "`a`: duplicate field `dtype`"),
        ("gap", "`b`: its data begin at 8, those before it end at 4"),
        ("header_array", "expected an object of tensors"),
        ("header_cut", "EOF while parsing"),
        ("header_length_max", "a header of 18446744073709551615 bytes, the file has 2"),
        ("header_length_zero", "EOF while parsing"),
        ("header_longer_than_file", "a header of 3 bytes, the file has 2"),
        ("header_not_utf8", "invalid UTF-8"),
        // These five and two lists are no files: the fuzz targets make files of them.
        ("header_only_gru_bf16_layers", "a JSON file"),
        ("header_only_keras_gru_bidirectional", "a JSON file"),
        ("header_only_keras_lstm_layers", "a JSON file"),
        ("header_only_lstm", "a JSON file"),
        ("header_only_lstm_cell", "a JSON file"),
        ("header_twice", "trailing characters"),
        ("keras_gru_which", "`l0.recurrent_kernel`: without a bias, 3 blocks"),
        ("layers_far", "unused tensor `weight_ih_l65535`"),
        ("list_keras_gru", "a header of"),
        ("list_lstm", "a header of"),
        ("metadata_number", "expected a map"),
        ("metadata_twice", "duplicate field `__metadata__`"),
        ("no_length", "8 bytes of header length expected, the file has 4"),
        ("not_from_zero", "`a`: its data begin at 4, those before it end at 0"),
        ("offset_beyond_u64", "`a`: invalid type: floating point `1.8446744073709552e+19`"),
        ("offset_fraction", "`a`: invalid type: floating point `0.0`"),
        ("offset_max", "`a`: its data end at 18446744073709551615, the file's at 4"),
        ("offset_negative", "`a`: invalid value: integer `-4`"),
        ("offsets_overflow_sum", "`t0`: its data end at 2305843009213693951, the file's at 0"),
        ("overlap", "`b`: its data begin at 4, those before it end at 8"),
        ("shape_huge_empty", "`input_size`: 0"),
        ("shape_long", "`a`: 300 dimensions, at most 64"),
        ("shape_not_bytes", "`a`: shape [3] of F4 takes 12 bits, its data are bytes 0 to 1"),
        ("shape_overflow", "`weight_ih_l0`: shape [4611686018427387904, 4] of F32 has more than"),
        ("shape_overflow_bits", "`weight_ih_l0`: shape [2305843009213693952] of F32 has more than"),
        ("shape_too_large", "`a`: shape [1099511627776] of F32 takes 35184372088832 bits"),
        ("weight_norm", "`weight_ih_l0_g`: weight normalization"),
    ];

    #[test]
    fn every_damage_is_named() {
        // What cargo says at run time: the test binary may have been carried to another machine.
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let folder = folder.join("tests/corpus/safetensors");
        let mut refused = BTreeMap::from(REFUSED);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match (Model::from_weights(&fs::read(&path).unwrap(), None), refused.remove(name)) {
                (Ok(_), None) => assert!(name.starts_with("ok_"), "{name} is accepted"),
                (Err(error), Some(what)) => assert!(error.to_string().contains(what), "{name}: {error}"),
                (outcome, what) => panic!("{name}: expected {what:?}, got {outcome:?}"),
            }
        }
        assert!(refused.is_empty(), "no such files: {refused:?}");
    }

    #[test]
    fn a_header_has_a_largest_size() {
        for (length, what) in [(MAX_HEADER, "EOF while parsing"), (MAX_HEADER + 1, "100000001 bytes, at most 100000000")] {
            let mut file = (length as u64).to_le_bytes().to_vec();
            file.resize(8 + length, b' ');
            let error = open_safetensors(&file).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
