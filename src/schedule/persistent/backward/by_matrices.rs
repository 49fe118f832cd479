//! Backward by cooperative matrices where a step has several turns of rows: the last subgroups of a workgroup do what a turn is beside
//! its product.
//!
//! While the others wait for a turn's words, they do the cell of the turn before and ask for what the cell will need of this one, which
//! would else be waited for before the words are. naga wants products in uniform control flow, so all multiply. Two barriers a turn:
//! behind the words, and behind the sums, which are read before the first of the next turn, behind which new ones are made.

use std::fmt::Write;

use super::Kernel;
use crate::schedule::persistent::emit::end_of_turn;
use crate::schedule::persistent::layout::Layout;

impl Kernel<'_> {
    pub(super) fn by_matrices(self, w: &mut String) {
        let Layout { units, rows, .. } = *self.layout;
        let stagers = self.layout.stagers();
        if self.asks_ahead() {
            self.staging(0).declare_ahead(w);
        }
        let _ = writeln!(
            w,
            "let stages = thread < {stagers}u;
let output = thread - {stagers}u;
let r = output / {units}u;
let unit = unit0 + output % {units}u;
let is_mine = !stages & (output < {}u) & (unit < sizes.hidden);",
            units * rows
        );
        let _ = writeln!(
            w,
            "for (var step = start; step < end; step++) {{
for (var row0 = row_start; row0 < row_end; row0 += {rows}u) {{
let b = row0 + r;
let finishes = is_mine & (b < row_end);
var x = Before();
if stages {{"
        );
        self.stage(w, 0, 0);
        w.push_str("} else if finishes { x = before(step, direction, b, unit); }\n");
        w.push_str("workgroupBarrier();\n");
        if self.asks_ahead() {
            w.push_str("if stages {\n");
            self.ask_ahead(w);
            w.push_str("}\n");
        }
        self.multiply(w, 0, "0u");
        let _ = writeln!(
            w,
            "workgroupBarrier();\nif finishes {{ finish(step, 0u, direction, b, r, unit, {}, x); }}",
            self.sum(0, "output", "0u")
        );
        end_of_turn(w, self.layout.tile(0, self.in_turn));
        w.push_str("}\n}\n");
    }
}
