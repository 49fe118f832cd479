//! Which kernel makes a product, and its source.

use crate::gpu::context::Context;
use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::gpu::shaders::shader;
#[cfg(not(target_arch = "wasm32"))]
use crate::product::cooperative::{self, Matrices};
use crate::product::layout::{MatmulSizes, ProductLayout};
#[cfg(not(target_arch = "wasm32"))]
use crate::product::operands::Matrix;
use crate::product::operands::Product;
use crate::product::tile::{Tile, Tiles};
use crate::product::tiled::{self, Blocking};

/// Rows and columns of C that a workgroup of `product/cpu.wgsl` makes.
const CPU_TILE: [u32; 2] = [128, 32];

/// Which kernel makes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProductKernel {
    /// `product/tiled.wgsl`, for GPUs.
    Tiled(Blocking),
    /// `product/cooperative.wgsl`, for products of f16 on GPUs that have such matrices, where the app asks for it. No browser has them.
    #[cfg(not(target_arch = "wasm32"))]
    Cooperative(Matrices),
    /// `product/cpu.wgsl`, for CPU adapters. Its threads share loads of A by shuffles, or through workgroup memory.
    Cpu { shuffle: bool },
}

impl ProductKernel {
    /// `tile` is one that was chosen, `parts` the workgroups for each tile.
    pub fn of(ctx: &Context, tile: Option<Tile>, [m, n]: [u64; 2], parts: u64) -> Self {
        let vendor = ctx.adapter_info().vendor;
        match tile {
            Some(tile) => Self::Tiled(tile.blocking(vendor)),
            None if ctx.is_software() => Self::Cpu { shuffle: ctx.subgroups() },
            None => Self::Tiled(Tile::by_shape(vendor, m, n, parts).blocking(vendor)),
        }
    }

    pub fn of_product(ctx: &Context, tiles: Tiles, p: &Product) -> Self {
        let parts = p.batches * p.splits.count;
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(size) = tiles.cooperative
            && [p.a, p.b].iter().all(Matrix::is_for_halves)
        {
            return Self::of_matrices(ctx, size, tiles.of(p), [p.m, p.n], parts);
        }
        Self::of(ctx, tiles.of(p), [p.m, p.n], parts)
    }

    /// Of a weight gradient whose operands may be rounded to f16.
    pub fn of_rounded(ctx: &Context, tiles: Tiles, [m, n]: [u64; 2], parts: u64) -> Self {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(size) = tiles.cooperative {
            return Self::of_matrices(ctx, size, tiles.tn, [m, n], parts);
        }
        Self::of(ctx, tiles.tn, [m, n], parts)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn of_matrices(ctx: &Context, size: u32, tile: Option<Tile>, [m, n]: [u64; 2], parts: u64) -> Self {
        let tile = tile.unwrap_or(Tile::of_matrices(m, n, parts));
        Self::Cooperative(tile.matrices(size, ctx.limits().max_compute_workgroup_storage_size))
    }

    /// Workgroups that sums are cut for on a GPU. By matrices they take less time than partial sums take to be written and read.
    pub fn wanted(self) -> u64 {
        #[cfg(not(target_arch = "wasm32"))]
        if matches!(self, Self::Cooperative(_)) {
            return 256;
        }
        512
    }

    /// Whether it scales A, by what `prologue/gate_range.wgsl` has left.
    pub fn scales(self, p: &Product) -> bool {
        #[cfg(not(target_arch = "wasm32"))]
        if matches!(self, Self::Cooperative(_)) {
            return cooperative::is_scaled(p.a.slot.element);
        }
        let _ = p;
        false
    }

    /// Tiles of C, each of which one workgroup makes.
    pub fn tiles(self, m: u64, n: u64) -> u64 {
        let [rows, columns] = match self {
            Self::Tiled(blocking) => blocking.tile,
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cooperative(matrices) => matrices.tile,
            Self::Cpu { .. } => CPU_TILE,
        };
        m.div_ceil(rows.into()) * n.div_ceil(columns.into())
    }

    /// The k that a workgroup takes at a time.
    pub fn step(self) -> u64 {
        match self {
            Self::Tiled(blocking) => blocking.tile_k.into(),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cooperative(matrices) => matrices.tile_k.into(),
            Self::Cpu { .. } => 1,
        }
    }

    /// Whole steps of the kernel, so that only the last split has a ragged one.
    pub fn k_per_split(self, p: &Product) -> u64 {
        p.k.div_ceil(p.splits.count).next_multiple_of(self.step())
    }

    /// What the kernel of a product knows of its operands.
    pub fn layout(self, p: &Product) -> ProductLayout {
        let layout = p.layout(self.step());
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cooperative(Matrices { tile: [rows, columns], .. }) => {
                let whole = [p.m.is_multiple_of(rows.into()), p.n.is_multiple_of(columns.into())];
                ProductLayout { whole, ..layout }
            }
            _ => layout,
        }
    }

    pub fn source(self, layout: ProductLayout) -> KernelSource {
        let shuffle = match self {
            Self::Tiled(blocking) => return tiled::source(blocking, layout),
            #[cfg(not(target_arch = "wasm32"))]
            Self::Cooperative(matrices) => return cooperative::source(matrices, layout),
            Self::Cpu { shuffle } => shuffle,
        };
        let take = match shuffle {
            true => shader!("product/cpu_shuffle"),
            false => shader!("product/cpu_memory"),
        };
        let constants = [("TILE_M", CPU_TILE[0]), ("TILE_N", CPU_TILE[1])];
        KernelSource::new(shader!("product/cpu"), &constants, &layout.bindings([false; 3]), StepIndex::None, MatmulSizes::WGSL)
            .with_file(take)
    }
}
