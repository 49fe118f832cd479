//! Backward where a step takes the team's rows in several turns: threads of their own finish a turn while the others are at the next.
//!
//! A turn of the others: the words, asked for in the turn before, which each thread multiplies alone and so keeps in its registers; the
//! words of the next turn are asked for; the products; a barrier. Meanwhile finishers do the cell of the turn before, whose sums lie in the
//! other half of `sums`, and ask for what the cell will need of the next turn that is theirs. What a turn sends is waited for a step
//! later, so never before it is there.

use std::fmt::Write;

use super::Kernel;
use crate::schedule::persistent::emit::end_of_turn;
use crate::schedule::persistent::layout::Layout;

impl Kernel<'_> {
    pub(super) fn several_turns(self, w: &mut String) {
        let Layout { threads, units, rows, finishers, .. } = *self.layout;
        let tile = self.layout.tile(0, self.in_turn);
        let sums = tile.parts() * units * rows;
        let slots = finishers / (units * rows);
        self.staging(0).declare_ahead(w);
        let _ = writeln!(
            w,
            "let works = thread < {threads}u;
let output = (thread - {threads}u) % {0}u;
let slot = (thread - {threads}u) / {0}u;
let r = output / {units}u;
let unit = unit0 + output % {units}u;
let is_mine = !works & (slot < {slots}u) & (unit < sizes.hidden) & (row_start + slot * {rows}u < row_end);
let first_row = row_start + slot * {rows}u;
var x = Before();
var x_step = start;
var x_row = first_row;
var done_step = end;
var done_row = 0u;
var half = 0u;
var length = 0u;
if is_mine {{
if x_row + r < row_end {{ x = before(x_step, direction, x_row + r, unit); }}
let next_row = select(first_row, x_row + {1}u, x_row + {1}u < row_end);
if next_row + r < row_end {{ length = mask[next_row + r]; }}
}}
for (var step = start; step < end; step++) {{
for (var row0 = row_start; row0 < row_end; row0 += {rows}u) {{
if works {{",
            units * rows,
            slots * rows,
        );
        self.staging(0).declare_registers(w);
        self.stage(w, 0, 0);
        self.ask_ahead(w);
        self.multiply(w, 0, "half");
        w.push_str("} else {\n");
        self.finish_turn(w, sums, slots);
        let _ = writeln!(
            w,
            "}}
workgroupBarrier();
done_step = step;
done_row = row0;
half = {sums}u - half;"
        );
        end_of_turn(w, tile);
        w.push_str("}\n}\nif !works {\n");
        self.finish_turn(w, sums, slots);
        w.push_str("}\n");
    }

    /// The cell of the turn before, if it is this thread's; then what it needs of its next one is asked for.
    fn finish_turn(self, w: &mut String, sums: u32, slots: u32) {
        let Layout { rows, .. } = *self.layout;
        let sum = self.sum(0, "output", &format!("{sums}u - half"));
        let _ = writeln!(
            w,
            "if is_mine & (done_step == x_step) & (done_row == x_row) {{
if x_row + r < row_end {{ finish(x_step, 0u, direction, x_row + r, r, unit, {sum}, x); }}
x_row += {0}u;
if x_row >= row_end {{ x_row = first_row; x_step++; }}
if x_step < end && x_row + r < row_end {{
x = kept_within(x_step, direction, x_row + r, unit, length);
x.d_next = carried(direction, x_row + r, unit);
}}
let next_row = select(first_row, x_row + {0}u, x_row + {0}u < row_end);
if next_row + r < row_end {{ length = mask[next_row + r]; }}
}}",
            slots * rows
        );
    }
}
