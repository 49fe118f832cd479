//! The flat parameter block: PyTorch's tensors, one after another, under PyTorch's names.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cell::{Cell, CellSpec};
use crate::error::{Error, Limit, Result, check_len};
use crate::network::config::RnnConfig;

/// Name, shape and element range of one tensor in the flat parameter block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// PyTorch's name: `weight_hh_l0_reverse`.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    /// Elements within the block.
    pub range: Range<usize>,
}

/// Where each tensor of a network lies in its flat parameter block.
///
/// Order: layer, then direction, then `weight_ih` `[G·H, I_l]`, `weight_hh` `[G·H, H]`, `bias_ih` `[G·H]`,
/// `bias_hh` `[G·H]`, then the cell's per-unit tensors `[rows, H]`. Where h is projected, `weight_hh` is `[G·H, P]`, and `weight_hr`
/// `[P, H]` comes last. Names end in `_l{layer}` and, for the backward
/// direction, `_reverse`.
///
/// Gates lie one below the other, H rows each, in PyTorch's order: an LSTM's i, f, g, o, a GRU's r, z, n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamLayout {
    specs: Vec<ParamSpec>,
    blocks: Vec<ParamBlock>,
    num_directions: usize,
    hidden_size: usize,
}

/// Element offsets of one layer and direction. The directions of a layer have equal blocks, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParamBlock {
    pub weight_ih: usize,
    pub weight_hh: usize,
    /// `bias_ih`, with `bias_hh` right behind it.
    pub bias: Option<usize>,
    /// The per-unit rows `[rows, H]`.
    pub unit: Option<usize>,
    /// `weight_hr`.
    pub proj: Option<usize>,
    /// Elements of the whole block, so the distance to the next direction.
    pub len: usize,
}

impl ParamLayout {
    /// Refuses a cell or config that means nothing, and more parameters than u32 counts.
    pub fn new(cell: &dyn Cell, config: &RnnConfig) -> Result<Self> {
        Self::of(cell, &cell.spec(), config)
    }

    /// The layout for a cell whose spec is at hand.
    pub(crate) fn of(cell: &dyn Cell, spec: &CellSpec, config: &RnnConfig) -> Result<Self> {
        spec.check(cell.name())?;
        cell.validate()?;
        config.validate()?;
        if config.proj_size > 0 && !spec.projectable {
            let what = format!("`proj_size` is {}, but cell `{}` cannot project h; lstm can", config.proj_size, cell.name());
            return Err(Error::Config(what));
        }
        let hidden = config.hidden_size;
        let rows = spec.gates.len() * hidden;
        let mut layout =
            Self { specs: Vec::new(), blocks: Vec::new(), num_directions: config.num_directions(), hidden_size: hidden };
        for layer in 0..config.num_layers {
            for direction in 0..config.num_directions() {
                let suffix = format!("_l{layer}{}", if direction == 0 { "" } else { "_reverse" });
                let start = layout.len();
                let weight_ih = layout.push("weight_ih", &suffix, &[rows, config.layer_input_size(layer)])?;
                let weight_hh = layout.push("weight_hh", &suffix, &[rows, config.h_size()])?;
                let mut bias = None;
                if config.bias {
                    bias = Some(layout.push("bias_ih", &suffix, &[rows])?);
                    layout.push("bias_hh", &suffix, &[rows])?;
                }
                let unit = (spec.unit_rows() > 0).then_some(layout.len());
                for param in &spec.unit_params {
                    layout.push(param.name, &suffix, &[param.rows, hidden])?;
                }
                let proj = match config.proj_size {
                    0 => None,
                    size => Some(layout.push("weight_hr", &suffix, &[size, hidden])?),
                };
                layout.blocks.push(ParamBlock { weight_ih, weight_hh, bias, unit, proj, len: layout.len() - start });
            }
        }
        Ok(layout)
    }

    /// Appends a tensor and gives its offset.
    fn push(&mut self, name: &str, suffix: &str, shape: &[usize]) -> Result<usize> {
        let start = self.len();
        let max = u64::from(u32::MAX);
        let end = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64)).and_then(|n| n.checked_add(start as u64));
        match end {
            Some(end) if end <= max => {
                let range = start..end as usize;
                self.specs.push(ParamSpec { name: format!("{name}{suffix}"), shape: shape.to_vec(), range });
                Ok(start)
            }
            end => Err(Error::Limit { limit: Limit::Index("parameters".into()), needed: end.unwrap_or(u64::MAX), actual: max }),
        }
    }

    /// The tensors in block order.
    pub fn iter(&self) -> impl Iterator<Item = &ParamSpec> {
        self.specs.iter()
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Result<&ParamSpec> {
        self.specs.iter().find(|s| s.name == name).ok_or_else(|| Error::UnknownName {
            kind: "parameter",
            name: name.into(),
            known: self.specs.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Elements of the whole block.
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.specs.last().map_or(0, |s| s.range.end)
    }

    pub(crate) fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    pub(crate) fn block(&self, layer: usize, direction: usize) -> ParamBlock {
        self.blocks[layer * self.num_directions + direction]
    }
}

/// Host copy of a flat parameter block.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    layout: ParamLayout,
    values: Vec<f32>,
}

impl Params {
    /// All zeros.
    pub fn zeros(layout: &ParamLayout) -> Self {
        Self { layout: layout.clone(), values: vec![0.0; layout.len()] }
    }

    /// PyTorch's default: every value uniform in ±1/√H. The same seed gives the same values on every machine.
    pub fn uniform(layout: &ParamLayout, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (layout.hidden_size as f32).sqrt();
        let values = (0..layout.len()).map(|_| rng.random_range(-bound..=bound)).collect();
        Self { layout: layout.clone(), values }
    }

    /// Takes a whole block in layout order.
    pub fn from_values(layout: &ParamLayout, values: Vec<f32>) -> Result<Self> {
        check_len("params", layout.len(), values.len())?;
        Ok(Self { layout: layout.clone(), values })
    }

    /// Where each tensor lies.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The whole block in layout order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The whole block in layout order, to change in place.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// One tensor, row-major.
    pub fn get(&self, name: &str) -> Result<&[f32]> {
        Ok(&self.values[self.layout.find(name)?.range.clone()])
    }

    /// Overwrites one tensor.
    pub fn set(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let spec = self.layout.find(name)?;
        if spec.shape != shape {
            return Err(Error::Shape { name: name.into(), expected: spec.shape.clone(), actual: shape.to_vec() });
        }
        check_len(name, spec.range.len(), values.len())?;
        self.values[spec.range.clone()].copy_from_slice(values);
        Ok(())
    }
}
