//! A profile as a page and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::correlate::Matrix;
use super::figures;
use super::measure::{CORRELATED_COLUMNS, Column, EXACT_VALUES, Numbers, What};
use super::spread::QUANTILES;
use super::warn::Warning;
use crate::html::{escape, page, table};
use crate::svg::number;
use crate::types;
use crate::workplace::json_number;

/// All that is known of a table.
pub struct Profile {
    pub rows: u64,
    /// All columns of the table, those that are not described too.
    pub table_columns: usize,
    /// None where they could not be counted: why.
    pub duplicates: Result<u64, String>,
    pub columns: Vec<Column>,
    pub matrix: Matrix,
    pub warnings: Vec<Warning>,
}

impl Profile {
    /// The share of the described cells that have no value.
    pub fn missing_share(&self) -> f64 {
        let missing: u64 = self.columns.iter().map(|column| self.rows - column.present).sum();
        share(missing, self.rows * self.columns.len() as u64)
    }

    /// What was left out or estimated, in sentences.
    fn bounds(&self) -> Vec<String> {
        let mut bounds = Vec::new();
        let left_out = self.table_columns - self.columns.len();
        if left_out > 0 {
            bounds.push(format!(
                "{} of {} columns are described; the parameter columns chooses which.",
                self.columns.len(),
                self.table_columns
            ));
        }
        if self.matrix.left_out > 0 {
            bounds.push(format!(
                "The first {CORRELATED_COLUMNS} number columns are correlated, {} more are not.",
                self.matrix.left_out
            ));
        }
        let about = |column: &Column| column.distinct.is_some_and(|distinct| !distinct.exact);
        if self.columns.iter().any(about) {
            bounds.push(format!(
                "Of columns with more than about {EXACT_VALUES} different values, the number of those and the quantiles are estimates (≈), and the most frequent values are not counted."
            ));
        }
        if let Err(reason) = &self.duplicates {
            bounds.push(format!("Duplicate rows are not counted: {reason}."));
        }
        bounds
    }

    pub fn as_json(&self) -> Value {
        let correlations = (!self.matrix.columns.is_empty())
            .then(|| json!({"method": "pearson", "columns": self.matrix.columns, "values": self.matrix.values}));
        let warnings: Vec<Value> = self
            .warnings
            .iter()
            .map(|Warning { kind, columns, message }| json!({"kind": kind, "columns": columns, "message": message}))
            .collect();
        json!({
            "rows": self.rows,
            "columns": self.table_columns,
            "missing_share": json_number(self.missing_share()),
            "duplicates": self.duplicates.as_ref().ok(),
            "bounds": self.bounds(),
            "described": self.columns.iter().map(|column| column_json(column, self.rows)).collect::<Vec<_>>(),
            "correlations": correlations,
            "warnings": warnings,
        })
    }

    pub fn as_html(&self) -> String {
        let duplicates = match &self.duplicates {
            Ok(count) => format!("{count} duplicate rows"),
            Err(_) => "duplicate rows not counted".to_owned(),
        };
        let mut body = format!(
            "<p>{} rows, {} columns, {} of the cells without a value, {duplicates}.</p>\n",
            self.rows,
            self.table_columns,
            percent(self.missing_share())
        );
        for bound in self.bounds() {
            let _ = writeln!(body, "<p class=\"soft\">{}</p>", escape(&bound));
        }
        let _ = writeln!(body, "<h2>Warnings</h2>");
        if self.warnings.is_empty() {
            body.push_str("<p class=\"soft\">none</p>\n");
        } else {
            let rows = self
                .warnings
                .iter()
                .map(|warning| vec![format!("<span class=\"warn\">{}</span>", warning.kind), escape(&warning.message)]);
            body.push_str(&table(&["", "found"], &rows.collect::<Vec<_>>()));
        }
        body.push_str("<h2>Columns</h2>\n");
        body.push_str(&self.columns_html());
        if !self.matrix.columns.is_empty() {
            let _ = writeln!(body, "<h2>Correlations</h2>\n<figure>\n{}</figure>", figures::heat_map(&self.matrix));
        }
        for column in &self.columns {
            column_html(&mut body, column);
        }
        page("Data profile", &body)
    }

    fn columns_html(&self) -> String {
        let header = ["column", "type", "values", "missing", "different", "range", "mean"];
        let rows = self.columns.iter().map(|column| {
            let missing = self.rows - column.present;
            let (range, mean) = match &column.what {
                What::Numbers(numbers) => {
                    (format!("{} to {}", number(numbers.min), number(numbers.max)), number(numbers.mean))
                }
                What::Times([first, last]) => (format!("{first} to {last}"), dash()),
                What::Words { lengths: Some([min, max, _]), .. } => {
                    (format!("{} to {} characters", number(*min), number(*max)), dash())
                }
                What::Words { lengths: None, .. } | What::Nothing => (dash(), dash()),
            };
            vec![
                escape(&column.name),
                escape(&types::word(&column.arrow)),
                column.present.to_string(),
                format!("{missing} ({})", percent(share(missing, self.rows))),
                different(column),
                escape(&range),
                mean,
            ]
        });
        table(&header, &rows.collect::<Vec<_>>())
    }
}

fn column_html(body: &mut String, column: &Column) {
    match &column.what {
        What::Numbers(numbers) => {
            let about = if numbers.exact { "" } else { "≈ " };
            let mut rows = vec![
                vec!["mean".to_owned(), number(numbers.mean)],
                vec!["standard deviation".to_owned(), numbers.std.map_or_else(dash, number)],
                vec!["least".to_owned(), number(numbers.min)],
            ];
            for (share, value) in QUANTILES.iter().zip(numbers.quantiles) {
                rows.push(vec![percent(*share), format!("{about}{}", number(value))]);
            }
            rows.push(vec!["largest".to_owned(), number(numbers.max)]);
            let _ = writeln!(
                body,
                "<h2>{}</h2>\n<div class=\"figures\"><figure>\n{}</figure>\n{}</div>",
                escape(&column.name),
                figures::histogram(&column.name, &numbers.histogram),
                table(&["", ""], &rows)
            );
        }
        What::Words { top, .. } if !top.is_empty() => {
            let rows = top
                .iter()
                .map(|(value, count)| vec![escape(value), count.to_string(), percent(share(*count, column.present))]);
            let shown = table(&["value", "rows", "share"], &rows.collect::<Vec<_>>());
            let _ = writeln!(body, "<h2>{}</h2>\n{shown}", escape(&column.name));
        }
        What::Words { .. } | What::Times(_) | What::Nothing => {}
    }
}

fn column_json(column: &Column, rows: u64) -> Value {
    let Column { name, arrow, present, infinite, distinct, what } = column;
    let missing = rows - present;
    let mut json = json!({
        "name": name,
        "type": types::word(arrow),
        "count": present,
        "missing": missing,
        "missing_share": json_number(share(missing, rows)),
        "distinct": distinct.map(|distinct| distinct.count),
        "distinct_exact": distinct.map(|distinct| distinct.exact),
    });
    match what {
        What::Numbers(numbers) => {
            json["infinite"] = json!(infinite);
            json["number"] = numbers_json(numbers);
        }
        What::Words { top, lengths } => {
            if !top.is_empty() {
                json["top"] = top.iter().map(|(value, count)| json!({"value": value, "count": count})).collect();
            }
            if let Some([min, max, mean]) = lengths {
                json["length"] =
                    json!({"min": json_number(*min), "max": json_number(*max), "mean": json_number(*mean)});
            }
        }
        What::Times([min, max]) => json["range"] = json!({"min": min, "max": max}),
        What::Nothing => {}
    }
    json
}

fn numbers_json(numbers: &Numbers) -> Value {
    let Numbers { min, max, mean, std, quantiles, exact, histogram } = numbers;
    let quantiles: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .zip(quantiles)
        .map(|(share, value)| (format!("{share}"), json!(json_number(*value))))
        .collect();
    let edges: Vec<_> = histogram.edges().into_iter().map(json_number).collect();
    json!({
        "min": json_number(*min),
        "max": json_number(*max),
        "mean": json_number(*mean),
        "std": std.and_then(json_number),
        "quantiles": quantiles,
        "quantiles_exact": exact,
        "histogram": {"edges": edges, "counts": histogram.counts},
    })
}

fn different(column: &Column) -> String {
    match column.distinct {
        Some(distinct) if distinct.exact => distinct.count.to_string(),
        Some(distinct) => format!("≈ {}", distinct.count),
        None => dash(),
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{} %", number((share * 1000.0).round() / 10.0))
}

fn dash() -> String {
    "–".to_owned()
}
