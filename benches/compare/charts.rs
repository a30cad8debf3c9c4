//! Charts as SVG. Every row has its name beside it, so that nothing depends on colours, which only set this server
//! apart. What is drawn in black takes the page's text colour, light or dark.

use std::error::Error;

use plotters::chart::MeshStyle;
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::contenders::Role;
use crate::results::{Spread, count};

const WIDTH: u32 = 860;
const ROW_HEIGHT: u32 = 25;
const NAMES_WIDTH: u32 = 215;
const AXIS_HEIGHT: u32 = 44;
const FONT: (&str, u32) = ("sans-serif", 14);

/// One row of a bar chart.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) figure: Option<Spread>,
    /// Text after the number.
    pub(crate) mark: &'static str,
}

/// Horizontal bars from zero, each with its median beside it and a line from the minimum to the maximum.
pub(crate) fn bars(unit: &str, bars: &[Bar], decimals: usize) -> Result<String, Box<dyn Error>> {
    let most = bars.iter().filter_map(|bar| bar.figure).map(|figure| figure.most).fold(0.0, f64::max).max(1e-9);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height(bars.len()))).into_drawing_area();
        // A discrete range in plotters includes its end.
        let rows = (0..bars.len().saturating_sub(1)).into_segmented();
        let mut chart = ChartBuilder::on(&root)
            .margin_right(20)
            .x_label_area_size(AXIS_HEIGHT)
            .y_label_area_size(NAMES_WIDTH)
            .build_cartesian_2d(0.0..most * 1.22, rows)?;
        let name = |row: &SegmentValue<usize>| row_name(row, bars.len(), |place| bars[place].name.clone());
        let mut mesh = chart.configure_mesh();
        styled(&mut mesh, unit)
            .disable_y_mesh()
            .y_labels(bars.len())
            .y_label_formatter(&name)
            .x_label_formatter(&|x| if most < 10.0 { format!("{x:.1}") } else { count(*x) })
            .draw()?;
        for (place, bar) in bars.iter().enumerate() {
            let row = bars.len() - 1 - place;
            let middle = SegmentValue::CenterOf(row);
            let Some(Spread { median, least, most }) = bar.figure else {
                let text = Text::new("not measured", (6, 0), label());
                chart.draw_series([EmptyElement::at((0.0, middle)) + text])?;
                continue;
            };
            let corners = [(0.0, SegmentValue::Exact(row)), (median, SegmentValue::Exact(row + 1))];
            let mut body = Rectangle::new(corners, colour(bar.role).filled());
            body.set_margin(4, 4, 0, 0);
            chart.draw_series([body])?;
            chart.draw_series([PathElement::new(
                vec![(least, middle.clone()), (most, middle.clone())],
                BLACK.mix(0.7),
            )])?;
            let number = if decimals > 0 { format!("{median:.decimals$}") } else { count(median) };
            let text = Text::new(format!("{number}{}", bar.mark), (7, 0), label());
            chart.draw_series([EmptyElement::at((most, middle)) + text])?;
        }
        root.present()?;
    }
    Ok(finished(svg))
}

/// One row of a dot chart: the nanoseconds of each percentile.
pub(crate) struct Dots {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) nanos: Vec<Option<f64>>,
}

/// The shapes of [`dots`], in the order of the percentiles.
pub(crate) const SHAPES: [&str; 4] = ["●", "▲", "✕", "○"];

/// Latencies on a logarithmic axis, a shape for each percentile.
pub(crate) fn dots(rows: &[Dots]) -> Result<String, Box<dyn Error>> {
    let all = || rows.iter().flat_map(|row| row.nanos.iter().flatten().map(|nanos| nanos / 1000.0));
    // Only powers of ten have labels on a logarithmic axis, so it goes from one to another.
    let least = 10_f64.powf(all().fold(1e6, f64::min).log10().floor());
    let most = 10_f64.powf(all().fold(10.0, f64::max).log10().ceil());
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height(rows.len()))).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_right(20)
            .x_label_area_size(AXIS_HEIGHT)
            .y_label_area_size(NAMES_WIDTH)
            .build_cartesian_2d((least..most).log_scale(), (0..rows.len().saturating_sub(1)).into_segmented())?;
        let name = |row: &SegmentValue<usize>| row_name(row, rows.len(), |place| rows[place].name.clone());
        let mut mesh = chart.configure_mesh();
        styled(&mut mesh, "microseconds, logarithmic")
            .y_labels(rows.len())
            .x_labels(8)
            .y_label_formatter(&name)
            .x_label_formatter(&|x| if *x < 1.0 { format!("{x:.1}") } else { count(*x) })
            .draw()?;
        for (place, row) in rows.iter().enumerate() {
            let middle = SegmentValue::CenterOf(rows.len() - 1 - place);
            let points = row.nanos.iter().enumerate();
            let points: Vec<(usize, f64)> =
                points.filter_map(|(shape, nanos)| Some((shape, (*nanos)? / 1000.0))).collect();
            if let (Some(first), Some(last)) = (points.first(), points.last()) {
                let ends = vec![(first.1, middle.clone()), (last.1, middle.clone())];
                chart.draw_series([PathElement::new(ends, colour(row.role).mix(0.5))])?;
            }
            let colour = colour(row.role);
            for (shape, x) in points {
                let at = (x, middle.clone());
                match shape {
                    0 => chart.draw_series([Circle::new(at, 5, colour.filled())])?,
                    1 => chart.draw_series([TriangleMarker::new(at, 7, colour.filled())])?,
                    2 => chart.draw_series([Cross::new(at, 5, colour.stroke_width(2))])?,
                    _ => chart.draw_series([Circle::new(at, 5, colour.stroke_width(2))])?,
                };
            }
        }
        root.present()?;
    }
    Ok(finished(svg))
}

/// The style of axes and lines in every chart, and the unit of the horizontal axis.
fn styled<'m, 'a, 'b, X: Ranged, Y: Ranged, DB: DrawingBackend>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, DB>,
    unit: &str,
) -> &'m mut MeshStyle<'a, 'b, X, Y, DB> {
    mesh.x_desc(unit)
        .label_style(FONT)
        .axis_desc_style(FONT)
        .axis_style(BLACK.mix(0.4))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(TRANSPARENT)
}

/// The name beside a row, counted from below.
fn row_name(row: &SegmentValue<usize>, count: usize, name: impl Fn(usize) -> String) -> String {
    match row {
        SegmentValue::CenterOf(row) if *row < count => name(count - 1 - row),
        _ => String::new(),
    }
}

/// Okabe and Ito's colours, which the colour-blind tell apart; in grey they differ as well.
fn colour(role: Role) -> RGBColor {
    match role {
        Role::Floor => RGBColor(140, 140, 140),
        Role::Own => RGBColor(0, 114, 178),
        Role::Variant => RGBColor(86, 180, 233),
        Role::Peer => RGBColor(230, 159, 0),
    }
}

/// The same colour in CSS, for the page's legend.
pub(crate) fn css_colour(role: Role) -> String {
    let RGBColor(red, green, blue) = colour(role);
    format!("rgb({red} {green} {blue})")
}

fn label() -> TextStyle<'static> {
    FONT.into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center))
}

fn height(rows: usize) -> u32 {
    rows as u32 * ROW_HEIGHT + AXIS_HEIGHT + 8
}

/// Wraps a chart so that a narrow screen scrolls it instead of making it too small to read.
fn finished(svg: String) -> String {
    format!("<div class=\"chart\">{}</div>\n", svg.replace("#000000", "currentColor"))
}
