//! The layout of a resident workgroup that keeps all weights in registers, and its products straight down.

use std::fmt::Write;
use std::ops::Range;

use super::bounds::{Bounds, OperandRead};
use super::work::Work;
use crate::gpu::capabilities::WORKGROUP_BYTES;
use crate::gpu::shaders::{File, shader};

/// A workgroup that keeps all weights in registers, and walks its rows in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registers {
    /// Threads that multiply by the same part of K, and units of each backward.
    pub group: u32,
    pub columns: u32,
    pub lanes: u32,
    pub rows: u32,
    /// vec4f of K that a thread multiplies, of each phase backward; forward the second is 0, as both have the same.
    pub quads: [u32; 2],
    /// vec4f that a thread keeps.
    pub held: u32,
    pub parity: bool,
    /// Lengths of the arrays in workgroup memory, in vec4f and in f32.
    pub exchange: u32,
    pub parts: u32,
    pub rolled: u32,
    pub take: OperandRead,
}

impl Registers {
    /// If there are threads, registers and workgroup memory enough.
    pub fn new(budget: Bounds, work: Work, rows: u32) -> Option<Self> {
        let Work { hidden, gates, first, .. } = work;
        // Below this the weights are few, and a pipeline for every H costs more than it saves.
        if !(32..=budget.threads).contains(&hidden) {
            return None;
        }
        let columns = if work.backward { budget.columns } else { 1 };
        let group = hidden.div_ceil(columns).next_multiple_of(budget.subgroup);
        // The vec4f of each phase, and what a thread keeps of them.
        let shares = |lanes: u32| {
            let quads = |k: u32| k.div_ceil(4 * lanes);
            if work.backward {
                let quads = [quads(first * hidden), quads((gates - first) * hidden)];
                (quads, (quads[0] + quads[1]) * columns)
            } else {
                ([quads(hidden), 0], quads(hidden) * gates)
            }
        };
        let wanted = |lanes: u32| {
            let most = if group * (lanes + 1) <= 256 { budget.resident_held_by_few } else { budget.resident_held };
            (hidden * columns).div_ceil(lanes) > budget.resident_k || 4 * shares(lanes).1 > most
        };
        let mut lanes = columns;
        while wanted(lanes) && group * (lanes + 1) <= budget.threads {
            lanes += 1;
        }
        let (quads, held) = shares(lanes);
        let fits =
            group * lanes <= budget.threads && 4 * held <= budget.resident_held && group * lanes * 4 * held <= budget.held_in_all;
        // With several lanes there is a barrier between reading and writing; with two phases they are of different vectors.
        let parity = lanes == 1 && !work.two_phases();
        let vectors = match (work.backward, work.two_phases()) {
            (true, true) => quads[0] + quads[1],
            (false, true) => 2 * quads[0],
            (_, false) => quads[0] * (1 + u32::from(parity)),
        };
        // A thread may load past the end of the last block of 8.
        let exchange = vectors * lanes + 7;
        let parts = if work.backward { group * lanes * columns } else { group * (lanes - 1) * gates };
        let parts = if lanes > 1 { parts } else { 1 };
        let (rolled, take) = (budget.rolled, budget.take);
        let layout = Self { group, columns, lanes, rows, quads, held, parity, exchange, parts, rolled, take };
        (fits && (4 * exchange + parts) * 4 <= WORKGROUP_BYTES).then_some(layout)
    }

    pub fn constants(self) -> [(&'static str, u32); 11] {
        [
            ("GROUP", self.group),
            ("COLUMNS", self.columns),
            ("LANES", self.lanes),
            ("ROWS", 1),
            ("QUADS", self.quads[0]),
            ("QUADS_2", self.quads[1]),
            ("VECTOR", self.quads[0] * self.lanes),
            ("PARITY", self.parity.into()),
            ("EXCHANGE", self.exchange),
            ("PARTS", self.parts),
            ("HELD_LEN", self.held.max(self.rolled)),
        ]
    }

    pub fn take(self) -> File {
        match self.take {
            OperandRead::Shuffle => shader!("operand/by_shuffle"),
            OperandRead::Vectors => shader!("operand/by_vectors"),
            OperandRead::Scalars => shader!("operand/by_scalars"),
        }
    }

    /// `multiply(phase, at)`, straight down: weights stay in registers only where every index is a constant.
    pub fn multiply(self, work: Work) -> String {
        let mut wgsl = String::new();
        for (i, phase) in self.phases(work).iter().enumerate() {
            phase.write(&mut wgsl, i + 1);
        }
        let second = if work.two_phases() { "    if phase == 2u { multiply_2(at); return; }\n" } else { "" };
        wgsl + "fn multiply(phase: u32, at: u32) {\n" + second + "    multiply_1(at);\n}\n"
    }

    /// The products of a step.
    pub fn phases(self, work: Work) -> Vec<Phase> {
        let Work { gates, first, .. } = work;
        let [one, two] = self.quads;
        let mut phases = if work.backward {
            let (stride, gates) = (self.columns, 0..self.columns);
            vec![
                Phase { from: 0, stride, gates: gates.clone(), quads: one },
                Phase { from: one * stride, stride, gates, quads: two },
            ]
        } else {
            let phase = |gates| Phase { from: 0, stride: work.gates, gates, quads: one };
            vec![phase(0..first), phase(first..gates)]
        };
        phases.truncate(1 + usize::from(work.two_phases()));
        phases
    }
}

/// The product of one phase: weight of gate g and quad q is `held[from + q * stride + g]`.
pub(super) struct Phase {
    pub from: u32,
    pub stride: u32,
    pub gates: Range<u32>,
    pub quads: u32,
}

impl Phase {
    /// Functions for blocks of up to 8 quads, and one that calls them.
    pub fn write(&self, wgsl: &mut String, number: usize) {
        let blocks: Vec<_> = (0..self.quads).step_by(8).map(|at| (at, (self.quads - at).min(8))).collect();
        let rest = self.quads % 8;
        for length in [rest, 8].into_iter().filter(|&length| length > 0 && length <= self.quads) {
            let _ = writeln!(wgsl, "fn multiply_{number}_{length}(at: u32, from_: u32) {{\n    let mine = load_block(at);");
            for q in 0..length {
                let _ = writeln!(wgsl, "    let x{q} = take(mine, at, {q}u);");
                for g in self.gates.clone() {
                    let _ = writeln!(wgsl, "    sums[{g}] += held[from_ + {}u] * x{q};", q * self.stride + g);
                }
            }
            wgsl.push_str("}\n");
        }
        let _ = writeln!(wgsl, "fn multiply_{number}(at: u32) {{");
        for (at, length) in blocks {
            let _ = writeln!(wgsl, "    multiply_{number}_{length}(at + {at}u, {}u);", self.from + at * self.stride);
        }
        wgsl.push_str("}\n");
    }
}
