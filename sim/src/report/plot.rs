//! Figures as SVG, drawn by plotters: the only file that names it.
//!
//! Colours are written in their light variant; the page's style sheet turns them into the dark one where that is wanted.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::page::{Band, Figure, Ink, Layer, Limit, Mark, Scale, Series};
use crate::scenario::show;

/// Red, green and blue.
pub(super) type Rgb = (u8, u8, u8);

/// Words and letters.
pub(super) const TEXT: Rgb = (0x3B, 0x42, 0x4B);
/// Lines that help to read values.
pub(super) const GRID: Rgb = (0xD9, 0xDE, 0xE4);
/// What happened when.
pub(super) const MARK: Rgb = (0x6A, 0x6F, 0x78);

/// Above the plot: a line for the unit, one for the marks' letters.
const TOP: u32 = 34;
/// Marks closer than this share a letter's place.
const LETTER: i32 = 14;
const FONT: i32 = 14;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn Error>>;

/// Draws a figure, `width` pixels wide.
pub(super) fn svg(figure: &Figure, marks: &[Mark], width: u32) -> String {
    let mut text = String::new();
    // Drawing into a string cannot fail; a figure that did would be an empty one.
    if draw(figure, marks, width, &mut text).is_err() {
        text.clear();
    }
    text
}

fn draw(figure: &Figure, marks: &[Mark], width: u32, into: &mut String) -> Drawn {
    let lanes = if let Layer::Lanes(lanes, _) = &figure.layer { lanes.len() as u32 } else { 0 };
    let height = if lanes > 0 { TOP + 40 + 22 * lanes } else { 230 };
    let root = SVGBackend::with_string(into, (width, height)).into_drawing_area();
    let clock = Clock::new(figure.span);
    let (low, high) = range(figure);
    let left = if lanes > 0 { 96 } else { 58 };
    let mut chart = ChartBuilder::on(&root)
        .margin_top(TOP)
        .margin_right(14)
        .x_label_area_size(38)
        .y_label_area_size(left)
        .build_cartesian_2d(clock.of(figure.span.0)..clock.of(figure.span.1), low..high)?;
    mesh(&mut chart, figure, &clock, width)?;
    match &figure.layer {
        Layer::Stack(series) => stack(&mut chart, series, &clock, figure.span.1, width)?,
        Layer::Steps(series) => steps(&mut chart, series, &clock, figure.span.1, width)?,
        Layer::Points(series) => points(&mut chart, series, &clock, figure.scale)?,
        Layer::Lanes(lanes, bands) => bands_in(&mut chart, lanes, bands, &clock)?,
    }
    if let Some(limit) = &figure.limit {
        line_at(&mut chart, limit, &clock, figure.span)?;
    }
    let places = mark_lines(&mut chart, marks, &clock, (low, high))?;
    let style = word(FONT);
    if lanes == 0 {
        root.draw(&Text::new(figure.unit.clone(), (4, 2), style.clone()))?;
    }
    for (at, letters) in letters(&places) {
        root.draw(&Text::new(letters, (at, TOP as i32 - 2), style.pos(Pos::new(HPos::Center, VPos::Bottom))))?;
    }
    if let Layer::Lanes(lanes, _) = &figure.layer {
        for (index, (name, _)) in lanes.iter().enumerate() {
            let middle = high - index as f64 - 0.5;
            let (_, y) = chart.backend_coord(&(clock.of(figure.span.0), middle));
            let at = (left - 8, y);
            root.draw(&Text::new(name.clone(), at, style.pos(Pos::new(HPos::Right, VPos::Center))))?;
        }
    }
    root.present()?;
    Ok(())
}

fn colour((red, green, blue): Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

fn word(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour(TEXT))
}

/// Seconds in the unit that suits the span.
struct Clock {
    unit: &'static str,
    seconds: f64,
}

impl Clock {
    fn new((from, to): (f64, f64)) -> Self {
        let (unit, seconds) = match to - from {
            span if span <= 600.0 => ("seconds", 1.0),
            span if span <= 3.0 * 3600.0 => ("minutes", 60.0),
            _ => ("hours", 3600.0),
        };
        Clock { unit, seconds }
    }

    fn of(&self, seconds: f64) -> f64 {
        seconds / self.seconds
    }
}

fn all(layer: &Layer) -> &[Series] {
    match layer {
        Layer::Stack(series) | Layer::Steps(series) | Layer::Points(series) => series,
        Layer::Lanes(..) => &[],
    }
}

/// The least and the most value shown.
fn range(figure: &Figure) -> (f64, f64) {
    let values = || all(&figure.layer).iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let most = match &figure.layer {
        Layer::Lanes(lanes, _) => return (0.0, lanes.len().max(1) as f64),
        Layer::Stack(series) => {
            let count = series.iter().map(|series| series.points.len()).min().unwrap_or(0);
            let sum = |index: usize| series.iter().map(|series| series.points[index].1).sum::<f64>();
            (0..count).map(sum).fold(0.0, f64::max)
        }
        _ => values().fold(0.0, f64::max),
    };
    match figure.scale {
        Scale::Linear => {
            let limit = figure.limit.as_ref().map_or(0.0, |limit| limit.value * 1.16);
            (0.0, (most * 1.06).max(limit).max(1.0))
        }
        Scale::LogSeconds => {
            let least = values().filter(|value| *value > 0.0).fold(most, f64::min);
            let low = log(least).floor();
            (low, log(most).ceil().max(low + 1.0))
        }
    }
}

/// The exponent of ten, of a microsecond at least.
fn log(seconds: f64) -> f64 {
    seconds.max(1e-6).log10()
}

fn value_label(value: f64, scale: Scale) -> String {
    match scale {
        Scale::LogSeconds => show(Duration::from_secs_f64(10_f64.powf(value))),
        Scale::Linear if value >= 1e6 => format!("{} M", value / 1e6),
        Scale::Linear if value >= 10_000.0 => format!("{} k", value / 1e3),
        Scale::Linear => format!("{value}"),
    }
}

fn mesh(chart: &mut Chart<'_, '_>, figure: &Figure, clock: &Clock, width: u32) -> Drawn {
    let lanes = matches!(figure.layer, Layer::Lanes(..));
    let scale = figure.scale;
    let value = move |value: &f64| if lanes { String::new() } else { value_label(*value, scale) };
    let time = |time: &f64| format!("{}", (time * 1e3).round() / 1e3);
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(colour(GRID))
        .axis_style(colour(MARK))
        .label_style(word(FONT))
        .axis_desc_style(word(FONT))
        .x_labels((width / 85) as usize)
        .y_labels(if lanes { 1 } else { 6 })
        .x_label_formatter(&time)
        .y_label_formatter(&value)
        .x_desc(clock.unit);
    if lanes {
        mesh.disable_y_mesh();
    }
    mesh.draw()?;
    Ok(())
}

/// As many points as can be told apart: each stands for some neighbours, `of` which it takes the most or the mean.
fn thin(points: &[(f64, f64)], most: usize, of: fn(&[(f64, f64)]) -> f64) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(most.max(1)).max(1);
    points.chunks(size).map(|chunk| (chunk[0].0, of(chunk))).collect()
}

fn mean(chunk: &[(f64, f64)]) -> f64 {
    chunk.iter().map(|point| point.1).sum::<f64>() / chunk.len() as f64
}

fn peak(chunk: &[(f64, f64)]) -> f64 {
    chunk.iter().map(|point| point.1).fold(0.0, f64::max)
}

/// The corners of a line on which each point lasts until the next.
fn corners(points: &[(f64, f64)], clock: &Clock, end: f64) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for (at, value) in points {
        match corners.last() {
            Some((_, last)) if last == value => continue,
            Some((_, last)) => corners.push((clock.of(*at), *last)),
            None => {}
        }
        corners.push((clock.of(*at), *value));
    }
    if let Some((_, last)) = corners.last() {
        corners.push((clock.of(end), *last));
    }
    corners
}

fn stack(chart: &mut Chart<'_, '_>, series: &[Series], clock: &Clock, end: f64, width: u32) -> Drawn {
    let mut below: Vec<(f64, f64)> = Vec::new();
    for one in series {
        let own = thin(&one.points, (width / 2) as usize, mean);
        if below.is_empty() {
            below = own.iter().map(|(at, _)| (*at, 0.0)).collect();
        }
        let above: Vec<(f64, f64)> =
            own.iter().zip(&below).map(|((at, value), (_, below))| (*at, round(value + below))).collect();
        if above != below {
            let mut outline = corners(&above, clock, end);
            outline.extend(corners(&below, clock, end).into_iter().rev());
            chart.draw_series([Polygon::new(outline, colour(one.ink.light()).filled())])?;
        }
        below = above;
    }
    Ok(())
}

/// What a pixel does not show need not be written.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn steps(chart: &mut Chart<'_, '_>, series: &[Series], clock: &Clock, end: f64, width: u32) -> Drawn {
    for one in series {
        let points = thin(&one.points, (width / 2) as usize, peak);
        let line = corners(&points, clock, end);
        chart.draw_series([PathElement::new(line, colour(one.ink.light()).stroke_width(2))])?;
    }
    Ok(())
}

fn points(chart: &mut Chart<'_, '_>, series: &[Series], clock: &Clock, scale: Scale) -> Drawn {
    for (index, one) in series.iter().enumerate() {
        let ink = colour(one.ink.light());
        let mut seen = BTreeSet::new();
        for (at, value) in &one.points {
            let value = if scale == Scale::LogSeconds { log(*value) } else { *value };
            let place = (clock.of(*at), value);
            // What would cover another is left out.
            if !seen.insert(chart.backend_coord(&place)) {
                continue;
            }
            match index {
                0 => chart.draw_series([Circle::new(place, 2, ink.filled())])?,
                1 => chart.draw_series([Cross::new(place, 3, ink.stroke_width(1))])?,
                _ => chart.draw_series([TriangleMarker::new(place, 4, ink.filled())])?,
            };
        }
    }
    Ok(())
}

fn bands_in(chart: &mut Chart<'_, '_>, lanes: &[(String, Ink)], bands: &[Band], clock: &Clock) -> Drawn {
    // However short, a pixel shows it.
    let (columns, _) = chart.plotting_area().dim_in_pixel();
    let range = chart.x_range();
    let least = (range.end - range.start) / f64::from(columns.max(1)) * 1.5;
    for band in bands {
        let Some((_, ink)) = lanes.get(band.lane) else { continue };
        let top = (lanes.len() - band.lane) as f64 - 0.15;
        let from = clock.of(band.from);
        let to = clock.of(band.to).max(from + least);
        chart.draw_series([Rectangle::new([(from, top), (to, top - 0.7)], colour(ink.light()).filled())])?;
    }
    Ok(())
}

fn line_at(chart: &mut Chart<'_, '_>, limit: &Limit, clock: &Clock, span: (f64, f64)) -> Drawn {
    let (from, to) = (clock.of(span.0), clock.of(span.1));
    let line = vec![(from, limit.value), (to, limit.value)];
    chart.draw_series([PathElement::new(line, colour(TEXT).stroke_width(1))])?;
    let style = word(FONT).pos(Pos::new(HPos::Right, VPos::Bottom));
    chart.draw_series([Text::new(limit.name.clone(), (to, limit.value), style)])?;
    Ok(())
}

/// A line for each mark; where they are, in pixels.
fn mark_lines(
    chart: &mut Chart<'_, '_>,
    marks: &[Mark],
    clock: &Clock,
    (low, high): (f64, f64),
) -> Result<Vec<(i32, char)>, Box<dyn Error>> {
    let mut places = Vec::new();
    for mark in marks {
        let at = clock.of(mark.at);
        let line = vec![(at, low), (at, high)];
        chart.draw_series([PathElement::new(line, colour(MARK).stroke_width(1))])?;
        places.push((chart.backend_coord(&(at, high)).0, mark.letter));
    }
    Ok(places)
}

/// The letters above the marks; those of marks close together stand together.
fn letters(places: &[(i32, char)]) -> Vec<(i32, String)> {
    let mut groups: Vec<(i32, i32, Vec<char>)> = Vec::new();
    for (at, letter) in places {
        match groups.last_mut() {
            Some((_, last, letters)) if *at - *last < LETTER + 4 * (letters.len() as i32 - 1).min(2) => {
                *last = *at;
                letters.push(*letter);
            }
            _ => groups.push((*at, *at, vec![*letter])),
        }
    }
    let spell = |letters: Vec<char>| match letters[..] {
        [first, .., last] if letters.len() > 2 => format!("{first}–{last}"),
        _ => letters.iter().collect(),
    };
    groups.into_iter().map(|(first, last, letters)| (first.midpoint(last), spell(letters))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_close_marks_stand_together() {
        let places = [(10, 'a'), (40, 'b'), (45, 'c'), (90, 'd'), (95, 'e'), (99, 'f')];
        let expected = [(10, "a"), (42, "bc"), (94, "d–f")];
        assert_eq!(letters(&places), expected.map(|(at, text)| (at, text.to_owned())));
    }

    #[test]
    fn points_last_until_the_next() {
        let clock = Clock::new((0.0, 10.0));
        let points = [(0.0, 1.0), (1.0, 1.0), (2.0, 3.0)];
        assert_eq!(corners(&points, &clock, 10.0), [(0.0, 1.0), (2.0, 1.0), (2.0, 3.0), (10.0, 3.0)]);
        assert_eq!(thin(&points, 2, peak), [(0.0, 1.0), (2.0, 3.0)]);
        assert_eq!(thin(&points, 1, mean), [(0.0, 5.0 / 3.0)]);
    }

    #[test]
    fn a_figure_of_nothing_is_drawn() {
        for layer in [
            Layer::Stack(Vec::new()),
            Layer::Steps(Vec::new()),
            Layer::Points(vec![Series { name: String::new(), ink: Ink::Red, points: Vec::new() }]),
            Layer::Lanes(Vec::new(), vec![Band { lane: 3, from: 0.0, to: 1.0 }]),
        ] {
            for scale in [Scale::Linear, Scale::LogSeconds] {
                let figure = Figure {
                    title: "t".into(),
                    about: "a".into(),
                    unit: "u".into(),
                    span: (0.0, 60.0),
                    scale,
                    layer: layer.clone(),
                    limit: None,
                };
                assert!(svg(&figure, &[], 400).starts_with("<svg"), "{figure:?}");
            }
        }
    }
}
