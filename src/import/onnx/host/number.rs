//! Conversions between types, and arithmetic of each.

use half::{bf16, f16};

use super::array::{Array, Data, each};
use super::budget::Budget;
use crate::error::{Error, Result};
use crate::import::onnx::proto;

/// A value on the way from one type to another.
#[derive(Debug, Clone, Copy)]
enum Wide {
    Float(f64),
    Int(i128),
}

trait Number: Copy {
    fn widen(self) -> Wide;
    fn narrow(value: Wide) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn widen(self) -> Wide {
                Wide::Int(self.into())
            }
            // Integers keep their low bits, floats what is before the point, saturated.
            fn narrow(value: Wide) -> Self {
                match value {
                    Wide::Float(value) => value as Self,
                    Wide::Int(value) => value as Self,
                }
            }
        }
    )*};
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! floats {
    ($($t:ty: $from:expr),*) => {$(
        impl Number for $t {
            fn widen(self) -> Wide {
                Wide::Float(self.into())
            }
            fn narrow(value: Wide) -> Self {
                match value {
                    Wide::Float(value) => $from(value),
                    Wide::Int(value) => $from(value as f64),
                }
            }
        }
    )*};
}
floats!(f32: |v| v as f32, f64: |v| v, f16: f16::from_f64, bf16: bf16::from_f64);

impl Number for bool {
    fn widen(self) -> Wide {
        Wide::Int(self.into())
    }

    fn narrow(value: Wide) -> Self {
        match value {
            Wide::Float(value) => value != 0.0,
            Wide::Int(value) => value != 0,
        }
    }
}

fn converted<T: Number>(from: &Data, range: std::ops::Range<usize>) -> Vec<T> {
    each!(from, values => values[range].iter().map(|value| T::narrow(value.widen())).collect())
}

/// The tensor in another type, which ONNX's number tells; the same if it is of that already.
pub fn cast(from: &Array, data_type: i32, budget: &Budget) -> Result<Array> {
    let from = from.contiguous(budget)?;
    let (data, range) = from.data();
    if data.type_name() == proto::type_name(data_type) {
        return Ok(from.clone());
    }
    // The claim is that of the widest type.
    let claim = budget.claim(from.len(), 8)?;
    let data = match data_type {
        proto::FLOAT => Data::F32(converted(data, range)),
        proto::DOUBLE => Data::F64(converted(data, range)),
        proto::FLOAT16 => Data::F16(converted(data, range)),
        proto::BFLOAT16 => Data::Bf16(converted(data, range)),
        proto::INT8 => Data::I8(converted(data, range)),
        proto::UINT8 => Data::U8(converted(data, range)),
        proto::INT16 => Data::I16(converted(data, range)),
        proto::UINT16 => Data::U16(converted(data, range)),
        proto::INT32 => Data::I32(converted(data, range)),
        proto::UINT32 => Data::U32(converted(data, range)),
        proto::INT64 => Data::I64(converted(data, range)),
        proto::UINT64 => Data::U64(converted(data, range)),
        proto::BOOL => Data::Bool(converted(data, range)),
        other => return Err(Error::Onnx(format!("a cast to {} is not supported", proto::type_name(other)))),
    };
    Ok(Array::new(from.shape().to_vec(), data, Some(claim)))
}

/// Values as f32, each rounded where it does not fit.
pub fn to_f32(from: &Array, budget: &Budget) -> Result<Vec<f32>> {
    let from = from.contiguous(budget)?;
    let (data, range) = from.data();
    Ok(match data {
        Data::F32(values) => values[range].to_vec(),
        other => converted(other, range),
    })
}

/// What is done with two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

trait Arithmetic: Copy {
    fn binary(self, op: Binary, other: Self) -> Self;
    fn negated(self) -> Self;
}

macro_rules! integer_arithmetic {
    ($($t:ty),*) => {$(
        impl Arithmetic for $t {
            fn binary(self, op: Binary, other: Self) -> Self {
                match op {
                    Binary::Add => self.wrapping_add(other),
                    Binary::Sub => self.wrapping_sub(other),
                    Binary::Mul => self.wrapping_mul(other),
                    // Divisors of 0 are refused before.
                    Binary::Div => self.checked_div(other).unwrap_or(0),
                }
            }
            fn negated(self) -> Self {
                self.wrapping_neg()
            }
        }
    )*};
}
integer_arithmetic!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! float_arithmetic {
    ($($t:ty),*) => {$(
        impl Arithmetic for $t {
            fn binary(self, op: Binary, other: Self) -> Self {
                match op {
                    Binary::Add => self + other,
                    Binary::Sub => self - other,
                    Binary::Mul => self * other,
                    Binary::Div => self / other,
                }
            }
            fn negated(self) -> Self {
                -self
            }
        }
    )*};
}
float_arithmetic!(f32, f64, f16, bf16);

fn zipped<T: Arithmetic>(op: Binary, a: &[T], b: &[T]) -> Vec<T> {
    a.iter().zip(b).map(|(&a, &b)| a.binary(op, b)).collect()
}

/// Both operands have one shape. Two kinds of floats, of which one is FLOAT, are FLOAT: inputs of 16 bits are given as floats.
pub fn binary(op: Binary, a: &Array, b: &Array, budget: &Budget) -> Result<Array> {
    let (a, b) = alike(a, b, budget)?;
    let (a, b) = (a.contiguous(budget)?, b.contiguous(budget)?);
    let claim = budget.claim(a.len(), a.width())?;
    let ((a_data, at), (b_data, bt)) = (a.data(), b.data());
    macro_rules! same {
        ($($variant:ident),*) => {
            match (a_data, b_data) {
                $((Data::$variant(a), Data::$variant(b)) => Data::$variant(zipped(op, &a[at], &b[bt])),)*
                _ => return Err(types("arithmetic", &a, &b)),
            }
        };
    }
    if op == Binary::Div && !b_data.is_float() && to_i64(b_data, bt.clone()).contains(&0) {
        return Err(Error::Onnx("a divisor is 0".into()));
    }
    let data = same!(F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64);
    Ok(Array::new(a.shape().to_vec(), data, Some(claim)))
}

/// Where two tensors of one shape have the same value.
pub fn equal(a: &Array, b: &Array, budget: &Budget) -> Result<Array> {
    let (a, b) = alike(a, b, budget)?;
    let (a, b) = (a.contiguous(budget)?, b.contiguous(budget)?);
    let claim = budget.claim(a.len(), 1)?;
    let ((a_data, at), (b_data, bt)) = (a.data(), b.data());
    macro_rules! same {
        ($($variant:ident),*) => {
            match (a_data, b_data) {
                $((Data::$variant(a), Data::$variant(b)) => a[at].iter().zip(&b[bt]).map(|(a, b)| a == b).collect(),)*
                _ => return Err(types("a comparison", &a, &b)),
            }
        };
    }
    let data = same!(F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool);
    Ok(Array::new(a.shape().to_vec(), Data::Bool(data), Some(claim)))
}

pub fn negated(from: &Array, budget: &Budget) -> Result<Array> {
    let from = from.contiguous(budget)?;
    let claim = budget.claim(from.len(), from.width())?;
    let (data, range) = from.data();
    macro_rules! same {
        ($($variant:ident),*) => {
            match data {
                $(Data::$variant(values) => Data::$variant(values[range].iter().map(|value| value.negated()).collect()),)*
                other => return Err(Error::Onnx(format!("arithmetic on {} is not supported", other.type_name()))),
            }
        };
    }
    let data = same!(F32, F64, F16, Bf16, I8, I16, I32, I64);
    Ok(Array::new(from.shape().to_vec(), data, Some(claim)))
}

/// Both in one type, where there is one: see [`binary`].
pub fn alike(a: &Array, b: &Array, budget: &Budget) -> Result<(Array, Array)> {
    if a.type_name() == b.type_name() {
        return Ok((a.clone(), b.clone()));
    }
    if a.is_float() && b.is_float() && [a, b].iter().any(|array| array.type_name() == "FLOAT") {
        return Ok((cast(a, proto::FLOAT, budget)?, cast(b, proto::FLOAT, budget)?));
    }
    Err(types("an operation", a, b))
}

fn types(what: &str, a: &Array, b: &Array) -> Error {
    Error::Onnx(format!("{what} on {} and {} is not supported", a.type_name(), b.type_name()))
}

fn to_i64(data: &Data, range: std::ops::Range<usize>) -> Vec<i64> {
    converted(data, range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(data: Data) -> Array {
        Array::new(vec![data.len()], data, None)
    }

    #[test]
    fn casts_round_truncate_and_wrap() {
        let budget = Budget::new(0);
        let to = |from: Data, data_type| cast(&array(from), data_type, &budget).unwrap().data().0.clone();
        assert_eq!(
            to(Data::F32(vec![1.0 + 1e-4, -2.5]), proto::FLOAT16),
            Data::F16(vec![f16::from_f32(1.0), f16::from_f32(-2.5)])
        );
        assert_eq!(to(Data::F32(vec![1.9, -1.9, 3e9, f32::NAN]), proto::INT32), Data::I32(vec![1, -1, i32::MAX, 0]));
        assert_eq!(to(Data::I64(vec![257, -1]), proto::UINT8), Data::U8(vec![1, 255]));
        assert_eq!(to(Data::F32(vec![0.0, 0.5]), proto::BOOL), Data::Bool(vec![false, true]));
        assert_eq!(to(Data::F64(vec![0.1]), proto::FLOAT), Data::F32(vec![0.1]));
        assert!(cast(&array(Data::U8(vec![1])), 8, &budget).unwrap_err().to_string().contains("STRING"));
    }

    #[test]
    fn arithmetic_stays_in_its_type() {
        let budget = Budget::new(0);
        let of = |op, a: Data, b: Data| binary(op, &array(a), &array(b), &budget).map(|array| array.data().0.clone());
        assert_eq!(of(Binary::Sub, Data::U8(vec![1]), Data::U8(vec![2])).unwrap(), Data::U8(vec![255]));
        assert_eq!(of(Binary::Div, Data::I64(vec![-7]), Data::I64(vec![2])).unwrap(), Data::I64(vec![-3]));
        assert!(of(Binary::Div, Data::I64(vec![1]), Data::I64(vec![0])).is_err());
        assert!(of(Binary::Add, Data::I64(vec![1]), Data::F32(vec![0.0])).is_err());
        let half = Data::F16(vec![f16::from_f32(0.5)]);
        assert_eq!(of(Binary::Mul, half, Data::F32(vec![0.1])).unwrap(), Data::F32(vec![0.05]));
    }
}
