//! The comparison on a terminal.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table, TableComponent};

use super::Comparison;
use crate::args::text::{WIDTH, short, wrap};

/// Below the columns' names, the medians of each case, and what they are of the base's: as many columns beside each other as fit a
/// terminal, the others below, or all of them in a wide table.
pub fn table(all: &Comparison, base: usize, is_wide: bool) -> String {
    let mut text = String::new();
    for (index, column) in all.columns.iter().enumerate() {
        let note = if index == base { " (base)" } else { "" };
        let facts = [&column.host.cpu, &column.host.os, &Some(column.host.version.clone())];
        let facts: Vec<&str> = facts.into_iter().flatten().map(String::as_str).filter(|fact| !fact.is_empty()).collect();
        text += &format!("{index}{note}: {}; {}: {}\n", column.label, column.file, facts.join(", "));
        let score = all.score(index).line();
        if !score.is_empty() {
            text += &wrap(&format!("   {score}"));
        }
    }
    let others: Vec<usize> = (0..all.columns.len()).filter(|&column| column != base).collect();
    for block in blocks(all, base, &others, is_wide) {
        text += &block;
    }
    text += &wrap("ratio: a median over the base's; above 1 is slower; equal: they differ by no more than both vary");
    for column in others {
        let label = &all.columns[column].label;
        text += &match all.mean_ratio(column, base) {
            Some((mean, 1)) => format!("{label}: {} in the one case that both ran\n", times(mean)),
            Some((mean, cases)) => format!("{label}: {} in the geometric mean of {cases} cases that both ran\n", times(mean)),
            None => format!("{label}: no case in common with the base\n"),
        };
    }
    text
}

/// The largest tables that fit; one column beside the base has to.
fn blocks(all: &Comparison, base: usize, others: &[usize], is_wide: bool) -> Vec<String> {
    let of = |size: usize| -> Vec<String> {
        let chunks: Vec<&[usize]> = if others.is_empty() { vec![&[]] } else { others.chunks(size).collect() };
        chunks.into_iter().map(|others| block(all, base, others)).collect()
    };
    let fits = |blocks: &Vec<String>| is_wide || blocks.iter().flat_map(|b| b.lines()).all(|line| line.chars().count() <= WIDTH);
    (1..=others.len().max(1)).rev().map(of).find(fits).unwrap_or_else(|| of(1))
}

fn block(all: &Comparison, base: usize, others: &[usize]) -> String {
    let mut table = Table::new();
    let header = others.iter().flat_map(|column| [format!("{column}: ms"), "ratio".into()]);
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    table.set_header(["case".into(), format!("{base}: ms")].into_iter().chain(header));
    for line in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(line);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (at, case) in all.cases.iter().enumerate() {
        let ms = |column| all.ms(at, column).map_or_else(|| "-".into(), short);
        let ratio = |column| match all.ratio(at, column, base) {
            Some(_) if all.is_noise(at, column, base) => "equal".into(),
            ratio => ratio.map_or_else(|| "-".into(), times),
        };
        let cells = others.iter().flat_map(|&column| [ms(column), ratio(column)]);
        table.add_row([case.to_string(), ms(base)].into_iter().chain(cells));
    }
    format!("{table}\n")
}

pub fn times(ratio: f64) -> String {
    format!("×{}", short(ratio))
}
