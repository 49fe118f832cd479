//! Which tile is fastest for a product on this device: each is run, checked against the first, and timed.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgpu::{BufferBinding, BufferUsages};

use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::{CONTROL_BYTES, Context};
use crate::gpu::element::Element;
use crate::gpu::program::{Bound, Role, Segment, Slot};
use crate::product::{Matrix, Product, Splits, Tile, Tiles, matmuls, reduce, splits};
use crate::timing::clock;
use crate::timing::{Turns, WarmUp};

/// FLOPs of a timed run: what a slow GPU does in a tenth of a second, and by cooperative matrices. Longer products are cut, shorter ones
/// repeated.
const FLOPS: u64 = 20_000_000_000;
const FLOPS_COOPERATIVE: u64 = 200_000_000_000;
/// What is cut is a multiple of this, so that no tile is ragged that is not in the whole product.
const CUT: u64 = 256;
/// A tile is taken in place of the one that the shape says if it takes less than this part of its time.
const CLEARLY: f64 = 0.97;
/// Most repetitions of a run.
const REPEATS: u64 = 50;
/// What the runs of one tile may take together beyond the fewest.
const BUDGET: Duration = Duration::from_millis(100);
/// Largest relative L2 distance of two tiles' results: they add in other orders, and cooperative matrices round in ways of their own.
const TOLERANCE: f64 = 1e-5;
const TOLERANCE_COOPERATIVE: f64 = 1e-4;

/// How the operands of a product lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orientation {
    Nt,
    Nn,
    /// The sum may be cut into parts, which are added up.
    Tn,
}

/// How the operands of a product are stored, and whether those of f16 go by cooperative matrices, which then have this size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub elements: [Element; 2],
    pub cooperative: Option<u32>,
}

/// The fastest of `tiles` for a product of m x n x k of matrices without gaps. If it is too long, that of a part with fewer `rows`,
/// which are m, and of Aᵀ·B k.
pub(crate) async fn fastest(
    ctx: &Context,
    tiles: &[Tile],
    stored: Stored,
    orientation: Orientation,
    [m, n, k]: [u64; 3],
) -> Result<Option<Tile>> {
    let cut = |length: u64, others: u64| length.min((stored.flops() / (2 * others)).max(1).next_multiple_of(CUT));
    let [m, n, k] = match orientation {
        Orientation::Nt | Orientation::Nn => [cut(m, n * k), n, k],
        Orientation::Tn => [m, n, cut(k, m * n)],
    };
    let trial = Trial::new(ctx, stored, orientation, [m, n, k])?;
    let (mut truth, mut right) = (None, Vec::new());
    for &tile in tiles {
        match trial.check(tile, &mut truth).await {
            // Too much for the driver.
            Err(error) if truth.is_some() && !matches!(error, Error::DeviceLost) => {}
            bound => right.extend(bound?.map(|bound| (tile, bound))),
        }
    }
    let turns = Turns { warm_up: WarmUp::of(ctx), budget: BUDGET };
    let times =
        turns.time(&clock::host(), right.len(), async |of| trial.run(&right[of].1, trial.repeats()).await.map(|()| 1)).await?;
    let timed: Vec<_> = right.iter().zip(times).filter_map(|((tile, _), time)| Some((*tile, time.ok()?))).collect();
    Ok(best(&timed, trial.by_shape()))
}

/// The fastest, but the one that the shape says where it takes about as long.
fn best(timed: &[(Tile, f64)], by_shape: Tile) -> Option<Tile> {
    let &(fastest, time) = timed.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let is_as_fast = timed.iter().any(|&(tile, of_shape)| tile == by_shape && time > CLEARLY * of_shape);
    Some(if is_as_fast { by_shape } else { fastest })
}

impl Stored {
    fn flops(self) -> u64 {
        if self.cooperative.is_some() { FLOPS_COOPERATIVE } else { FLOPS }
    }
}

/// A, B, parts of C, C, and where the largest number of an operand that is rounded stands.
const ROLES: [Role; 5] = [Role::Input, Role::Params, Role::Workspace, Role::Output, Role::Control];

/// One product on buffers of its own.
struct Trial<'a> {
    ctx: &'a Context,
    stored: Stored,
    orientation: Orientation,
    shape: [u64; 3],
    /// As in [`ROLES`].
    buffers: [DeviceBuffer; 5],
}

impl<'a> Trial<'a> {
    fn new(ctx: &'a Context, stored: Stored, orientation: Orientation, shape: [u64; 3]) -> Result<Self> {
        let [m, n, k] = shape;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut uniform = |len: u64| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..=1.0)).collect() };
        let mut upload = |name, i: usize, len| ctx.upload(name, &stored.elements[i].dtype().encode(&uniform(len)));
        let [a, b] = [upload("a", 0, m * k)?, upload("b", 1, k * n)?];
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let parts = if orientation == Orientation::Tn { most_parts(k) } else { 1 };
        let [parts, c] = [("parts of c", m * n * parts), ("c", m * n)].map(|(name, len)| ctx.create_buffer(name, 4 * len, usage));
        let buffers = [a, b, parts?, c?, ctx.upload("control", &vec![1f32; CONTROL_BYTES as usize / 4])?];
        Ok(Self { ctx, stored, orientation, shape, buffers })
    }

    /// The product by this tile, ready to run; nothing if it does not agree with `truth`, which the first sets.
    async fn check(&self, tile: Tile, truth: &mut Option<Vec<f32>>) -> Result<Option<Bound>> {
        let segments = self.segments(tile)?;
        let bound = Bound::new(self.ctx, &segments, |role| {
            let index = ROLES.into_iter().position(|r| r == role)?;
            Some(BufferBinding { buffer: &self.buffers[index], offset: 0, size: None })
        })?;
        self.run(&bound, 1).await?;
        let [result] = self.ctx.download([&self.buffers[3]]).await?;
        let truth = truth.get_or_insert_with(|| result.clone());
        let most = if self.stored.cooperative.is_some() { TOLERANCE_COOPERATIVE } else { TOLERANCE };
        Ok((distance(truth, &result) <= most).then_some(bound))
    }

    /// The tile that it takes without a tuning.
    fn by_shape(&self) -> Tile {
        let [m, n, k] = self.shape;
        let tiles = Tiles { cooperative: self.stored.cooperative, ..Tiles::default() };
        let parts = if self.orientation == Orientation::Tn { splits(self.ctx, tiles, [m, n], 1, most_parts(k)) } else { 1 };
        tiles.by_shape(self.ctx.adapter_info().vendor, [m, n], parts)
    }

    /// How often a timed run computes it.
    fn repeats(&self) -> u64 {
        let [m, n, k] = self.shape;
        (self.stored.flops() / (2 * m * n * k)).clamp(1, REPEATS)
    }

    fn segments(&self, tile: Tile) -> Result<Vec<Segment>> {
        let [m, n, k] = self.shape;
        let Stored { elements, cooperative } = self.stored;
        let (input, params) = (Slot::stored(Role::Input, m * k, elements[0]), Slot::stored(Role::Params, k * n, elements[1]));
        let tiles = Tiles { cooperative, ..Tiles::all(tile) };
        let tn = self.orientation == Orientation::Tn;
        let count = if tn { splits(self.ctx, tiles, [m, n], 1, most_parts(k)) } else { 1 };
        let parts = Slot::whole(Role::Workspace, m * n * count);
        let output = Slot::whole(Role::Output, m * n);
        let a = if tn { Matrix::rows(input, m).transposed() } else { Matrix::rows(input, k) };
        let product = Product {
            m,
            n,
            k,
            batches: 1,
            a: a.rounded(cooperative.is_some()),
            b: if self.orientation == Orientation::Nt { Matrix::rows(params, k).transposed() } else { Matrix::rows(params, n) },
            c: Matrix::rows(if tn { parts } else { output }, n),
            bias: None,
            accumulate: false,
            splits: Splits { count, stride: m * n },
        };
        let mut segments = matmuls(self.ctx, tiles, &product)?;
        if tn {
            segments.push(reduce(self.ctx, parts, count, output, 0..m * n, false)?.into());
        }
        Ok(segments)
    }

    async fn run(&self, bound: &Bound, repeats: u64) -> Result<()> {
        let mut encoder = self.ctx.encoder("tidegate trial");
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for _ in 0..repeats {
            bound.record(&mut pass);
        }
        drop(pass);
        self.ctx.submit(encoder)?;
        self.ctx.done().await
    }
}

/// As the weight gradients of a network have it.
fn most_parts(k: u64) -> u64 {
    k.div_ceil(64).min(64)
}

/// Relative L2 distance.
fn distance(truth: &[f32], actual: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let off: f64 = truth.iter().zip(actual).map(|(&t, &a)| square(f64::from(t) - f64::from(a))).sum();
    let norm: f64 = truth.iter().map(|&t| square(t.into())).sum();
    // A NaN is as far away as can be.
    if off.is_nan() { f64::INFINITY } else { (off / norm.max(f64::MIN_POSITIVE)).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::tests::context;

    #[test]
    fn a_tie_goes_to_the_tile_of_the_shape() {
        let timed = [(Tile::Of32x32, 2.0), (Tile::Of64x64, 1.0), (Tile::Of128x128, 1.02)];
        assert_eq!(best(&timed, Tile::Of128x128), Some(Tile::Of128x128));
        assert_eq!(best(&timed, Tile::Of32x32), Some(Tile::Of64x64));
        assert_eq!(best(&timed, Tile::Of128x64), Some(Tile::Of64x64));
        assert_eq!(best(&[], Tile::Of32x32), None);
    }

    #[test]
    fn a_wrong_result_is_far_away() {
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 3.0]), 0.2);
        assert_eq!(distance(&[3.0, 4.0], &[3.0, f32::NAN]), f64::INFINITY);
    }

    /// Every orientation finds one, with sums in parts, and each of them is right, of whatever is stored.
    #[test]
    fn a_tile_is_found() {
        let ctx = context();
        let stored = Stored { elements: [Element::F32; 2], cooperative: None };
        for (orientation, shape) in
            [(Orientation::Nt, [36, 43, 200]), (Orientation::Nn, [36, 44, 199]), (Orientation::Tn, [36, 44, 200])]
        {
            let tile = pollster::block_on(fastest(&ctx, &[Tile::Of32x32], stored, orientation, shape)).unwrap();
            assert_eq!(tile, Some(Tile::Of32x32));
            let trial = Trial::new(&ctx, stored, orientation, shape).unwrap();
            // What the reference of all others is: a CPU adapter's own kernel, or another tile.
            let mut truth = Some(truth(orientation, shape));
            assert!(pollster::block_on(trial.check(Tile::Of32x32, &mut truth)).unwrap().is_some(), "{orientation:?}");
            truth.as_mut().unwrap()[0] += 1.0;
            assert_eq!(pollster::block_on(trial.check(Tile::Of32x32, &mut truth)).unwrap().map(drop), None);
        }
    }

    /// The product of the data that a trial has.
    fn truth(orientation: Orientation, [m, n, k]: [u64; 3]) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut uniform = |len: u64| -> Vec<f64> { (0..len).map(|_| f64::from(rng.random_range(-1.0f32..=1.0))).collect() };
        let (a, b) = (uniform(m * k), uniform(k * n));
        let at = |i: u64, j: u64| -> f64 {
            let a_at = |l: u64| if orientation == Orientation::Tn { l * m + i } else { i * k + l };
            let b_at = |l: u64| if orientation == Orientation::Nt { j * k + l } else { l * n + j };
            (0..k).map(|l| a[a_at(l) as usize] * b[b_at(l) as usize]).sum()
        };
        (0..m * n).map(|i| at(i / n, i % n) as f32).collect()
    }
}
