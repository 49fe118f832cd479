//! Products on a device, element by element, and what they refuse.

mod emulated;

use std::sync::OnceLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgpu::BufferBinding;

use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::element::Element;
use crate::gpu::program::{Bound, Dispatch, Role, Slot};
use crate::product::kernel::ProductKernel;
use crate::product::matmul::matmul;
use crate::product::operands::{Matrix, Product, Splits};
use crate::product::sums::{ColumnSum, Sharing};
use crate::product::tile::{Tile, Tiles};

/// Row-major in memory: A transposed (as weight gradients have it), B transposed (as x·Wᵀ has it).
#[derive(Debug, Clone, Copy)]
struct Case {
    shape: [u64; 3],
    transposed: [bool; 2],
    batches: u64,
    splits: u64,
    bias: bool,
    accumulate: bool,
    /// Elements of A, B and C before the first and after every row, which nothing may read or write.
    gaps: [u64; 3],
}

/// Elements of `count` row-major matrices with gaps, and the view of them.
fn matrix(role: Role, [rows, columns]: [u64; 2], count: u64, gap: u64) -> Matrix {
    let row = columns + gap;
    let batch = rows * row + gap;
    let slot = Slot::whole(role, gap + count * batch);
    Matrix::rows(slot, row).at(gap).stacked(batch)
}

fn at(x: &Matrix, batch: u64, row: u64, column: u64) -> usize {
    (x.offset + batch * x.batch + row * x.row + column * x.col) as usize
}

impl Case {
    fn product(&self) -> Product {
        let Self { shape: [m, n, k], transposed, batches, splits: count, bias, accumulate, gaps } = *self;
        let stack = |role, [rows, columns]: [u64; 2], transposed: bool, gap| {
            if transposed {
                matrix(role, [columns, rows], batches, gap).transposed()
            } else {
                matrix(role, [rows, columns], batches, gap)
            }
        };
        let a = stack(Role::Input, [m, k], transposed[0], gaps[0]);
        let mut b = stack(Role::Params, [k, n], transposed[1], gaps[1]);
        let c = matrix(Role::Output, [m, n], batches * count, gaps[2]);
        let biases = b.slot.size / 4;
        // A bias follows the last matrix, those of a stack lie as far apart as its matrices.
        b.slot.size += 4 * ((batches - 1) * b.batch + n);
        let bias = bias.then_some(biases);
        Product { m, n, k, batches, a, b, c, bias, accumulate, splits: Splits { count, stride: batches * c.batch } }
    }

    /// The same in slots that end with the last element that is needed.
    fn cut(&self) -> Product {
        let mut p = self.product();
        let [m, n, k] = self.shape;
        let end = |x: &Matrix, [rows, columns]: [u64; 2], count: u64| 4 * (at(x, count - 1, rows - 1, columns - 1) as u64 + 1);
        p.a.slot.size = end(&p.a, [m, k], p.batches);
        p.b.slot.size = match p.bias {
            Some(bias) => 4 * (bias + (p.batches - 1) * p.b.batch + n),
            None => end(&p.b, [k, n], p.batches),
        };
        p.c.slot.size = end(&p.c, [m, n], p.batches * p.splits.count);
        p
    }

    /// What a buffer holds: NaN but for the elements that the product reads.
    fn filled(x: &Matrix, [rows, columns]: [u64; 2], count: u64, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut values = vec![f32::NAN; (x.slot.size / 4) as usize];
        for batch in 0..count {
            for row in 0..rows {
                for column in 0..columns {
                    values[at(x, batch, row, column)] = rng.random_range(-1.0..=1.0);
                }
            }
        }
        values
    }

    fn check(&self, ctx: &Context, form: ProductKernel) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let p = self.product();
        let [m, n, k] = self.shape;
        let a = Self::filled(&p.a, [m, k], p.batches, &mut rng);
        let mut b = Self::filled(&p.b, [k, n], p.batches, &mut rng);
        for batch in 0..p.batches {
            for column in p.bias.into_iter().flat_map(|bias| bias..bias + n) {
                b[(batch * p.b.batch + column) as usize] = rng.random_range(-1.0..=1.0);
            }
        }
        let before = match p.accumulate {
            true => Self::filled(&p.c, [m, n], p.batches * p.splits.count, &mut rng),
            false => vec![f32::NAN; (p.c.slot.size / 4) as usize],
        };
        let [first, second] = [0; 2].map(|_| run(ctx, matmul(ctx, form, &p).unwrap(), [&a, &b, &before]));
        assert!(first.iter().map(|x| x.to_bits()).eq(second.iter().map(|x| x.to_bits())), "not repeatable");

        self.verify(form, &p, [&a, &b, &before], &first, |_| 1e-5);
    }

    /// Whether every number of C is right, as far as `most` allows of what is expected, and nothing else was written over `before`.
    fn verify(&self, form: ProductKernel, p: &Product, [a, b, before]: [&[f32]; 3], c: &[f32], most: impl Fn(f64) -> f64) {
        let [m, n, k] = self.shape;
        let mut written = vec![false; before.len()];
        let part = form.k_per_split(p);
        for z in 0..p.batches * p.splits.count {
            let (batch, split) = (z % p.batches, z / p.batches);
            for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
                let to = at(&p.c, z, row, column);
                let terms = (split * part..k.min((split + 1) * part))
                    .map(|k| f64::from(a[at(&p.a, batch, row, k)]) * f64::from(b[at(&p.b, batch, k, column)]));
                let mut expected: f64 = terms.sum();
                expected += p.bias.map_or(0.0, |bias| f64::from(b[(bias + batch * p.b.batch + column) as usize]));
                expected += if p.accumulate { f64::from(before[to]) } else { 0.0 };
                let off = (f64::from(c[to]) - expected).abs();
                assert!(
                    off <= most(expected),
                    "{form:?} {self:?}: batch {batch}, split {split}, row {row}, column {column}: {} for {expected}",
                    c[to]
                );
                written[to] = true;
            }
        }
        for (i, written) in written.into_iter().enumerate() {
            assert!(written || c[i].to_bits() == before[i].to_bits(), "{form:?} {self:?}: element {i} of a gap was written");
        }
    }
}

fn run(ctx: &Context, dispatch: Dispatch, [a, b, c]: [&[f32]; 3]) -> Vec<f32> {
    let buffers = [a, b, c].map(|values| ctx.upload("product", values).unwrap());
    run_on(ctx, dispatch, &buffers)
}

/// What C holds then; of f16 its words. Of `buffers`, A, B, C and `control`, what is not bound may be missing.
fn run_on(ctx: &Context, dispatch: Dispatch, buffers: &[DeviceBuffer]) -> Vec<f32> {
    let buffer = |role| {
        let index = [Role::Input, Role::Params, Role::Output, Role::Control].into_iter().position(|r| r == role)?;
        Some(BufferBinding { buffer: buffers.get(index)?, offset: 0, size: None })
    };
    let bound = Bound::new(ctx, &[dispatch.into()], buffer).unwrap();
    let mut encoder = ctx.encoder("product");
    bound.record(&mut encoder.begin_compute_pass(&Default::default()));
    ctx.submit(encoder).unwrap();
    let [c] = pollster::block_on(ctx.download([&buffers[2]])).unwrap();
    c
}

type Change = fn(&mut Product);

/// A·Bᵀ, A·B and Aᵀ·B.
const ORIENTATIONS: [[bool; 2]; 3] = [[false, true], [false, false], [true, false]];

/// Every form that this device can run, so a software adapter tests GPUs' too.
#[test]
fn every_form_keeps_the_contract() {
    let ctx = context();
    // Larger tiles take a CPU adapter seconds to compile.
    let tiles = if ctx.is_software() { &Tile::ALL[..1] } else { &Tile::ALL };
    let mut forms: Vec<_> = tiles.iter().map(|&tile| ProductKernel::Tiled(tile.blocking(0))).collect();
    forms.push(ProductKernel::Cpu { shuffle: false });
    forms.extend(ctx.subgroups().then_some(ProductKernel::Cpu { shuffle: true }));
    let shapes = [[1, 1, 1], [3, 17, 65], [17, 65, 3], [64, 63, 64], [63, 64, 17], [129, 33, 130], [260, 3, 5]];
    // By fours: within one tile, exactly some tiles, a little more, and with a k that ends within a tile.
    let even = [[4, 4, 4], [32, 64, 32], [36, 100, 48], [132, 68, 20]];
    // For each orientation two operands by fours, the third as it comes.
    let even_gaps = [[4, 4, 3], [3, 4, 4], [4, 3, 4]];
    for form in forms {
        for (transposed, even_gaps) in ORIENTATIONS.into_iter().zip(even_gaps) {
            let cases = shapes.map(|shape| (shape, [3; 3])).into_iter().chain(even.map(|shape| (shape, even_gaps)));
            for (shape, gaps) in cases {
                // Of 5 splits of a k of 1 or 3, and of 4 of a k of 5, some are empty.
                for (batches, splits, bias, accumulate) in
                    [(1, 1, true, false), (2, 1, true, true), (1, 1, false, true), (2, 5, false, false), (1, 4, false, true)]
                {
                    let case = Case { shape, transposed, batches, splits, bias, accumulate, gaps };
                    assert_eq!(case.product().layout(1).quads, gaps.map(|gap| gap == 4), "{case:?}");
                    println!("{form:?}: {case:?}");
                    case.check(&ctx, form);
                }
            }
        }
    }
}

/// A thread a column and eight of them, over stacks, parts of the rows that are ragged or empty, and a second place for each sum.
#[test]
fn columns_are_summed() {
    let ctx = context();
    let shapes = [(1, 1, 1, 1), (7, 33, 1, 1), (64, 32, 2, 1), (130, 70, 2, 3), (201, 65, 1, 4), (5, 40, 2, 7)];
    for ((rows, columns, batches, count), (twin, accumulate)) in
        shapes.into_iter().flat_map(|shape| [(false, false), (true, true), (true, false)].map(|flags| (shape, flags)))
    {
        let mut rng = ChaCha8Rng::seed_from_u64(rows);
        let a = matrix(Role::Input, [rows, columns], batches, 0);
        // Between the sums of a part lie their twins, between the parts three elements that nothing may write.
        let c = Matrix::rows(Slot::whole(Role::Output, count * (2 * batches * columns + 3)), columns).stacked(2 * columns);
        let splits = Splits { count, stride: 2 * batches * columns + 3 };
        let sum = ColumnSum { rows, columns, batches, a, c, twin: if twin { columns } else { 0 }, accumulate, splits };
        let values = Case::filled(&a, [rows, columns], batches, &mut rng);
        let before: Vec<f32> = (0..c.slot.elements()).map(|i| (i % 16) as f32).collect();
        let mut expected: Vec<f64> = before.iter().map(|&value| value.into()).collect();
        let part = rows.div_ceil(count);
        for (split, batch, column) in
            (0..count).flat_map(|s| (0..batches).flat_map(move |b| (0..columns).map(move |column| (s, b, column))))
        {
            let of_part = (split * part).min(rows)..((split + 1) * part).min(rows);
            let total: f64 = of_part.map(|row| f64::from(values[at(&a, batch, row, column)])).sum();
            let to = (batch * c.batch + split * splits.stride + column) as usize;
            for to in [to, to + columns as usize].into_iter().take(if twin { 2 } else { 1 }) {
                expected[to] = total + if accumulate { expected[to] } else { 0.0 };
            }
        }
        for sharing in Sharing::ALL {
            let found = run(&ctx, sum.shared(&ctx, sharing).unwrap(), [&values, &[0.0], &before]);
            for (i, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
                assert!((f64::from(found) - expected).abs() <= 1e-4, "{sharing:?} {sum:?}: element {i}: {found} for {expected}");
            }
        }
    }
}

/// More than one of every tile in each direction, and ragged. The smallest is held to more than this; that of 128 x 64 has the block
/// of one of these and the threads of the other.
#[test]
fn larger_tiles_compute_the_same() {
    let ctx = context();
    for tile in [Tile::Of64x64, Tile::Of128x128] {
        let shape = [260, 132, 36];
        let case = Case { shape, transposed: [false, true], batches: 1, splits: 1, bias: true, accumulate: false, gaps: [4; 3] };
        case.check(&ctx, ProductKernel::Tiled(tile.blocking(0)));
    }
}

/// What does not begin at a multiple of 4 is not read by fours, wherever it does not.
#[test]
fn quads_need_every_step_even() {
    let case = |transposed, batches, splits| Case {
        shape: [8, 12, 16],
        transposed,
        batches,
        splits,
        bias: false,
        accumulate: false,
        gaps: [4; 3],
    };
    // Four odd steps are even: each must be.
    for (transposed, count) in ORIENTATIONS.into_iter().flat_map(|transposed| [(transposed, 2), (transposed, 5)]) {
        let even = case(transposed, count, count).product();
        assert_eq!(even.layout(1).quads, [true; 3]);
        let uneven: [(usize, Change); 15] = [
            (0, |p| p.a.offset += 2),
            (0, |p| p.a.batch += 2),
            (0, |p| p.a.slot.offset += 8),
            (0, |p| if p.a.col == 1 { p.a.row += 1 } else { p.a.col += 1 }),
            (0, |p| if p.a.col == 1 { p.k += 1 } else { p.m += 1 }),
            (1, |p| p.b.offset += 2),
            (1, |p| p.b.batch += 2),
            (1, |p| p.b.slot.offset += 8),
            (1, |p| if p.b.col == 1 { p.b.row += 1 } else { p.b.col += 1 }),
            (1, |p| if p.b.col == 1 { p.n += 1 } else { p.k += 1 }),
            (2, |p| p.c.offset += 2),
            (2, |p| p.c.batch += 2),
            (2, |p| p.c.row += 1),
            (2, |p| p.n += 1),
            (2, |p| p.splits.stride += 1),
        ];
        for (i, (operand, change)) in uneven.into_iter().enumerate() {
            let mut product = even;
            change(&mut product);
            assert!(!product.layout(1).quads[operand], "{transposed:?}, {count} of them, change {i}");
        }
    }
}

/// A slot that ends with the last element of its operand is enough, one that ends before it is refused by name.
#[test]
fn no_index_leaves_its_slot() {
    let ctx = context();
    for (transposed, form) in ORIENTATIONS
        .map(|t| (t, ProductKernel::Tiled(Tile::Of32x32.blocking(0))))
        .into_iter()
        .chain([([false; 2], ProductKernel::Cpu { shuffle: false })])
    {
        let case = Case { shape: [5, 7, 9], transposed, batches: 2, splits: 3, bias: true, accumulate: false, gaps: [3; 3] };
        let p = case.cut();
        let ends = [p.a, p.b, p.c].map(|matrix| matrix.slot.elements());
        matmul(&ctx, form, &p).unwrap();
        let refused = |p: &Product, words: [String; 3]| {
            let error = matmul(&ctx, form, p).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}: {words:?}");
        };
        for (operand, name) in ["`input`, A", "`params`, the bias", "`output`, C"].into_iter().enumerate() {
            let mut short = p;
            let slot = [&mut short.a.slot, &mut short.b.slot, &mut short.c.slot].into_iter().nth(operand).unwrap();
            slot.size -= 4;
            refused(&short, [name.into(), format!("needs {}", ends[operand]), format!("has {}", ends[operand] - 1)]);
        }
        let mut short = p;
        let b_last = Case { bias: false, ..case }.cut().b.slot.elements();
        (short.bias, short.b.slot.size) = (None, 4 * (b_last - 1));
        refused(&short, ["`params`, B".into(), format!("needs {b_last}"), format!("has {}", b_last - 1)]);
        // Strides so long that their sum is beyond a u64 are refused, not added up.
        let mut far = p;
        far.a.batch = u64::MAX;
        refused(&far, ["`input`, A".into(), "needs".into(), "has".into()]);
        let impossible: [Change; 4] =
            [|p| p.m = 0, |p| p.k = 1 << 32, |p| p.splits.count = 0, |p| p.a = Matrix { row: 3, col: 2, ..p.a }];
        for change in impossible {
            let mut p = p;
            change(&mut p);
            assert!(matches!(matmul(&ctx, form, &p), Err(crate::Error::Range { .. })), "{p:?}");
        }
    }
}

/// A tiled product whose threads spoil their part of C where they read outside of a slot.
fn watched(ctx: &Context, p: &Product) -> Dispatch {
    let form = ProductKernel::Tiled(Tile::Of32x32.blocking(0));
    let mut source = form.source(form.layout(p));
    for name in ["a", "b", "bias"] {
        let load = format!("{{ let values = {name}[i];");
        assert_eq!(source.wgsl.matches(&load).count(), 1, "{name}");
        let watch = format!("{{ if i >= arrayLength(&{name}) {{ outside = 1e9; }} let values = {name}[i];");
        source.wgsl = source.wgsl.replace(&load, &watch);
    }
    let put = "n: u32, sum: vec4f) {";
    assert_eq!(source.wgsl.matches(put).count(), 1);
    source.wgsl = source.wgsl.replace(put, "n: u32, clean: vec4f) { let sum = clean + outside;") + "var<private> outside: f32;\n";
    Dispatch { kernel: ctx.kernel(source), ..matmul(ctx, form, p).unwrap() }
}

/// The kernel reads nothing outside of slots that end with the last element.
#[test]
fn nothing_is_read_outside() {
    let ctx = context();
    let [nt, _, tn] = ORIENTATIONS;
    // Of such sizes those who read the last elements have a part of C to spoil.
    for (transposed, shape, gap) in [(nt, [30, 31, 13], 3), (tn, [30, 31, 13], 3), (nt, [36, 28, 8], 4), (tn, [32, 28, 12], 4)] {
        for bias in [false, true] {
            let case = Case { shape, transposed, batches: 2, splits: 2, bias, accumulate: false, gaps: [gap; 3] };
            let p = case.cut();
            assert_eq!(p.layout(1).quads, [gap == 4; 3]);
            let values = [p.a, p.b, p.c].map(|matrix| vec![0.5; matrix.slot.elements() as usize]);
            let values = [&values[0][..], &values[1], &values[2]];
            let spoiled = |dispatch| run(&ctx, dispatch, values).iter().any(|&c| c > 1e8);
            assert!(!spoiled(watched(&ctx, &p)), "{case:?}");
            // B ends with the bias, if there is one.
            for slot in if bias { [0, 2] } else { [0, 1] } {
                let mut short = watched(&ctx, &p);
                short.slots[slot].size -= if gap == 4 && slot < 2 { 16 } else { 4 };
                assert!(spoiled(short), "{case:?}: slot {slot}");
            }
        }
    }
}

/// Where the app asks for them, and both operands are f16 or may be rounded to it.
#[test]
fn products_of_halves_take_cooperative_matrices() {
    let ctx = context();
    let case =
        Case { shape: [4, 4, 4], transposed: [false, true], batches: 1, splits: 1, bias: false, accumulate: false, gaps: [4; 3] };
    let with = Tiles { cooperative: Some(16), ..Tiles::all(Tile::Of32x32) };
    let mut p = case.product();
    for (elements, form) in [
        ([Element::F16, Element::F16], ProductKernel::Cooperative(Tile::Of32x32.matrices(16, 16384))),
        ([Element::F32, Element::F16], ProductKernel::Tiled(Tile::Of32x32.blocking(0))),
        ([Element::F16, Element::F32], ProductKernel::Tiled(Tile::Of32x32.blocking(0))),
        ([Element::PackedF16, Element::PackedF16], ProductKernel::Tiled(Tile::Of32x32.blocking(0))),
    ] {
        [p.a.slot.element, p.b.slot.element] = elements;
        assert_eq!(ProductKernel::of_product(&ctx, with, &p), form);
        let none = Tiles { cooperative: Some(16), ..Tiles::default() };
        let is_cooperative = matches!(form, ProductKernel::Cooperative(_));
        assert_eq!(matches!(ProductKernel::of_product(&ctx, none, &p), ProductKernel::Cooperative(_)), is_cooperative);
        // Packed numbers are nobody's.
        let rounded = Product { a: p.a.rounded(true), b: p.b.rounded(true), ..p };
        let cooperative = matches!(ProductKernel::of_product(&ctx, with, &rounded), ProductKernel::Cooperative(_));
        assert_eq!(cooperative, !elements.contains(&Element::PackedF16), "{elements:?}");
        assert_eq!(ProductKernel::of_product(&ctx, with, &rounded).scales(&rounded), cooperative && elements[0] == Element::F32);
        assert_eq!(
            ProductKernel::of_product(&ctx, Tiles::all(Tile::Of32x32), &p),
            ProductKernel::Tiled(Tile::Of32x32.blocking(0))
        );
    }
}

/// One for all tests, so that they share what takes a CPU adapter seconds to compile.
pub(crate) fn context() -> Context {
    static SHARED: OnceLock<Context> = OnceLock::new();
    SHARED.get_or_init(|| pollster::block_on(Context::request()).expect("this needs an adapter")).clone()
}
