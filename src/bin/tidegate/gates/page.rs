//! The page: one file of text, tables, data and script.

use std::fmt::Write;

use serde::Serialize;
use tidegate::gates::{Map, Shares};

use super::base64::base64;
use super::window::{Row, Window};
use crate::Result;
use crate::html::{STYLE, escape, script_json};

#[derive(Debug)]
pub struct Page {
    pub title: String,
    pub window: Window,
    /// H.
    pub units: usize,
    /// Formula of the cell.
    pub formula: String,
    pub groups: Vec<Group>,
}

/// A layer and direction.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    pub cell: String,
    pub maps: Vec<Map>,
}

/// What the script reads.
#[derive(Serialize)]
struct Data<'a> {
    units: usize,
    steps: usize,
    /// Number of the first step.
    first: usize,
    rows: &'a [Row],
    groups: Vec<GroupData<'a>>,
}

#[derive(Serialize)]
struct GroupData<'a> {
    name: &'a str,
    cell: &'a str,
    maps: Vec<MapData<'a>>,
}

#[derive(Serialize)]
struct MapData<'a> {
    name: &'a str,
    about: &'a str,
    gate: bool,
    low: f64,
    high: f64,
    /// `[rows, steps, units]`, a byte each, as base64: 0 is `low`, 255 is `high`, and 0 past a row's length.
    data: String,
}

impl<'a> MapData<'a> {
    fn new(map: &'a Map) -> Self {
        let &Map { about, gate, low, high, .. } = map;
        Self { name: &map.name, about, gate, low, high, data: base64(&map.levels) }
    }
}

impl Page {
    pub fn html(&self) -> Result<String> {
        let Self { window, units, formula, groups, .. } = self;
        let (rows, steps) = (&window.rows, &window.steps);
        let data = Data {
            units: *units,
            steps: steps.len(),
            first: steps.start,
            rows,
            groups: groups.iter().map(Group::data).collect(),
        };
        let about = format!(
            "<code>{cell}</code>: {formula}. {units} units; steps {first} to {last}; {rows}.",
            cell = groups[0].cell,
            formula = escape(formula),
            first = steps.start,
            last = steps.end - 1,
            rows = if let [row] = &**rows { format!("row {}", row.number) } else { format!("{} rows", rows.len()) },
        );
        Ok(format!(
            include_str!("page.html"),
            title = escape(&self.title),
            style = format_args!("{STYLE}{}", include_str!("maps.css")),
            version = env!("CARGO_PKG_VERSION"),
            about = about,
            sections = groups.iter().enumerate().map(|(index, group)| group.section(index)).collect::<String>(),
            data = script_json(&data)?,
            script = concat!(include_str!("../html/dom.js"), include_str!("maps.js"), include_str!("page.js")),
        ))
    }
}

impl Group {
    fn data(&self) -> GroupData<'_> {
        GroupData { name: &self.name, cell: &self.cell, maps: self.maps.iter().map(MapData::new).collect() }
    }

    fn section(&self, index: usize) -> String {
        let mut rows = String::new();
        for map in &self.maps {
            // Writing to a string cannot fail.
            let _ = writeln!(rows, "{}", row(map));
        }
        let (first, rest) = self.name.split_at(1);
        format!(
            "<section>
<h2>{}{rest}</h2>
<div class=\"table\"><table>
<thead><tr><th scope=\"col\"></th><th scope=\"col\">mean</th><th scope=\"col\">shut, under 0.1</th>\
<th scope=\"col\">open, over 0.9</th><th scope=\"col\">from</th><th scope=\"col\">to</th></tr></thead>
<tbody>
{rows}</tbody>
</table></div>
<div class=\"maps\" data-group=\"{index}\"></div>
</section>
",
            first.to_uppercase()
        )
    }
}

fn row(map: &Map) -> String {
    let [shut, open] = match &map.shares {
        Some(Shares { shut, open, meaning }) => {
            [(shut, meaning.shut), (open, meaning.open)].map(|(share, meaning)| format!("{:.1} %: {meaning}", 100.0 * share))
        }
        None => [const { String::new() }; 2],
    };
    let cells = [number(map.mean), shut, open, number(map.low), number(map.high)].map(|cell| format!("<td>{cell}</td>"));
    format!("<tr><th scope=\"row\">{}</th>{}</tr>", map.name, cells.concat())
}

/// Four digits behind the point; very large numbers with an exponent.
fn number(value: f64) -> String {
    if value.abs() < 1e6 { format!("{value:.4}") } else { format!("{value:.4e}") }
}
