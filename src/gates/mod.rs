//! What a network copies and what it renews: maps of its gates and states.

mod map;

use map::Named;
pub use map::{Map, Shares};

use crate::cell::Cell;
use crate::error::Result;
use crate::network::config::{Direction, RnnConfig};
use crate::reference::Trace;

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
    let spec = cell.spec();
    let mut maps = Vec::new();
    for (index, gate) in spec.gates.iter().enumerate() {
        // The only gate of a simple network is its new state.
        if gate.name != spec.states[0].name {
            let named = Named { name: gate.name, about: gate.about, meaning: gate.meaning };
            maps.push(Map::new(named, &trace.gate(cell, layer, direction, index)?, units, rows)?);
        }
    }
    for (index, state) in spec.states.iter().enumerate().rev() {
        let named = Named { name: state.name, about: state.about, meaning: None };
        maps.push(Map::new(named, trace.state(layer, direction, index)?, units, rows)?);
    }
    Ok(maps)
}
