//! How the operand of a step's product comes into workgroup memory, and how its words are waited for: see `emit` for the conventions.

use std::fmt::Write;

use super::matrices;
use super::tile::{Matrices, Tile};

/// Words that a thread asks for before it looks at the first: its registers hold weights too, as f32 or, of matrices, as f16.
const AT_ONCE: usize = 16;
const AT_ONCE_BESIDE_MATRICES: usize = 48;

/// How the operand of a product comes into workgroup memory: `rows` times [`Tile::k`], as vec4f.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staging<'a> {
    pub tile: Tile,
    /// Before every name that it declares.
    pub prefix: &'a str,
    /// Expression of where in `staged` it begins.
    pub start: &'a str,
    /// Numbers in a word: 1, or 2 for f16, or 4 where the exchange goes by fours.
    pub per_word: u32,
    /// Whether each thread keeps the part of the operand that it multiplies, in `x{row}_{quad}`, instead: where no other needs it. In
    /// scope is `own`, where its part of K begins.
    pub in_registers: bool,
}

/// A word of a thread: expressions of the operand's row, of the number in that row, and of whether it is the thread's at all.
#[derive(Debug, Clone)]
struct Word {
    row: String,
    k: String,
    /// Nothing if it always is.
    mine: Option<String>,
    /// What it is put into, of the operand in registers.
    register: String,
}

impl Word {
    /// Expression of whether there is such a number and this thread stages it; `k` is of the number.
    fn is_there(&self, k: &str, valid: impl Fn(&str, &str) -> String) -> String {
        let valid = valid(&self.row, k);
        self.mine.as_ref().map_or(valid.clone(), |mine| format!("({mine}) & {valid}"))
    }

    /// Expression of its index; of that of one that is never 0 where there is no such word.
    fn index(&self, at: impl Fn(&str, &str) -> String, valid: impl Fn(&str, &str) -> String) -> String {
        format!("select(idle, {}, {})", at(&self.row, &self.k), self.is_there(&self.k, valid))
    }
}

/// Which turn comes next, and whether its words are ever sent: the next rows of this step, or the first of the next. `row` names the
/// first row of this one.
pub(super) fn next_turn(w: &mut String, row: &str, rows: u32) {
    let _ = writeln!(
        w,
        "let wraps = {row} + {rows}u >= row_end;
let next_row = select({row} + {rows}u, row_start, wraps);
let next_step = select(step, step + 1u, wraps);
let asks = (next_step > start) & (next_step < end);"
    );
}

impl Staging<'_> {
    /// A row's words are neighbouring threads'; short rows lie beside each other.
    fn words(&self) -> Vec<Word> {
        if self.in_registers {
            return self.words_of_registers();
        }
        let (threads, rows, length) = (self.tile.threads, self.tile.rows, self.tile.k() / self.per_word);
        let times = |word: String| if self.per_word == 1 { word } else { format!("{} * {}u", word, self.per_word) };
        if length >= threads {
            let turns = length.div_ceil(threads);
            let word = |row: u32, turn: u32| Word {
                register: String::new(),
                row: format!("{row}u"),
                k: times(if turn == 0 { "thread".into() } else { format!("(thread + {}u)", turn * threads) }),
                mine: ((turn + 1) * threads > length).then(|| format!("thread < {}u", length - turn * threads)),
            };
            return (0..rows)
                .flat_map(|row| (0..turns).map(move |turn| (row, turn)))
                .map(|(row, turn)| word(row, turn))
                .collect();
        }
        let beside = (threads / length).min(rows);
        let word = |turn: u32| {
            let left = (rows - turn * beside).min(beside) * length;
            Word {
                register: String::new(),
                row: format!("(thread / {length}u + {}u)", turn * beside),
                k: times(format!("(thread % {length}u)")),
                mine: (left < threads).then(|| format!("thread < {left}u")),
            }
        };
        (0..rows.div_ceil(beside)).map(word).collect()
    }

    /// Those of one number lie a group apart, so that a group reads side by side.
    fn words_of_registers(&self) -> Vec<Word> {
        let Tile { rows, quads, lanes, .. } = self.tile;
        let of_quad = if self.per_word == 4 { 1 } else { 4 };
        let numbers = (0..rows).flat_map(|row| (0..quads).flat_map(move |quad| (0..of_quad).map(move |i| (row, quad, i))));
        let word = |(row, quad, i): (u32, u32, u32)| Word {
            row: format!("{row}u"),
            k: format!("(own + {}u)", (4 * quad + i) * lanes),
            mine: None,
            register: format!("x{row}_{quad}{}", if of_quad == 1 { "" } else { [".x", ".y", ".z", ".w"][i as usize] }),
        };
        numbers.map(word).collect()
    }

    /// What [`wait`](Self::wait) and [`take`](Self::take) put the operand into, where that is registers.
    pub fn declare_registers(&self, w: &mut String) {
        for (row, quad) in (0..self.tile.rows).flat_map(|row| (0..self.tile.quads).map(move |quad| (row, quad))) {
            let _ = writeln!(w, "var x{row}_{quad} = vec4f();");
        }
    }

    /// Expressions of every row that a thread has words of.
    pub fn rows(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.words().into_iter().map(|word| word.row).collect();
        rows.dedup();
        rows
    }

    /// Words that a thread asks for before it looks at the first.
    fn at_once(&self) -> usize {
        match self.tile.matrices {
            // They stay there anyway.
            _ if self.in_registers => usize::MAX,
            Matrices::Off => AT_ONCE,
            _ => AT_ONCE_BESIDE_MATRICES,
        }
    }

    /// Whether a turn's words can be asked for while the turn before is made: all of them at once.
    pub fn can_ask_ahead(&self) -> bool {
        self.words().len() <= self.at_once()
    }

    /// Before the first turn: the words that [`ask_ahead`](Self::ask_ahead) will ask for.
    pub fn declare_ahead(&self, w: &mut String) {
        let none = if self.per_word == 4 { "vec4u(1u)" } else { "1u" };
        for i in 0..self.words().len() {
            let _ = writeln!(w, "var {}v{i} = {none};", self.prefix);
        }
    }

    /// Asks for the words of another turn, for which [`wait`](Self::wait) then waits. They may not be there yet.
    pub fn ask_ahead(&self, w: &mut String, at: impl Fn(&str, &str) -> String, valid: impl Fn(&str, &str) -> String) {
        for (i, word) in self.words().iter().enumerate() {
            let _ = writeln!(w, "{}v{i} = {};", self.prefix, self.load(&word.index(&at, &valid)));
        }
    }

    fn load(&self, at: &str) -> String {
        if self.per_word == 4 { format!("exchange[{at}]") } else { format!("atomicLoad(&exchange[{at}])") }
    }

    /// Waits for the words of `exchange`. `at` gives a word's index, `valid` whether there is such a word (else the number is 0),
    /// `cut` whether its number counts as 0 though it is waited for, of expressions of row and number. `ahead` if they were asked for.
    pub fn wait(
        &self,
        w: &mut String,
        at: impl Fn(&str, &str) -> String,
        valid: impl Fn(&str, &str) -> String,
        cut: Option<&dyn Fn(&str) -> String>,
        ahead: bool,
    ) {
        let p = self.prefix;
        for words in self.words().chunks(self.at_once()) {
            w.push_str("{\n");
            for (i, word) in words.iter().enumerate() {
                let _ = writeln!(w, "let {p}at{i} = {};", word.index(&at, &valid));
            }
            let by_four = self.per_word == 4;
            let load = |i| self.load(&format!("{p}at{i}"));
            for i in 0..if ahead { 0 } else { words.len() } {
                let _ = writeln!(w, "var {p}v{i} = {};", load(i));
            }
            let is_there = |i| if by_four { format!("all({p}v{i} != vec4u())") } else { format!("({p}v{i} != 0u)") };
            let all: Vec<_> = (0..words.len()).map(is_there).collect();
            let _ = writeln!(w, "var {p}polls = 0u;\nloop {{\nif gave_up || ({}) {{ break; }}", all.join(" & "));
            for i in 0..words.len() {
                let lacks = if by_four { format!("any({p}v{i} == vec4u())") } else { format!("{p}v{i} == 0u") };
                let _ = writeln!(w, "if {lacks} {{ {p}v{i} = {}; }}", load(i));
            }
            let _ = writeln!(w, "{p}polls++;\nif in_vain({p}polls) {{ gave_up = true; }}\n}}");
            for (i, word) in words.iter().enumerate() {
                let cut = cut.map(|cut| cut(&word.row));
                self.put(w, word, &format!("{p}v{i}"), true, cut.as_deref());
            }
            w.push_str("}\n");
        }
    }

    /// Takes f32 that are there already: `value` is an expression of one, which is only reached where it is `valid`.
    pub fn take(
        &self,
        w: &mut String,
        value: impl Fn(&str, &str) -> String,
        valid: impl Fn(&str, &str) -> String,
        cut: Option<&dyn Fn(&str) -> String>,
    ) {
        let p = self.prefix;
        for (i, word) in self.words().iter().enumerate() {
            let Word { row, k, .. } = word;
            let numbers: Vec<_> = (0..self.per_word).map(|n| if n == 0 { k.clone() } else { format!("({k} + {n}u)") }).collect();
            for (n, k) in numbers.iter().enumerate() {
                let valid = word.is_there(k, &valid);
                let _ = writeln!(w, "var {p}n{i}_{n} = 0.0;\nif {valid} {{ {p}n{i}_{n} = {}; }}", value(row, k));
            }
            let values: Vec<_> = (0..numbers.len()).map(|n| format!("{p}n{i}_{n}")).collect();
            let value = match self.per_word {
                1 => values[0].clone(),
                n => format!("vec{n}f({})", values.join(", ")),
            };
            let cut = cut.map(|cut| cut(row));
            self.put(w, word, &value, false, cut.as_deref());
        }
    }

    fn put(&self, w: &mut String, word: &Word, value: &str, coded: bool, cut: Option<&str>) {
        let Word { row, k, mine, register } = word;
        let (start, quads) = (self.start, self.tile.k() / 4);
        let at = format!("staged[{start} + {row} * {quads}u + {k} / 4u]");
        let value = match (coded, self.per_word) {
            (false, _) => value.into(),
            (true, 2) => format!("decode_halves({value})"),
            (true, 4) => format!("bitcast<vec4f>({value} - vec4u(1u))"),
            (true, _) => format!("decode({value})"),
        };
        let zero = ["0.0", "vec2f()", "vec4f()"][self.per_word as usize / 2];
        let value = cut.map_or(value.clone(), |cut| format!("select({value}, {zero}, {cut})"));
        let put = match self.per_word {
            _ if self.in_registers => format!("{register} = {value};"),
            // For matrices. naga 30 makes no `vec2h` of a word's bits, so they go through f32, which changes none.
            2 if self.tile.matrices != Matrices::Off => {
                format!("staged[{}] = vec2h({value});", matrices::staged_at(&self.tile, row, k))
            }
            2 => format!("let pair = {value}; {at}[{k} % 4u] = pair.x; {at}[{k} % 4u + 1u] = pair.y;"),
            4 => format!("{at} = {value};"),
            _ => format!("{at}[{k} % 4u] = {value};"),
        };
        let _ = match mine {
            Some(mine) => writeln!(w, "if {mine} {{ {put} }}"),
            None => writeln!(w, "{{ {put} }}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILE: Tile = Tile {
        threads: 256,
        lanes: 32,
        shuffles: true,
        k_parts: 2,
        units: 16,
        rows: 4,
        quads: 2,
        rolled: false,
        in_turn: false,
        matrices: Matrices::Off,
    };

    #[test]
    fn every_number_is_staged_once() {
        for (threads, rows, quads, per_word) in [(256, 4, 2, 1), (256, 8, 3, 1), (64, 1, 5, 1), (512, 8, 1, 1), (256, 4, 2, 2)] {
            let tile = Tile { threads, rows, quads, k_parts: 1, ..TILE };
            let staging = Staging { tile, prefix: "s", start: "0u", per_word, in_registers: false };
            let mut staged = vec![0; (rows * tile.k()) as usize];
            for word in staging.words() {
                for thread in 0..threads {
                    let value = |text: &str| evaluate(text, thread);
                    let mine = word.mine.as_ref().is_none_or(|mine| {
                        let (left, right) = mine.split_once(" < ").unwrap();
                        value(left) < value(right)
                    });
                    if mine {
                        for n in 0..per_word {
                            staged[(value(&word.row) * tile.k() + value(&word.k) + n) as usize] += 1;
                        }
                    }
                }
            }
            assert!(staged.iter().all(|&times| times == 1), "{tile:?}");
        }
    }

    /// What the threads of a group keep is its part of K, once; those of one load lie side by side, but for fours.
    #[test]
    fn every_number_is_kept_once() {
        for per_word in [1, 4] {
            let tile = Tile { units: 8, k_parts: 8, ..TILE };
            let staging = Staging { tile, prefix: "s", start: "0u", per_word, in_registers: true };
            let mut kept = vec![0; (tile.rows * tile.k()) as usize];
            for word in staging.words() {
                for thread in 0..tile.threads {
                    let (group, lane) = (thread / tile.lanes, thread % tile.lanes);
                    let own = group * tile.k_each() + lane * per_word;
                    let at = evaluate(&word.row, 0) * tile.k() + evaluate(&word.k.replace("own", &own.to_string()), 0);
                    (at..at + per_word).for_each(|at| kept[at as usize] += 1);
                }
            }
            assert!(kept.iter().all(|&times| times == 1), "{per_word}");
        }
    }

    /// Sums of products and quotients, with parentheses.
    fn evaluate(text: &str, thread: u32) -> u32 {
        let text = text.replace("thread", &thread.to_string()).replace('u', "");
        let mut tokens: Vec<String> = text.replace('(', "( ").replace(')', " )").split_whitespace().map(String::from).collect();
        while let Some(close) = tokens.iter().position(|token| token == ")") {
            let open = tokens[..close].iter().rposition(|token| token == "(").unwrap();
            let value = flat(&tokens[open + 1..close]);
            tokens.splice(open..=close, [value.to_string()]);
        }
        flat(&tokens)
    }

    fn flat(tokens: &[String]) -> u32 {
        tokens
            .split(|token| token == "+")
            .map(|term| {
                let mut value: u32 = term[0].parse().unwrap();
                for pair in term[1..].chunks(2) {
                    let by: u32 = pair[1].parse().unwrap();
                    value = match pair[0].as_str() {
                        "*" => value * by,
                        "/" => value / by,
                        "%" => value % by,
                        other => panic!("{other}"),
                    };
                }
                value
            })
            .sum()
    }

    /// Nothing is looked at before all is asked for.
    #[test]
    fn all_loads_are_issued_before_the_wait() {
        let mut text = String::new();
        let staging = Staging { tile: TILE, prefix: "s", start: "0u", per_word: 1, in_registers: false };
        staging.wait(&mut text, |row, k| format!("{row} * 512u + {k}"), |_, k| format!("({k} < sizes.hidden)"), None, false);
        let (asked, waited) = text.split_once("loop").unwrap();
        assert_eq!(asked.matches("= atomicLoad(").count(), 8);
        assert_eq!(waited.matches("= atomicLoad(").count(), 8);
        assert!(!asked.contains("!= 0u"));
    }
}
