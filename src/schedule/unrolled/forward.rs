//! The text of the forward kernels: all steps of some rows, or one step of some rows and units.

use std::fmt::Write;

use super::emit::{self, Part};
use super::share::{Share, Work};
use crate::cell::ShaderCell;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::Slot;
use crate::gpu::shaders::shader;
use crate::schedule::layer::{CallSlots, ChunkSizes, LayerSizes, Phase};

sizes! {
    /// For the kernel that takes lengths and initial states from the call.
    CallSizes: LayerSizes { chunk, steps, has_lengths, has_initial, }
}

impl CallSizes {
    pub fn new(ChunkSizes { layer, chunk, steps, .. }: ChunkSizes, call: &CallSlots) -> Self {
        let given = |slot| u32::from(slot != Slot::EMPTY);
        Self { layer, chunk, steps, has_lengths: given(call.lengths), has_initial: given(call.initial_state) }
    }
}

/// Workgroup memory and the functions that the text calls.
fn memory(w: &mut String, share: &Share, work: &Work, resident: bool) {
    let _ = writeln!(w, "var<workgroup> staged: array<vec4f, {}>;", share.staged(work, resident) / 4);
    if share.has_parts() {
        let _ = writeln!(w, "var<workgroup> sums: array<f32, {}>;", share.sums(work));
    }
    emit::head(w, share, work);
}

fn entry(w: &mut String, name: &str, share: &Share) {
    let _ = writeln!(
        w,
        "@compute @workgroup_size({})\nfn {name}(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {{",
        share.threads()
    );
    let _ =
        writeln!(w, "let direction = group.z;\nlet row0 = group.y * {}u;\nlet unit0 = group.x * {}u;", share.rows, share.units());
}

/// All steps of a chunk for the rows of a workgroup, which makes all units of them. States stay in the registers of the threads
/// that finish them, operands in workgroup memory; the input's part of a step is asked for a step before.
pub(super) fn resident(cell: &ShaderCell, share: &Share, work: &Work, step: StepIndex, bindings: &[Binding]) -> KernelSource {
    let text = all_steps("resident_unrolled_forward", share, work, false);
    let constants = [("ROWS", share.rows)];
    let source = KernelSource::new(shader!("recurrence/resident_unrolled_forward"), &constants, bindings, step, ChunkSizes::WGSL);
    source.with_text(&text).with_cell(cell)
}

/// The same for a whole sequence, which starts from what the call gives.
pub(super) fn of_call(cell: &ShaderCell, share: &Share, work: &Work, step: StepIndex, bindings: &[Binding]) -> KernelSource {
    let text = all_steps("resident_call_forward", share, work, true);
    let source = KernelSource::new(shader!("recurrence/resident_call_forward"), &[], bindings, step, CallSizes::WGSL);
    source.with_text(&text).with_cell(cell)
}

fn all_steps(name: &str, share: &Share, work: &Work, of_call: bool) -> String {
    let mut w = String::new();
    memory(&mut w, share, work, true);
    entry(&mut w, name, share);
    let (threads, rows) = (share.threads(), share.rows);
    w.push_str("let start = sizes.first + step_index.value * sizes.chunk;\nlet end = min(sizes.steps, start + sizes.chunk);\n");
    if !of_call {
        let _ = writeln!(w, "restore(STATES + 1u, 0u, direction, row0, thread, {threads}u);");
    }
    emit::place(&mut w, share, work);
    emit::hold(&mut w, share, work);
    emit::slots(&mut w, share);
    for i in 0..share.slots() {
        let held = if of_call {
            format!("initial_of(direction, b{i}, u{i})")
        } else {
            format!("before(start, direction, b{i}, u{i}, state[h_index(start, direction, b{i}, u{i})]).held")
        };
        let _ = writeln!(
            w,
            "let fixed{i} = fixed_of(direction, u{i});\nlet length{i} = length_of(b{i});\nvar held{i} = {held};\n\
             var ahead{i} = input_of(start, direction, b{i}, u{i});"
        );
    }
    let _ = writeln!(
        w,
        "for (var i = thread; i < {}u; i += {threads}u) {{ staged[i] = vec4f(); }}\nworkgroupBarrier();",
        share.staged(work, true) / 4
    );
    let plane = rows * share.k(work, 0) / 4;
    let double = share.is_double(work);
    let from = |step: &str| if double { format!("({step} & 1u) * {plane}u") } else { "0u".into() };
    let _ = writeln!(w, "var from_ = {};", from("start"));
    for i in 0..share.slots() {
        let _ = writeln!(w, "if mine{i} {{ {} }}", put(share, work, 0, i, "from_", &format!("held{i}[0]")));
    }
    w.push_str("workgroupBarrier();\nfor (var step = start; step < end; step++) {\n");
    for i in 0..share.slots() {
        let _ = writeln!(
            w,
            "let x{i} = Before(ahead{i}, held{i}, length{i});\n\
             if step + 1u < end {{ ahead{i} = input_of(step + 1u, direction, b{i}, u{i}); }}"
        );
    }
    let parts = emit::parts(work);
    for (n, &part) in parts.iter().enumerate() {
        if n + 1 < parts.len() {
            first_phase(&mut w, share, work, part, plane);
        } else {
            last_phase(&mut w, share, work, part, plane, double);
        }
    }
    w.push_str("}\n");
    if !of_call {
        keep_states(&mut w, share);
    }
    w.push_str("}\n");
    w
}

/// What the next chunk starts from.
fn keep_states(w: &mut String, share: &Share) {
    w.push_str("if end < sizes.seq_len {\n");
    for i in 0..share.slots() {
        let _ = writeln!(
            w,
            "if mine{i} {{\nvar last = held{i};\nstate[h_index(end, direction, b{i}, u{i})] = last[0];\n\
             for (var s = 1u; s < STATES; s++) {{ state[(s + 1u) * sizes.block + state_index(direction, b{i}, u{i})] = last[s]; }}\n}}"
        );
    }
    w.push_str("}\n");
}

/// Stages a number of slot `i` of a phase's operand, which begins at `from`.
fn put(share: &Share, work: &Work, phase: usize, i: u32, from: &str, value: &str) -> String {
    let quads = share.k(work, phase) / 4;
    format!("staged[{from} + r{i} * {quads}u + u{i} / 4u][u{i} % 4u] = {value};")
}

/// The products of a phase, with the bias, as `var rh{i}`: what the gates of the other phase hold is `others`.
fn sums(w: &mut String, share: &Share, work: &Work, part: Part, from: &str) -> Vec<Vec<String>> {
    let stride = format!("{}u", share.k(work, part.index) / 4);
    let pairs = emit::products(w, share, work, part, [from, &stride]);
    emit::gather(w, share, work, part, pairs)
}

/// Where an edge is cut h counts as 0: the products were made of what it was.
fn cut(i: u32) -> String {
    format!("let cut{i} = enters_cut(direction, time_of(step, direction), b{i});\n")
}

fn biased(part: Part, names: &[String], i: u32, zero_if: &str) -> Vec<String> {
    let sum = |(n, name): (usize, &String)| {
        let value = if zero_if.is_empty() { name.clone() } else { format!("select({name}, 0.0, {zero_if})") };
        format!("{value} + fixed{i}.bias[{}u]", part.first as usize + n)
    };
    names.iter().enumerate().map(sum).collect()
}

/// h is multiplied, mid made and staged behind it.
fn first_phase(w: &mut String, share: &Share, work: &Work, part: Part, plane: u32) {
    let slots = sums(w, share, work, part, "from_");
    for (i, names) in slots.iter().enumerate() {
        let i = i as u32;
        w.push_str(&cut(i));
        let _ = writeln!(w, "var prev{i} = held{i};\nif cut{i} {{ prev{i} = State(); }}");
        let rh = emit::gates(work, part, &biased(part, names, i, &format!("cut{i}")), |_| "0.0".into());
        let _ = writeln!(w, "let first{i} = {rh};\nlet mid{i} = cell_mid(x{i}.wx, first{i}, prev{i}, fixed{i}.unit);");
        let _ = writeln!(w, "if mine{i} {{ {} }}", put(share, work, 1, i, &format!("{plane}u"), &format!("mid{i}")));
    }
    w.push_str("workgroupBarrier();\n");
}

/// h or mid is multiplied, the step is made, and h staged for the next.
fn last_phase(w: &mut String, share: &Share, work: &Work, part: Part, plane: u32, double: bool) {
    let two = work.two_phases();
    let from = if two { format!("{plane}u") } else { "from_".into() };
    let slots = sums(w, share, work, part, &from);
    if double {
        let _ = writeln!(w, "from_ = {plane}u - from_;");
    }
    for (i, names) in slots.iter().enumerate() {
        let i = i as u32;
        let zero_if = if two { String::new() } else { format!("cut{i}") };
        if !two {
            w.push_str(&cut(i));
            let _ = writeln!(w, "var prev{i} = held{i};\nif cut{i} {{ prev{i} = State(); }}");
        }
        let rh = emit::gates(work, part, &biased(part, names, i, &zero_if), |gate| format!("first{i}[{gate}u]"));
        let _ = writeln!(w, "if mine{i} {{");
        let _ = writeln!(w, "held{i} = advance(step, direction, b{i}, u{i}, {rh}, prev{i}, fixed{i}.unit, x{i});");
        let _ = writeln!(w, "{}\n}}", put(share, work, 0, i, "from_", &format!("held{i}[0]")));
    }
    w.push_str("workgroupBarrier();\n");
}

/// One phase of one step for some units and rows; all that a workgroup needs is asked for at its start.
pub(super) fn step(
    cell: &ShaderCell,
    share: &Share,
    work: &Work,
    phase: Phase,
    step: StepIndex,
    bindings: &[Binding],
) -> KernelSource {
    let mut w = String::new();
    memory(&mut w, share, work, false);
    entry(&mut w, "stepwise_unrolled_forward", share);
    w.push_str("let step = sizes.first + step_index.value;\n");
    emit::place(&mut w, share, work);
    emit::hold(&mut w, share, work);
    emit::slots(&mut w, share);
    for i in 0..share.slots() {
        let _ = writeln!(
            w,
            "let x{i} = before(step, direction, b{i}, u{i}, state[h_index(step, direction, b{i}, u{i})]);\n\
             let fixed{i} = fixed_of(direction, u{i});"
        );
    }
    stage(&mut w, share, work, phase);
    let part = Part { index: 0, first: phase.first, count: phase.count };
    let slots = sums(&mut w, share, work, part, "0u");
    for (i, names) in slots.iter().enumerate() {
        let Phase { number, first, count } = phase;
        let products = emit::gates(work, part, names, |_| "0.0".into());
        let _ = writeln!(
            w,
            "if mine{i} {{\nlet made = finish(step, {number}u, {first}u, {count}u, direction, b{i}, u{i}, {products}, fixed{i}, x{i});"
        );
        let at = match number {
            1 => format!("mid_index(direction, b{i}, u{i})"),
            _ => format!("h_index(step + 1u, direction, b{i}, u{i})"),
        };
        let _ = writeln!(w, "state[{at}] = made;\n}}");
    }
    w.push_str("}\n");
    KernelSource::new(shader!("recurrence/stepwise_unrolled_forward"), &[], bindings, step, LayerSizes::WGSL)
        .with_text(&w)
        .with_cell(cell)
}

/// The operand of a step's phase from the state: h, 0 where an edge is cut, or mid.
fn stage(w: &mut String, share: &Share, work: &Work, phase: Phase) {
    let k = share.k(work, 0);
    let ask = |i: u32| {
        let (b, k_at) = (format!("min(b{i}, sizes.batch - 1u)"), format!("min(k{i}, sizes.hidden - 1u)"));
        let at = if phase.number == 2 {
            format!("mid_index(direction, {b}, {k_at})")
        } else {
            format!("h_index(step, direction, {b}, {k_at})")
        };
        format!(
            "let k{i} = n{i} % {k}u;\nlet b{i} = row0 + n{i} / {k}u;\n\
             let there{i} = (k{i} < sizes.hidden) & (b{i} < sizes.batch);\nlet value{i} = state[{at}];"
        )
    };
    let put = |i: u32| {
        let (mut cut, mut there) = (String::new(), format!("there{i}"));
        if phase.number != 2 {
            cut = format!("let cut{i} = enters_cut(direction, time_of(step, direction), min(b{i}, sizes.batch - 1u));\n");
            there += &format!(" & !cut{i}");
        }
        [cut, format!("staged[n{i} / 4u][n{i} % 4u] = select(0.0, value{i}, {there});")]
    };
    emit::stage(w, share, share.rows * k, ask, put);
}
