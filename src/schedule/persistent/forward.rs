//! The forward kernel of strategy persistent, written out for one layout and cell: see `emit` for how a step goes.

mod exchange;

use std::fmt::Write;

use super::emit::{self, Place, end_of_turn, halve, place, products, put_parts, sum_of_parts};
use super::layout::Layout;
use super::matrices::Product;
use super::tile::{Matrices, Tile};
use crate::cell::ShaderCell;
use crate::schedule::layer::{Phase, phases};

/// One kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a> {
    pub cell: &'a ShaderCell,
    pub layout: Layout,
    pub in_turn: bool,
    /// Whether a team's rows are staged all at once: their states then stay in registers.
    pub one_turn: bool,
    /// Whether what is exchanged goes two to a word, as f16: see [`Body::pairs`].
    pub halves: bool,
    /// Whether rows and K fill the layout: then every word is there.
    pub whole: bool,
}

impl<'a> Body<'a> {
    /// `halves` if numbers may be exchanged as f16.
    pub fn new(cell: &'a ShaderCell, layout: Layout, in_turn: bool, halves: bool, whole: bool) -> Self {
        let one_turn = layout.one_turn();
        let body = Self { cell, layout, in_turn, one_turn, halves: false, whole };
        Self { halves: halves && !layout.vectors && body.pairs(), ..body }
    }

    /// Whether two neighbouring units are finished by lanes that may shuffle.
    fn pairs(&self) -> bool {
        let tile = self.tile();
        let side_by_side = if tile.has_parts() { tile.units } else { tile.units_each() };
        tile.shuffles && side_by_side >= 2
    }

    fn tile(&self) -> Tile {
        self.layout.tile(0, self.in_turn)
    }

    /// Gates of a phase, padded: the same in both, so that the same lane finishes a unit and row in both.
    fn values(&self) -> u32 {
        self.layout.phases.iter().map(|part| part.padded).max().unwrap_or(1)
    }

    fn gates(&self) -> u32 {
        self.cell.gates.len() as u32
    }

    fn states(&self) -> u32 {
        self.cell.states.len() as u32
    }

    /// Sums of a thread.
    fn sums(&self) -> u32 {
        self.tile().units_each() * self.tile().rows * self.values()
    }

    fn place(&self) -> Place {
        place(self.tile().lanes, self.sums())
    }

    /// Units and rows that one thread finishes at most.
    fn slots(&self) -> u32 {
        let tile = self.tile();
        if tile.has_parts() {
            (tile.units * tile.rows).div_ceil(tile.threads)
        } else {
            (self.place().each / self.values()).max(1)
        }
    }

    /// The whole text behind the bindings: workgroup memory, and the entry point.
    pub fn wgsl(&self) -> String {
        let mut text = self.memory();
        let w = &mut text;
        self.head(w);
        w.push_str("for (var step = start; step < end; step++) {\nlet t = time_of(step, direction);\n");
        let phases = phases(self.cell);
        if self.one_turn {
            self.ask(w, &phases[0]);
            for phase in &phases {
                self.turn(w, phase);
            }
        } else {
            // Phase by phase over all rows: while one turn's mids travel, the others' are made.
            for phase in &phases {
                let _ = writeln!(w, "for (var row = row_start; row < row_end; row += {}u) {{", self.tile().rows);
                self.rows(w);
                self.load_states(w, "step");
                self.ask(w, phase);
                self.turn(w, phase);
                w.push_str("}\n");
            }
        }
        w.push_str("}\n");
        if self.one_turn {
            self.store_states(w, "end");
            self.store_final(w, "end == sizes.seq_len");
        }
        w.push_str("}\n");
        text
    }

    /// The product, where it goes by matrices.
    fn product(&self) -> Option<Product> {
        let tile = self.tile();
        (tile.matrices != Matrices::Off).then_some(Product { tile, gates: self.gates(), backward: false })
    }

    fn memory(&self) -> String {
        if let Some(product) = self.product() {
            return product.memory();
        }
        let tile = self.tile();
        let mut text = format!("var<workgroup> staged: array<vec4f, {}>;\n", tile.stages() * tile.rows * tile.k() / 4);
        if tile.has_parts() {
            let real = phases(self.cell).iter().map(|phase| phase.count).max().unwrap_or(1);
            let _ = writeln!(text, "var<workgroup> sums: array<f32, {}>;", tile.parts() * real * tile.units * tile.rows);
        }
        text
    }

    /// Everything before the first step.
    fn head(&self, w: &mut String) {
        let tile = self.tile();
        let Tile { threads, lanes, units, .. } = tile;
        let _ = write!(
            w,
            "@compute @workgroup_size({threads})
fn persistent_forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {{
let lane = thread % {lanes}u;
let group_of = thread / {lanes}u;
let team = group.x / sizes.members;
let direction = team % sizes.directions;
let row_start = team / sizes.directions * sizes.team_rows;
let row_end = min(sizes.batch, row_start + sizes.team_rows);
let unit0 = group.x % sizes.members * {units}u;
let idle = arrayLength(&exchange) - 1u;
let start = sizes.first + step_index.value * sizes.chunk;
let end = min(sizes.steps, start + sizes.chunk);
"
        );
        self.weights(w);
        w.push_str("if !roll_call(thread, group.x == 0u, groups.x) { return; }\n");
        self.units(w);
        if self.one_turn {
            w.push_str("let row = row_start;\n");
            self.rows(w);
            self.load_states(w, "start");
            if self.cell.has_two_phases() {
                for slot in 0..self.slots() {
                    for gate in 0..self.cell.first_phase_gates {
                        let _ = writeln!(w, "var rh{slot}_{gate} = 0.0;");
                    }
                }
            }
        }
        w.push_str("var gave_up = false;\n");
        if self.asks_ahead() {
            self.staging().declare_ahead(w);
        }
        if tile.stages() > 1 {
            w.push_str("var parity = 0u;\n");
        }
    }

    fn weights(&self, w: &mut String) {
        if let Some(product) = self.product() {
            return product.weights(w);
        }
        let (tile, gates) = (self.tile(), self.gates());
        let (across, each) = (tile.unit_parts(), tile.units_each());
        let _ = writeln!(
            w,
            "let first_unit = unit0 + group_of % {across}u * {each}u;\nlet k0 = group_of / {across}u * {}u + lane * 4u;",
            tile.k_each()
        );
        emit::weights(w, tile, "w", each * gates, |i, k| {
            format!("weights_at(direction, {}u, first_unit + {}u, k0 + {k})", i % gates, i / gates)
        });
    }

    /// The unit of every slot, its row within a turn, whether this thread finishes it, and its parameters.
    fn units(&self, w: &mut String) {
        let tile = self.tile();
        let Tile { threads, units, rows, .. } = tile;
        let place = self.place();
        let slots = self.slots();
        for slot in 0..slots {
            if tile.has_parts() {
                let _ = writeln!(w, "let o{slot} = thread + {}u;", slot * threads);
                let _ = writeln!(w, "let u{slot} = unit0 + o{slot} % {units}u;\nlet r{slot} = o{slot} / {units}u;");
                let _ = writeln!(w, "let mine{slot} = (o{slot} < {}u) & (u{slot} < sizes.hidden);", units * rows);
            } else {
                let span = place.span(self.values());
                let pair = if slots > 1 { format!("(lane * {slots}u + {slot}u)") } else { format!("(lane / {span}u)") };
                let _ = writeln!(w, "let u{slot} = first_unit + {pair} / {rows}u;\nlet r{slot} = {pair} % {rows}u;");
                let _ = writeln!(w, "let mine{slot} = (lane % {span}u == 0u) & (u{slot} < sizes.hidden);");
            }
            for gate in 0..self.gates() {
                let _ = writeln!(w, "var bias{slot}_{gate} = 0.0;");
            }
            for i in 0..self.cell.unit_rows() {
                let _ = writeln!(w, "var own{slot}_{i} = 0.0;");
            }
            let _ =
                writeln!(w, "if mine{slot} {{\nlet at = direction * sizes.param_stride + u{slot};\nif sizes.has_bias == 1u {{");
            for gate in 0..self.gates() {
                let _ = writeln!(w, "bias{slot}_{gate} = load_params(sizes.bias + at + {gate}u * sizes.hidden);");
            }
            w.push_str("}\n");
            for i in 0..self.cell.unit_rows() {
                let _ = writeln!(w, "own{slot}_{i} = load_params(sizes.unit + at + {i}u * sizes.hidden);");
            }
            w.push_str("}\n");
        }
    }

    /// The batch row of every slot, of the turn that begins at `row`, and its length.
    fn rows(&self, w: &mut String) {
        for slot in 0..self.slots() {
            let _ = writeln!(
                w,
                "let b{slot} = row + r{slot};\nlet on{slot} = mine{slot} & (b{slot} < row_end);
var length{slot} = 0u;\nif on{slot} {{ length{slot} = mask[b{slot}]; }}"
            );
        }
    }

    fn state(&self, slot: u32, i: u32, step: &str) -> String {
        match i {
            0 => format!("state[h_index({step}, direction, b{slot}, u{slot})]"),
            _ => format!("state[{}u * sizes.block + state_index(direction, b{slot}, u{slot})]", i + 1),
        }
    }

    fn load_states(&self, w: &mut String, step: &str) {
        for slot in 0..self.slots() {
            for i in 0..self.states() {
                let _ = writeln!(w, "var s{slot}_{i} = 0.0;");
            }
            let _ = writeln!(w, "if on{slot} {{");
            for i in 0..self.states() {
                let _ = writeln!(w, "s{slot}_{i} = {};", self.state(slot, i, step));
            }
            w.push_str("}\n");
        }
    }

    fn store_states(&self, w: &mut String, step: &str) {
        for slot in 0..self.slots() {
            let _ = writeln!(w, "if on{slot} {{");
            for i in 0..self.states() {
                let _ = writeln!(w, "{} = s{slot}_{i};", self.state(slot, i, step));
            }
            w.push_str("}\n");
        }
    }

    fn store_final(&self, w: &mut String, last: &str) {
        let _ = writeln!(w, "if sizes.has_final == 1u && {last} {{");
        for slot in 0..self.slots() {
            let _ = writeln!(w, "if on{slot} {{");
            for i in 0..self.states() {
                let _ = writeln!(w, "final_state[{i}u * sizes.block + state_index(direction, b{slot}, u{slot})] = s{slot}_{i};");
            }
            w.push_str("}\n");
        }
        w.push_str("}\n");
    }

    /// Asks for what finishing will need, so that it is there when the sums are.
    fn ask(&self, w: &mut String, phase: &Phase) {
        for slot in 0..self.slots() {
            for gate in 0..self.gates() {
                let _ = writeln!(w, "var x{slot}_{gate} = 0.0;");
            }
            let _ = writeln!(
                w,
                "if on{slot} {{\nlet at = part_row(step, direction, b{slot}) * {}u * sizes.hidden + u{slot};",
                self.gates()
            );
            for gate in 0..self.gates() {
                let _ = writeln!(w, "x{slot}_{gate} = input_part[at + {gate}u * sizes.hidden];");
            }
            let _ = writeln!(w, "}}\nvar cut{slot} = false;\nif sizes.has_reset == 1u {{");
            let _ = writeln!(w, "if on{slot} {{ cut{slot} = enters_cut(direction, t, b{slot}); }}\n}}");
            let _ = writeln!(w, "var link{slot} = 0u;\nif sizes.has_hold != 0u {{");
            let _ = writeln!(w, "if on{slot} {{ link{slot} = mask[link_index(direction, t, b{slot})]; }}\n}}");
            if !self.one_turn && phase.number == 2 {
                for gate in 0..phase.first {
                    let _ = writeln!(w, "var rh{slot}_{gate} = 0.0;");
                    let at = format!("state[rh_index(direction, b{slot}, {gate}u, u{slot})]");
                    let _ = writeln!(w, "if on{slot} {{ rh{slot}_{gate} = {at}; }}");
                }
            }
        }
    }

    /// One phase for the rows from `row` on.
    fn turn(&self, w: &mut String, phase: &Phase) {
        let tile = self.tile();
        w.push_str("{\n");
        let at = if tile.stages() > 1 { format!("parity * {}u", tile.rows * tile.k() / 4) } else { "0u".into() };
        let _ = writeln!(w, "let stage = {at};");
        self.stage(w, phase);
        w.push_str("workgroupBarrier();\n");
        if self.asks_ahead() {
            self.ask_ahead(w);
        }
        let names = self.multiply(w, phase);
        if tile.has_parts() {
            w.push_str("workgroupBarrier();\n");
        }
        for slot in 0..self.slots() {
            self.finish(w, phase, slot, &names);
        }
        if self.halves {
            for slot in 0..self.slots() {
                self.publish_pair(w, phase, slot);
            }
        }
        if tile.stages() > 1 {
            w.push_str("parity = 1u - parity;\n");
        }
        end_of_turn(w, tile);
        w.push_str("}\n");
    }

    /// Leaves the sums in workgroup memory where they have parts, else in the lanes, under the names that it gives.
    fn multiply(&self, w: &mut String, phase: &Phase) -> Vec<String> {
        if let Some(product) = self.product() {
            product.multiply(w);
            return Vec::new();
        }
        let tile = self.tile();
        w.push_str("let from_quad = stage + k0 / 4u;\n");
        let (gates, of_quad) = (self.gates(), tile.units_each() * self.gates());
        let weight = |unit: u32, value: u32, quad: &str| {
            (value < phase.count).then(|| emit::weight(tile, "w", of_quad, unit * gates + phase.first + value, quad))
        };
        products(w, tile, self.values(), emit::staged(tile, "from_quad"), weight);
        let names: Vec<_> = (0..self.sums()).map(|i| format!("a{i}")).collect();
        let names = if tile.shuffles { halve(w, "b", tile.lanes, names) } else { names };
        if tile.has_parts() {
            put_parts(w, tile, self.values(), phase.count, &names, "0u");
        }
        names
    }

    /// h before the step, or mid. A cut state is waited for too: no member may run ahead of another that still reads what was in
    /// `state` before the chunk.
    fn stage(&self, w: &mut String, phase: &Phase) {
        let staging = self.staging();
        let valid = |row: &str, k: &str| match self.whole {
            true => "true".into(),
            false => format!("(row + {row} < row_end) & ({k} < sizes.hidden)"),
        };
        let at = |row: &str, k: &str| self.word_of("base", row, k);
        if phase.number == 2 {
            let _ = writeln!(w, "let base = {};", self.exchange_row("step", 1, "row"));
            staging.wait(w, at, valid, None, false);
            return;
        }
        let rows = staging.rows();
        for (i, row) in rows.iter().enumerate() {
            let _ = writeln!(w, "var gone{i} = false;\nif sizes.has_reset == 1u {{");
            let _ = writeln!(w, "gone{i} = enters_cut(direction, t, min(row + {row}, sizes.batch - 1u));\n}}");
        }
        let gone = |row: &str| format!("gone{}", rows.iter().position(|other| other == row).unwrap_or_default());
        let _ = writeln!(w, "if step == start {{");
        let h = |row: &str, k: &str| format!("state[h_index(step, direction, row + {row}, {k})]");
        staging.take(w, h, valid, Some(&gone));
        let _ = writeln!(w, "}} else {{\nlet base = {};", self.exchange_row("step - 1u", 0, "row"));
        staging.wait(w, at, valid, Some(&gone), self.asks_ahead());
        w.push_str("}\n");
    }

    /// The cell, where the sums are: gives `made{slot}`, what the others wait for.
    fn finish(&self, w: &mut String, phase: &Phase, slot: u32, names: &[String]) {
        let tile = self.tile();
        if !tile.has_parts() {
            for value in 0..phase.count {
                let _ = writeln!(w, "let z{slot}_{value} = {};", self.place().gather(names, self.values(), slot, value));
            }
        }
        let _ = writeln!(w, "var made{slot} = 0.0;\nif on{slot} {{");
        let mut rh = vec!["0.0".to_string(); self.gates() as usize];
        for value in 0..phase.count {
            let gate = phase.first + value;
            let sum = match (self.product(), tile.has_parts()) {
                (Some(product), _) => product.sum(value, &format!("r{slot}"), &format!("o{slot} % {}u", tile.units)),
                (None, true) => sum_of_parts(tile, phase.count, value, &format!("o{slot}"), "0u"),
                (None, false) => format!("z{slot}_{value}"),
            };
            let _ = writeln!(w, "let q{gate} = {sum} + bias{slot}_{gate};");
            rh[gate as usize] = format!("q{gate}");
        }
        if phase.number == 2 {
            for gate in 0..phase.first {
                rh[gate as usize] = format!("rh{slot}_{gate}");
            }
        }
        let list = |name: &str, count: u32| (0..count).map(|i| format!("{name}{slot}_{i}")).collect::<Vec<_>>().join(", ");
        let prev = (0..self.states()).map(|i| format!("select(s{slot}_{i}, 0.0, cut{slot})")).collect::<Vec<_>>().join(", ");
        let arguments = format!(
            "Gates({}), Gates({}), State({prev}), Unit({})",
            list("x", self.gates()),
            rh.join(", "),
            list("own", self.cell.unit_rows() as u32)
        );
        if phase.number == 1 {
            let _ = writeln!(w, "made{slot} = cell_mid({arguments});");
            self.publish(w, phase, slot);
            for gate in 0..phase.count {
                let kept = format!("state[rh_index(direction, b{slot}, {gate}u, u{slot})]");
                let kept = if self.one_turn { format!("rh{slot}_{gate}") } else { kept };
                let _ = writeln!(w, "{kept} = q{gate};");
            }
        } else {
            self.finish_step(w, phase, slot, &arguments);
        }
        w.push_str("}\n");
    }

    fn finish_step(&self, w: &mut String, phase: &Phase, slot: u32, arguments: &str) {
        let _ = writeln!(
            w,
            "let result = cell_forward({arguments});\nlet within = t < length{slot};\n\
             let alive = within & !is_held(link{slot});\nlet shown = alive | (within & repeats(link{slot}));"
        );
        for i in 0..self.states() {
            let kept = format!("select(s{slot}_{i}, 0.0, cut{slot})");
            let _ = writeln!(w, "s{slot}_{i} = select({kept}, result.next[{i}], alive);");
        }
        let _ = writeln!(w, "made{slot} = s{slot}_0;");
        self.publish(w, phase, slot);
        let _ = writeln!(
            w,
            "let at_row = row_of(t, b{slot});
store_output(at_row * sizes.directions * sizes.hidden + direction * sizes.hidden + u{slot}, select(0.0, s{slot}_0, shown));
if sizes.has_reserve == 1u {{"
        );
        let (saved, states) = (self.cell.saved as u32, self.states());
        let _ = writeln!(w, "let kept = (direction * sizes.rows + at_row) * {}u * sizes.hidden + u{slot};", saved + states - 1);
        for i in 0..saved {
            let _ = writeln!(w, "reserve[kept + {i}u * sizes.hidden] = result.saved[{i}];");
        }
        for i in 1..states {
            let _ = writeln!(w, "reserve[kept + {}u * sizes.hidden] = s{slot}_{i};", saved + i - 1);
        }
        w.push_str("}\n");
        if !self.one_turn {
            for i in 0..states {
                let _ = writeln!(w, "{} = s{slot}_{i};", self.state(slot, i, "step + 1u"));
            }
            let _ = writeln!(w, "if sizes.has_final == 1u && step + 1u == sizes.seq_len {{");
            for i in 0..states {
                let _ = writeln!(w, "final_state[{i}u * sizes.block + state_index(direction, b{slot}, u{slot})] = s{slot}_{i};");
            }
            w.push_str("}\n");
        }
    }
}

#[cfg(test)]
mod tests;
