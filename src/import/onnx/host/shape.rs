//! Operators that change shapes and nothing else: views where they can be.

use super::array::{Array, Data};
use super::op::{Op, broadcast, expanded, product, sizes};
use crate::error::{Error, Result};

pub fn identity(op: &Op<'_>) -> Result<Vec<Array>> {
    Ok(vec![op.input(0)?.clone()])
}

/// In inference it does nothing.
pub fn dropout(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    if let Some(training) = op.optional(2)
        && super::number::to_f32(training, op.budget)?.iter().any(|&value| value != 0.0)
    {
        return Err(Error::Onnx(format!("`{}` asks for training; only inference is run", op.name(2))));
    }
    let kept = Array::new(vec![], Data::Bool(vec![true]), None);
    Ok(vec![x.clone(), expanded(&kept, x.shape())?])
}

pub fn transpose(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let rank = x.shape().len();
    let perm = match op.ints("perm")? {
        Some(perm) => op.axes(perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank {
        return Err(Error::Onnx(format!("attribute `perm` has {} axes, `{}` has {rank}", perm.len(), op.name(0))));
    }
    let shape = perm.iter().map(|&dim| x.shape()[dim]).collect();
    let strides = perm.iter().map(|&dim| x.strides()[dim]).collect();
    Ok(vec![x.view(shape, strides, x.offset())?])
}

/// Axes by attribute or, since opset 13, by an input.
fn axes(op: &Op<'_>) -> Result<Option<Vec<i64>>> {
    match op.ints("axes")? {
        Some(axes) => Ok(Some(axes.to_vec())),
        None => op.integers(1),
    }
}

pub fn squeeze(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let shape = x.shape();
    let gone = match axes(op)? {
        Some(axes) => op.axes(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&dim| shape[dim] == 1).collect(),
    };
    if let Some(&dim) = gone.iter().find(|&&dim| shape[dim] != 1) {
        return Err(Error::Onnx(format!("axis {dim} of `{}` is of size {}, not 1 (shape {shape:?})", op.name(0), shape[dim])));
    }
    let kept = || (0..shape.len()).filter(|dim| !gone.contains(dim));
    Ok(vec![x.view(kept().map(|dim| shape[dim]).collect(), kept().map(|dim| x.strides()[dim]).collect(), x.offset())?])
}

pub fn unsqueeze(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let Some(axes) = axes(op)? else { return Err(Error::Onnx("has no axes".into())) };
    let rank = x.shape().len() + axes.len();
    check_rank(rank)?;
    let new = op.axes(&axes, rank)?;
    let mut old = x.shape().iter().zip(x.strides());
    let (mut shape, mut strides) = (Vec::new(), Vec::new());
    for dim in 0..rank {
        let (size, stride) =
            if new.contains(&dim) { (1, 0) } else { old.next().map_or((1, 0), |(&size, &stride)| (size, stride)) };
        shape.push(size);
        strides.push(stride);
    }
    Ok(vec![x.view(shape, strides, x.offset())?])
}

pub fn reshape(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let Some(wanted) = op.integers(1)? else { return Err(Error::Onnx("has no shape".into())) };
    let copies_zero = op.int("allowzero", 0)? == 0;
    let refused = || {
        let (name, from) = (op.name(0), x.shape());
        Error::Onnx(format!("`{name}` of shape {from:?} ({} values) does not take shape {wanted:?}", x.len()))
    };
    let (mut shape, mut open) = (Vec::new(), None);
    for (dim, &size) in wanted.iter().enumerate() {
        shape.push(match size {
            0 if copies_zero => *x.shape().get(dim).ok_or_else(refused)?,
            -1 if open.is_none() => {
                open = Some(dim);
                1
            }
            size => usize::try_from(size).map_err(|_| refused())?,
        });
    }
    let product = |shape: &[usize]| product(shape).map_err(|_| refused());
    if let Some(dim) = open {
        let others = product(&shape)?;
        if others == 0 || !x.len().is_multiple_of(others) {
            return Err(refused());
        }
        shape[dim] = x.len() / others;
    }
    if product(&shape)? != x.len() {
        return Err(refused());
    }
    Ok(vec![x.reshaped(shape, op.budget)?])
}

pub fn flatten(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let rank = x.shape().len();
    let axis = match op.int("axis", 1)? {
        axis if axis == rank as i64 => rank,
        axis => op.axis(axis, rank)?,
    };
    let (rows, columns) = x.shape().split_at(axis);
    Ok(vec![x.reshaped(vec![product(rows)?, product(columns)?], op.budget)?])
}

pub fn expand(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let Some(wanted) = op.integers(1)? else { return Err(Error::Onnx("has no shape".into())) };
    let shape = broadcast(x.shape(), &sizes("shape", &wanted)?)?;
    check_rank(shape.len())?;
    Ok(vec![expanded(x, &shape)?])
}

pub fn shape(op: &Op<'_>) -> Result<Vec<Array>> {
    let sizes: Vec<i64> = op.input(0)?.shape().iter().map(|&size| size as i64).collect();
    let rank = sizes.len() as i64;
    let place = |name, default| -> Result<usize> {
        let place = op.int(name, default)?;
        Ok(if place < 0 { place.saturating_add(rank) } else { place }.clamp(0, rank) as usize)
    };
    let (start, end) = (place("start", 0)?, place("end", rank)?);
    Ok(vec![Array::integers(sizes.get(start..end).unwrap_or(&[]).to_vec())])
}

pub fn size(op: &Op<'_>) -> Result<Vec<Array>> {
    Ok(vec![Array::new(vec![], Data::I64(vec![op.input(0)?.len() as i64]), None)])
}

fn check_rank(rank: usize) -> Result<()> {
    let most = crate::import::safetensors::MAX_DIMENSIONS;
    if rank <= most { Ok(()) } else { Err(Error::Onnx(format!("{rank} dimensions, at most {most}"))) }
}
