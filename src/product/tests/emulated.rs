//! Products by cooperative matrices on a device that has none: the same text, in which a matrix of an operand is a place in workgroup
//! memory, and one of sums eight numbers of each of 32 threads.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Case, ORIENTATIONS, context, run_on};
use crate::gpu::context::{CONTROL_BYTES, Context};
use crate::gpu::element::Element;
use crate::gpu::program::{Dispatch, Role, Slot};
use crate::product::cooperative::Matrices;
use crate::product::kernel::ProductKernel;
use crate::product::matmul::matmul;
use crate::product::operands::Product;

/// What stands for the matrices, of 16 x 16: those of sums have numbers, and each thread eight elements of each in workgroup memory.
const EMULATION: &str = "
var<workgroup> sums: array<f32, MATRICES * THREADS * 8u>;
// Unknown to compilers, which would unroll all of it.
fn times(count: u32) -> u32 { return count * min(sizes.batches, 1u); }
// Where an operand begins, its stride, and whether that is one of rows.
fn operand(rows: u32, at: u32, stride: u32) -> vec3u { return vec3u(at * HALVES, stride * HALVES, rows); }
fn half_at(i: u32) -> f32 { let halves = tiles[i / HALVES]; return f32(HALF); }
fn number(x: vec3u, row: u32, column: u32) -> f32 {
    return half_at(x.x + select(column * x.y + row, row * x.y + column, x.z == 1u));
}
fn sum_at(thread: u32, matrix: u32, i: u32) -> u32 { return (matrix * THREADS + thread) * 8u + i; }
fn place(thread: u32, i: u32, at: u32, stride: u32) -> u32 {
    let of_matrix = thread % 32u * 8u + i;
    return at + of_matrix / 16u * stride + of_matrix % 16u;
}
fn zeros(thread: u32, matrix: u32) -> u32 {
    for (var i = 0u; i < times(8u); i++) { sums[sum_at(thread, matrix, i)] = 0.0; }
    return matrix;
}
fn load_sums(thread: u32, at: u32, stride: u32, matrix: u32) -> u32 {
    for (var i = 0u; i < times(8u); i++) { sums[sum_at(thread, matrix, i)] = c_part[place(thread, i, at, stride)]; }
    return matrix;
}
fn multiply_add(thread: u32, a: vec3u, b: vec3u, matrix: u32) -> u32 {
    for (var i = 0u; i < times(8u); i++) {
        let of_matrix = thread % 32u * 8u + i;
        var sum = sums[sum_at(thread, matrix, i)];
        for (var k = 0u; k < times(16u); k++) { sum += number(a, of_matrix / 16u, k) * number(b, k, of_matrix % 16u); }
        sums[sum_at(thread, matrix, i)] = sum;
    }
    return matrix;
}
fn scale_sums(thread: u32, matrix: u32, by: f32) {
    for (var i = 0u; i < times(8u); i++) { sums[sum_at(thread, matrix, i)] *= by; }
}
fn store_part(thread: u32, matrix: u32, at: u32, stride: u32) {
    for (var i = 0u; i < times(8u); i++) { c_part[place(thread, i, at, stride)] = sums[sum_at(thread, matrix, i)]; }
}
fn store_sums(thread: u32, matrix: u32, at: u32, stride: u32) {
    for (var i = 0u; i < times(8u); i++) {
        let to = place(thread, i, at, stride);
        C_TO = sums[sum_at(thread, matrix, i)];
    }
}
";

/// The product without cooperative matrices.
fn emulated(ctx: &Context, matrices: Matrices, p: &Product) -> Dispatch {
    let form = ProductKernel::Cooperative(matrices);
    let layout = form.layout(p);
    let mut source = form.source(layout);
    let (halves, half) = if matrices.quads { ("4u", "halves[i % 4u]") } else { ("1u", "halves") };
    // C of f16 never goes there straight.
    let c_to = if layout.elements[2] == Element::F32 { "c[to]" } else { "let none" };
    let mut matrices_of_sums = 0;
    let mut line = |line: &str| {
        for (mark, function) in [
            ("coopLoadT<coop_mat16x16<f16, A>>(&tiles[", "operand(1u, "),
            ("coopLoadT<coop_mat16x16<f16, B>>(&tiles[", "operand(1u, "),
            ("coopLoad<coop_mat16x16<f16, A>>(&tiles[", "operand(0u, "),
            ("coopLoad<coop_mat16x16<f16, B>>(&tiles[", "operand(0u, "),
        ] {
            if let Some((before, rest)) = line.split_once(mark) {
                return format!("{before}{function}{}", rest.replace("], ", ", "));
            }
        }
        if let Some((before, rest)) = line.split_once("coopStoreT(") {
            let (to, rest) = if rest.contains("&c_part[") { ("store_part", rest) } else { ("store_sums", rest) };
            let places = rest.replace("&c_part[", "").replace("&c[", "").replace("], ", ", ");
            return format!("{before}{to}(thread, {places}");
        }
        // Sums that begin with the bias: its place is kept, and read by each.
        if let Some((before, rest)) = line.split_once("coopLoadT<coop_mat16x16<f32, C>>(&c_part[") {
            return format!("{before}vec2u({}", rest.replace("], ", ", "));
        }
        if let Some((sum, bias)) =
            line.trim_end_matches(';').split_once(" = bias").filter(|(sum, _)| sum.trim().starts_with("sum"))
        {
            return format!("{sum} = load_sums(thread, bias{bias}.x, bias{bias}.y, {});", sum.trim());
        }
        if line.contains("coop_mat16x16<f32, C>()") {
            matrices_of_sums += 1;
            return line.replace("coop_mat16x16<f32, C>()", &format!("zeros(thread, {}u)", matrices_of_sums - 1));
        }
        // Sums of what was scaled.
        if let Some((sum, _)) = line.split_once(" * unscale;") {
            let sum = sum.split_whitespace().next().unwrap();
            return format!("scale_sums(thread, {sum}, unscale);");
        }
        line.replace("coopMultiplyAdd(", "multiply_add(thread, ")
            .replace("enable wgpu_cooperative_matrix;", "")
            .replace("    @builtin(subgroup_id) subgroup_id: u32,", "")
            .replace("let subgroup = subgroup_id % SUBGROUPS;", "let subgroup = thread / 32u;")
    };
    let mut text = source.wgsl.lines().map(&mut line).collect::<Vec<_>>().join("\n");
    assert!(!["coopLoad", "coopStore", "coopMul", "coop_mat"].iter().any(|word| text.contains(word)), "{text}");
    let emulation = EMULATION.replace("MATRICES", &format!("{matrices_of_sums}u"));
    text += &emulation.replace("HALVES", halves).replace("HALF", half).replace("C_TO", c_to);
    source.wgsl = text;
    Dispatch { kernel: ctx.kernel(source), ..matmul(ctx, form, p).unwrap() }
}

/// Whether every number of C is right, and nothing else is written.
fn check(ctx: &Context, matrices: Matrices, case: Case, elements: [Element; 3]) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut p = case.product();
    let [m, n, k] = case.shape;
    let halves = |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(|value| half::f16::from_f32(value).to_f32()).collect() };
    let a = halves(Case::filled(&p.a, [m, k], p.batches, &mut rng));
    let mut b = Case::filled(&p.b, [k, n], p.batches, &mut rng);
    for batch in 0..p.batches {
        for column in p.bias.into_iter().flat_map(|bias| bias..bias + n) {
            b[(batch * p.b.batch + column) as usize] = (column % 7) as f32;
        }
    }
    let b = halves(b);
    let before = match p.accumulate {
        true => halves(Case::filled(&p.c, [m, n], p.batches * p.splits.count, &mut rng)),
        false => vec![f32::NAN; (p.c.slot.size / 4) as usize],
    };
    let roles = [Role::Input, Role::Params, Role::Output];
    for (i, matrix) in [&mut p.a, &mut p.b, &mut p.c].into_iter().enumerate() {
        matrix.slot = Slot::stored(roles[i], matrix.slot.elements(), elements[i]);
        *matrix = matrix.rounded(true);
    }
    let upload = |i: usize, values: &[f32]| ctx.upload("product", &elements[i].dtype().encode(values)).unwrap();
    // The largest number is below 1.
    let control = vec![1f32; CONTROL_BYTES as usize / 4];
    let buffers = [upload(0, &a), upload(1, &b), upload(2, &before), ctx.upload("control", &control).unwrap()];
    let words = run_on(ctx, emulated(ctx, matrices, &p), &buffers);
    let c = elements[2].dtype().decode(words, before.len());
    let most = |expected: f64| if elements[2] == Element::F32 { 1e-5 } else { 1e-3 * expected.abs().max(1.0) };
    case.verify(ProductKernel::Cooperative(matrices), &p, [&a, &b, &before], &c, most);
}

/// Every order, on whole tiles and ragged ones, by loads of every width, of f16 and of f32 that is rounded.
#[test]
fn by_matrices_every_form_is_right() {
    let ctx = context();
    let base = Matrices { size: 16, tile: [32, 32], part: [32, 16], tile_k: 32, quads: true, early: false };
    let forms =
        [base, Matrices { early: true, ..base }, Matrices { quads: false, ..base }, Matrices { early: true, tile_k: 16, ..base }];
    // Whole tiles, edges by fours, and single numbers.
    let shapes = [([64, 32, 96], 8), ([36, 44, 52], 4), ([33, 17, 35], 3)];
    let full = std::env::var_os("TIDEGATE_FULL").is_some();
    let (half, single) = (Element::F16, Element::F32);
    let mut all = Vec::new();
    for matrices in forms {
        assert_eq!(matrices.check(), Ok(()));
        for (shape, gap) in shapes {
            for transposed in ORIENTATIONS {
                let options = [(1, 1, false, false), (2, 2, true, true), (1, 1, true, false), (2, 1, false, true)];
                let (batches, splits, bias, accumulate) = options[all.len() % 4];
                let a = if bias || all.len() % 2 == 0 { half } else { single };
                let case = Case { shape, transposed, batches, splits, bias, accumulate, gaps: [gap; 3] };
                all.push((matrices, case, [a, half, [single, half][all.len() % 5 % 2]]));
            }
        }
    }
    // A CPU adapter takes a second or two to compile one.
    for (matrices, case, elements) in all.into_iter().step_by(if full { 1 } else { 11 }) {
        check(&ctx, matrices, case, elements);
    }
}
