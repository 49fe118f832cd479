//! What a network copies and what it renews: maps of its gates and states.

mod map;
mod meaning;

pub use map::{Map, Shares};
pub use meaning::{Meaning, formula};

use crate::cell::Cell;
use crate::error::Result;
use crate::network::config::{Direction, RnnConfig};
use crate::reference::Trace;

/// What the states are called.
const STATES: [&str; 2] = ["h", "c"];

/// Every layer and direction, as [`maps`] takes it, and what it is called.
pub fn passes(config: &RnnConfig) -> impl Iterator<Item = ([usize; 2], String)> + '_ {
    let directions = match config.direction {
        Direction::Forward => &["forward"][..],
        Direction::Reverse => &["reverse"],
        Direction::Bidirectional => &["forward", "reverse"],
    };
    let of_layer =
        move |layer| directions.iter().enumerate().map(move |(at, name)| ([layer, at], format!("layer {layer}, {name}")));
    (0..config.num_layers).flat_map(of_layer)
}

/// Every gate of one layer and direction, then its states, from what the reference computed in
/// [`Mode::Training`](crate::Mode::Training). `units` is H. `rows` are those of `[T·B]` to draw; a place with none stays empty.
pub fn maps(
    cell: &dyn Cell,
    trace: &Trace,
    [layer, direction]: [usize; 2],
    units: usize,
    rows: &[Option<usize>],
) -> Result<Vec<Map>> {
    let mut maps = Vec::new();
    for (gate, &name) in cell.gates().iter().enumerate() {
        // The only gate of a simple network is its new state.
        if name != STATES[0] {
            maps.push(Map::new(cell.name(), name, true, &trace.gate(cell, layer, direction, gate)?, units, rows)?);
        }
    }
    for (state, name) in STATES.iter().enumerate().take(cell.states()).rev() {
        maps.push(Map::new(cell.name(), name, false, trace.state(layer, direction, state)?, units, rows)?);
    }
    Ok(maps)
}
