//! Operators that take parts of tensors, or put them together.

use super::array::{Array, Data, alike, each};
use super::op::{Op, product, sizes as shape_of};
use crate::error::{Error, Result};
use crate::import::onnx::operator;

pub fn slice(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let part = |name: &str, index: usize| -> Result<Option<Vec<i64>>> {
        match op.ints(name)? {
            Some(values) => Ok(Some(values.to_vec())),
            None => op.integers(index),
        }
    };
    let (Some(starts), Some(ends)) = (part("starts", 1)?, part("ends", 2)?) else {
        return Err(Error::Onnx("needs starts and ends".into()));
    };
    let axes = match part("axes", 3)? {
        Some(axes) => axes,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = op.integers(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        let (starts, ends, axes, steps) = (starts.len(), ends.len(), axes.len(), steps.len());
        return Err(Error::Onnx(format!("has {starts} starts, {ends} ends, {axes} axes and {steps} steps")));
    }
    let axes = op.axes(&axes, x.shape().len())?;
    let (mut shape, mut strides, mut offset) = (x.shape().to_vec(), x.strides().to_vec(), x.offset());
    for (k, &dim) in axes.iter().enumerate() {
        let (start, count) = range(starts[k], ends[k], steps[k], x.shape()[dim])?;
        shape[dim] = count;
        if count > 0 {
            offset = offset.wrapping_add_signed(x.strides()[dim].wrapping_mul(start as isize));
        }
        // For a single value the stride means nothing, and a step may be anything.
        strides[dim] = if count > 1 { x.strides()[dim].wrapping_mul(steps[k] as isize) } else { 0 };
    }
    Ok(vec![x.view(shape, strides, offset)?])
}

/// The first of the indices that a slice takes of a dimension, and their number.
fn range(start: i64, end: i64, step: i64, size: usize) -> Result<(usize, usize)> {
    let size = size as i64;
    let from_end = |place: i64| if place < 0 { place.saturating_add(size) } else { place };
    let (start, end) = (from_end(start), from_end(end));
    let (start, span) = match step {
        0 => return Err(Error::Onnx("a step is 0".into())),
        1.. => {
            let start = start.clamp(0, size);
            (start, end.clamp(0, size) - start)
        }
        _ => {
            let start = start.clamp(-1, size - 1);
            (start, start - end.clamp(-1, size - 1))
        }
    };
    let count = if span <= 0 { 0 } else { (span as u64).div_ceil(step.unsigned_abs()) as usize };
    Ok((start.max(0) as usize, count))
}

pub fn split(op: &Op<'_>) -> Result<Vec<Array>> {
    let x = op.input(0)?;
    let axis = op.axis(op.int("axis", 0)?, x.shape().len())?;
    let (size, outputs) = (x.shape()[axis], op.node.output.len());
    if op.attribute("num_outputs").is_some() && op.int("num_outputs", 0)? != outputs as i64 {
        return Err(Error::Onnx(format!("attribute `num_outputs` is {}, but {outputs} are named", op.int("num_outputs", 0)?)));
    }
    let given = match op.ints("split")? {
        Some(sizes) => Some(sizes.to_vec()),
        None => op.integers(1)?,
    };
    let sizes = match given {
        Some(sizes) => shape_of("split", &sizes)?,
        None => {
            // The last may be smaller.
            let each = size.div_ceil(outputs);
            (0..outputs).map(|k| each.min(size.saturating_sub(k * each))).collect()
        }
    };
    let sum = sizes.iter().try_fold(0usize, |sum, &part| sum.checked_add(part));
    if sizes.len() != outputs || sum != Some(size) {
        return Err(Error::Onnx(format!("split {sizes:?} is not {outputs} parts of {size}")));
    }
    let mut first = 0;
    let mut part = |&count: &usize| {
        let mut shape = x.shape().to_vec();
        shape[axis] = count;
        let offset =
            if count == 0 { x.offset() } else { x.offset().wrapping_add_signed(x.strides()[axis].wrapping_mul(first as isize)) };
        first += count;
        x.view(shape, x.strides().to_vec(), offset)
    };
    sizes.iter().map(&mut part).collect()
}

pub fn concat(op: &Op<'_>) -> Result<Vec<Array>> {
    let mut parts = (0..op.inputs.len()).map(|index| op.input(index).cloned()).collect::<Result<Vec<_>>>()?;
    let shape_of_first = parts[0].shape().to_vec();
    let Some(attribute) = op.attribute("axis") else { return Err(Error::Onnx("has no attribute `axis`".into())) };
    let axis = op.axis(operator::int(attribute)?, shape_of_first.len())?;
    let mut total = 0usize;
    for (index, part) in parts.iter().enumerate() {
        let fits = part.shape().len() == shape_of_first.len()
            && part.shape().iter().zip(&shape_of_first).enumerate().all(|(dim, (a, b))| dim == axis || a == b);
        let sum = total.checked_add(part.shape().get(axis).copied().unwrap_or(0)).filter(|_| fits);
        let Some(sum) = sum else {
            let (name, shape) = (op.name(index), part.shape());
            return Err(Error::Onnx(format!(
                "`{name}` of shape {shape:?} does not go beside {shape_of_first:?} along axis {axis}"
            )));
        };
        total = sum;
    }
    // Made one kind of float.
    for index in 1..parts.len() {
        (parts[0], parts[index]) = super::number::alike(&parts[0], &parts[index], op.budget)?;
    }
    for index in 1..parts.len() {
        parts[index] = super::number::alike(&parts[0], &parts[index], op.budget)?.1;
    }
    let mut shape = shape_of_first;
    shape[axis] = total;
    let len = product(&shape)?;
    let claim = op.budget.claim(len, parts[0].width())?;
    let parts = parts.iter().map(|part| part.contiguous(op.budget)).collect::<Result<Vec<_>>>()?;
    let rows = product(&shape[..axis])?;
    fn joined<T: Copy>(rows: usize, len: usize, parts: &[&[T]]) -> Vec<T> {
        let mut to = Vec::with_capacity(len);
        for row in 0..rows {
            for part in parts {
                let count = part.len() / rows;
                to.extend_from_slice(&part[row * count..][..count]);
            }
        }
        to
    }
    macro_rules! same {
        ($($variant:ident),*) => {
            match parts[0].data().0 {
                $(Data::$variant(_) => {
                    let slices: Vec<_> = parts.iter().filter_map(|part| match part.data() {
                        (Data::$variant(values), range) => Some(&values[range]),
                        _ => None,
                    }).collect();
                    Data::$variant(joined(rows, len, &slices))
                })*
            }
        };
    }
    let data = same!(F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool);
    Ok(vec![Array::new(shape, data, Some(claim))])
}

pub fn gather(op: &Op<'_>) -> Result<Vec<Array>> {
    let (x, indices) = (op.input(0)?, op.input(1)?);
    let axis = op.axis(op.int("axis", 0)?, x.shape().len())?;
    let size = x.shape()[axis];
    // Widened, they take as much.
    let _claim = op.budget.claim(indices.len(), 8)?;
    let wanted = indices.to_integers(op.name(1), usize::MAX)?;
    let places = wanted.into_iter().map(|index| {
        let place = if index < 0 { index.saturating_add(size as i64) } else { index };
        usize::try_from(place).ok().filter(|&place| place < size).ok_or_else(|| {
            Error::Onnx(format!("`{}` holds index {index}, `{}` has {size} along axis {axis}", op.name(1), op.name(0)))
        })
    });
    let places = places.collect::<Result<Vec<_>>>()?;
    let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
    if let &[place] = &*places {
        let strides = [&x.strides()[..axis], &vec![0; indices.shape().len()], &x.strides()[axis + 1..]].concat();
        return Ok(vec![x.view(
            shape,
            strides,
            x.offset().wrapping_add_signed(x.strides()[axis].wrapping_mul(place as isize)),
        )?]);
    }
    let len = product(&shape)?;
    let claim = op.budget.claim(len, x.width())?;
    let x = x.contiguous(op.budget)?;
    let (outer, inner) = (product(&x.shape()[..axis])?, product(&x.shape()[axis + 1..])?);
    fn gathered<T: Copy>(from: &[T], [outer, size, inner]: [usize; 3], places: &[usize], len: usize) -> Vec<T> {
        let mut to = Vec::with_capacity(len);
        for row in 0..outer {
            for place in places {
                to.extend_from_slice(&from[(row * size + place) * inner..][..inner]);
            }
        }
        to
    }
    let (data, range) = x.data();
    debug_assert!(each!(data, values => values.len()) >= range.end);
    let data = alike!(data, values => gathered(&values[range], [outer, size, inner], &places, len));
    Ok(vec![Array::new(shape, data, Some(claim))])
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn slices_as_numpy() {
        for (start, end, step, expected) in [
            (0, i64::MAX, 1, (0, 5)),
            (-2, i64::MAX, 1, (3, 2)),
            (4, i64::MIN, -2, (4, 3)),
            (-1, -6, -1, (4, 5)),
            (3, 1, 1, (3, 0)),
            (9, 20, 1, (5, 0)),
            (1, 4, i64::MAX, (1, 1)),
            (4, 0, i64::MIN, (4, 1)),
        ] {
            assert_eq!(range(start, end, step, 5).unwrap(), expected, "{start}:{end}:{step}");
        }
        assert!(range(0, 1, 0, 5).is_err());
        assert_eq!(range(0, 5, -1, 0).unwrap().1, 0);
    }
}
