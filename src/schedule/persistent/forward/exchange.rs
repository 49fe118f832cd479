//! How the forward kernel's workgroups find and leave what they exchange.

use std::fmt::Write;

use super::super::staging::{Staging, next_turn};
use super::Body;
use crate::schedule::layer::Phase;

impl Body<'_> {
    pub(super) fn staging(&self) -> Staging<'static> {
        Staging { tile: self.tile(), prefix: "p", start: "stage", per_word: self.per_word(), in_registers: false }
    }

    /// Whether a turn's words are asked for in the turn before, while it is made. With one turn a step they cannot be there yet.
    pub(super) fn asks_ahead(&self) -> bool {
        !self.one_turn && !self.cell.has_two_phases() && self.staging().can_ask_ahead()
    }

    /// Of the next rows of this step, or the first of the next.
    pub(super) fn ask_ahead(&self, w: &mut String) {
        next_turn(w, "row", self.tile().rows);
        let _ = writeln!(w, "let next_base = {};", self.exchange_row("next_step - 1u", 0, "next_row"));
        let valid = |row: &str, k: &str| match self.whole {
            true => "asks".into(),
            false => format!("asks & (next_row + {row} < row_end) & ({k} < sizes.hidden)"),
        };
        self.staging().ask_ahead(w, |row, k| self.word_of("next_base", row, k), valid);
    }

    /// Index of a word: `base` is that of the first row's first.
    pub(super) fn word_of(&self, base: &str, row: &str, k: &str) -> String {
        let per_word = self.per_word();
        let number = if per_word > 1 { format!("{k} / {per_word}u") } else { k.into() };
        format!("{base} + {row} * {} + {number}", self.stride())
    }

    /// Numbers of a word of the exchange.
    pub(super) fn per_word(&self) -> u32 {
        match (self.layout.vectors, self.halves) {
            (true, _) => 4,
            (false, true) => 2,
            (false, false) => 1,
        }
    }

    /// Words of a row of the exchange; by fours H is a multiple of four.
    pub(super) fn stride(&self) -> &'static str {
        match self.per_word() {
            4 => "(sizes.hidden / 4u)",
            2 => "((sizes.hidden + 1u) / 2u)",
            _ => "sizes.hidden",
        }
    }

    /// `exchange` is [chunk, slots, D, B, words of H].
    pub(super) fn exchange_row(&self, step: &str, slot: u32, row: &str) -> String {
        let slots = if self.cell.has_two_phases() { 2 } else { 1 };
        format!(
            "((({step} - start) * {slots}u + {slot}u) * sizes.directions * sizes.batch + direction * sizes.batch + {row}) * {}",
            self.stride()
        )
    }

    /// What is exchanged goes first of all that is stored: the others wait for it.
    pub(super) fn publish(&self, w: &mut String, phase: &Phase, slot: u32) {
        let at = self.exchange_row("step", u32::from(phase.number == 1), &format!("b{slot}"));
        let _ = match self.per_word() {
            4 => writeln!(w, "exchange[{at} + u{slot} / 4u][u{slot} % 4u] = encode(made{slot});"),
            1 => writeln!(w, "atomicStore(&exchange[{at} + u{slot}], encode(made{slot}));"),
            _ => Ok(()),
        };
    }

    /// The same by pairs, which all lanes must reach.
    pub(super) fn publish_pair(&self, w: &mut String, phase: &Phase, slot: u32) {
        let tile = self.tile();
        let (rows, slots) = (tile.rows, self.slots());
        let partner = if tile.has_parts() {
            format!("subgroupShuffleXor(made{slot}, 1u)")
        } else if rows < slots {
            // The second of a pair has no word of its own.
            if slot / rows % 2 == 1 {
                return;
            }
            format!("made{}", slot + rows)
        } else if slots > 1 {
            format!("subgroupShuffleXor(made{slot}, {}u)", rows / slots)
        } else {
            format!("subgroupShuffleXor(made{slot}, {}u)", rows * self.place().span(self.values()))
        };
        let at = self.exchange_row("step", u32::from(phase.number == 1), &format!("b{slot}"));
        let _ = writeln!(w, "let other{slot} = {partner};\nif on{slot} & (u{slot} % 2u == 0u) {{");
        let _ = writeln!(w, "atomicStore(&exchange[{at} + u{slot} / 2u], encode_halves(vec2f(made{slot}, other{slot})));\n}}");
    }
}
