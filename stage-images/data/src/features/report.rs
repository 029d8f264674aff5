//! What was learned, as a page: the features with what they are made of, and the verdicts of selection.

use std::fmt::Write as _;

use super::op::{Column, Kind};
use super::state::{Judged, State};
use crate::html::{escape, page, table};

/// Features that the page lists: the artifact has all.
const LISTED: usize = 500;

pub fn html(state: &State) -> String {
    let mut body = format!(
        "<p>{} features of {} raw columns, learned of {} rows.</p>\n",
        state.outputs.len(),
        state.inputs.len(),
        state.rows
    );
    if !state.windows.is_empty() {
        let rows: Vec<Vec<String>> = state
            .windows
            .iter()
            .map(|window| {
                let current = if window.current { "with the row itself" } else { "before the row" };
                let over = window.rows.map(|rows| format!("{rows} rows"));
                let over = over.or_else(|| window.range.clone()).unwrap_or_default();
                let by = if window.by.is_empty() { "the table".to_owned() } else { window.by.join(", ") };
                [
                    window.name.as_str(),
                    window.function.word(),
                    &window.column,
                    &format!("{over}, {current}"),
                    &by,
                    &window.order,
                ]
                .map(escape)
                .to_vec()
            })
            .collect();
        body.push_str(
            "<h2>Windows</h2>\n<p>They are no part of the graph: a served model takes them as columns.</p>\n",
        );
        body.push_str(&table(&["column", "is", "of", "over", "within", "in the order of"], &rows));
    }
    if !state.selection.is_empty() {
        body.push_str("<h2>Selection</h2>\n");
        body.push_str(&table(
            &["feature", "by", "", "because"],
            &state.selection.iter().map(judged).collect::<Vec<_>>(),
        ));
    }
    body.push_str("<h2>Features</h2>\n");
    body.push_str(&table(
        &["feature", "", "made of"],
        &state.outputs.iter().take(LISTED).map(feature).collect::<Vec<_>>(),
    ));
    if state.outputs.len() > LISTED {
        let _ = writeln!(body, "<p class=\"soft\">The first {LISTED}; features.json has all.</p>");
    }
    page("Features", &body)
}

fn feature(column: &Column) -> Vec<String> {
    let kind = match column.kind {
        Kind::Number => "number",
        Kind::Text => "text",
    };
    let from: Vec<&str> = column.from.iter().map(String::as_str).collect();
    vec![escape(&column.name), kind.to_owned(), escape(&from.join(", "))]
}

fn judged(judged: &Judged) -> Vec<String> {
    let verdict = if judged.kept { "<span class=\"pass\">kept</span>" } else { "<span class=\"warn\">left out</span>" };
    vec![escape(&judged.feature), escape(&judged.by), verdict.to_owned(), escape(&judged.reason)]
}
