//! The tiles of bulk products on GPUs, and which of them a product takes.

use std::str::FromStr;

use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::product::cooperative::Matrices;
use crate::product::operands::Product;
use crate::product::tiled::Blocking;

/// How much of a bulk product one workgroup makes at a time, in rows and columns. A larger tile reads less memory for what it
/// computes, a smaller one leaves a small product more workgroups to share. Products by cooperative matrices have the same tiles.
/// Without a [`Tuning`](crate::Tuning) the product's shape decides; CPU adapters have a kernel of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Tile {
    /// 32 x 32.
    #[serde(rename = "32x32")]
    Of32x32,
    /// 64 x 64.
    #[serde(rename = "64x64")]
    Of64x64,
    /// 128 x 64.
    #[serde(rename = "128x64")]
    Of128x64,
    /// 128 x 128.
    #[serde(rename = "128x128")]
    Of128x128,
}

/// Its threads have 128 registers, too few for the 64 sums of an 8x8 block and what they are made of.
const INTEL: u32 = 0x8086;

/// Workgroups that fill a large GPU; a small one has more to do of each.
const FILLING: u64 = 256;

/// The same for those by cooperative matrices.
#[cfg(not(target_arch = "wasm32"))]
const FILLING_MATRICES: u64 = 96;

impl Tile {
    /// All, the smallest first.
    pub const ALL: [Self; 4] = [Self::Of32x32, Self::Of64x64, Self::Of128x64, Self::Of128x128];

    /// The name that the command uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Of32x32 => "32x32",
            Self::Of64x64 => "64x64",
            Self::Of128x64 => "128x64",
            Self::Of128x128 => "128x128",
        }
    }

    /// Rows and columns.
    pub(crate) fn size(self) -> [u32; 2] {
        match self {
            Self::Of32x32 => [32, 32],
            Self::Of64x64 => [64, 64],
            Self::Of128x64 => [128, 64],
            Self::Of128x128 => [128, 128],
        }
    }

    /// Those whose kernels spill no registers on GPUs of this vendor, by its PCI number.
    pub(crate) fn offered(vendor: u32) -> &'static [Self] {
        if vendor == INTEL { &Self::ALL[..3] } else { &Self::ALL }
    }

    /// How threads make it, within the workgroup memory that every device has.
    pub(super) fn blocking(self, vendor: u32) -> Blocking {
        let (block, tile_k, slices, buffers) = match self {
            Self::Of32x32 => ([4, 4], 16, 1, 2),
            Self::Of64x64 if vendor == INTEL => ([8, 4], 16, 1, 2),
            Self::Of128x64 if vendor == INTEL => ([8, 4], 16, 1, 1),
            Self::Of64x64 => ([8, 8], 16, 2, 2),
            Self::Of128x64 | Self::Of128x128 => ([8, 8], 16, 1, 1),
        };
        Blocking { tile: self.size(), block, tile_k, slices, buffers }
    }

    /// What is taken for cooperative matrices before anything is known of the device: half of an H200's cores by large ones are faster
    /// than all by small ones.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn of_matrices(m: u64, n: u64, parts: u64) -> Self {
        if Self::Of128x128.count(m, n) * parts >= FILLING_MATRICES { Self::Of128x128 } else { Self::Of64x64 }
    }

    /// How subgroups make it by cooperative matrices of this size, within so many bytes of workgroup memory.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn matrices(self, size: u32, bytes: u32) -> Matrices {
        let (part, tile_k, early) = match self {
            Self::Of32x32 => ([16, 16], 32, true),
            Self::Of64x64 => ([32, 32], 64, true),
            Self::Of128x64 | Self::Of128x128 => ([64, 32], 64, false),
        };
        let of = |tile_k| Matrices { size, tile: self.size(), part, tile_k, quads: size == 16, early };
        Some(of(tile_k)).filter(|matrices| matrices.bytes() <= bytes).unwrap_or(of(32))
    }

    /// Tiles that a product of m rows and n columns is cut into.
    pub(crate) fn count(self, m: u64, n: u64) -> u64 {
        let [tile_m, tile_n] = self.size().map(u64::from);
        m.div_ceil(tile_m) * n.div_ceil(tile_n)
    }

    /// What is taken before anything is known of the device: the largest that gives enough workgroups, `parts` of them for each
    /// tile, and whose ragged edges waste at most a third.
    pub(crate) fn by_shape(vendor: u32, m: u64, n: u64, parts: u64) -> Self {
        let fits = |tile: &Self| {
            let [tile_m, tile_n] = tile.size().map(u64::from);
            let computed = m.next_multiple_of(tile_m) * n.next_multiple_of(tile_n);
            tile.count(m, n) * parts >= FILLING && 2 * computed <= 3 * m * n
        };
        Self::offered(vendor).iter().copied().rev().find(fits).unwrap_or(Self::Of32x32)
    }
}

impl FromStr for Tile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|tile| tile.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "tile",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// What kernels a network's products take: tiles by the orientation of their operands, where one is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tiles {
    /// A·Bᵀ: the input's product, and the state's of a single step of many rows.
    pub nt: Option<Tile>,
    /// A·B: the gradient of an input.
    pub nn: Option<Tile>,
    /// Aᵀ·B: the gradients of weights.
    pub tn: Option<Tile>,
    /// Size of the cooperative matrices that products of f16 take instead.
    #[serde(skip)]
    pub cooperative: Option<u32>,
}

impl Tiles {
    /// One for all.
    pub fn all(tile: Tile) -> Self {
        Self { nt: Some(tile), nn: Some(tile), tn: Some(tile), cooperative: None }
    }

    /// These, and the other's where there is none.
    pub fn or(self, other: Self) -> Self {
        let cooperative = self.cooperative.or(other.cooperative);
        Self { nt: self.nt.or(other.nt), nn: self.nn.or(other.nn), tn: self.tn.or(other.tn), cooperative }
    }

    /// What a product takes for which none is chosen, with so many workgroups for each tile.
    pub fn by_shape(self, vendor: u32, [m, n]: [u64; 2], parts: u64) -> Tile {
        #[cfg(not(target_arch = "wasm32"))]
        if self.cooperative.is_some() {
            return Tile::of_matrices(m, n, parts);
        }
        Tile::by_shape(vendor, m, n, parts)
    }

    pub fn of(self, product: &Product) -> Option<Tile> {
        match (product.a_along_k(), product.b_along_k()) {
            (true, true) => self.nt,
            (true, false) => self.nn,
            (false, _) => self.tn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_fills_the_device_and_wastes_little() {
        for (m, n, parts, tile) in [
            (4096, 4096, 1, Tile::Of128x128),
            (2048, 2048, 1, Tile::Of128x128),
            (1024, 1024, 1, Tile::Of64x64),
            (1024, 1024, 2, Tile::Of128x64),
            (1024, 1024, 4, Tile::Of128x128),
            (256, 256, 1, Tile::Of32x32),
            (256, 256, 64, Tile::Of128x128),
            // 65 rows fill 96 by three of 32, and 128 by two of 64.
            (65, 65_536, 1, Tile::Of32x32),
            (96, 65_536, 1, Tile::Of128x128),
            (1, 1, 1, Tile::Of32x32),
        ] {
            assert_eq!(Tile::by_shape(0, m, n, parts), tile, "{m} x {n}, {parts} parts");
        }
    }

    #[test]
    fn blocks_are_smaller_where_they_would_spill() {
        assert_eq!(Tile::by_shape(INTEL, 4096, 4096, 1), Tile::Of128x64);
        let sums = |tile: &Tile, vendor| tile.blocking(vendor).block.iter().product::<u32>();
        assert!(Tile::offered(INTEL).iter().all(|tile| sums(tile, INTEL) <= 32));
        assert_eq!(sums(&Tile::Of128x64, 0), 64);
    }

    /// What the kernel counts on: see `product/tiled.wgsl`.
    #[test]
    fn every_tile_suits_the_kernel() {
        for tile in Tile::ALL {
            for blocking in [0, INTEL].map(|vendor| tile.blocking(vendor)) {
                assert_eq!(blocking.check(), Ok(()), "{tile:?}");
                let (threads, bytes) = (blocking.threads(), blocking.bytes());
                assert!(
                    threads <= crate::gpu::capabilities::INVOCATIONS && bytes <= crate::gpu::capabilities::WORKGROUP_BYTES,
                    "{tile:?}"
                );
            }
            assert_eq!(tile.name().parse::<Tile>().unwrap(), tile);
        }
        let error = "16x16".parse::<Tile>().unwrap_err().to_string();
        assert!(error.contains("16x16") && error.contains("128x64"), "{error}");
    }
}
