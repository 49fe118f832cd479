//! Arithmetic: on shapes, and on the constants that weights are made of.

use super::array::{Array, Data};
use super::number::{self, Binary};
use super::op::{Op, broadcast, expanded};
use crate::error::{Error, Result};
use crate::import::onnx::proto;

fn binary(op: &Op<'_>, which: Binary) -> Result<Vec<Array>> {
    let (a, b) = (op.input(0)?, op.input(1)?);
    let shape = broadcast(a.shape(), b.shape())?;
    Ok(vec![number::binary(which, &expanded(a, &shape)?, &expanded(b, &shape)?, op.budget)?])
}

pub fn add(op: &Op<'_>) -> Result<Vec<Array>> {
    binary(op, Binary::Add)
}

pub fn sub(op: &Op<'_>) -> Result<Vec<Array>> {
    binary(op, Binary::Sub)
}

pub fn mul(op: &Op<'_>) -> Result<Vec<Array>> {
    binary(op, Binary::Mul)
}

pub fn div(op: &Op<'_>) -> Result<Vec<Array>> {
    binary(op, Binary::Div)
}

pub fn neg(op: &Op<'_>) -> Result<Vec<Array>> {
    Ok(vec![number::negated(op.input(0)?, op.budget)?])
}

pub fn equal(op: &Op<'_>) -> Result<Vec<Array>> {
    let (a, b) = (op.input(0)?, op.input(1)?);
    let shape = broadcast(a.shape(), b.shape())?;
    Ok(vec![number::equal(&expanded(a, &shape)?, &expanded(b, &shape)?, op.budget)?])
}

/// `Where`.
pub fn choose(op: &Op<'_>) -> Result<Vec<Array>> {
    let (a, b) = number::alike(op.input(1)?, op.input(2)?, op.budget)?;
    let shape = broadcast(&broadcast(op.input(0)?.shape(), a.shape())?, b.shape())?;
    let [condition, a, b] = [op.input(0)?, &a, &b].map(|array| expanded(array, &shape)?.contiguous(op.budget));
    let (condition, a, b) = (condition?, a?, b?);
    let claim = op.budget.claim(a.len(), a.width())?;
    let (Data::Bool(chosen), range) = condition.data() else {
        return Err(Error::Onnx(format!("`{}` is {}, expected BOOL", op.name(0), condition.type_name())));
    };
    let chosen = &chosen[range];
    fn pick<T: Copy>(chosen: &[bool], a: &[T], b: &[T]) -> Vec<T> {
        chosen.iter().zip(a.iter().zip(b)).map(|(&first, (&a, &b))| if first { a } else { b }).collect()
    }
    macro_rules! same {
        ($($variant:ident),*) => {
            match (a.data(), b.data()) {
                $(((Data::$variant(a), at), (Data::$variant(b), bt)) => Data::$variant(pick(chosen, &a[at], &b[bt])),)*
                _ => return Err(Error::Onnx(format!("a choice of {} and {} is not supported", a.type_name(), b.type_name()))),
            }
        };
    }
    let data = same!(F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool);
    Ok(vec![Array::new(shape, data, Some(claim))])
}

/// (x - zero point) · scale, each of them one, or one for each index along an axis.
pub fn dequantize(op: &Op<'_>) -> Result<Vec<Array>> {
    let (x, scale, zero) = (op.input(0)?, op.input(1)?, op.optional(2));
    if op.int("block_size", 0)? != 0 {
        return Err(Error::Onnx("attribute `block_size`: scales of blocks are not read".into()));
    }
    if x.is_float() || !scale.is_float() {
        let (x, scale) = (x.type_name(), scale.type_name());
        return Err(Error::Onnx(format!("of {x} with a scale of {scale}; expected integers and a float")));
    }
    let zero = match zero {
        Some(zero) if zero.shape() != scale.shape() || zero.type_name() != x.type_name() => {
            let (zero, name) = (format!("{} {:?}", zero.type_name(), zero.shape()), op.name(2));
            let expected = format!("{} {:?}", x.type_name(), scale.shape());
            return Err(Error::Onnx(format!("zero point `{name}` is {zero}, expected {expected}")));
        }
        zero => zero,
    };
    let along = |array: &Array| -> Result<Array> {
        if array.len() == 1 {
            return expanded(&array.reshaped(vec![], op.budget)?, x.shape());
        }
        let axis = op.axis(op.int("axis", 1)?, x.shape().len())?;
        if array.shape() != [x.shape()[axis]] {
            let (shape, size) = (array.shape(), x.shape()[axis]);
            return Err(Error::Onnx(format!("scale `{}` of shape {shape:?} is not one of {size} along axis {axis}", op.name(1))));
        }
        let mut shape = vec![1; x.shape().len()];
        shape[axis] = array.len();
        expanded(&array.reshaped(shape, op.budget)?, x.shape())
    };
    let wide = number::cast(x, proto::INT32, op.budget)?;
    let moved = match zero {
        Some(zero) => number::binary(Binary::Sub, &wide, &along(&number::cast(zero, proto::INT32, op.budget)?)?, op.budget)?,
        None => wide,
    };
    let floats = number::cast(&moved, proto::FLOAT, op.budget)?;
    let scaled = number::binary(Binary::Mul, &floats, &along(&number::cast(scale, proto::FLOAT, op.budget)?)?, op.budget)?;
    let to = match op.int("output_dtype", 0)? {
        0 => proto::data_type(scale.type_name()),
        to => i32::try_from(to).unwrap_or(-1),
    };
    Ok(vec![number::cast(&scaled, to, op.budget)?])
}
