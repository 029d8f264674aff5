//! Drawings as SVG text: line charts, a confusion matrix, a scatter of residuals. Each is whole by itself and takes a
//! page's colours where there are some.

use std::fmt::Write;

use super::ranking::Points;
use super::tally::Confusion;
use crate::html::escape;
use crate::svg::{COLOURS, open};

/// A line and its name.
pub struct Series {
    pub name: String,
    pub points: Points,
}

const SIDE: f64 = 300.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 28.0;
const MOST_POINTS: usize = 200;

/// A chart of lines from 0 to 1 on both axes, with the diagonal that stands for chance or for perfect calibration.
pub fn chart(title: &str, x: &str, y: &str, series: &[Series], diagonal: bool) -> String {
    let height = TOP + SIDE + 44.0 + 18.0 * series.len() as f64;
    let mut svg = open(title, LEFT + SIDE + 16.0, height);
    axes(&mut svg, x, y, [0.0, 1.0], [0.0, 1.0]);
    if diagonal {
        line(&mut svg, &[(0.0, 0.0), (1.0, 1.0)], "currentColor", "stroke-dasharray=\"3 4\" stroke-opacity=\".5\"");
    }
    for (index, series) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        line(&mut svg, &thinned(&series.points), colour, "");
        let at = TOP + SIDE + 52.0 + 18.0 * index as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"14\" height=\"3\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{at:.1}\">{}</text>",
            at - 5.0,
            LEFT + 20.0,
            escape(&short(&series.name, 40))
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// True labels down, predicted labels across; the shade is the share of the true label.
pub fn confusion(labels: &[String], confusion: &Confusion) -> String {
    let side = (320.0 / labels.len() as f64).clamp(26.0, 80.0);
    let left = 20.0 + 7.0 * labels.iter().map(|label| label.chars().count().min(16)).max().unwrap_or(4) as f64;
    let (top, across) = (44.0, side * labels.len() as f64);
    let mut svg =
        open("Confusion matrix: true labels down, predicted across", left + across + 90.0, top + across + 70.0);
    for (row, truth) in labels.iter().enumerate() {
        let support = confusion.label(row).support.max(1);
        let y = top + side * row as f64;
        let middle = y + side / 2.0 + 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            escape(&short(truth, 16))
        );
        for column in 0..labels.len() {
            let count = confusion.at(row, column);
            let share = count as f64 / support as f64;
            let colour = if row == column { COLOURS[0] } else { COLOURS[1] };
            let x = left + side * column as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{side:.1}\" height=\"{side:.1}\" fill=\"{colour}\" fill-opacity=\"{:.3}\" stroke=\"currentColor\" stroke-opacity=\".15\"/><text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"middle\">{count}</text>",
                share * 0.75,
                x + side / 2.0,
            );
        }
    }
    for (column, label) in labels.iter().enumerate() {
        let (x, y) = (left + side * (column as f64 + 0.5), top + across + 14.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" transform=\"rotate(35 {x:.1} {y:.1})\">{}</text>",
            escape(&short(label, 16))
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Residuals (truth less prediction) over predictions, at most 2,000 of them, evenly chosen.
pub fn residuals(truth: &[f64], predicted: &[f64]) -> String {
    let step = truth.len().div_ceil(2000).max(1);
    let points: Points =
        predicted.iter().zip(truth).map(|(predicted, truth)| (*predicted, truth - predicted)).step_by(step).collect();
    let (x, y) = (bounds(points.iter().map(|point| point.0)), bounds(points.iter().map(|point| point.1).chain([0.0])));
    let mut svg = open("Residuals", LEFT + SIDE + 16.0, TOP + SIDE + 44.0);
    axes(&mut svg, "predicted", "truth - predicted", x, y);
    let place = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
    let zero = place(0.0, y);
    line(&mut svg, &[(0.0, zero), (1.0, zero)], "currentColor", "stroke-dasharray=\"3 4\" stroke-opacity=\".5\"");
    for (predicted, residual) in points {
        let (cx, cy) = at(place(predicted, x), place(residual, y));
        let _ = writeln!(
            svg,
            "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2\" fill=\"{}\" fill-opacity=\".45\"/>",
            COLOURS[0]
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, x: &str, y: &str, [x_low, x_high]: [f64; 2], [y_low, y_high]: [f64; 2]) {
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\".3\"/>"
    );
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (along, up) = at(share, share);
        let _ = writeln!(
            svg,
            "<text x=\"{along:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill-opacity=\".7\">{}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill-opacity=\".7\">{}</text>",
            TOP + SIDE + 14.0,
            number(x_low + share * (x_high - x_low)),
            LEFT - 5.0,
            up + 4.0,
            number(y_low + share * (y_high - y_low)),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text x=\"12\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 12 {:.1})\">{}</text>",
        LEFT + SIDE / 2.0,
        TOP + SIDE + 30.0,
        escape(x),
        TOP + SIDE / 2.0,
        TOP + SIDE / 2.0,
        escape(y),
    );
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str, more: &str) {
    let path: Vec<String> = points
        .iter()
        .map(|(x, y)| {
            let (x, y) = at(*x, *y);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" {more}/>",
        path.join(" ")
    );
}

/// From shares of the plot to the drawing's own coordinates.
fn at(x: f64, y: f64) -> (f64, f64) {
    (LEFT + x * SIDE, TOP + (1.0 - y) * SIDE)
}

fn bounds(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if high > low { [low, high] } else { [low - 0.5, low + 0.5] }
}

fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100_000.0 || (size > 0.0 && size < 0.01) {
        format!("{value:.1e}")
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn thinned(points: &Points) -> Points {
    let step = points.len().div_ceil(MOST_POINTS).max(1);
    let mut thin: Points = points.iter().step_by(step).copied().collect();
    if let Some(last) = points.last().filter(|last| thin.last() != Some(last)) {
        thin.push(*last);
    }
    thin
}

fn short(text: &str, limit: usize) -> String {
    crate::say::excerpt(text, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_in_a_drawing_are_text() {
        let labels = vec!["<script>".to_owned(), "b&\"".to_owned()];
        let drawing = confusion(&labels, &Confusion::count(2, &[0, 1], &[0, 0]));
        assert!(drawing.contains("&lt;script&gt;") && !drawing.contains("<script>"));
    }

    #[test]
    fn long_curves_keep_their_ends() {
        let points: Points = (0..=1000).map(|step| (f64::from(step) / 1000.0, 0.5)).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= MOST_POINTS + 1);
        assert_eq!((thin.first(), thin.last()), (points.first(), points.last()));
    }

    #[test]
    fn one_value_alone_can_be_drawn() {
        let drawing = residuals(&[1.0, 1.0], &[1.0, 1.0]);
        assert!(!drawing.contains("NaN") && !drawing.contains("inf"));
    }
}
