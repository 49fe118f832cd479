//! Backward where a step takes the team's rows in several turns: threads of their own finish a turn while the others are at the next.
//!
//! A turn of the others: the words, asked for in the turn before; a barrier; the words of the next turn are asked for; the products; a
//! barrier. Between the two barriers finishers do the cell of the turn before, whose sums lie in the other half of `sums`, and ask for
//! what the cell will need of this one. What a turn sends is waited for a step later, so never before it is there.

use std::fmt::Write;

use super::Kernel;
use crate::schedule::persistent::emit::end_of_turn;
use crate::schedule::persistent::layout::Layout;

impl Kernel<'_> {
    pub(super) fn several_turns(self, w: &mut String) {
        let Layout { threads, units, rows, .. } = *self.layout;
        let tile = self.layout.tile(0, self.in_turn);
        let sums = tile.parts() * units * rows;
        self.staging(0).declare_ahead(w);
        let _ = writeln!(
            w,
            "let works = thread < {threads}u;
let output = thread - {threads}u;
let r = output / {units}u;
let unit = unit0 + output % {units}u;
let is_mine = !works & (output < {}u) & (unit < sizes.hidden);
var x = Before();
var x_step = 0u;
var x_b = 0u;
var finishes = false;
var half = 0u;
for (var step = start; step < end; step++) {{
for (var row0 = row_start; row0 < row_end; row0 += {rows}u) {{
if works {{",
            units * rows
        );
        self.stage(w, 0, 0);
        w.push_str("}\nworkgroupBarrier();\nif works {\n");
        self.ask_ahead(w);
        self.multiply(w, 0, "half");
        w.push_str("} else {\n");
        self.finish_turn(w, sums);
        let _ = writeln!(
            w,
            "x_step = step;
x_b = row0 + r;
finishes = is_mine & (x_b < row_end);
if finishes {{ x = before(step, direction, x_b, unit); }}
}}
workgroupBarrier();
half = {sums}u - half;"
        );
        end_of_turn(w, tile);
        w.push_str("}\n}\nif !works {\n");
        self.finish_turn(w, sums);
        w.push_str("}\n");
    }

    /// The cell of the turn before, if there was one.
    fn finish_turn(self, w: &mut String, sums: u32) {
        let sum = self.sum(0, "output", &format!("{sums}u - half"));
        let _ = writeln!(w, "if finishes {{ finish(x_step, 0u, direction, x_b, r, unit, {sum}, x); }}");
    }
}
