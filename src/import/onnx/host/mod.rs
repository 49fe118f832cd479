//! Operators that run on the host: those that exporters put around recurrent layers, and those that weights are made by.

mod arithmetic;
mod array;
mod budget;
mod constant;
mod number;
mod op;
mod pick;
mod shape;

use std::ops::RangeInclusive;

pub(super) use array::{Array, Data};
pub(super) use budget::Budget;
pub(super) use number::to_f32;

use super::names::{describe, is_onnx};
use super::proto::{AttributeProto, NodeProto};
use crate::error::{Error, Result};
use op::Op;

/// An operator as it is in some opsets.
struct Operator {
    name: &'static str,
    opsets: RangeInclusive<i64>,
    /// How many inputs it has.
    inputs: RangeInclusive<usize>,
    outputs: usize,
    attributes: &'static [&'static str],
    run: fn(&Op<'_>) -> Result<Vec<Array>>,
}

/// Later opsets than were looked at are those of the latest.
const LATEST: i64 = i64::MAX;
const MANY: usize = usize::MAX;

#[rustfmt::skip]
const OPERATORS: &[Operator] = &[
    Operator { name: "Identity", opsets: 1..=LATEST, inputs: 1..=1, outputs: 1, attributes: &[], run: shape::identity },
    Operator { name: "Dropout", opsets: 7..=11, inputs: 1..=1, outputs: 2, attributes: &["ratio"], run: shape::dropout },
    Operator { name: "Dropout", opsets: 12..=LATEST, inputs: 1..=3, outputs: 2, attributes: &["seed"], run: shape::dropout },
    Operator { name: "Transpose", opsets: 1..=LATEST, inputs: 1..=1, outputs: 1, attributes: &["perm"], run: shape::transpose },
    Operator { name: "Squeeze", opsets: 1..=12, inputs: 1..=1, outputs: 1, attributes: &["axes"], run: shape::squeeze },
    Operator { name: "Squeeze", opsets: 13..=LATEST, inputs: 1..=2, outputs: 1, attributes: &[], run: shape::squeeze },
    Operator { name: "Unsqueeze", opsets: 1..=12, inputs: 1..=1, outputs: 1, attributes: &["axes"], run: shape::unsqueeze },
    Operator { name: "Unsqueeze", opsets: 13..=LATEST, inputs: 2..=2, outputs: 1, attributes: &[], run: shape::unsqueeze },
    Operator { name: "Reshape", opsets: 5..=13, inputs: 2..=2, outputs: 1, attributes: &[], run: shape::reshape },
    Operator { name: "Reshape", opsets: 14..=LATEST, inputs: 2..=2, outputs: 1, attributes: &["allowzero"], run: shape::reshape },
    Operator { name: "Flatten", opsets: 1..=LATEST, inputs: 1..=1, outputs: 1, attributes: &["axis"], run: shape::flatten },
    Operator { name: "Expand", opsets: 8..=LATEST, inputs: 2..=2, outputs: 1, attributes: &[], run: shape::expand },
    Operator { name: "Shape", opsets: 1..=14, inputs: 1..=1, outputs: 1, attributes: &[], run: shape::shape },
    Operator { name: "Shape", opsets: 15..=LATEST, inputs: 1..=1, outputs: 1, attributes: &["start", "end"], run: shape::shape },
    Operator { name: "Size", opsets: 1..=LATEST, inputs: 1..=1, outputs: 1, attributes: &[], run: shape::size },
    Operator { name: "Slice", opsets: 1..=9, inputs: 1..=1, outputs: 1, attributes: &["axes", "ends", "starts"], run: pick::slice },
    Operator { name: "Slice", opsets: 10..=LATEST, inputs: 3..=5, outputs: 1, attributes: &[], run: pick::slice },
    Operator { name: "Split", opsets: 2..=12, inputs: 1..=1, outputs: MANY, attributes: &["axis", "split"], run: pick::split },
    Operator { name: "Split", opsets: 13..=17, inputs: 1..=2, outputs: MANY, attributes: &["axis"], run: pick::split },
    Operator { name: "Split", opsets: 18..=LATEST, inputs: 1..=2, outputs: MANY, attributes: &["axis", "num_outputs"], run: pick::split },
    Operator { name: "Concat", opsets: 4..=LATEST, inputs: 1..=MANY, outputs: 1, attributes: &["axis"], run: pick::concat },
    Operator { name: "Gather", opsets: 1..=LATEST, inputs: 2..=2, outputs: 1, attributes: &["axis"], run: pick::gather },
    Operator { name: "Constant", opsets: 1..=11, inputs: 0..=0, outputs: 1, attributes: &["value"], run: constant::constant },
    Operator { name: "Constant", opsets: 12..=LATEST, inputs: 0..=0, outputs: 1, attributes: &["value", "value_float", "value_floats", "value_int", "value_ints"], run: constant::constant },
    Operator { name: "ConstantOfShape", opsets: 9..=LATEST, inputs: 1..=1, outputs: 1, attributes: &["value"], run: constant::of_shape },
    Operator { name: "Cast", opsets: 6..=LATEST, inputs: 1..=1, outputs: 1, attributes: &["to", "saturate", "round_mode"], run: constant::cast },
    Operator { name: "CastLike", opsets: 15..=LATEST, inputs: 2..=2, outputs: 1, attributes: &["saturate", "round_mode"], run: constant::cast_like },
    Operator { name: "Add", opsets: 7..=LATEST, inputs: 2..=2, outputs: 1, attributes: &[], run: arithmetic::add },
    Operator { name: "Sub", opsets: 7..=LATEST, inputs: 2..=2, outputs: 1, attributes: &[], run: arithmetic::sub },
    Operator { name: "Mul", opsets: 7..=LATEST, inputs: 2..=2, outputs: 1, attributes: &[], run: arithmetic::mul },
    Operator { name: "Div", opsets: 7..=LATEST, inputs: 2..=2, outputs: 1, attributes: &[], run: arithmetic::div },
    Operator { name: "Neg", opsets: 6..=LATEST, inputs: 1..=1, outputs: 1, attributes: &[], run: arithmetic::neg },
    Operator { name: "Equal", opsets: 7..=LATEST, inputs: 2..=2, outputs: 1, attributes: &[], run: arithmetic::equal },
    Operator { name: "Where", opsets: 9..=LATEST, inputs: 3..=3, outputs: 1, attributes: &[], run: arithmetic::choose },
    Operator { name: "DequantizeLinear", opsets: 10..=12, inputs: 2..=3, outputs: 1, attributes: &[], run: arithmetic::dequantize },
    Operator { name: "DequantizeLinear", opsets: 13..=LATEST, inputs: 2..=3, outputs: 1, attributes: &["axis", "block_size", "output_dtype"], run: arithmetic::dequantize },
];

fn find(node: &NodeProto, opset: i64) -> Option<&'static Operator> {
    let named = OPERATORS.iter().find(|operator| operator.name == node.op_type && operator.opsets.contains(&opset));
    named.filter(|_| is_onnx(&node.domain))
}

/// Whether the host runs such a node.
pub fn runs(node: &NodeProto, opset: i64) -> bool {
    find(node, opset).is_some()
}

/// Runs a node; gives as many tensors as it has outputs.
pub fn run(
    node: &NodeProto,
    opset: i64,
    inputs: Vec<Option<Array>>,
    budget: &Budget,
    read: &dyn Fn(&AttributeProto) -> Result<Array>,
) -> Result<Vec<Array>> {
    let at = |error: Error| match error {
        Error::Onnx(what) => Error::Onnx(format!("{}: {what}", describe(node))),
        other => Error::Onnx(format!("{}: {other}", describe(node))),
    };
    let Some(operator) = find(node, opset) else { return Err(at(Error::Onnx("is not supported".into()))) };
    let count = |what: &str, actual: usize, expected: &RangeInclusive<usize>| match expected.contains(&actual) {
        true => Ok(()),
        false if actual < *expected.start() => Err(format!("has {actual} {what}, expected at least {}", expected.start())),
        false => Err(format!("has {actual} {what}, expected at most {}", expected.end())),
    };
    let counted = count("inputs", inputs.len(), &operator.inputs);
    counted.and_then(|()| count("outputs", node.output.len(), &(1..=operator.outputs))).map_err(|e| at(Error::Onnx(e)))?;
    for (index, attribute) in node.attribute.iter().enumerate() {
        let name = &*attribute.name;
        if !operator.attributes.contains(&name) {
            return Err(at(Error::Onnx(format!("has no attribute `{name}` in opset {opset}"))));
        }
        if node.attribute[..index].iter().any(|earlier| earlier.name == name) {
            return Err(at(Error::Onnx(format!("attribute `{name}` is there twice"))));
        }
    }
    let made = (operator.run)(&Op { node, inputs, budget, read }).map_err(at)?;
    if made.len() < node.output.len() {
        let (made, named) = (made.len(), node.output.len());
        return Err(at(Error::Onnx(format!("makes {made} outputs, but {named} are named"))));
    }
    Ok(made)
}
