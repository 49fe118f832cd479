//! The text of the backward kernels: all steps of some rows, or one step of some rows and units.

use std::fmt::Write;

use super::emit::{self, Part};
use super::share::{Share, Work};
use crate::cell::ShaderCell;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::shaders::shader;
use crate::schedule::layer::{ChunkSizes, LayerSizes, Phase};

fn memory(w: &mut String, share: &Share, work: &Work, resident: bool) {
    let _ = writeln!(w, "var<workgroup> staged: array<f32, {}>;", share.staged(work, resident));
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

/// Where the gates' gradients go that a step's products multiply: by step parity where one barrier is enough, and the second
/// phase's behind the first's.
fn publish(w: &mut String, share: &Share, work: &Work) {
    let (k, rows) = (share.k(work, 0), share.rows);
    let plane = rows * k;
    let parity = if share.is_double(work) { format!("(step & 1u) * {plane}u + ") } else { String::new() };
    let _ = writeln!(w, "fn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {{");
    if work.two_phases() {
        let second = share.k(work, 1);
        let _ = writeln!(
            w,
            "let first = FIRST_PHASE_GATES * sizes.hidden;\n\
             staged[select(r * {k}u + gate_row, {plane}u + r * {second}u + gate_row - first, gate_row >= first)] = value;"
        );
    } else {
        let _ = writeln!(w, "staged[{parity}r * {k}u + gate_row] = value;");
    }
    w.push_str("}\n");
}

/// All steps of a chunk for the rows of a workgroup, which makes all units of them. The running gradient stays in the registers of
/// the threads that finish; what forward kept of a step is asked for a step before.
pub(super) fn resident(cell: &ShaderCell, share: &Share, work: &Work, step: StepIndex, bindings: &[Binding]) -> KernelSource {
    let mut w = String::new();
    memory(&mut w, share, work, true);
    publish(&mut w, share, work);
    entry(&mut w, "resident_unrolled_backward", share);
    let (threads, rows) = (share.threads(), share.rows);
    let _ = writeln!(
        w,
        "let start = step_index.value * sizes.chunk;\nlet end = min(sizes.steps, start + sizes.chunk);\n\
         restore(STATES, sizes.d_state_at, direction, row0, thread, {threads}u);"
    );
    emit::place(&mut w, share, work);
    emit::hold(&mut w, share, work);
    emit::slots(&mut w, share);
    for i in 0..share.slots() {
        let _ =
            writeln!(w, "var d_next{i} = carried(direction, b{i}, u{i});\nvar ahead{i} = kept_of(start, direction, b{i}, u{i});");
    }
    let _ = writeln!(
        w,
        "for (var i = thread; i < {}u; i += {threads}u) {{ staged[i] = 0.0; }}\nworkgroupBarrier();\n\
         // What the chunk before made last.\n\
         if start > 0u {{\nfor (var i = thread; i < {rows}u * GATES * sizes.hidden; i += {threads}u) {{\n\
         let r = i / (GATES * sizes.hidden);\nlet gate_row = i % (GATES * sizes.hidden);\n\
         if row0 + r < sizes.batch {{\nlet row = row_of(time_before(start, direction), row0 + r);\n\
         publish(start - 1u, direction, row0 + r, r, gate_row, d_gates[sizes.d_rh + gate_index(direction, row, 0u, 0u) + gate_row]);\n}}\n}}\n}}\n\
         workgroupBarrier();",
        share.staged(work, true)
    );
    w.push_str("for (var step = start; step < end; step++) {\n");
    for i in 0..share.slots() {
        let _ = writeln!(
            w,
            "var x{i} = ahead{i};\nx{i}.d_next = d_next{i};\n\
             if step + 1u < end {{ ahead{i} = kept_of(step + 1u, direction, b{i}, u{i}); }}"
        );
    }
    let plane = rows * share.k(work, 0);
    for part in emit::parts(work) {
        // Phase 1 or the only one takes what the step before made, phase 2 what phase 1 of the same step did.
        let from = match part.index {
            0 if share.is_double(work) => format!("((step + 1u) & 1u) * {plane}u"),
            0 => "0u".into(),
            _ => format!("{plane}u"),
        };
        let number = if work.two_phases() { part.index + 1 } else { 0 };
        if part.index == 1 {
            w.push_str("if step == sizes.seq_len { break; }\n");
        }
        phase(&mut w, share, work, part, &from, number);
    }
    w.push_str("}\n");
    for i in 0..share.slots() {
        let _ = writeln!(w, "if mine{i} {{ carry(direction, b{i}, u{i}, d_next{i}); }}");
    }
    w.push_str("}\n");
    KernelSource::new(shader!("recurrence/resident_unrolled_backward"), &[("ROWS", rows)], bindings, step, ChunkSizes::WGSL)
        .with_text(&w)
        .with_cell(cell)
}

fn phase(w: &mut String, share: &Share, work: &Work, part: Part, from: &str, number: usize) {
    let stride = format!("{}u", share.k(work, part.index));
    let pairs = emit::products(w, share, work, part, [from, &stride]);
    let slots = emit::gather(w, share, work, part, pairs);
    for (i, names) in slots.iter().enumerate() {
        let _ = writeln!(w, "if mine{i} {{");
        if number == 2 {
            let _ = writeln!(w, "x{i}.d_next = d_next{i};");
        }
        let _ = writeln!(w, "d_next{i} = retreat(step, {number}u, direction, b{i}, r{i}, u{i}, {}, x{i});\n}}", names[0]);
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
    w.push_str("// The next dispatch reads d_gates.\nfn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {}\n");
    entry(&mut w, "stepwise_unrolled_backward", share);
    w.push_str("let step = step_index.value;\n");
    emit::place(&mut w, share, work);
    emit::hold(&mut w, share, work);
    emit::slots(&mut w, share);
    for i in 0..share.slots() {
        let _ = writeln!(w, "let x{i} = before(step, direction, b{i}, u{i});");
    }
    stage(&mut w, share, work, phase);
    let part = Part { index: 0, first: phase.first, count: phase.count };
    let stride = format!("{}u", share.k(work, 0));
    let pairs = emit::products(&mut w, share, work, part, ["0u", &stride]);
    let slots = emit::gather(&mut w, share, work, part, pairs);
    for (i, names) in slots.iter().enumerate() {
        let _ = writeln!(w, "if mine{i} {{ finish(step, {}u, direction, b{i}, r{i}, u{i}, {}, x{i}); }}", phase.number, names[0]);
    }
    w.push_str("}\n");
    KernelSource::new(shader!("recurrence/stepwise_unrolled_backward"), &[], bindings, step, LayerSizes::WGSL)
        .with_text(&w)
        .with_cell(cell)
}

/// The gates' gradients that a step's phase multiplies: none before the first step.
fn stage(w: &mut String, share: &Share, work: &Work, phase: Phase) {
    let k = share.k(work, 0);
    if phase.number == 2 {
        w.push_str("let t_from = time_of(step, direction);\nlet sent = true;\n");
    } else {
        // Before the first step any time of the sequence does: what is read there counts for nothing.
        w.push_str("let t_from = time_before(max(step, 1u), direction);\nlet sent = step > 0u;\n");
    }
    let _ = writeln!(w, "let k_end = {}u * sizes.hidden;", phase.count);
    let ask = |i: u32| {
        format!(
            "let k{i} = n{i} % {k}u;\nlet b{i} = row0 + n{i} / {k}u;\n\
             let there{i} = sent & (k{i} < k_end) & (b{i} < sizes.batch);\n\
             let from{i} = gate_index(direction, row_of(t_from, min(b{i}, sizes.batch - 1u)), {}u, 0u);\n\
             let value{i} = d_gates[sizes.d_rh + from{i} + min(k{i}, k_end - 1u)];",
            phase.first
        )
    };
    emit::stage(w, share, share.rows * k, ask, |i| [String::new(), format!("staged[n{i}] = select(0.0, value{i}, there{i});")]);
}
