//! Weights of `com.microsoft` `DynamicQuantizeLSTM`: integers with a scale, dequantized where they are read.

use super::host::{self, Array, Budget};
use super::node::Node;
use super::tensor::Tensor;
use crate::error::{Error, Result};

/// W or R as the operator of ONNX has it: `[D, 4·H, I]` out of `[D, I, 4·H]` integers, a scale and a zero point for each direction,
/// or for each of its rows.
pub fn weights<'a>(node: &Node<'a>, role: &str) -> Result<(&'a str, Tensor)> {
    let Some(name) = node.input(role) else { return Err(node.error(&format!("has no input `{role}`"))) };
    let budget = Budget::new(node.scope.setting.bytes);
    let array = node.constant(name)?;
    let &[directions, inputs, rows] = array.shape() else {
        return Err(Error::Onnx(format!("`{name}`: expected 3 dimensions, got shape {:?}", array.shape())));
    };
    if array.is_float() {
        return Err(Error::Onnx(format!("`{name}` is {}, expected INT8 or UINT8", array.type_name())));
    }
    let scale_role = format!("{role}_scale");
    let Some(scale_name) = node.input(&scale_role) else {
        return Err(node.error(&format!("has no input `{scale_role}`")));
    };
    let scale = node.constant(scale_name)?;
    let zero = node.input(&format!("{role}_zero_point")).map(|name| node.constant(name).map(|zero| (name, zero))).transpose()?;
    let is_sized = |array: &Array| array.shape() == [directions] || array.shape() == [directions, rows];
    let sized = [Some((scale_name, &scale)), zero.as_ref().map(|(name, zero)| (*name, zero))];
    if let Some((name, array)) = sized.into_iter().flatten().find(|(_, array)| !is_sized(array)) {
        let shape = array.shape();
        return Err(Error::Onnx(format!("`{name}`: expected shape [{directions}] or [{directions}, {rows}], got {shape:?}")));
    }
    let per_row = |array: &Array| array.shape().len() == 2;
    let (scale_by_row, zero_by_row) = (per_row(&scale), zero.as_ref().is_some_and(|(_, zero)| per_row(zero)));
    let scales = host::to_f32(&scale, &budget)?;
    let zeros = zero.map(|(_, zero)| host::to_f32(&zero, &budget)).transpose()?;
    let _claim = budget.claim(array.len(), 8)?;
    let integers = host::to_f32(&array, &budget)?;
    let mut values = Vec::with_capacity(integers.len());
    for d in 0..directions {
        for row in 0..rows {
            let at = |by_row: bool| if by_row { d * rows + row } else { d };
            let zero = zeros.as_ref().map_or(0.0, |zeros| zeros[at(zero_by_row)]);
            let scale = scales[at(scale_by_row)];
            values.extend((0..inputs).map(|input| (integers[(d * inputs + input) * rows + row] - zero) * scale));
        }
    }
    Ok((name, Tensor::f32([directions, rows, inputs], values)))
}
