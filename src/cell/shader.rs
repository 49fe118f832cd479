//! A cell as kernels take it.

use std::ops::Deref;

use crate::cell::{Cell, CellSpec, is_trusted};

/// Name, counts and WGSL of a cell, asked for once: a cell that answered differently the second time must not be able to make buffer
/// sizes and shaders disagree.
#[derive(Debug, Clone)]
pub(crate) struct ShaderCell {
    pub name: String,
    spec: CellSpec,
    pub wgsl: String,
    /// Whether its WGSL may run without wgpu's runtime checks.
    pub trusted: bool,
}

impl ShaderCell {
    pub fn new(cell: &dyn Cell) -> Self {
        Self { name: cell.name().into(), spec: cell.spec(), wgsl: cell.wgsl().into_owned(), trusted: is_trusted(cell) }
    }

    pub fn spec(&self) -> &CellSpec {
        &self.spec
    }
}

impl Deref for ShaderCell {
    type Target = CellSpec;

    fn deref(&self) -> &CellSpec {
        &self.spec
    }
}
