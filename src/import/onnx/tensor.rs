//! Tensors, as the file holds them and as callers give and get them.

use half::{bf16, f16};

use super::proto::{BFLOAT16, DATA_TYPES, FLOAT, FLOAT16, INT32, TensorProto};
use crate::error::{Error, Result};
use crate::import::MAX_DIMENSIONS;

/// A tensor on the host, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Any number of dimensions.
    pub shape: Vec<usize>,
    /// As many values as the product of the shape.
    pub values: Values,
}

/// Values of one of the types that recurrent operators take here.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Everything but `sequence_lens`; FLOAT16 and BFLOAT16 are widened.
    F32(Vec<f32>),
    /// `sequence_lens`.
    I32(Vec<i32>),
}

impl Tensor {
    /// A tensor of floats.
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self { shape: shape.into(), values: Values::F32(values) }
    }

    /// A tensor of integers.
    pub fn i32(shape: impl Into<Vec<usize>>, values: Vec<i32>) -> Self {
        Self { shape: shape.into(), values: Values::I32(values) }
    }

    /// Its floats; `name` is for the error if it has none.
    pub(super) fn floats(&self, name: &str) -> Result<&[f32]> {
        match &self.values {
            Values::F32(values) => Ok(values),
            Values::I32(_) => Err(dtype(name, "FLOAT", "INT32")),
        }
    }

    pub(super) fn into_floats(self, name: &str) -> Result<Vec<f32>> {
        match self.values {
            Values::F32(values) => Ok(values),
            Values::I32(_) => Err(dtype(name, "FLOAT", "INT32")),
        }
    }

    /// Its integers.
    pub(super) fn integers(&self, name: &str) -> Result<&[i32]> {
        match &self.values {
            Values::I32(values) => Ok(values),
            Values::F32(_) => Err(dtype(name, "INT32", "FLOAT")),
        }
    }

    pub(super) fn check_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        Err(Error::Shape { name: name.into(), expected: expected.to_vec(), actual: self.shape.clone() })
    }

    /// Refuses a tensor whose values are not as many as its shape says.
    pub(super) fn check_len(&self, name: &str) -> Result<()> {
        let actual = match &self.values {
            Values::F32(values) => values.len(),
            Values::I32(values) => values.len(),
        };
        check(name, &self.shape, actual)
    }

    /// Reads a tensor of the file. Nothing is allocated before the data are known to be as long as the shape says.
    pub(super) fn read(name: &str, proto: &TensorProto) -> Result<Self> {
        if proto.data_location != 0 || !proto.external_data.is_empty() {
            let location = proto.external_data.iter().find(|entry| entry.key == "location");
            let location = location.map_or("another file", |entry| &entry.value);
            return Err(Error::Onnx(format!("`{name}`: its data lie in `{location}`; only those within the model are read")));
        }
        if proto.segment.is_some() {
            return Err(Error::Onnx(format!("`{name}`: tensors in segments are not read")));
        }
        let shape = shape_of(name, &proto.dims)?;
        let values = match proto.data_type {
            FLOAT if proto.raw_data.is_empty() => {
                check(name, &shape, proto.float_data.len())?;
                Values::F32(proto.float_data.clone())
            }
            FLOAT => Values::F32(raw(name, &shape, proto)?.map(f32::from_le_bytes).collect()),
            FLOAT16 => Values::F32(halves(name, &shape, proto)?.map(|bits| f16::from_bits(bits).to_f32()).collect()),
            BFLOAT16 => Values::F32(halves(name, &shape, proto)?.map(|bits| bf16::from_bits(bits).to_f32()).collect()),
            INT32 if proto.raw_data.is_empty() => {
                check(name, &shape, proto.int32_data.len())?;
                Values::I32(proto.int32_data.clone())
            }
            INT32 => Values::I32(raw(name, &shape, proto)?.map(i32::from_le_bytes).collect()),
            other => return Err(dtype(name, "FLOAT, FLOAT16, BFLOAT16 or (lengths) INT32", &type_name(other))),
        };
        Ok(Self { shape, values })
    }
}

/// ONNX's name of a type.
pub(super) fn type_name(data_type: i32) -> String {
    DATA_TYPES.iter().find(|(number, _)| *number == data_type).map_or(format!("type {data_type}"), |(_, name)| name.to_string())
}

pub(super) fn dtype(name: &str, expected: &'static str, actual: &str) -> Error {
    Error::Dtype { name: name.into(), expected, actual: actual.into() }
}

fn shape_of(name: &str, dims: &[i64]) -> Result<Vec<usize>> {
    if dims.len() > MAX_DIMENSIONS {
        return Err(Error::Onnx(format!("`{name}`: {} dimensions, at most {MAX_DIMENSIONS}", dims.len())));
    }
    let size = |&dim: &i64| {
        usize::try_from(dim).map_err(|_| Error::Onnx(format!("`{name}`: dimension {dim} of shape {dims:?} is not a size")))
    };
    dims.iter().map(size).collect()
}

fn wrong_count(name: &str, shape: &[usize], expected: Option<usize>, actual: usize, unit: &str) -> Error {
    let expected = expected.map_or("more than memory can hold".into(), |n| n.to_string());
    Error::Onnx(format!("`{name}`: shape {shape:?} needs {expected} {unit}, got {actual}"))
}

/// Refuses typed data of another count than the shape's.
fn check(name: &str, shape: &[usize], actual: usize) -> Result<()> {
    let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if expected == Some(actual) { Ok(()) } else { Err(wrong_count(name, shape, expected, actual, "values")) }
}

/// Words of `raw_data`, N bytes each.
fn raw<'a, const N: usize>(
    name: &str,
    shape: &[usize],
    proto: &'a TensorProto,
) -> Result<impl ExactSizeIterator<Item = [u8; N]> + use<'a, N>> {
    if !(proto.float_data.is_empty() && proto.int32_data.is_empty()) {
        return Err(Error::Onnx(format!("`{name}`: has both raw_data and typed data")));
    }
    let expected = shape.iter().try_fold(N, |n, &d| n.checked_mul(d));
    match proto.raw_data.as_chunks::<N>() {
        (words, []) if expected == Some(proto.raw_data.len()) => Ok(words.iter().copied()),
        _ => Err(wrong_count(name, shape, expected, proto.raw_data.len(), "bytes")),
    }
}

/// Bits of 16-bit floats: raw, or each in the low half of an int32.
fn halves(name: &str, shape: &[usize], proto: &TensorProto) -> Result<std::vec::IntoIter<u16>> {
    if !proto.raw_data.is_empty() {
        return Ok(raw(name, shape, proto)?.map(u16::from_le_bytes).collect::<Vec<_>>().into_iter());
    }
    check(name, shape, proto.int32_data.len())?;
    let bits = proto.int32_data.iter().map(|&word| {
        u16::try_from(word).map_err(|_| Error::Onnx(format!("`{name}`: int32_data holds {word}, not 16 bits of a float")))
    });
    Ok(bits.collect::<Result<Vec<_>>>()?.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that 8 bits of mantissa hold.
    const VALUES: [f32; 3] = [1.5, -0.25, 3.0];

    fn proto(data_type: i32) -> TensorProto {
        TensorProto { dims: vec![3, 1], data_type, ..Default::default() }
    }

    fn bytes<const N: usize>(words: [[u8; N]; 3]) -> prost::bytes::Bytes {
        words.concat().into()
    }

    #[test]
    fn reads_every_type_from_every_field() {
        let raw = |data_type, raw_data| TensorProto { raw_data, ..proto(data_type) };
        let words = |data_type, words: [u16; 3]| TensorProto { int32_data: words.map(i32::from).into(), ..proto(data_type) };
        let (halves, brains) = (VALUES.map(|v| f16::from_f32(v).to_bits()), VALUES.map(|v| bf16::from_f32(v).to_bits()));
        for tensor in [
            raw(FLOAT, bytes(VALUES.map(f32::to_le_bytes))),
            raw(FLOAT16, bytes(halves.map(u16::to_le_bytes))),
            raw(BFLOAT16, bytes(brains.map(u16::to_le_bytes))),
            words(FLOAT16, halves),
            words(BFLOAT16, brains),
            TensorProto { float_data: VALUES.into(), ..proto(FLOAT) },
        ] {
            assert_eq!(Tensor::read("w", &tensor).unwrap(), Tensor::f32([3, 1], VALUES.into()), "{tensor:?}");
        }
        let integers = [7, -8, 1 << 30];
        for tensor in
            [raw(INT32, bytes(integers.map(i32::to_le_bytes))), TensorProto { int32_data: integers.into(), ..proto(INT32) }]
        {
            assert_eq!(Tensor::read("w", &tensor).unwrap(), Tensor::i32([3, 1], integers.into()), "{tensor:?}");
        }
    }

    #[test]
    fn refuses_halves_of_more_than_16_bits() {
        for word in [-1, 1 << 16] {
            let tensor = TensorProto { int32_data: vec![0, word, 0], ..proto(FLOAT16) };
            assert!(Tensor::read("w", &tensor).unwrap_err().to_string().contains(&word.to_string()));
        }
    }

    #[test]
    fn a_given_tensor_has_as_many_values_as_its_shape() {
        assert!(Tensor::f32([2, 2], vec![0.0; 4]).check_len("x").is_ok());
        let error = Tensor::f32([2, 2], vec![0.0; 3]).check_len("x").unwrap_err().to_string();
        assert!(error.contains("`x`") && error.contains('4') && error.contains('3'), "{error}");
        assert!(Tensor::i32([usize::MAX, 2], vec![]).check_len("x").is_err());
    }
}
