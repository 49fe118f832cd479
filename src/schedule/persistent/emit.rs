//! Blocks of WGSL that the persistent kernels of both directions of time are made of. All of it is straight-line: what stays in
//! registers must be a `let`, or a `var` that no index reaches.
//!
//! Conventions. In scope: `thread`, `lane` (thread % lanes), `group_of` (thread / lanes); `var gave_up: bool`, whether this thread
//! waited in vain once; `let idle: u32`, the index of the word of `exchange` that is never 0; `staged: array<vec4f>` and
//! `sums: array<f32>` in workgroup memory; all of `shared/team.wgsl`. A step is
//!
//! 1. what finishing will need is asked for (the kernels' own text),
//! 2. [`Staging`]: all words are asked for, then those not there yet are asked for again; `workgroupBarrier()`,
//! 3. [`products`] into `a0..`, [`halve`] down to what [`place`] says, or [`put_parts`] and a second barrier,
//! 4. the cell, in the lanes that hold the sums, and the words for the others,
//! 5. [`end_of_turn`].
//!
//! Sums of a thread are ordered [unit][row][value], `values` a power of two (forward the gates, padded; backward 1). In workgroup
//! memory they are [part][value][row][unit], so that neighbouring threads finish neighbouring units.

use std::fmt::Write;

use super::matrices;
use super::tile::{Matrices, Tile};

/// Words that a thread asks for before it looks at the first: its registers hold weights too, as f32 or, of matrices, as f16.
const AT_ONCE: usize = 16;
const AT_ONCE_BESIDE_MATRICES: usize = 32;

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
}

/// A word of a thread: expressions of the operand's row, of the number in that row, and of whether it is the thread's at all.
#[derive(Debug, Clone)]
struct Word {
    row: String,
    k: String,
    /// Nothing if it always is.
    mine: Option<String>,
}

impl Staging<'_> {
    /// A row's words are neighbouring threads'; short rows lie beside each other.
    fn words(&self) -> Vec<Word> {
        let (threads, rows, length) = (self.tile.threads, self.tile.rows, self.tile.k() / self.per_word);
        let times = |word: String| if self.per_word == 1 { word } else { format!("{} * {}u", word, self.per_word) };
        if length >= threads {
            let turns = length.div_ceil(threads);
            let word = |row: u32, turn: u32| Word {
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
                row: format!("(thread / {length}u + {}u)", turn * beside),
                k: times(format!("(thread % {length}u)")),
                mine: (left < threads).then(|| format!("thread < {left}u")),
            }
        };
        (0..rows.div_ceil(beside)).map(word).collect()
    }

    /// Expressions of every row that a thread has words of.
    pub fn rows(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.words().into_iter().map(|word| word.row).collect();
        rows.dedup();
        rows
    }

    /// Waits for the words of `exchange`. `at` gives a word's index, `valid` whether there is such a word (else the number is 0),
    /// `cut` whether its number counts as 0 though it is waited for, of expressions of row and number.
    pub fn wait(
        &self,
        w: &mut String,
        at: impl Fn(&str, &str) -> String,
        valid: impl Fn(&str, &str) -> String,
        cut: Option<&dyn Fn(&str) -> String>,
    ) {
        let p = self.prefix;
        let at_once = if self.tile.matrices == Matrices::Off { AT_ONCE } else { AT_ONCE_BESIDE_MATRICES };
        for words in self.words().chunks(at_once) {
            w.push_str("{\n");
            for (i, Word { row, k, mine }) in words.iter().enumerate() {
                let valid = valid(row, k);
                let valid = mine.as_ref().map_or(valid.clone(), |mine| format!("({mine}) & {valid}"));
                let _ = writeln!(w, "let {p}at{i} = select(idle, {}, {valid});", at(row, k));
            }
            let by_four = self.per_word == 4;
            let load = |i| if by_four { format!("exchange[{p}at{i}]") } else { format!("atomicLoad(&exchange[{p}at{i}])") };
            for i in 0..words.len() {
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
            let Word { row, k, mine } = word;
            let numbers: Vec<_> = (0..self.per_word).map(|n| if n == 0 { k.clone() } else { format!("({k} + {n}u)") }).collect();
            for (n, k) in numbers.iter().enumerate() {
                let valid = valid(row, k);
                let valid = mine.as_ref().map_or(valid.clone(), |mine| format!("({mine}) & {valid}"));
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
        let Word { row, k, mine } = word;
        if self.tile.matrices != Matrices::Off {
            return self.put_pair(w, word, value, coded, cut);
        }
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
            2 => format!("let pair = {value}; {at}[{k} % 4u] = pair.x; {at}[{k} % 4u + 1u] = pair.y;"),
            4 => format!("{at} = {value};"),
            _ => format!("{at}[{k} % 4u] = {value};"),
        };
        let _ = match mine {
            Some(mine) => writeln!(w, "if {mine} {{ {put} }}"),
            None => writeln!(w, "{{ {put} }}"),
        };
    }

    /// For matrices. naga 30 makes no `vec2h` of a word's bits, so they go through f32, which changes none.
    fn put_pair(&self, w: &mut String, Word { row, k, mine }: &Word, value: &str, coded: bool, cut: Option<&str>) {
        let stride = matrices::staged_stride(&self.tile);
        let value = if coded { format!("decode_halves({value})") } else { value.into() };
        let value = cut.map_or(value.clone(), |cut| format!("select({value}, vec2f(), {cut})"));
        let put = format!("staged[{row} * {stride}u + {k} / 2u] = vec2h({value});");
        let _ = match mine {
            Some(mine) => writeln!(w, "if {mine} {{ {put} }}"),
            None => writeln!(w, "{put}"),
        };
    }
}

/// The products of one thread: for each unit of the group, row and value, `a{i}` of weights that are named by `weight`, of unit,
/// value and an expression of the quad; none where it gives none, as for padding. `first` is an expression of the vec4f of `staged`
/// at which the thread's part of row 0 begins.
pub(super) fn products(w: &mut String, tile: Tile, values: u32, first: &str, weight: impl Fn(u32, u32, &str) -> Option<String>) {
    let Tile { rows, quads, lanes, .. } = tile;
    let units = tile.units_each();
    for i in 0..units * rows * values {
        let _ = writeln!(w, "var a{i} = 0.0;");
    }
    let block = |w: &mut String, quad: &str, at: &str| {
        for row in 0..rows {
            let _ = writeln!(w, "{{\nlet x = staged[{first} + {}u{at}];", row * tile.k() / 4);
            for unit in 0..units {
                for value in 0..values {
                    let (i, Some(name)) = ((unit * rows + row) * values + value, weight(unit, value, quad)) else { continue };
                    let fma = |axis: char| format!("a{i} = fma({name}.{axis}, x.{axis}, a{i});");
                    let _ = writeln!(w, "{}", ['x', 'y', 'z', 'w'].map(fma).join(" "));
                }
            }
            w.push_str("}\n");
        }
    };
    if tile.rolled {
        let _ = writeln!(w, "for (var quad = 0u; quad < {quads}u; quad++) {{");
        block(w, "quad", &format!(" + quad * {lanes}u"));
        w.push_str("}\n");
        return;
    }
    for quad in 0..quads {
        block(w, &quad.to_string(), &format!(" + {}u", quad * lanes));
    }
}

/// Declares a thread's weights, `of_quad` for each quad: `at` is an expression of one, of its number and an expression of where the quad
/// begins in the thread's part of K.
pub(super) fn weights(w: &mut String, tile: Tile, name: &str, of_quad: u32, at: impl Fn(u32, &str) -> String) {
    let Tile { quads, lanes, .. } = tile;
    if tile.rolled {
        let _ = writeln!(w, "var {name} = array<vec4f, {}>();", quads * of_quad);
        let _ = writeln!(w, "for (var quad = 0u; quad < {quads}u; quad++) {{");
        for i in 0..of_quad {
            let _ = writeln!(w, "{} = {};", weight(tile, name, of_quad, i, "quad"), at(i, &format!("quad * {}u", 4 * lanes)));
        }
        w.push_str("}\n");
        return;
    }
    for i in 0..of_quad {
        for quad in 0..quads {
            let here = weight(tile, name, of_quad, i, &quad.to_string());
            let _ = writeln!(w, "let {here} = {};", at(i, &format!("{}u", quad * 4 * lanes)));
        }
    }
}

/// The name of weight `i` of a quad.
pub(super) fn weight(tile: Tile, name: &str, of_quad: u32, i: u32, quad: &str) -> String {
    if tile.rolled { format!("{name}[{quad} * {of_quad}u + {i}u]") } else { format!("{name}{i}_{quad}") }
}

/// Sums `names`, a power of two of them, over the lanes of a group by shuffles that halve their number: 32 of them over 32 lanes
/// take 31. XOR masks below the number of lanes never leave a larger subgroup's part. Gives the names of what is left in every
/// lane, which are those that [`place`] says.
pub(super) fn halve(w: &mut String, prefix: &str, lanes: u32, mut names: Vec<String>) -> Vec<String> {
    for (level, mask) in (0..lanes.ilog2()).rev().map(|bit| 1 << bit).enumerate() {
        if names.len() == 1 {
            let _ = writeln!(w, "let {prefix}{level}_0 = {0} + subgroupShuffleXor({0}, {mask}u);", names[0]);
            names = vec![format!("{prefix}{level}_0")];
            continue;
        }
        let _ = writeln!(w, "let {prefix}up{level} = (lane & {mask}u) != 0u;");
        let (low, high) = names.split_at(names.len() / 2);
        let sum = |(i, (a, b)): (usize, (&String, &String))| {
            let (name, up) = (format!("{prefix}{level}_{i}"), format!("{prefix}up{level}"));
            let _ = writeln!(w, "let {name} = select({a}, {b}, {up}) + subgroupShuffleXor(select({b}, {a}, {up}), {mask}u);");
            name
        };
        names = low.iter().zip(high).enumerate().map(sum).collect();
    }
    names
}

/// Which of `count` sums a lane holds after [`halve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Sums in every lane: lane · each + 0..each.
    pub each: u32,
    /// Neighbouring lanes that hold the same one: lane / same.
    pub same: u32,
}

pub(super) fn place(lanes: u32, count: u32) -> Place {
    Place { each: (count / lanes).max(1), same: (lanes / count).max(1) }
}

impl Place {
    /// Expression of the number of a lane's sum `i`.
    pub fn index(self, i: u32) -> String {
        match self {
            Self { each: 1, same: 1 } => "lane".into(),
            Self { each: 1, same } => format!("(lane / {same}u)"),
            Self { each, .. } => format!("(lane * {each}u + {i}u)"),
        }
    }

    /// Lanes that hold the `values` sums of one unit and row between them, the first of them those of value 0.
    pub fn span(self, values: u32) -> u32 {
        (values / self.each).max(1) * self.same
    }

    /// Expression of value `value` of the unit and row whose first lane this is, out of `names`, what this lane holds; `pair` counts
    /// the units and rows of a lane that holds several. All lanes must reach it.
    pub fn gather(self, names: &[String], values: u32, pair: u32, value: u32) -> String {
        if self.each >= values {
            return names[(pair * values + value) as usize].clone();
        }
        let name = &names[(value % self.each) as usize];
        match value / self.each * self.same {
            0 => name.clone(),
            mask => format!("subgroupShuffleXor({name}, {mask}u)"),
        }
    }
}

/// Puts a thread's sums into `sums`, where those of all parts of K meet: after [`halve`], or all `names` where nothing shuffles.
/// `real` is how many of the `values` are not padding.
pub(super) fn put_parts(w: &mut String, tile: Tile, values: u32, real: u32, names: &[String]) {
    let Tile { rows, units, lanes, .. } = tile;
    let (each, outputs) = (tile.units_each(), units * rows);
    let _ = writeln!(w, "let part_unit = group_of % {}u * {each}u;", tile.unit_parts());
    let part = format!("group_of / {}u", tile.unit_parts());
    if !tile.shuffles {
        let _ = writeln!(w, "let part_start = ({part} * {lanes}u + lane) * {}u;", real * outputs);
        for (i, name) in names.iter().enumerate() {
            let i = i as u32;
            let (value, row, unit) = (i % values, i / values % rows, i / values / rows);
            if value < real {
                let _ = writeln!(w, "sums[part_start + {}u + part_unit] = {name};", value * outputs + row * units + unit);
            }
        }
        return;
    }
    let _ = writeln!(w, "let part_start = {part} * {}u;", real * outputs);
    let place = place(lanes, each * rows * values);
    for (i, name) in names.iter().enumerate() {
        let index = place.index(i as u32);
        let guard = if real < values { format!("if {index} % {values}u < {real}u ") } else { String::new() };
        let at = format!(
            "{index} % {values}u * {outputs}u + {index} / {values}u % {rows}u * {units}u + {index} / {}u + part_unit",
            values * rows
        );
        let _ = writeln!(w, "{guard}{{ sums[part_start + {at}] = {name}; }}");
    }
}

/// Expression of the sum over all parts of value `value`, of those `real`, at `output`: row · units + unit of the workgroup.
pub(super) fn sum_of_parts(tile: Tile, real: u32, value: u32, output: &str) -> String {
    let outputs = tile.units * tile.rows;
    let part = |part: u32| format!("sums[{}u + {output}]", (part * real + value) * outputs);
    (0..tile.parts()).map(part).collect::<Vec<_>>().join(" + ")
}

/// The end of a turn: where subgroups run one after another up to a barrier, no thread may begin to wait for what another of its
/// own workgroup has yet to publish.
pub(super) fn end_of_turn(w: &mut String, tile: Tile) {
    if tile.in_turn {
        w.push_str("workgroupBarrier();\n");
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

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("a{i}")).collect()
    }

    /// What the text of `halve` makes of sums that say which they are: lane and number of each, told apart by who holds them.
    fn halved(lanes: u32, count: u32) -> Vec<Vec<u32>> {
        let mut held: Vec<Vec<u32>> = (0..lanes).map(|_| (0..count).collect()).collect();
        for mask in (0..lanes.ilog2()).rev().map(|bit| 1 << bit) {
            held = (0..lanes)
                .map(|lane| {
                    let mine = &held[lane as usize];
                    if mine.len() == 1 {
                        return mine.clone();
                    }
                    let (low, high) = mine.split_at(mine.len() / 2);
                    if lane & mask != 0 { high.to_vec() } else { low.to_vec() }
                })
                .collect();
        }
        held
    }

    #[test]
    fn sums_end_where_place_says() {
        for (lanes, count) in [(8, 1), (8, 4), (8, 8), (32, 4), (32, 32), (32, 128), (64, 16)] {
            let place = place(lanes, count);
            for (lane, held) in halved(lanes, count).into_iter().enumerate() {
                let lane = lane as u32;
                let expected: Vec<u32> = (0..place.each).map(|i| lane / place.same * place.each + i).collect();
                assert_eq!(held, expected, "{lanes} lanes, {count} sums, lane {lane}");
            }
            let mut text = String::new();
            assert_eq!(halve(&mut text, "b", lanes, names(count as usize)).len() as u32, place.each);
        }
        let mut text = String::new();
        halve(&mut text, "b", 32, names(32));
        assert_eq!(text.matches("subgroupShuffleXor").count(), 31);
    }

    #[test]
    fn gates_are_gathered_from_the_lanes_that_hold_them() {
        for (lanes, count, values) in [(32, 4, 4), (32, 16, 4), (32, 32, 4), (32, 64, 4), (32, 128, 4), (8, 8, 2), (8, 4, 1)] {
            let place = place(lanes, count);
            let held = halved(lanes, count);
            let span = place.span(values);
            for lane in (0..lanes).step_by(span as usize) {
                for pair in 0..(place.each / values).max(1) {
                    for value in 0..values {
                        let text = place.gather(&names(place.each as usize), values, pair, value);
                        let mask = text.rsplit_once(", ").map_or(0, |(_, mask)| mask.trim_end_matches("u)").parse().unwrap());
                        let name = text.trim_start_matches("subgroupShuffleXor(").split(',').next().unwrap();
                        let sum = held[(lane ^ mask) as usize][name[1..].parse::<usize>().unwrap()];
                        let first = lane / place.same * place.each;
                        assert_eq!(sum, first + pair * values + value, "{lanes} {count} {values}: lane {lane}: {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_number_is_staged_once() {
        for (threads, rows, quads, per_word) in [(256, 4, 2, 1), (256, 8, 3, 1), (64, 1, 5, 1), (512, 8, 1, 1), (256, 4, 2, 2)] {
            let tile = Tile { threads, rows, quads, k_parts: 1, ..TILE };
            let staging = Staging { tile, prefix: "s", start: "0u", per_word };
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
        let staging = Staging { tile: TILE, prefix: "s", start: "0u", per_word: 1 };
        staging.wait(&mut text, |row, k| format!("{row} * 512u + {k}"), |_, k| format!("({k} < sizes.hidden)"), None);
        let (asked, waited) = text.split_once("loop").unwrap();
        assert_eq!(asked.matches("= atomicLoad(").count(), 8);
        assert_eq!(waited.matches("= atomicLoad(").count(), 8);
        assert!(!asked.contains("!= 0u"));
    }
}
