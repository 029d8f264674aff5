//! Windows over time: columns that look at other rows. No graph has them, because a request has no other rows: they are
//! made of tables only, and count as raw columns.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::params::{Window, Windowing};
use crate::profile::query::quoted;
use crate::say;
use crate::types::ColumnType;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("parameter steps[{step}].{option}: the data has no column `{column}`; its columns are: {known}")]
    NoColumn { step: usize, option: &'static str, column: String, known: String },
    #[error("parameter steps[{step}].columns: `{column}` is of type {found}, and window: {window} needs numbers")]
    NoNumber { step: usize, column: String, found: String, window: &'static str },
    #[error("parameter steps[{step}].rows: found {found}, expected at least {least}")]
    Rows { step: usize, found: u32, least: u32 },
    #[error("parameter steps[{step}].rows is missing: write how many rows the window has, as in rows: 7")]
    NoRows { step: usize },
    #[error("parameter steps[{step}].current: a lag is of an earlier row; leave current out")]
    Current { step: usize },
    #[error("parameter steps[{step}]: the window's column `{name}` is there already; rename that in the stage before")]
    Taken { step: usize, name: String },
    #[error(
        "parameter steps[{step}]: a window sees the rows as they came, so it stands before all steps of another kind; move it up"
    )]
    TooLate { step: usize },
    #[error("parameter steps[{step}].columns: the list is empty; name the columns that the window is of")]
    Nothing { step: usize },
}

/// A window's column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Windowed {
    pub name: String,
    pub column: String,
    pub function: Windowing,
    pub by: Vec<String>,
    pub order: String,
    pub rows: u32,
    /// Whether the row itself is in the window.
    pub current: bool,
}

/// The columns that a step makes of a table with these columns, which are given with their types.
pub fn plan(
    step: usize,
    window: &Window,
    known: &[(String, Option<ColumnType>)],
    taken: &BTreeSet<String>,
) -> Result<Vec<Windowed>, WindowError> {
    let names = || say::names(known.iter().map(|(name, _)| name));
    let find = |option: &'static str, column: &String| {
        known.iter().find(|(name, _)| name == column).ok_or_else(|| WindowError::NoColumn {
            step,
            option,
            column: say::excerpt(column, 60),
            known: names(),
        })
    };
    let function = window.window;
    let by = window.by.clone().unwrap_or_default();
    find("order", &window.order)?;
    for column in &by {
        find("by", column)?;
    }
    let rows = match (function, window.rows) {
        (Windowing::Lag, None) => 1,
        (_, None) => return Err(WindowError::NoRows { step }),
        (_, Some(rows)) => rows,
    };
    let least = if function == Windowing::Std { 2 } else { 1 };
    if rows < least || rows > 1_000_000 {
        return Err(WindowError::Rows { step, found: rows, least });
    }
    if function == Windowing::Lag && window.current.is_some() {
        return Err(WindowError::Current { step });
    }
    if window.columns.is_empty() {
        return Err(WindowError::Nothing { step });
    }
    let mut made: Vec<Windowed> = Vec::new();
    for column in &window.columns {
        let (_, kind) = find("columns", column)?;
        let number = matches!(kind, Some(ColumnType::Integer | ColumnType::Number | ColumnType::Boolean));
        // A lag and a count are of anything that a model takes.
        let any = matches!(function, Windowing::Lag | Windowing::Count) && *kind == Some(ColumnType::String);
        if !number && !any {
            let found = kind.map_or("another", ColumnType::word).to_owned();
            return Err(WindowError::NoNumber { step, column: column.clone(), found, window: function.word() });
        }
        let name = format!("{column}_{}_{rows}", function.word());
        if taken.contains(&name) || made.iter().any(|made| made.name == name) {
            return Err(WindowError::Taken { step, name });
        }
        let current = window.current.unwrap_or(true);
        let (column, by, order) = (column.clone(), by.clone(), window.order.clone());
        made.push(Windowed { name, column, function, by, order, rows, current });
    }
    Ok(made)
}

/// The table `data` with the windows' columns after its own, its rows in their order.
pub fn sql(columns: &[String], windows: &[Windowed]) -> String {
    let own: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let number = quoted("millrace row");
    let made: Vec<String> =
        windows.iter().map(|window| format!("{} AS {}", expression(window, &number), quoted(&window.name))).collect();
    let all: Vec<String> = own.iter().cloned().chain(windows.iter().map(|window| quoted(&window.name))).collect();
    format!(
        "SELECT {} FROM (SELECT {number}, {}, {} FROM (SELECT row_number() OVER () AS {number}, * FROM data)) ORDER BY {number}",
        all.join(", "),
        own.join(", "),
        made.join(", ")
    )
}

fn expression(window: &Windowed, number: &str) -> String {
    let Windowed { column, function, by, order, rows, current, .. } = window;
    let column = quoted(column);
    let by: Vec<String> = by.iter().map(|name| quoted(name)).collect();
    let by = if by.is_empty() { String::new() } else { format!("PARTITION BY {} ", by.join(", ")) };
    // Rows of the same time follow one another as they came: one order, every time.
    let over = format!("{by}ORDER BY {} ASC NULLS FIRST, {number}", quoted(order));
    let double = format!("CAST({column} AS DOUBLE)");
    let value = format!("CASE WHEN NOT isnan({double}) THEN {double} END");
    let call = match function {
        Windowing::Lag => return format!("lag({column}, {rows}) OVER ({over})"),
        Windowing::Count => format!("CAST(count({column})"),
        Windowing::Mean => format!("avg({value})"),
        Windowing::Sum => format!("sum({value})"),
        Windowing::Min => format!("min({value})"),
        Windowing::Max => format!("max({value})"),
        Windowing::Std => format!("stddev({value})"),
    };
    let frame = if *current {
        format!("ROWS BETWEEN {} PRECEDING AND CURRENT ROW", rows - 1)
    } else {
        format!("ROWS BETWEEN {rows} PRECEDING AND 1 PRECEDING")
    };
    let end = if *function == Windowing::Count { " AS BIGINT)" } else { "" };
    format!("{call} OVER ({over} {frame}){end}")
}
