//! Panels of lines over logarithmic axes, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;

/// A curve of (lag, norm).
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub name: String,
    /// Which colour and marker it has.
    pub style: usize,
    pub points: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
}

/// Pixels.
const PANEL: [u32; 2] = [470, 350];
/// What the axis of norms shows; curves end at its edges.
const NORMS: [f64; 2] = [1e-12, 1e6];
/// What the text calls healthy, as a band.
pub const HEALTHY: [f64; 2] = [1e-3, 1e3];
/// Okabe and Ito's, which colour-blind readers can tell apart; the markers differ too.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 0, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
];
const BAND: RGBColor = RGBColor(236, 236, 236);

/// Draws panels in rows of `columns`, on white: the page around it may be dark.
pub fn draw(path: &Path, columns: usize, panels: &[Panel]) -> Result<()> {
    let rows = panels.len().div_ceil(columns);
    let size = (PANEL[0] * columns as u32, PANEL[1] * rows as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    root.fill(&WHITE).map_err(|e| named(&e))?;
    for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
        draw_panel(area, panel).map_err(|e| named(&e))?;
    }
    root.present().map_err(|e| named(&e).into())
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, panel: &Panel) -> Result<()> {
    let longest = panel.lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(2.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(38)
        .y_label_area_size(62)
        .build_cartesian_2d((1.0..longest).log_scale(), (NORMS[0]..NORMS[1]).log_scale())?;
    chart.draw_series([Rectangle::new([(1.0, HEALTHY[0]), (longest, HEALTHY[1])], BAND.filled())])?;
    chart
        .configure_mesh()
        .x_desc("lag, steps")
        .y_desc("norm of dh_T/dh_t")
        .x_labels(8)
        .y_labels(10)
        .x_label_formatter(&|lag| format!("{lag}"))
        .y_label_formatter(&|norm| format!("1e{}", norm.log10().round()))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(205, 205, 205))
        .label_style(("sans-serif", 13))
        .draw()?;
    for line in &panel.lines {
        let (k, colour) = (line.style, COLOURS[line.style % COLOURS.len()]);
        let points = within(&line.points);
        let style = colour.stroke_width(2);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?.label(&line.name).legend(move |(x, y)| {
            EmptyElement::at((x, y)) + PathElement::new([(0, 0), (22, 0)], style) + marker((11, 0), k, colour)
        });
        let shown = points.into_iter().filter(|point| line.points.contains(point));
        chart.draw_series(shown.map(|point| EmptyElement::at(point) + marker((0, 0), k, colour)))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(205, 205, 205))
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(())
}

/// One of four shapes.
fn marker<'a>(at: (i32, i32), k: usize, colour: RGBColor) -> DynElement<'static, SVGBackend<'a>, (i32, i32)> {
    match k % 4 {
        0 => Circle::new(at, 4, colour.filled()).into_dyn(),
        1 => TriangleMarker::new(at, 5, colour.filled()).into_dyn(),
        2 => Cross::new(at, 4, colour.stroke_width(2)).into_dyn(),
        _ => Circle::new(at, 4, colour.stroke_width(2)).into_dyn(),
    }
}

/// A curve as far as the axis shows it: where it leaves, it ends on the edge, on the straight line that the eye would draw.
pub fn within(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut shown: Vec<(f64, f64)> = Vec::new();
    for (k, &(lag, norm)) in points.iter().enumerate() {
        if (NORMS[0]..=NORMS[1]).contains(&norm) {
            shown.push((lag, norm));
            continue;
        }
        if let Some(&(before, last)) = k.checked_sub(1).and_then(|k| points.get(k)) {
            let edge = if norm > NORMS[1] { NORMS[1] } else { NORMS[0] };
            // 0 and infinity are beyond what f32 holds.
            let norm = norm.clamp(1e-45, 1e39);
            let part = (edge / last).ln() / (norm / last).ln();
            shown.push(((before.ln() + part * (lag / before).ln()).exp(), edge));
        }
        break;
    }
    shown
}
