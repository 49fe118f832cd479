//! The container of safetensors files. What the `safetensors` crate lets pass, or refuses without a name and numbers, is refused
//! here before the crate sees it.

use std::collections::BTreeSet;
use std::fmt;

use safetensors::tensor::TensorInfo;
use safetensors::{SafeTensorError, SafeTensors};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Opens a safetensors file. Every tensor's bytes must lie in the file, and the tensors must fill it without gap or overlap.
///
/// The crate of that name takes the last of two tensors of one name where their offsets allow it, and an offset near 2⁶⁴
/// overflows its sum, which is a panic in debug builds (0.8.0); both are errors here.
pub fn open_safetensors(bytes: &[u8]) -> Result<SafeTensors<'_>> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Err(Error::Header(format!("8 bytes of header length expected, the file has {}", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let Some((header, data)) = header else {
        return Err(Error::Header(format!("a header of {length} bytes, the file has {} behind its length", rest.len())));
    };
    let header = str::from_utf8(header).map_err(SafeTensorError::InvalidHeader)?;
    let Entries(entries) = serde_json::from_str(header).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    check(entries, data.len()).map_err(Error::Header)?;
    Ok(SafeTensors::deserialize(bytes)?)
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
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Header)
    }
}

/// As many as NumPy has, and few enough to print.
const MAX_DIMENSIONS: usize = 64;

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
            return Err(format!("`{name}`: its data end at {end}, the file's at {data_len}"));
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
