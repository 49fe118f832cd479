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
use crate::schedule::persistent::staging::next_turn;

/// Most registers of weights beside which words may be on their way while a turn is multiplied.
const WEIGHTS_BESIDE_WORDS: u32 = 96;

impl Kernel<'_> {
    pub(super) fn by_matrices(self, w: &mut String) {
        let Layout { units, rows, .. } = *self.layout;
        let stagers = self.stagers();
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

    /// Whether a turn's words are asked for in the turn before, while that is made. With one turn a step they cannot be there yet.
    pub(super) fn asks_ahead(self) -> bool {
        if self.product().is_none() {
            return self.layout.finishers > 0;
        }
        let room = self.stagers() < self.layout.threads && self.layout.weights() <= WEIGHTS_BESIDE_WORDS;
        room && self.staging(0).can_ask_ahead()
    }

    /// Of the next rows of this step, or the first of the next.
    pub(super) fn ask_ahead(self, w: &mut String) {
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
}
