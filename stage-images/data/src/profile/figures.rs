//! Drawings of a profile: histograms, and correlations as a heat map.

use std::fmt::Write;

use super::correlate::Matrix;
use super::spread::Histogram;
use crate::html::escape;
use crate::say;
use crate::svg::{COLOURS, number, open};

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 120.0;
const TOP: f64 = 26.0;
const LEFT: f64 = 8.0;
const NAME: usize = 18;

/// Bars over the range, the highest as high as the drawing.
pub fn histogram(name: &str, histogram: &Histogram) -> String {
    let most = histogram.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let step = WIDTH / histogram.counts.len() as f64;
    let edges = histogram.edges();
    let mut svg = open(&say::excerpt(name, 40), LEFT * 2.0 + WIDTH, TOP + HEIGHT + 22.0);
    for (bin, count) in histogram.counts.iter().enumerate() {
        let height = *count as f64 / most * HEIGHT;
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\"><title>{} to {}: {count}</title></rect>",
            LEFT + step * bin as f64,
            TOP + HEIGHT - height,
            (step - 1.0).max(1.0),
            COLOURS[0],
            number(edges[bin]),
            number(edges[bin + 1]),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\">{}</text><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n</svg>",
        TOP + HEIGHT + 15.0,
        number(histogram.low),
        LEFT + WIDTH,
        TOP + HEIGHT + 15.0,
        number(histogram.high),
    );
    svg
}

/// One colour for correlation, the other for its opposite; the shade is how strong it is.
pub fn heat_map(matrix: &Matrix) -> String {
    let count = matrix.columns.len() as f64;
    let side = (720.0 / count).clamp(14.0, 46.0);
    let left = 14.0 + 7.5 * matrix.columns.iter().map(|name| name.chars().count().min(NAME)).max().unwrap_or(0) as f64;
    let mut svg = open("Correlation of the number columns", left + side * count + 110.0, TOP + side * count + 110.0);
    for (row, name) in matrix.columns.iter().enumerate() {
        let y = TOP + side * row as f64;
        let middle = y + side / 2.0 + 4.0;
        let shown = escape(&say::excerpt(name, NAME - 1));
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{shown}</text>", left - 6.0);
        for (column, other) in matrix.columns.iter().enumerate() {
            let (x, found) = (left + side * column as f64, matrix.values[row][column]);
            let colour = if found.unwrap_or_default() < 0.0 { COLOURS[1] } else { COLOURS[0] };
            let words = found.map_or("not defined".to_owned(), |found| format!("{found:.3}"));
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{side:.1}\" height=\"{side:.1}\" fill=\"{colour}\" fill-opacity=\"{:.3}\" stroke=\"currentColor\" stroke-opacity=\".15\"><title>{} and {}: {words}</title></rect>",
                found.unwrap_or_default().abs() * 0.8,
                escape(&say::excerpt(name, 40)),
                escape(&say::excerpt(other, 40)),
            );
            if let Some(found) = found.filter(|_| side >= 36.0) {
                let _ = writeln!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"middle\">{found:.2}</text>",
                    x + side / 2.0
                );
            }
        }
        let (x, y) = (left + side * (row as f64 + 0.5), TOP + side * count + 14.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" transform=\"rotate(35 {x:.1} {y:.1})\">{shown}</text>");
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_drawing_are_text() {
        let matrix = Matrix { columns: vec!["<b>".into()], values: vec![vec![None]], left_out: 0 };
        let mut bars = Histogram::new(0.0, 1.0);
        bars.take(0.5, 3);
        for drawing in [heat_map(&matrix), histogram("<b>", &bars)] {
            assert!(drawing.contains("&lt;b&gt;") && !drawing.contains("<b>"), "{drawing}");
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
        }
    }
}
