//! Tensors of every type that is read here, and views of them.

use std::sync::Arc;

use half::{bf16, f16};

use super::budget::{Budget, Claim};
use crate::error::{Error, Result};

/// Values of one type, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

/// An expression on the values of whatever type.
macro_rules! each {
    ($data:expr, $values:ident => $result:expr) => {
        match $data {
            Data::F32($values) => $result,
            Data::F64($values) => $result,
            Data::F16($values) => $result,
            Data::Bf16($values) => $result,
            Data::I8($values) => $result,
            Data::U8($values) => $result,
            Data::I16($values) => $result,
            Data::U16($values) => $result,
            Data::I32($values) => $result,
            Data::U32($values) => $result,
            Data::I64($values) => $result,
            Data::U64($values) => $result,
            Data::Bool($values) => $result,
        }
    };
}

/// New values of the same type.
macro_rules! alike {
    ($data:expr, $values:ident => $result:expr) => {
        match $data {
            Data::F32($values) => Data::F32($result),
            Data::F64($values) => Data::F64($result),
            Data::F16($values) => Data::F16($result),
            Data::Bf16($values) => Data::Bf16($result),
            Data::I8($values) => Data::I8($result),
            Data::U8($values) => Data::U8($result),
            Data::I16($values) => Data::I16($result),
            Data::U16($values) => Data::U16($result),
            Data::I32($values) => Data::I32($result),
            Data::U32($values) => Data::U32($result),
            Data::I64($values) => Data::I64($result),
            Data::U64($values) => Data::U64($result),
            Data::Bool($values) => Data::Bool($result),
        }
    };
}
pub(super) use {alike, each};

impl Data {
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Bytes of a value.
    pub fn width(&self) -> usize {
        fn width<T>(_: &[T]) -> usize {
            size_of::<T>()
        }
        each!(self, values => width(values))
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Self::F32(_) => "FLOAT",
            Self::F64(_) => "DOUBLE",
            Self::F16(_) => "FLOAT16",
            Self::Bf16(_) => "BFLOAT16",
            Self::I8(_) => "INT8",
            Self::U8(_) => "UINT8",
            Self::I16(_) => "INT16",
            Self::U16(_) => "UINT16",
            Self::I32(_) => "INT32",
            Self::U32(_) => "UINT32",
            Self::I64(_) => "INT64",
            Self::U64(_) => "UINT64",
            Self::Bool(_) => "BOOL",
        }
    }

    pub fn is_float(&self) -> bool {
        matches!(self, Self::F32(_) | Self::F64(_) | Self::F16(_) | Self::Bf16(_))
    }
}

/// A tensor, or a view of one: values at strides, which may be 0 or negative.
#[derive(Debug, Clone)]
pub struct Array {
    stored: Arc<Stored>,
    shape: Vec<usize>,
    strides: Vec<isize>,
    offset: usize,
}

#[derive(Debug)]
struct Stored {
    data: Data,
    _claim: Option<Claim>,
}

impl Array {
    /// Takes data that are as many as the shape says; the claim is what they were allowed by.
    pub fn new(shape: Vec<usize>, data: Data, claim: Option<Claim>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { strides: row_major(&shape), stored: Arc::new(Stored { data, _claim: claim }), shape, offset: 0 }
    }

    /// Integers that describe something, such as a shape.
    pub fn integers(values: Vec<i64>) -> Self {
        Self::new(vec![values.len()], Data::I64(values), None)
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of values, those that a stride of 0 repeats counted as often as they appear.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn type_name(&self) -> &'static str {
        self.stored.data.type_name()
    }

    pub fn is_float(&self) -> bool {
        self.stored.data.is_float()
    }

    /// Bytes of a value.
    pub fn width(&self) -> usize {
        self.stored.data.width()
    }

    /// A view with other dimensions in place of all of these, of values among its own.
    pub fn view(&self, shape: Vec<usize>, strides: Vec<isize>, offset: usize) -> Result<Self> {
        if shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).is_none_or(|n| n > isize::MAX as usize) {
            return Err(Error::Onnx(format!("shape {shape:?} has more values than memory can hold")));
        }
        Ok(Self { stored: self.stored.clone(), shape, strides, offset })
    }

    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The same values in the same order under another shape of as many.
    pub fn reshaped(&self, shape: Vec<usize>, budget: &Budget) -> Result<Self> {
        // Dimensions of size 1 may come and go anywhere.
        let long = |shape: &[usize]| shape.iter().copied().filter(|&size| size != 1).collect::<Vec<_>>();
        if !self.is_contiguous() && long(&shape) == long(&self.shape) {
            let mut of_long = self.shape.iter().zip(&self.strides).filter(|(size, _)| **size != 1).map(|(_, stride)| *stride);
            let strides = shape.iter().map(|&size| if size == 1 { 0 } else { of_long.next().unwrap_or(0) }).collect();
            return self.view(shape, strides, self.offset);
        }
        let from = self.contiguous(budget)?;
        let strides = row_major(&shape);
        from.view(shape, strides, from.offset)
    }

    pub fn is_contiguous(&self) -> bool {
        self.len() == 0
            || self.shape.iter().zip(&self.strides).zip(row_major(&self.shape)).all(|((&size, &a), b)| size == 1 || a == b)
    }

    /// The same tensor with its values one behind the other.
    pub fn contiguous(&self, budget: &Budget) -> Result<Self> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let claim = budget.claim(self.len(), self.width())?;
        let data = alike!(&self.stored.data, values => self.copied(values));
        Ok(Self::new(self.shape.clone(), data, Some(claim)))
    }

    /// The values, if they are one behind the other; of a view they are a part of what is stored.
    pub fn data(&self) -> (&Data, std::ops::Range<usize>) {
        debug_assert!(self.is_contiguous());
        (&self.stored.data, self.offset..self.offset + self.len())
    }

    fn copied<T: Copy>(&self, from: &[T]) -> Vec<T> {
        let mut to = Vec::with_capacity(self.len());
        self.rows(|start, count, stride| match stride {
            1 => to.extend_from_slice(&from[start..start + count]),
            0 => to.resize(to.len() + count, from[start]),
            _ => to.extend((0..count as isize).map(|k| from[start.wrapping_add_signed(k * stride)])),
        });
        to
    }

    /// Calls with the place of the first value, the number and the stride of each run along the last dimension, in order.
    fn rows(&self, mut run: impl FnMut(usize, usize, isize)) {
        if self.len() == 0 {
            return;
        }
        let Some(last) = self.shape.len().checked_sub(1) else { return run(self.offset, 1, 1) };
        let mut index = vec![0; last];
        let mut start = self.offset;
        loop {
            run(start, self.shape[last], self.strides[last]);
            let mut dim = last;
            loop {
                let Some(outer) = dim.checked_sub(1) else { return };
                dim = outer;
                index[dim] += 1;
                start = start.wrapping_add_signed(self.strides[dim]);
                if index[dim] < self.shape[dim] {
                    break;
                }
                start = start.wrapping_add_signed(-self.strides[dim] * self.shape[dim] as isize);
                index[dim] = 0;
            }
        }
    }

    /// The integers of a tensor of at most `most`, of whatever integer type.
    pub fn to_integers(&self, name: &str, most: usize) -> Result<Vec<i64>> {
        if self.len() > most {
            return Err(Error::Onnx(format!("`{name}`: {} values, at most {most}", self.len())));
        }
        let int = |value: i128| i64::try_from(value).map_err(|_| Error::Onnx(format!("`{name}`: {value} is too large")));
        match &self.stored.data {
            Data::I64(values) => Ok(self.copied(values)),
            Data::I32(values) => Ok(self.copied(values).into_iter().map(i64::from).collect()),
            Data::U64(values) => self.copied(values).into_iter().map(|value| int(value.into())).collect(),
            other => Err(Error::Dtype { name: name.into(), expected: "INT64 or INT32", actual: other.type_name().into() }),
        }
    }
}

/// Strides of a tensor whose values lie one behind the other.
pub fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for dim in (1..shape.len()).rev() {
        // Beside a dimension of 0 the others may be anything.
        strides[dim - 1] = strides[dim].wrapping_mul(shape[dim].max(1) as isize);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(array: &Array) -> Vec<i64> {
        array.to_integers("x", 100).unwrap()
    }

    #[test]
    fn views_keep_their_values_in_order() {
        let budget = Budget::new(0);
        let array = Array::new(vec![2, 3], Data::I64((0..6).collect()), None);
        let turned = array.view(vec![3, 2], vec![1, 3], 0).unwrap();
        assert_eq!(values(&turned), [0, 3, 1, 4, 2, 5]);
        assert_eq!(values(&turned.contiguous(&budget).unwrap()), [0, 3, 1, 4, 2, 5]);
        let with_ones = turned.reshaped(vec![1, 3, 1, 2], &budget).unwrap();
        assert!(Arc::ptr_eq(&with_ones.stored, &array.stored));
        assert_eq!(values(&with_ones), [0, 3, 1, 4, 2, 5]);
        assert_eq!(values(&turned.reshaped(vec![6], &budget).unwrap()), [0, 3, 1, 4, 2, 5]);
        let backwards = array.view(vec![2, 2], vec![-3, -1], 5).unwrap();
        assert_eq!(values(&backwards), [5, 4, 2, 1]);
        let repeated = array.view(vec![2, 2], vec![0, 0], 4).unwrap();
        assert_eq!(values(&repeated.reshaped(vec![4], &budget).unwrap()), [4; 4]);
        assert!(array.view(vec![usize::MAX, 2], vec![0, 0], 0).is_err());
    }

    #[test]
    fn nothing_is_a_shape_too() {
        let budget = Budget::new(0);
        let empty = Array::new(vec![2, 0, 3], Data::F32(vec![]), None);
        assert_eq!(empty.contiguous(&budget).unwrap().len(), 0);
        let scalar = Array::new(vec![], Data::I64(vec![7]), None);
        assert_eq!(values(&scalar.reshaped(vec![1, 1], &budget).unwrap()), [7]);
    }
}
