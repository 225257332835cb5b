//! Draws two panels side by side as SVG, with logarithmic axes and one legend. Knows nothing of
//! what it draws.

use plotters::{
    coord::{Shift, ranged1d::ValueFormatter},
    prelude::*,
};
use std::{error::Error, path::Path};

pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How the vertical axis grows.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "each benchmark uses one")]
pub(crate) enum Scale {
    Logarithmic,
    /// From zero on.
    Linear,
}

pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) scale: Scale,
    pub(crate) lines: Vec<Line>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 1080;
const HEIGHT: u32 = 520;
const CAPTION: u32 = 40;
const LEGEND: i32 = 64;
const INK: RGBColor = RGBColor(40, 40, 40);
/// Told apart without colours, too, by their order at the right end, which the legend repeats.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 0, 0),
    RGBColor(213, 30, 30),
    RGBColor(230, 140, 0),
    RGBColor(0, 130, 60),
    RGBColor(0, 90, 190),
    RGBColor(120, 60, 170),
    RGBColor(0, 160, 180),
    RGBColor(150, 90, 40),
    RGBColor(220, 90, 170),
    RGBColor(120, 120, 120),
];

pub(crate) fn draw(
    path: &Path,
    caption: &str,
    grows: &str,
    panels: &[Panel; 2],
) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    // Also where the page behind it is dark.
    root.fill(&WHITE)?;
    let middle = i32::try_from(WIDTH / 2)?;
    root.draw(&Text::new(caption, (middle, 12), font(20).pos(centred())))?;
    let (_, below) = root.split_vertically(CAPTION);
    let (charts, legend) = below.split_vertically(i32::try_from(HEIGHT - CAPTION)? - LEGEND);
    let halves = charts.split_evenly((1, 2));
    for (half, panel) in halves.iter().zip(panels) {
        draw_panel(half, panel, grows)?;
    }
    draw_legend(&legend, &panels[0].lines)?;
    root.present()?;
    Ok(())
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn centred() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Center, VPos::Top)
}

fn draw_panel(area: &Area<'_>, panel: &Panel, grows: &str) -> Result<(), Box<dyn Error>> {
    let of = |which: fn(&(f64, f64)) -> f64| {
        panel
            .lines
            .iter()
            .flat_map(move |line| line.points.iter().map(which))
    };
    let (left, right) = bounds(of(|point| point.0));
    let (bottom, top) = bounds(of(|point| point.1));
    let mut measured: Vec<f64> = of(|point| point.0).collect();
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    // Room for the first and last marks, and for nothing else.
    let x = (left / 1.15..right * 1.15).log_scale();
    let x = x.with_key_points(measured);
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(panel.title, font(16))
        .margin(10)
        .x_label_area_size(44)
        .y_label_area_size(64);
    match panel.scale {
        Scale::Logarithmic => {
            let y = (bottom / 1.3..top * 1.3).log_scale();
            let y = y.with_key_points(ticks(bottom / 1.3, top * 1.3));
            fill_panel(builder.build_cartesian_2d(x, y)?, panel, grows)
        }
        Scale::Linear => fill_panel(
            builder.build_cartesian_2d(x, 0.0..top * 1.05)?,
            panel,
            grows,
        ),
    }
}

type Chart<'a, X, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>;

fn fill_panel<X, Y>(
    mut chart: Chart<'_, X, Y>,
    panel: &Panel,
    grows: &str,
) -> Result<(), Box<dyn Error>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc(grows)
        .y_desc(panel.unit)
        .axis_desc_style(font(15))
        .label_style(font(13))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .x_label_formatter(&|value| thousands(*value))
        .y_label_formatter(&|value| thousands(*value))
        .draw()?;
    for (number, line) in panel.lines.iter().enumerate().rev() {
        let colour = COLOURS[number % COLOURS.len()];
        let style = colour.stroke_width(if number < 2 { 3 } else { 1 });
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        let mark = |&point: &(f64, f64)| {
            Circle::new(point, if number < 2 { 4 } else { 3 }, colour.filled())
        };
        chart.draw_series(line.points.iter().map(mark))?;
    }
    Ok(())
}

/// The least and the greatest, apart from each other even if there is one value only.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, greatest) = values.fold((f64::INFINITY, 0.0_f64), |(least, greatest), value| {
        (least.min(value), greatest.max(value))
    });
    (least, greatest.max(least * 2.0))
}

/// 1, 2 and 5 of each power of ten, or 1 alone where these are too many.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let steps: &[f64] = if to / from > 1000.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
    powers
        .flat_map(|power| steps.iter().map(move |step| step * 10.0_f64.powi(power)))
        .filter(|tick| (from * 0.99..=to * 1.01).contains(tick))
        .collect()
}

/// 12,500 or 1.5
fn thousands(value: f64) -> String {
    if value < 10.0 && value.fract() > 0.01 {
        return format!("{value}");
    }
    let digits = format!("{value:.0}");
    let split = digits.len().saturating_sub(3);
    match split {
        0 => digits,
        _ => format!("{},{}", &digits[..split], &digits[split..]),
    }
}

fn draw_legend(area: &Area<'_>, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    const IN_A_ROW: usize = 5;
    let column = i32::try_from(WIDTH as usize / IN_A_ROW)?;
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let x = 30 + column * i32::try_from(number % IN_A_ROW)?;
        let y = 12 + 24 * i32::try_from(number / IN_A_ROW)?;
        let width = if number < 2 { 3 } else { 1 };
        area.draw(&PathElement::new(
            [(x, y), (x + 30, y)],
            colour.stroke_width(width),
        ))?;
        area.draw(&Circle::new((x + 15, y), 4, colour.filled()))?;
        area.draw(&Text::new(line.name.clone(), (x + 38, y - 8), font(15)))?;
    }
    Ok(())
}
