//! The text of the backward kernel: a chunk of BPTT in one dispatch of teams of workgroups, straight down but for the loops over
//! steps and row groups.
//!
//! A team walks all steps for `sizes.team_rows` batch rows of one direction. Each of its members keeps its units' columns of W_hh in
//! registers. A step stages the gates' gradients of the step before (of a cell of two phases: then those of its own second phase),
//! multiplies, sums over lanes by shuffles and over the parts of K in workgroup memory; then one thread a unit and row does the
//! cell's step. The gradients go to the other members through `exchange` [chunk, D, B, G·H], or where matrices multiply them as scaled
//! f16, two gates to a word.

mod by_matrices;
mod several_turns;

use std::fmt::Write;

use super::emit;
use super::layout::Layout;
use super::matrices::Product;
use super::staging::{Staging, next_turn};
use super::tile::{Matrices, Tile};

/// How the shader sends a gate's gradient, and how it does where the exchange goes by fours.
pub(super) const SEND: &str = "atomicStore(&exchange[exchange_index(step, direction, b, gate_row)], encode(value));";
pub(super) const SEND_BY_FOURS: &str =
    "let at = exchange_index(step, direction, b, gate_row);\n    exchange[at / 4u][at % 4u] = encode(value);";

/// How a step sends its gates' gradients one by one, and in pairs.
pub(super) const SEND_GATE: &str = "publish(step, direction, b, r, g * sizes.hidden + unit, d_rh[g]);";
pub(super) const SEND_PAIR: &str =
    "if g % 2u == 0u { send_pair(step, direction, b, g, unit, d_rh[g], d_rh[min(g + 1u, GATES - 1u)]); }";

/// Most registers of weights beside which words may be on their way while a turn is multiplied.
const WEIGHTS_BESIDE_WORDS: u32 = 96;

/// Workgroup memory and the entry point, to stand behind `recurrence/persistent_backward` and the cell.
pub(super) fn text(layout: &Layout, in_turn: bool, whole: bool) -> String {
    let mut w = String::new();
    let kernel = Kernel { layout, in_turn, whole };
    kernel.memory(&mut w);
    kernel.main(&mut w);
    w
}

#[derive(Clone, Copy)]
struct Kernel<'a> {
    layout: &'a Layout,
    in_turn: bool,
    /// Whether rows and K fill the layout: then every word is there.
    whole: bool,
}

impl Kernel<'_> {
    fn phases(self) -> impl Iterator<Item = usize> {
        (0..2).filter(move |&phase| self.layout.phases[phase].gates > 0)
    }

    /// The product, where it goes by matrices.
    fn product(self) -> Option<Product> {
        let tile = self.layout.tile(0, self.in_turn);
        (tile.matrices != Matrices::Off).then_some(Product { tile, gates: 1, backward: true })
    }

    fn memory(self, w: &mut String) {
        if let Some(product) = self.product() {
            w.push_str(&product.memory());
            return;
        }
        let tiles: Vec<_> = self.phases().map(|phase| self.layout.tile(phase, self.in_turn)).collect();
        let sums = tiles.iter().map(|tile| tile.parts() * tile.units * tile.rows).max().unwrap_or(1);
        if self.layout.in_registers() {
            // Those of a turn are finished while those of the next are made.
            let _ = writeln!(w, "var<workgroup> sums: array<f32, {}>;", 2 * sums);
            return;
        }
        let staged = tiles.iter().map(|tile| tile.rows * tile.k() / 4).max().unwrap_or(1);
        let _ = writeln!(w, "var<workgroup> staged: array<vec4f, {staged}>;\nvar<workgroup> sums: array<f32, {sums}>;");
    }

    fn main(self, w: &mut String) {
        let Layout { threads, finishers, subgroup, units, .. } = *self.layout;
        let _ = writeln!(
            w,
            "@compute @workgroup_size({})
fn persistent_backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {{
let team = group.x / sizes.members;
let direction = team % sizes.directions;
let row_start = team / sizes.directions * sizes.team_rows;
let row_end = min(sizes.batch, row_start + sizes.team_rows);
let unit0 = group.x % sizes.members * {units}u;
let lane = thread % {subgroup}u;
let group_of = thread / {subgroup}u;
let idle = arrayLength(&exchange) - 1u;
if !roll_call(thread, group.x == 0u, groups.x) {{ return; }}
var gave_up = false;",
            threads + finishers
        );
        match self.product() {
            Some(product) => {
                product.weights(w);
                w.push_str(
                    "let scale = gradient_scale();\nlet unscale = inverse_of(scale);\nsent_scale = bitcast<f32>(scale);\n",
                );
            }
            None => self.phases().for_each(|phase| self.weights(w, phase)),
        }
        w.push_str("let start = step_index.value * sizes.chunk;\nlet end = min(sizes.steps, start + sizes.chunk);\n");
        match (finishers > 0, self.layout.stagers() < threads) {
            (true, _) => self.several_turns(w),
            (false, true) => self.by_matrices(w),
            (false, false) => self.in_turns(w),
        }
        w.push_str("}\n");
    }

    /// By all threads alike.
    fn in_turns(self, w: &mut String) {
        if self.layout.one_turn() {
            self.length(w);
        }
        w.push_str("for (var step = start; step < end; step++) {\n");
        let two = self.phases().count() == 2;
        self.turns(w, 0, if two { 1 } else { 0 });
        if two {
            // Phase by phase over all rows: while one row's gradients travel, the others' are made.
            w.push_str("if step == sizes.seq_len { continue; }\n");
            self.turns(w, 1, 2);
        }
        w.push_str("}\n");
    }

    fn weights(self, w: &mut String, phase: usize) {
        let (tile, part) = (self.layout.tile(phase, self.in_turn), self.layout.phases[phase]);
        let (first, end) = (part.first, part.first + part.gates);
        let of_lane = if self.strided() { "lane" } else { "lane * 4u" };
        let _ = writeln!(w, "let k{phase} = {} + {of_lane};", k_part(tile));
        if self.layout.in_registers() {
            let _ = writeln!(w, "let own = k{phase};");
        }
        let _ = writeln!(w, "let end{phase} = {end}u * sizes.hidden;");
        let _ = writeln!(w, "let mine{phase} = unit0 + group_of % {}u * {}u;", tile.unit_parts(), tile.units_each());
        emit::weights(w, tile, &format!("w{phase}_"), tile.units_each(), |unit, k| {
            let gate_row = format!("{first}u * sizes.hidden + k{phase} + {k}");
            if self.strided() {
                return format!("weights_apart(direction, {gate_row}, {}u, end{phase}, mine{phase} + {unit}u)", tile.lanes);
            }
            format!("weights_at(direction, {gate_row}, end{phase}, mine{phase} + {unit}u)")
        });
    }

    /// One product of a step, and what becomes of it, for all rows of the team; `number` is what the cell's text calls the phase.
    fn turns(self, w: &mut String, phase: usize, number: u32) {
        let (tile, part) = (self.layout.tile(phase, self.in_turn), self.layout.phases[phase]);
        let Tile { rows, units, .. } = tile;
        let _ = writeln!(
            w,
            "for (var row0 = row_start; row0 < row_end; row0 += {rows}u) {{
let r = thread / {units}u;
let b = row0 + r;
let unit = unit0 + thread % {units}u;
let finishes = thread < {}u && unit < sizes.hidden && b < row_end;",
            units * rows
        );
        w.push_str(if self.layout.one_turn() {
            "var x = Before();
if finishes {
x = kept_within(step, direction, b, unit, length);
x.d_next = carried(direction, b, unit);
}\n"
        } else {
            "var x = Before();\nif finishes { x = before(step, direction, b, unit); }\n"
        });
        self.stage(w, phase, number);
        w.push_str("workgroupBarrier();\n");
        self.multiply(w, phase, "0u");
        let _ = writeln!(
            w,
            "workgroupBarrier();\nif finishes {{ finish(step, {number}u, direction, b, r, unit, {}, x); }}",
            self.sum(phase, "thread", "0u")
        );
        debug_assert_eq!(part.padded, 1, "backward has one sum for a unit and row");
        emit::end_of_turn(w, tile);
        w.push_str("}\n");
    }

    /// Expression of the sum over all parts of K, of row · units + unit of the workgroup, where they begin at `start`.
    fn sum(self, phase: usize, output: &str, start: &str) -> String {
        let tile = self.layout.tile(phase, self.in_turn);
        let Some(product) = self.product() else { return emit::sum_of_parts(tile, 1, 0, output, start) };
        let (row, unit) = (format!("({output} / {}u)", tile.units), format!("{output} % {}u", tile.units));
        format!("({}) * unscale", product.sum(0, &row, &unit))
    }

    /// From `staged` to `sums`, from `start` on.
    fn multiply(self, w: &mut String, phase: usize, start: &str) {
        if let Some(product) = self.product() {
            return product.multiply(w);
        }
        let tile = self.layout.tile(phase, self.in_turn);
        let first = format!("({} + lane * 4u) / 4u", k_part(tile));
        let name = format!("w{phase}_");
        let weight = |unit: u32, _: u32, quad: &str| Some(emit::weight(tile, &name, tile.units_each(), unit, quad));
        if self.layout.in_registers() {
            emit::products(w, tile, 1, |row, quad| format!("x{row}_{quad}"), weight);
        } else {
            emit::products(w, tile, 1, emit::staged(tile, &first), weight);
        }
        let names = (0..tile.units_each() * tile.rows).map(|i| format!("a{i}")).collect();
        let names = if tile.shuffles { emit::halve(w, "b", tile.lanes, names) } else { names };
        emit::put_parts(w, tile, 1, 1, &names, start);
    }

    /// Phase 2 takes what phase 1 of the same step made, the others what the step before did; the first step of a chunk has it
    /// from the dispatch before.
    fn stage(self, w: &mut String, phase: usize, number: u32) {
        let part = self.layout.phases[phase];
        let staging = self.staging(phase);
        let of_word = self.of_word();
        let gates = self.gates_of_row(phase);
        let valid = |row: &str, k: &str| match self.whole {
            true => "true".into(),
            false => format!("(row0 + {row} < row_end) & ({k} < {gates}u * sizes.hidden)"),
        };
        let at = |row: &str, k: &str| format!("from_ + {row} * {} + {k}{of_word}", self.words_of_row());
        if number == 2 {
            let _ = writeln!(w, "let from_ = {};", self.words_from("step", "row0", part.first));
            staging.wait(w, at, valid, None, false);
            return;
        }
        w.push_str("if step == start {\n");
        let value = |row: &str, k: &str| match self.product() {
            Some(_) => format!("scaled_before(step, direction, row0 + {row}, {k})"),
            None => format!("gradient_before(step, direction, row0 + {row}, {}u * sizes.hidden + {k})", part.first),
        };
        staging.take(w, value, |row, k| format!("(step > 0u) & {}", valid(row, k)), None);
        let _ = writeln!(w, "}} else {{\nlet from_ = {};", self.words_from("step - 1u", "row0", part.first));
        staging.wait(w, at, valid, None, self.asks_ahead());
        w.push_str("}\n");
    }

    /// Gates along K, with what pads them.
    fn gates_of_row(self, phase: usize) -> u32 {
        let gates = self.layout.phases[phase].gates;
        if self.product().is_some() { gates.next_multiple_of(2) } else { gates }
    }

    /// Whether a turn's words are asked for in the turn before, while that is made. With one turn a step they cannot be there yet.
    fn asks_ahead(self) -> bool {
        if self.product().is_none() {
            return self.layout.finishers > 0;
        }
        let room = self.layout.stagers() < self.layout.threads && self.layout.weights() <= WEIGHTS_BESIDE_WORDS;
        room && self.staging(0).can_ask_ahead()
    }

    /// Asks for the words of the next rows of this step, or of the first rows of the next step.
    fn ask_ahead(self, w: &mut String) {
        let (of_word, gates) = (self.of_word(), self.gates_of_row(0));
        next_turn(w, "row0", self.layout.rows);
        let _ = writeln!(w, "let next_from = {};", self.words_from("next_step - 1u", "next_row", 0));
        let valid = |row: &str, k: &str| match self.whole {
            true => "asks".into(),
            false => format!("asks & (next_row + {row} < row_end) & ({k} < {gates}u * sizes.hidden)"),
        };
        let at = |row: &str, k: &str| format!("next_from + {row} * {} + {k}{of_word}", self.words_of_row());
        self.staging(0).ask_ahead(w, at, valid);
    }

    fn staging(self, phase: usize) -> Staging<'static> {
        let per_word = match (self.product(), self.layout.vectors) {
            (Some(_), _) => 2,
            (None, true) => 4,
            (None, false) => 1,
        };
        let tile = Tile { threads: self.layout.stagers(), ..self.layout.tile(phase, self.in_turn) };
        Staging { tile, prefix: "s", start: "0u", per_word, in_registers: self.layout.in_registers() }
    }

    /// Whether the numbers of a lane lie a group apart.
    fn strided(self) -> bool {
        self.layout.in_registers() && !self.layout.vectors
    }

    /// From numbers of a row to its words.
    fn of_word(self) -> &'static str {
        match (self.product(), self.layout.vectors) {
            (Some(_), _) => " / 2u",
            (None, true) => " / 4u",
            (None, false) => "",
        }
    }

    /// Expression of the words of a row.
    fn words_of_row(self) -> String {
        match self.product() {
            Some(_) => "PAIRS * sizes.hidden".into(),
            None => format!("GATES * sizes.hidden{}", self.of_word()),
        }
    }

    /// Expression of the first word of a row, from gate `first` on.
    fn words_from(self, step: &str, row: &str, first: u32) -> String {
        match self.product() {
            Some(_) => format!("pair_index({step}, direction, {row}, 0u)"),
            None => format!("exchange_index({step}, direction, {row}, {first}u * sizes.hidden){}", self.of_word()),
        }
    }

    /// The length of a thread's row, where it has one alone.
    fn length(self, w: &mut String) {
        let Layout { units, rows, .. } = *self.layout;
        let _ = writeln!(
            w,
            "var length = 0u;\n{{\nlet b = row_start + thread / {units}u;
if thread < {}u && b < row_end {{ length = mask[b]; }}\n}}",
            units * rows
        );
    }
}

fn k_part(tile: Tile) -> String {
    format!("group_of / {}u * {}u", tile.unit_parts(), tile.k_each())
}

#[cfg(test)]
mod tests {
    use crate::cell;
    use crate::schedule::persistent::{PersistentTarget, persistent_kernels};

    fn backward(cell: &str, subgroup_min: u32) -> String {
        let target = PersistentTarget {
            vendor: "nvidia",
            subgroup_min,
            threads: 1024,
            memory: 48 << 10,
            workgroups: 132,
            by_fours: false,
            matrices: false,
        };
        let cell = cell::by_name(cell).expect("a cell");
        let kernels = persistent_kernels(&*cell, target, 512, 16).expect("a vendor");
        kernels.into_iter().find(|kernel| kernel.backward).expect("a layout").wgsl
    }

    #[test]
    fn a_phase_has_two_barriers_and_asks_for_everything_before_it_waits() {
        for (cell, phases) in [("lstm", 1), ("gru", 1), ("gru_reset_before", 2)] {
            for subgroup in [32, 64] {
                let text = backward(cell, subgroup);
                let (_, steps) = text.split_once("for (var step = ").expect("a loop over steps");
                assert_eq!(steps.matches("workgroupBarrier").count(), 2 * phases, "{cell} {subgroup}");
                assert_eq!(steps.matches("return").count(), 0, "{cell}: nobody leaves early");
                for wait in steps.split("workgroupBarrier").filter(|part| part.contains("loop {")) {
                    let turns: Vec<_> = wait.split("loop {").collect();
                    for turn in turns.windows(2) {
                        let asked = turn[0].matches("= atomicLoad(&exchange").count();
                        let again = turn[1].split_once("in_vain").expect("a bound").0.matches("= atomicLoad(&exchange").count();
                        // What a turn asks for again stands in the next part's beginning.
                        assert!(asked >= again && again > 0, "{cell} {subgroup}: {asked} {again}");
                    }
                }
                assert!(steps.contains(&format!("subgroupShuffleXor({}", if cell == "lstm" { "select(" } else { "" })));
            }
        }
    }

    /// What the cell does is no part of what the others wait for: in a branch of its own, with one barrier a turn, and nothing is staged.
    #[test]
    fn finishers_have_a_turn_of_time() {
        let target = PersistentTarget {
            vendor: "nvidia",
            subgroup_min: 32,
            threads: 1024,
            memory: 48 << 10,
            workgroups: 132,
            by_fours: false,
            matrices: false,
        };
        let kernels = persistent_kernels(&*cell::by_name("lstm").unwrap(), target, 768, 16).unwrap();
        let text = kernels.into_iter().find(|kernel| kernel.backward).unwrap().wgsl;
        let (_, steps) = text.split_once("for (var step = ").unwrap();
        let parts: Vec<_> = steps.split("workgroupBarrier();").collect();
        let [turn, rest] = parts[..] else { panic!("one barrier, not {}", parts.len() - 1) };
        let (product, finishing) = turn.split_once("} else {\nif is_mine").unwrap();
        assert!(product.contains("= fma(") && product.contains("in_vain") && !product.contains("finish("));
        assert!(finishing.contains("finish(x_step") && !finishing.contains("in_vain"));
        assert_eq!(rest.matches("finish(").count(), 1, "the last turn");
        assert!(!text.contains("staged["));
    }

    /// Arrays in workgroup memory and buffers are indexed by whatever it takes, a thread's own by numbers alone.
    #[test]
    fn no_array_of_a_thread_is_indexed_by_a_variable() {
        let shared = [
            "params",
            "d_gates",
            "state",
            "mask",
            "output",
            "reserve",
            "d_output",
            "d_initial_state",
            "exchange",
            "control",
            "status",
            "staged",
            "sums",
        ];
        for cell in cell::registry() {
            let text = backward(cell.name(), 32);
            // What a cell's own functions index is for the cell to say.
            let (before, rest) = text.split_once("// --- cell").expect("the cell");
            let text = before.to_string() + &rest[rest.find("var<workgroup> staged").expect("the kernel")..];
            let mut indexed = 0;
            for (at, _) in text.match_indices('[') {
                let name: String = text[..at].chars().rev().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let name: String = name.chars().rev().collect();
                let index = text[at + 1..].split(']').next().unwrap_or_default();
                let is_number = !index.is_empty() && index.trim_end_matches('u').chars().all(|c| c.is_ascii_digit());
                if name.is_empty()
                    || shared.contains(&name.as_str())
                    || text[..at].lines().last().is_some_and(|line| line.contains("//"))
                {
                    continue;
                }
                // A quad of workgroup memory, by number of its element.
                assert!(is_number || text[..at].ends_with(']'), "{}: {name}[{index}]", cell.name());
                indexed += 1;
            }
            assert!(indexed > 0, "{}", cell.name());
        }
    }
}
