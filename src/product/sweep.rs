//! Times every blocking of bulk products on a device, those that no tile takes among them, and checks a sample of the results.

use std::time::Instant;

use wgpu::{BufferBinding, BufferUsages, Features};

use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::element::Element;
use crate::gpu::program::{Bound, Role, Segment, Slot};
use crate::product::cooperative::Matrices;
use crate::product::kernel::ProductKernel;
use crate::product::matmul::{matmul, splits_of};
use crate::product::operands::{Matrix, Product, Splits};
use crate::product::sums::reduce;
use crate::product::tile::Tile;
use crate::product::tiled::Blocking;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// What all dimensions are divided by, 1 for what a large GPU does.
    pub shrink: u64,
    /// Only variants whose names contain one of these, all if there are none.
    pub only: Vec<String>,
    /// Seconds of the same work before the clock starts.
    pub warm: f64,
}

/// One variant at one shape.
#[derive(Debug, Clone)]
pub struct Row {
    /// `nt 4096x2048x512` and so on: orientation, then m, n and k.
    pub case: String,
    /// Type, tile, block and what else tells it from the others.
    pub variant: String,
    /// Seconds of one product, with the sum of its parts if K is split.
    pub seconds: f64,
    /// FLOP/s · 10⁻¹².
    pub teraflops: f64,
    /// Largest error of the sample relative to the root mean square of an element.
    pub error: f64,
    /// Seconds that the pipelines took.
    pub compile: f64,
}

/// Which operand lies transposed, A then B, and m, n and k.
const CASES: [(&str, [bool; 2], [u64; 3]); 8] = [
    ("nt", [false, true], [4096, 4096, 4096]),
    ("nt", [false, true], [2048, 2048, 2048]),
    ("nt", [false, true], [1024, 1024, 1024]),
    ("nt", [false, true], [4096, 2048, 512]),
    ("nt", [false, true], [16_384, 2048, 512]),
    ("nt", [false, true], [4096, 4096, 1024]),
    ("nn", [false, false], [4096, 1024, 4096]),
    ("tn", [true, false], [4096, 1024, 4096]),
];
/// Elements of C that are checked.
const SAMPLE: u64 = 64;
/// Timed passes, of which the median counts, and what each should take.
const PASSES: usize = 5;
const PASS_SECONDS: f64 = 4e-3;

fn blockings() -> Vec<(String, ProductKernel)> {
    let of = |tile, block, tile_k, slices, buffers| Blocking { tile, block, tile_k, slices, buffers };
    let list = [
        of([32, 32], [4, 4], 16, 1, 2),
        of([32, 32], [4, 4], 16, 1, 1),
        of([64, 64], [8, 4], 16, 1, 2),
        of([64, 64], [8, 8], 16, 1, 1),
        of([64, 64], [8, 8], 16, 2, 2),
        of([64, 64], [8, 8], 16, 2, 1),
        of([64, 64], [8, 8], 32, 2, 1),
        of([64, 64], [8, 8], 16, 4, 2),
        of([128, 64], [8, 4], 16, 1, 1),
        of([128, 64], [8, 8], 8, 1, 2),
        of([128, 64], [8, 8], 16, 1, 1),
        of([128, 64], [8, 8], 16, 2, 1),
        of([128, 128], [8, 8], 8, 1, 2),
        of([128, 128], [8, 8], 8, 1, 1),
        of([128, 128], [8, 8], 16, 1, 1),
        of([128, 128], [8, 8], 32, 1, 1),
        of([256, 128], [16, 8], 16, 1, 1),
    ];
    let name = |b: &Blocking| {
        let ([m, n], [rows, columns]) = (b.tile, b.block);
        format!("f32 {m}x{n} of {rows}x{columns}, k {}, {} slices, {} buffers", b.tile_k, b.slices, b.buffers)
    };
    list.into_iter().map(|blocking| (name(&blocking), ProductKernel::Tiled(blocking))).collect()
}

fn matrices(size: u32) -> Vec<(String, ProductKernel)> {
    // As products take them, and with their loads in the other order.
    let list = Tile::ALL.into_iter().flat_map(|tile| {
        let taken = tile.matrices(size, u32::MAX);
        [taken, Matrices { early: !taken.early, ..taken }]
    });
    let name = |it: &Matrices| {
        let ([m, n], [rows, columns]) = (it.tile, it.part);
        let order = if it.early { "early" } else { "late" };
        format!("f16 {m}x{n} of {rows}x{columns}, k {}, {order}", it.tile_k)
    };
    list.map(|matrices| (name(&matrices), ProductKernel::Cooperative(matrices))).collect()
}

/// Every variant that the device can run at every shape; `report` is given each row as it is known, or why there is none.
pub fn sweep(ctx: &Context, options: &Options, mut report: impl FnMut(std::result::Result<Row, String>)) -> Result<()> {
    let clock = Clock::new(ctx)?;
    let limits = ctx.limits();
    let fits = |form: &ProductKernel| match form {
        ProductKernel::Tiled(it) => (it.threads(), it.bytes()),
        ProductKernel::Cooperative(it) => (it.threads(), it.bytes()),
        ProductKernel::Cpu { .. } => (0, 0),
    };
    let mut variants: Vec<_> = blockings().into_iter().map(|variant| (variant, Element::F32)).collect();
    if let Ok(size) = ctx.cooperative_size() {
        variants.extend(matrices(size).into_iter().map(|variant| (variant, Element::F16)));
    }
    let mut data: Option<Data> = None;
    for ((name, form), element) in variants {
        if !options.only.is_empty() && !options.only.iter().any(|only| name.contains(only.as_str())) {
            continue;
        }
        let (threads, bytes) = fits(&form);
        if threads > limits.max_compute_invocations_per_workgroup || bytes > limits.max_compute_workgroup_storage_size {
            report(Err(format!("{name}: {threads} threads and {bytes} bytes a workgroup are more than this device has")));
            continue;
        }
        if data.as_ref().is_none_or(|data| data.element != element) {
            data = Some(Data::new(ctx, options.shrink, element)?);
        }
        let Some(data) = &data else { continue };
        match data.measure(ctx, &clock, &name, form, options) {
            Ok(rows) => rows.into_iter().for_each(|row| report(Ok(row))),
            // A driver may refuse a kernel; the others may do.
            Err(error) if !ctx.is_lost() => report(Err(format!("{name}: {error}"))),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Operands as large as the largest case's, on the host and on the device, and room for C and its parts.
struct Data {
    element: Element,
    shrink: u64,
    values: [Vec<f32>; 2],
    /// A, B, parts of C, C.
    buffers: [DeviceBuffer; 4],
}

impl Data {
    fn new(ctx: &Context, shrink: u64, element: Element) -> Result<Self> {
        let cases = || CASES.iter().map(|&(_, transposed, shape)| (transposed, shape.map(|size| size / shrink)));
        let most = |of: fn([u64; 3]) -> u64| cases().map(|case| of(case.1)).max().unwrap_or(1);
        let [a, b, c] = [most(|[m, _, k]| m * k), most(|[_, n, k]| n * k), most(|[m, n, _]| m * n)];
        let cut = cases().filter(|case| case.0[0]).map(|(_, [m, n, _])| m * n).max().unwrap_or(1);
        let mut state = 1u64;
        // In steps that f16 holds exactly.
        let mut uniform = |len: u64| -> Vec<f32> {
            let value = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 54) as f32 / 512.0 - 1.0
            };
            (0..len).map(value).collect()
        };
        let values = [uniform(a), uniform(b)];
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let dtype = element.dtype();
        let upload = |name, values: &[f32]| ctx.upload(name, &dtype.encode(values));
        let buffers = [
            upload("a", &values[0])?,
            upload("b", &values[1])?,
            ctx.create_buffer("parts of c", 4 * cut * MOST_PARTS, usage)?,
            ctx.create_buffer("c", 4 * c, usage)?,
        ];
        Ok(Self { element, shrink, values, buffers })
    }

    fn slot(&self, role: Role, elements: u64) -> Slot {
        let element = if matches!(role, Role::Input | Role::Params) { self.element } else { Element::F32 };
        Slot::stored(role, elements, element)
    }

    fn product(&self, ctx: &Context, form: ProductKernel, transposed: [bool; 2], [m, n, k]: [u64; 3]) -> Product {
        let (a, b) = (self.slot(Role::Input, m * k), self.slot(Role::Params, k * n));
        let count = if transposed[0] { splits_of(ctx, form, [m, n], 1, MOST_PARTS) } else { 1 };
        let c = if count > 1 { self.slot(Role::Workspace, m * n * count) } else { self.slot(Role::Output, m * n) };
        Product {
            m,
            n,
            k,
            batches: 1,
            a: if transposed[0] { Matrix::rows(a, m).transposed() } else { Matrix::rows(a, k) },
            b: if transposed[1] { Matrix::rows(b, k).transposed() } else { Matrix::rows(b, n) },
            c: Matrix::rows(c, n),
            bias: None,
            accumulate: false,
            splits: Splits { count, stride: m * n },
        }
    }

    /// All cases of one variant: first every pipeline is built and its result checked, then all are timed while the clock is up.
    fn measure(&self, ctx: &Context, clock: &Clock, name: &str, form: ProductKernel, options: &Options) -> Result<Vec<Row>> {
        let mut bound = Vec::new();
        for (orientation, transposed, shape) in CASES {
            let shape = shape.map(|size| size / self.shrink);
            let product = self.product(ctx, form, transposed, shape);
            let start = Instant::now();
            let mut segments = vec![Segment::from(matmul(ctx, form, &product)?)];
            let compile = start.elapsed().as_secs_f64();
            if product.splits.count > 1 {
                let output = self.slot(Role::Output, shape[0] * shape[1]);
                let parts = product.splits.count;
                segments.push(reduce(ctx, product.c.slot, parts, output, 0..shape[0] * shape[1], false)?.into());
            }
            let roles = [Role::Input, Role::Params, Role::Workspace, Role::Output];
            let program = Bound::new(ctx, &segments, |role| {
                let index = roles.into_iter().position(|r| r == role)?;
                Some(BufferBinding { buffer: &self.buffers[index], offset: 0, size: None })
            })?;
            clock.time(ctx, &program, 1)?;
            let error = self.error(ctx, &product, shape)?;
            let [m, n, k] = shape;
            bound.push((program, compile, error, format!("{orientation} {m}x{n}x{k}"), 2.0 * (m * n * k) as f64));
        }
        let (start, warm) = (Instant::now(), &bound[0].0);
        while start.elapsed().as_secs_f64() < options.warm {
            clock.time(ctx, warm, 1)?;
        }
        let mut rows = Vec::new();
        for (program, compile, error, case, flops) in &bound {
            let once = clock.time(ctx, program, 1)?;
            let repeats = (PASS_SECONDS / once.max(1e-7)).clamp(1.0, 200.0) as u32;
            let mut times = (0..PASSES).map(|_| clock.time(ctx, program, repeats)).collect::<Result<Vec<_>>>()?;
            times.sort_by(f64::total_cmp);
            let seconds = times[PASSES / 2] / f64::from(repeats);
            let (case, variant, teraflops) = (case.clone(), name.to_owned(), flops / seconds * 1e-12);
            rows.push(Row { case, variant, seconds, teraflops, error: *error, compile: *compile });
        }
        Ok(rows)
    }

    /// Largest error in a sample of C, corners included.
    fn error(&self, ctx: &Context, p: &Product, [m, n, k]: [u64; 3]) -> Result<f64> {
        let [c] = pollster::block_on(ctx.download([&self.buffers[3]]))?;
        let mut worst = 0f64;
        for i in 0..SAMPLE {
            let (row, column) = match i {
                0 => (0, 0),
                1 => (m - 1, n - 1),
                _ => (i * 2_654_435_761 % m, i * 40_503 % n),
            };
            let a = |l: u64| f64::from(self.values[0][(row * p.a.row + l * p.a.col) as usize]);
            let b = |l: u64| f64::from(self.values[1][(l * p.b.row + column * p.b.col) as usize]);
            let expected: f64 = (0..k).map(|l| a(l) * b(l)).sum();
            // Elements are sums of k products of numbers between -1 and 1: their root mean square is √k / 3.
            let off = (f64::from(c[(row * n + column) as usize]) - expected).abs() / ((k as f64).sqrt() / 3.0);
            worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
        }
        Ok(worst)
    }
}

/// As many parts as K of a case is ever cut into.
const MOST_PARTS: u64 = 16;

/// Times passes by the device's clock where it has one.
struct Clock {
    queries: Option<(wgpu::QuerySet, DeviceBuffer)>,
}

impl Clock {
    fn new(ctx: &Context) -> Result<Self> {
        let descriptor = wgpu::QuerySetDescriptor { label: Some("tidegate sweep"), ty: wgpu::QueryType::Timestamp, count: 2 };
        let queries =
            ctx.device().features().contains(Features::TIMESTAMP_QUERY).then(|| ctx.device().create_query_set(&descriptor));
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let Some(queries) = queries else { return Ok(Self { queries: None }) };
        Ok(Self { queries: Some((queries, ctx.create_buffer("timestamps", 16, usage)?)) })
    }

    /// Seconds that a pass of `repetitions` takes.
    fn time(&self, ctx: &Context, program: &Bound, repeats: u32) -> Result<f64> {
        let mut encoder = ctx.encoder("tidegate sweep");
        let timestamp_writes = self.queries.as_ref().map(|(query_set, _)| wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
        for _ in 0..repeats {
            program.record(&mut pass);
        }
        drop(pass);
        if let Some((queries, resolved)) = &self.queries {
            encoder.resolve_query_set(queries, 0..2, resolved, 0);
        }
        let start = Instant::now();
        ctx.submit(encoder)?;
        ctx.wait()?;
        let wall = start.elapsed().as_secs_f64();
        let Some((_, resolved)) = &self.queries else { return Ok(wall) };
        let [words] = pollster::block_on(ctx.download([resolved]))?;
        let tick = |i: usize| u64::from(words[i].to_bits()) | u64::from(words[i + 1].to_bits()) << 32;
        let period = f64::from(ctx.queue().get_timestamp_period());
        Ok(tick(2).saturating_sub(tick(0)) as f64 * period * 1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::element::Access;
    use crate::product::layout::ProductLayout;

    /// One variant of each kind at shapes that a CPU adapter can do: every number is right.
    #[test]
    fn a_sweep_checks_what_it_times() {
        let ctx = crate::product::tests::context();
        let options = Options { shrink: 64, only: vec!["32x32 of 4x4, k 16, 1 slices, 1".into()], warm: 0.0 };
        let mut rows = Vec::new();
        sweep(&ctx, &options, |row| rows.push(row.unwrap())).unwrap();
        assert_eq!(rows.len(), CASES.len());
        for row in rows {
            assert!(row.error < 1e-5 && row.seconds > 0.0 && row.teraflops > 0.0, "{row:?}");
        }
    }

    #[test]
    fn every_variant_can_be_made() {
        for (name, form) in blockings().into_iter().chain(matrices(16)) {
            let fits = match form {
                ProductKernel::Tiled(blocking) => blocking.check(),
                ProductKernel::Cooperative(matrices) => matrices.check(),
                ProductKernel::Cpu { .. } => Ok(()),
            };
            assert_eq!(fits, Ok(()), "{name}");
        }
    }

    /// With TIDEGATE_SHADERS set, writes the text of every variant there, for drivers that tell registers and spills. All are valid, and naga writes them as SPIR-V.
    #[test]
    fn every_variant_is_valid() {
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        let folder = std::env::var_os("TIDEGATE_SHADERS").map(std::path::PathBuf::from);
        for (name, form) in blockings().into_iter().chain(matrices(16)).chain(matrices(8)) {
            for (orientation, along_k) in [("nt", [true, true]), ("nn", [true, false]), ("tn", [false, false])] {
                let cooperative = matches!(form, ProductKernel::Cooperative(_));
                let operands = [[Element::F32; 2], [Element::F16; 2], [Element::F32, Element::F16]];
                let operands = if cooperative { &operands[..] } else { &operands[..1] };
                for (whole_k, &[a, b]) in [true, false].into_iter().flat_map(|k| operands.iter().map(move |of| (k, of))) {
                    let layout = ProductLayout {
                        along_k,
                        quads: [true; 3],
                        access: [Access::Read; 2],
                        elements: [a, b, Element::F32],
                        whole_k,
                        whole: [whole_k; 2],
                    };
                    let wgsl = form.source(layout).wgsl;
                    let module =
                        naga::front::wgsl::parse_str(&wgsl).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&wgsl)));
                    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
                    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&wgsl)));
                    // naga makes matrices of whatever they are loaded from.
                    let is_float = |ty: &naga::Type| match ty.inner {
                        naga::TypeInner::CooperativeMatrix { scalar, .. } => scalar.kind == naga::ScalarKind::Float,
                        _ => true,
                    };
                    assert!(module.types.iter().all(|(_, ty)| is_float(ty)), "{name}: a matrix of something else than floats");
                    // A module that is valid may still be one that naga cannot write.
                    let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
                    let words = naga::back::spv::write_vec(&module, &info, &options, None).unwrap();
                    if let Some(folder) = &folder {
                        let name = name.replace([' ', ','], "_");
                        let stored = if cooperative { format!("_{a:?}_{b:?}") } else { String::new() };
                        let file = format!("{name}_{orientation}{stored}{}.wgsl", if whole_k { "" } else { "_ragged" });
                        std::fs::write(folder.join(&file), wgsl).unwrap();
                        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
                        std::fs::write(folder.join(file).with_extension("spv"), bytes).unwrap();
                    }
                }
            }
        }
    }
}
