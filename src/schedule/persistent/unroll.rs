//! Loops over a cell's states and gates, written out: a private array that an index reaches which the compiler cannot resolve
//! goes to memory on several vendors' GPUs.

use std::fmt::Write;
use std::ops::Range;

use crate::cell::ShaderCell;

/// What loops of the shared shaders count to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub gates: u32,
    pub states: u32,
    pub saved: u32,
    pub unit_rows: u32,
}

impl Counts {
    pub fn of(cell: &ShaderCell) -> Self {
        let [gates, states, saved] = [cell.gates.len(), cell.states.len(), cell.saved].map(|count| count as u32);
        Self { gates, states, saved, unit_rows: cell.unit_rows() as u32 }
    }

    /// The bound that a loop names, if it is a count.
    fn bound(self, name: &str) -> Option<u32> {
        let literal = name.strip_suffix('u').and_then(|digits| digits.parse().ok());
        literal.or(match name {
            "GATES" => Some(self.gates),
            "STATES" => Some(self.states),
            "SAVED" => Some(self.saved),
            "UNIT_ROWS" => Some(self.unit_rows),
            _ => None,
        })
    }

    /// `text` with every `for (var i = LOW; i < HIGH; i++) { .. }` written out. Bounds that are no counts are taken to be gates, and
    /// compared at each turn.
    pub fn unroll(self, text: &str) -> String {
        let Some(found) = Loop::first(text) else { return text.into() };
        let (body, mut out) = (self.unroll(&text[found.body.clone()]), text[..found.start].to_string());
        let Loop { name, low, high, .. } = found;
        let turns = match (self.bound(low), self.bound(high)) {
            (Some(low), Some(high)) => low..high,
            _ => 0..self.gates,
        };
        for turn in turns {
            let guards = [(self.bound(low), format!("{low} <= {turn}u")), (self.bound(high), format!("{turn}u < {high}"))];
            let guards: Vec<_> = guards.into_iter().filter(|(bound, _)| bound.is_none()).map(|(_, guard)| guard).collect();
            let guard = if guards.is_empty() { String::new() } else { format!("if {} ", guards.join(" && ")) };
            let _ = write!(out, "{guard}{{{}}}\n    ", with_number(&body, name, turn));
        }
        out + &self.unroll(&text[found.end..])
    }
}

/// A loop of the shared shaders, which write all of them in one form.
struct Loop<'a> {
    start: usize,
    name: &'a str,
    low: &'a str,
    high: &'a str,
    body: Range<usize>,
    end: usize,
}

impl<'a> Loop<'a> {
    /// The first that counts up to a bound by ones.
    fn first(text: &'a str) -> Option<Self> {
        text.match_indices("for (var ").find_map(|(start, _)| Self::at(text, start))
    }

    fn at(text: &'a str, start: usize) -> Option<Self> {
        let head = start + "for (var ".len();
        let open = head + text[head..].find(") {")? + 2;
        let parts: Vec<_> = text[head..open - 2].split("; ").collect();
        let &[first, until, next] = &parts[..] else { return None };
        let ((name, low), (_, high)) = (first.split_once(" = ")?, until.split_once(" < ")?);
        if next.strip_suffix("++") != Some(name) {
            return None;
        }
        let mut depth = 0;
        let close = text[open..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(open + at)
        })?;
        Some(Self { start, name, low, high, body: open + 1..close, end: close + 1 })
    }
}

/// `body` with a number in place of that name.
fn with_number(body: &str, name: &str, number: u32) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = body;
    while let Some(at) = rest.find(name) {
        let end = at + name.len();
        let whole = !rest[..at].ends_with(is_word) && !rest[end..].starts_with(is_word);
        let field = rest[..at].ends_with('.');
        out.push_str(&rest[..at]);
        if whole && !field {
            let _ = write!(out, "{number}u");
        } else {
            out.push_str(name);
        }
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::shaders::{File, shader};

    const COUNTS: Counts = Counts { gates: 3, states: 2, saved: 4, unit_rows: 0 };

    fn squeezed(text: &str) -> String {
        COUNTS.unroll(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn counts_are_written_out() {
        assert_eq!(squeezed("a; for (var s = 1u; s < STATES; s++) { x.s[s] = s + is; } b;"), "a; { x.s[1u] = 1u + is; } b;");
        assert_eq!(squeezed("for (var i = 0u; i < UNIT_ROWS; i++) { x[i] = 0.0; } b;"), "b;");
        let two = squeezed("for (var s = 0u; s < STATES; s++) {\n for (var i = 0u; i < 1u; i++) { a[s][i] = b; }\n}\nc;");
        assert_eq!(two, "{ { a[0u][0u] = b; } } { { a[1u][0u] = b; } } c;");
    }

    #[test]
    fn other_bounds_are_compared() {
        let text = squeezed("for (var g = from; g < to; g++) { a[g] = 0.0; }");
        assert!(text.contains("if from <= 2u && 2u < to { a[2u] = 0.0; }") && !text.contains("3u"), "{text}");
        let text = squeezed("for (var g = 0u; g < count; g++) { a[g] = 0.0; }");
        assert!(text.contains("if 2u < count { a[2u] = 0.0; }"), "{text}");
    }

    #[test]
    fn other_loops_stay() {
        let text = "for (var polls = 1u; polls <= STATES; polls++) { a; }\nfor (var i = n; i < GATES; i += 2u) { b; }";
        assert_eq!(COUNTS.unroll(text), text);
    }

    #[test]
    fn no_loop_is_left_in_what_a_cell_does() {
        for File { name, text } in
            [shader!("shared/step_backward"), shader!("shared/kept_states"), shader!("shared/step_forward")]
        {
            assert!(text.contains("for ("), "{name}");
            let unrolled = COUNTS.unroll(text);
            assert!(!unrolled.contains("for ("), "{unrolled}");
        }
    }
}
