//! Blocks of WGSL that the persistent kernels of both directions of time are made of. All of it is straight-line: what stays in
//! registers must be a `let`, or a `var` that no index reaches.
//!
//! Conventions. In scope: `thread`, `lane` (thread % lanes), `group_of` (thread / lanes); `var gave_up: bool`, whether this thread
//! waited in vain once; `let idle: u32`, the index of the word of `exchange` that is never 0; `staged: array<vec4f>` and
//! `sums: array<f32>` in workgroup memory; all of `shared/team.wgsl`. A step is
//!
//! 1. what finishing will need is asked for (the kernels' own text),
//! 2. [`Staging`](super::staging::Staging): all words are asked for, then those not there yet are asked for again; `workgroupBarrier()`,
//! 3. [`products`] into `a0..`, [`halve`] down to what [`place`] says, or [`put_parts`] and a second barrier,
//! 4. the cell, in the lanes that hold the sums, and the words for the others,
//! 5. [`end_of_turn`].
//!
//! Sums of a thread are ordered [unit][row][value], `values` a power of two (forward the gates, padded; backward 1). In workgroup
//! memory they are [part][value][row][unit], so that neighbouring threads finish neighbouring units.

use std::fmt::Write;

use super::tile::Tile;

/// The products of one thread: for each unit of the group, row and value, `a{i}` of weights that are named by `weight`, of unit,
/// value and an expression of the quad; none where it gives none, as for padding. `operand` gives an expression of the vec4f that a
/// row and an expression of the quad are multiplied by: [`staged`], or what the thread itself holds.
pub(super) fn products(
    w: &mut String,
    tile: Tile,
    values: u32,
    operand: impl Fn(u32, &str) -> String,
    weight: impl Fn(u32, u32, &str) -> Option<String>,
) {
    let Tile { rows, quads, .. } = tile;
    let units = tile.units_each();
    for i in 0..units * rows * values {
        let _ = writeln!(w, "var a{i} = 0.0;");
    }
    let block = |w: &mut String, quad: &str| {
        for row in 0..rows {
            let _ = writeln!(w, "{{\nlet x = {};", operand(row, quad));
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
        block(w, "quad");
        w.push_str("}\n");
        return;
    }
    for quad in 0..quads {
        block(w, &quad.to_string());
    }
}

/// The operand of [`products`] in workgroup memory: `first` is an expression of the vec4f at which the thread's part of row 0 begins.
pub(super) fn staged(tile: Tile, first: &str) -> impl Fn(u32, &str) -> String {
    move |row, quad| match quad.parse::<u32>() {
        Ok(quad) => format!("staged[{first} + {}u + {}u]", row * tile.k() / 4, quad * tile.lanes),
        Err(_) => format!("staged[{first} + {}u + {quad} * {}u]", row * tile.k() / 4, tile.lanes),
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
/// `real` is how many of the `values` are not padding, `start` an expression of where they begin.
pub(super) fn put_parts(w: &mut String, tile: Tile, values: u32, real: u32, names: &[String], start: &str) {
    let Tile { rows, units, lanes, .. } = tile;
    let (each, outputs) = (tile.units_each(), units * rows);
    let _ = writeln!(w, "let part_unit = group_of % {}u * {each}u;", tile.unit_parts());
    let part = format!("group_of / {}u", tile.unit_parts());
    if !tile.shuffles {
        let _ = writeln!(w, "let part_start = {start} + ({part} * {lanes}u + lane) * {}u;", real * outputs);
        for (i, name) in names.iter().enumerate() {
            let i = i as u32;
            let (value, row, unit) = (i % values, i / values % rows, i / values / rows);
            if value < real {
                let _ = writeln!(w, "sums[part_start + {}u + part_unit] = {name};", value * outputs + row * units + unit);
            }
        }
        return;
    }
    let _ = writeln!(w, "let part_start = {start} + {part} * {}u;", real * outputs);
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
pub(super) fn sum_of_parts(tile: Tile, real: u32, value: u32, output: &str, start: &str) -> String {
    let outputs = tile.units * tile.rows;
    let part = |part: u32| format!("sums[{start} + {}u + {output}]", (part * real + value) * outputs);
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
}
