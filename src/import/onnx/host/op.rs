//! What an operator runs on: its inputs and attributes, and the shapes that it makes of theirs.

use super::array::Array;
use super::budget::Budget;
use crate::error::{Error, Result};
use crate::import::onnx::operator;
use crate::import::onnx::proto::{AttributeProto, NodeProto};
use crate::import::safetensors::MAX_DIMENSIONS;

/// A node with what it is to run on.
pub struct Op<'a> {
    pub node: &'a NodeProto,
    /// As many as the node names; an empty name is an absent input.
    pub inputs: Vec<Option<Array>>,
    pub budget: &'a Budget,
    /// Reads a tensor among the attributes.
    pub read: &'a dyn Fn(&AttributeProto) -> Result<Array>,
}

impl Op<'_> {
    pub fn name(&self, index: usize) -> &str {
        self.node.input.get(index).map_or("", |name| name)
    }

    pub fn optional(&self, index: usize) -> Option<&Array> {
        self.inputs.get(index)?.as_ref()
    }

    pub fn input(&self, index: usize) -> Result<&Array> {
        self.optional(index).ok_or_else(|| Error::Onnx(format!("has no input {index}")))
    }

    /// Integers of an input, such as axes or a shape.
    pub fn integers(&self, index: usize) -> Result<Option<Vec<i64>>> {
        let Some(array) = self.optional(index) else { return Ok(None) };
        if array.shape().len() > 1 {
            return Err(Error::Onnx(format!("`{}`: expected one dimension, got shape {:?}", self.name(index), array.shape())));
        }
        array.to_integers(self.name(index), MAX_DIMENSIONS).map(Some)
    }

    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        self.attribute(name).map_or(Ok(default), operator::int)
    }

    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        self.attribute(name).map(operator::ints).transpose()
    }

    /// The dimension that a number from -rank on means.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_end = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        from_end
            .and_then(|axis| usize::try_from(axis).ok())
            .filter(|&axis| axis < rank)
            .ok_or_else(|| Error::Onnx(format!("axis {axis} is outside of {rank} dimensions")))
    }

    /// Which of the dimensions are meant, each at most once.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let axes = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Result<Vec<_>>>()?;
        match axes.iter().enumerate().find(|(at, axis)| axes[..*at].contains(axis)) {
            Some((_, axis)) => Err(Error::Onnx(format!("axis {axis} is named twice"))),
            None => Ok(axes),
        }
    }
}

/// A shape out of integers, none of them negative.
pub fn sizes(what: &str, values: &[i64]) -> Result<Vec<usize>> {
    let size =
        |&value: &i64| usize::try_from(value).map_err(|_| Error::Onnx(format!("{what}: {value} of {values:?} is not a size")));
    values.iter().map(size).collect()
}

pub fn product(shape: &[usize]) -> Result<usize> {
    let product = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    product.ok_or_else(|| Error::Onnx(format!("shape {shape:?} has more values than memory can hold")))
}

/// The shape that two broadcast to.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], dim: usize| (dim + shape.len()).checked_sub(rank).map_or(1, |dim| shape[dim]);
    (0..rank)
        .map(|dim| match (size(a, dim), size(b, dim)) {
            (a, b) if a == b || b == 1 => Ok(a),
            (1, b) => Ok(b),
            _ => Err(Error::Onnx(format!("shapes {a:?} and {b:?} do not broadcast"))),
        })
        .collect()
}

/// A view that repeats dimensions of size 1 as often as the shape says.
pub fn expanded(array: &Array, shape: &[usize]) -> Result<Array> {
    let added = shape.len() - array.shape().len();
    let stride = |(dim, &size): (usize, &usize)| match dim.checked_sub(added) {
        Some(own) if array.shape()[own] == size => array.strides()[own],
        _ => 0,
    };
    array.view(shape.to_vec(), shape.iter().enumerate().map(stride).collect(), array.offset())
}
