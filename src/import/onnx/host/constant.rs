//! Operators that make tensors of attributes, and casts.

use super::array::{Array, Data};
use super::number;
use super::op::{Op, sizes};
use crate::error::{Error, Result};
use crate::import::onnx::operator;
use crate::import::onnx::proto::data_type;

pub fn constant(op: &Op<'_>) -> Result<Vec<Array>> {
    let [attribute] = &*op.node.attribute else {
        return Err(Error::Onnx(format!("has {} attributes, expected one value", op.node.attribute.len())));
    };
    let array = match &*attribute.name {
        "value" => (op.read)(attribute)?,
        "value_float" => Array::new(vec![], Data::F32(vec![operator::float(attribute)?]), None),
        "value_floats" => {
            let values = operator::floats(attribute)?.to_vec();
            Array::new(vec![values.len()], Data::F32(values), None)
        }
        "value_int" => Array::new(vec![], Data::I64(vec![operator::int(attribute)?]), None),
        _ => Array::integers(operator::ints(attribute)?.to_vec()),
    };
    Ok(vec![array])
}

/// A view of one value: it takes memory only where somebody needs it whole.
pub fn of_shape(op: &Op<'_>) -> Result<Vec<Array>> {
    let Some(shape) = op.integers(0)? else { return Err(Error::Onnx("has no shape".into())) };
    let value = match op.attribute("value") {
        Some(attribute) => (op.read)(attribute)?,
        None => Array::new(vec![1], Data::F32(vec![0.0]), None),
    };
    if value.len() != 1 {
        return Err(Error::Onnx(format!("attribute `value` has {} values, expected one", value.len())));
    }
    let shape = sizes("shape", &shape)?;
    let strides = vec![0; shape.len()];
    Ok(vec![value.view(shape, strides, value.offset())?])
}

pub fn cast(op: &Op<'_>) -> Result<Vec<Array>> {
    let to = op.int("to", 0)?;
    Ok(vec![number::cast(op.input(0)?, i32::try_from(to).unwrap_or(-1), op.budget)?])
}

pub fn cast_like(op: &Op<'_>) -> Result<Vec<Array>> {
    Ok(vec![number::cast(op.input(0)?, data_type(op.input(1)?.type_name()), op.budget)?])
}
