//! Tensors, as the file holds them and as callers give and get them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use half::{bf16, f16};

use super::external::Files;
use super::host::{self, Array, Budget, Data};
use super::proto::{
    BFLOAT16, BOOL, DOUBLE, FLOAT, FLOAT16, INT8, INT16, INT32, INT64, TensorProto, UINT8, UINT16, UINT32, UINT64, type_name,
};
use crate::error::{Error, Result};
use crate::import::safetensors::MAX_DIMENSIONS;

/// Tensors under the graph's names.
pub type Tensors = BTreeMap<String, Tensor>;

/// A tensor on the host, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Any number of dimensions.
    pub shape: Vec<usize>,
    /// As many values as the product of the shape.
    pub values: Values,
}

/// Values of one of the types that graphs take here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Values {
    /// FLOAT; FLOAT16 and BFLOAT16 are widened.
    F32(Vec<f32>),
    /// `sequence_lens`, indices and shapes.
    I32(Vec<i32>),
    /// The same.
    I64(Vec<i64>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::F32(_) => "FLOAT",
            Self::I32(_) => "INT32",
            Self::I64(_) => "INT64",
        }
    }
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

    /// A tensor of wide integers.
    pub fn i64(shape: impl Into<Vec<usize>>, values: Vec<i64>) -> Self {
        Self { shape: shape.into(), values: Values::I64(values) }
    }

    /// Its floats; `name` is for the error if it has none.
    pub(super) fn floats(&self, name: &str) -> Result<&[f32]> {
        match &self.values {
            Values::F32(values) => Ok(values),
            other => Err(dtype(name, "FLOAT", other.type_name())),
        }
    }

    pub(super) fn into_floats(self, name: &str) -> Result<Vec<f32>> {
        match self.values {
            Values::F32(values) => Ok(values),
            other => Err(dtype(name, "FLOAT", other.type_name())),
        }
    }

    /// Its integers.
    pub(super) fn integers(&self, name: &str) -> Result<Cow<'_, [i64]>> {
        match &self.values {
            Values::I32(values) => Ok(values.iter().map(|&value| value.into()).collect()),
            Values::I64(values) => Ok(values.into()),
            Values::F32(_) => Err(dtype(name, "INT32 or INT64", "FLOAT")),
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
        check(name, &self.shape, self.values.len())
    }

    /// What the file or the host has of a tensor; `name` is for the error if it is neither of floats nor of such integers.
    pub(super) fn from_array(name: &str, array: &Array, budget: &Budget) -> Result<Self> {
        let values = match array.type_name() {
            "FLOAT" | "FLOAT16" | "BFLOAT16" => Values::F32(host::to_f32(array, budget)?),
            "INT32" | "INT64" => {
                let array = array.contiguous(budget)?;
                match array.data() {
                    (Data::I32(values), range) => Values::I32(values[range].to_vec()),
                    (Data::I64(values), range) => Values::I64(values[range].to_vec()),
                    _ => return Err(dtype(name, EXPECTED, array.type_name())),
                }
            }
            other => return Err(dtype(name, EXPECTED, other)),
        };
        Ok(Self { shape: array.shape().to_vec(), values })
    }

    pub(super) fn into_array(self) -> Array {
        let data = match self.values {
            Values::F32(values) => Data::F32(values),
            Values::I32(values) => Data::I32(values),
            Values::I64(values) => Data::I64(values),
        };
        Array::new(self.shape, data, None)
    }
}

const EXPECTED: &str = "FLOAT, FLOAT16, BFLOAT16 or (lengths) INT32 or INT64";

pub(super) fn dtype(name: &str, expected: &'static str, actual: &str) -> Error {
    Error::Dtype { name: name.into(), expected, actual: actual.into() }
}

/// Reads a tensor of the file. Nothing is allocated before the data are known to be as long as the shape says.
pub(super) fn read(name: &str, proto: &TensorProto, files: &Files, budget: &Budget) -> Result<Array> {
    if proto.segment.is_some() {
        return Err(Error::Onnx(format!("`{name}`: tensors in segments are not read")));
    }
    let shape = shape_of(name, &proto.dims)?;
    let Some(width) = width(proto.data_type) else {
        let expected = "FLOAT, FLOAT16, BFLOAT16, DOUBLE, BOOL or integers of 8 to 64 bits";
        return Err(dtype(name, expected, &type_name(proto.data_type)));
    };
    let (mut external, mut bytes) = (None, &*proto.raw_data);
    let mut claim = None;
    if proto.data_location != 0 || !proto.external_data.is_empty() {
        let expected = shape.iter().try_fold(width, |n, &d| n.checked_mul(d));
        let Some(expected) = expected else { return Err(wrong_count(name, &shape, None, 0, "bytes")) };
        // What is read and what is made of it.
        claim = Some(budget.claim(expected, 2)?);
        bytes = external.insert(files.read(name, proto, expected)?);
    } else if bytes.is_empty() {
        let data = typed(name, &shape, proto)?;
        check(name, &shape, data.len())?;
        return Ok(Array::new(shape, data, None));
    } else if !(proto.float_data.is_empty() && proto.int32_data.is_empty() && proto.int64_data.is_empty()) {
        return Err(Error::Onnx(format!("`{name}`: has both raw_data and typed data")));
    }
    let expected = shape.iter().try_fold(width, |n, &d| n.checked_mul(d));
    if expected != Some(bytes.len()) {
        return Err(wrong_count(name, &shape, expected, bytes.len(), "bytes"));
    }
    let data = match proto.data_type {
        FLOAT => Data::F32(words(bytes, f32::from_le_bytes)),
        DOUBLE => Data::F64(words(bytes, f64::from_le_bytes)),
        FLOAT16 => Data::F16(words(bytes, f16::from_le_bytes)),
        BFLOAT16 => Data::Bf16(words(bytes, bf16::from_le_bytes)),
        INT8 => Data::I8(words(bytes, i8::from_le_bytes)),
        UINT8 => Data::U8(bytes.to_vec()),
        INT16 => Data::I16(words(bytes, i16::from_le_bytes)),
        UINT16 => Data::U16(words(bytes, u16::from_le_bytes)),
        INT32 => Data::I32(words(bytes, i32::from_le_bytes)),
        UINT32 => Data::U32(words(bytes, u32::from_le_bytes)),
        INT64 => Data::I64(words(bytes, i64::from_le_bytes)),
        UINT64 => Data::U64(words(bytes, u64::from_le_bytes)),
        _ => Data::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
    };
    Ok(Array::new(shape, data, claim))
}

/// Bytes of a value of a type that is read.
fn width(data_type: i32) -> Option<usize> {
    match data_type {
        INT8 | UINT8 | BOOL => Some(1),
        FLOAT16 | BFLOAT16 | INT16 | UINT16 => Some(2),
        FLOAT | INT32 | UINT32 => Some(4),
        DOUBLE | INT64 | UINT64 => Some(8),
        _ => None,
    }
}

fn words<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&word| value(word)).collect()
}

/// Values that are not raw: of the smaller types each in an int32.
fn typed(name: &str, shape: &[usize], proto: &TensorProto) -> Result<Data> {
    fn narrow<T: TryFrom<i32>>(name: &str, proto: &TensorProto) -> Result<Vec<T>> {
        let value = |&word: &i32| {
            T::try_from(word).map_err(|_| {
                let (bits, of) = (8 * size_of::<T>(), type_name(proto.data_type));
                Error::Onnx(format!("`{name}`: int32_data holds {word}, not {bits} bits of {of}"))
            })
        };
        proto.int32_data.iter().map(value).collect()
    }
    let count = match proto.data_type {
        FLOAT => proto.float_data.len(),
        DOUBLE => proto.double_data.len(),
        INT64 => proto.int64_data.len(),
        UINT32 | UINT64 => proto.uint64_data.len(),
        _ => proto.int32_data.len(),
    };
    check(name, shape, count)?;
    Ok(match proto.data_type {
        FLOAT => Data::F32(proto.float_data.clone()),
        DOUBLE => Data::F64(proto.double_data.clone()),
        FLOAT16 => Data::F16(narrow::<u16>(name, proto)?.into_iter().map(f16::from_bits).collect()),
        BFLOAT16 => Data::Bf16(narrow::<u16>(name, proto)?.into_iter().map(bf16::from_bits).collect()),
        INT8 => Data::I8(narrow(name, proto)?),
        UINT8 => Data::U8(narrow(name, proto)?),
        INT16 => Data::I16(narrow(name, proto)?),
        UINT16 => Data::U16(narrow(name, proto)?),
        INT32 => Data::I32(proto.int32_data.clone()),
        INT64 => Data::I64(proto.int64_data.clone()),
        UINT32 => Data::U32(proto.uint64_data.iter().map(|&value| value as u32).collect()),
        UINT64 => Data::U64(proto.uint64_data.clone()),
        _ => Data::Bool(proto.int32_data.iter().map(|&value| value != 0).collect()),
    })
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

/// Refuses data of another count than the shape's.
fn check(name: &str, shape: &[usize], actual: usize) -> Result<()> {
    let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if expected == Some(actual) { Ok(()) } else { Err(wrong_count(name, shape, expected, actual, "values")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that 8 bits of mantissa hold.
    const VALUES: [f32; 3] = [1.5, -0.25, 3.0];

    fn proto(data_type: i32) -> TensorProto {
        TensorProto { dims: vec![3, 1], data_type, ..Default::default() }
    }

    fn whole(proto: &TensorProto) -> Result<Tensor> {
        let budget = Budget::new(0);
        Tensor::from_array("w", &read("w", proto, &Files::default(), &budget)?, &budget)
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
            assert_eq!(whole(&tensor).unwrap(), Tensor::f32([3, 1], VALUES.into()), "{tensor:?}");
        }
        let integers = [7, -8, 1 << 30];
        for tensor in
            [raw(INT32, bytes(integers.map(i32::to_le_bytes))), TensorProto { int32_data: integers.into(), ..proto(INT32) }]
        {
            assert_eq!(whole(&tensor).unwrap(), Tensor::i32([3, 1], integers.into()), "{tensor:?}");
        }
    }

    #[test]
    fn refuses_halves_of_more_than_16_bits() {
        for word in [-1, 1 << 16] {
            let tensor = TensorProto { int32_data: vec![0, word, 0], ..proto(FLOAT16) };
            assert!(whole(&tensor).unwrap_err().to_string().contains(&word.to_string()));
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
