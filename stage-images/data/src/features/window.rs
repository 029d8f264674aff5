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
    #[error(
        "parameter steps[{step}].rows is missing: write how many rows the window has, as in rows: 7, or how long it is, as in range: 7d"
    )]
    NoRows { step: usize },
    #[error("parameter steps[{step}].range: {reason}")]
    Range { step: usize, reason: String },
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
    /// At most so many rows, or those of so long a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
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
    let rows = match (function, window.rows, &window.range) {
        (Windowing::Lag, None, None) => Some(1),
        (_, rows, None) => Some(rows.ok_or(WindowError::NoRows { step })?),
        (_, Some(_), Some(_)) => {
            return Err(WindowError::Range { step, reason: "rows is given too; leave one of them out".into() });
        }
        (Windowing::Lag, None, Some(_)) => {
            return Err(WindowError::Range { step, reason: "a lag is of an earlier row; write rows".into() });
        }
        (_, None, Some(range)) => {
            microseconds(range).map_err(|reason| WindowError::Range { step, reason })?;
            let (_, order) = find("order", &window.order)?;
            if !matches!(order, Some(ColumnType::Date | ColumnType::Timestamp)) {
                let found = order.map_or("another", ColumnType::word);
                let reason =
                    format!("it needs an order by date or timestamp, and `{}` is of type {found}", window.order);
                return Err(WindowError::Range { step, reason });
            }
            None
        }
    };
    let least = if function == Windowing::Std { 2 } else { 1 };
    if let Some(found) = rows.filter(|rows| !(least..=1_000_000).contains(rows)) {
        return Err(WindowError::Rows { step, found, least });
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
        let extent = rows.map(|rows| rows.to_string()).or_else(|| window.range.clone()).unwrap_or_default();
        let name = format!("{column}_{}_{extent}", function.word());
        if taken.contains(&name) || made.iter().any(|made| made.name == name) {
            return Err(WindowError::Taken { step, name });
        }
        let current = window.current.unwrap_or(true);
        let (column, by, order) = (column.clone(), by.clone(), window.order.clone());
        let range = window.range.clone();
        made.push(Windowed { name, column, function, by, order, rows, range, current });
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
    let Windowed { column, function, by, order, current, .. } = window;
    let column = quoted(column);
    let by: Vec<String> = by.iter().map(|name| quoted(name)).collect();
    let by = if by.is_empty() { String::new() } else { format!("PARTITION BY {} ", by.join(", ")) };
    // Rows of the same time follow one another as they came: one order, every time.
    let over = format!("{by}ORDER BY {} ASC NULLS FIRST, {number}", quoted(order));
    // What is infinite would stay in a running sum for ever.
    let double = format!("CAST({column} AS DOUBLE)");
    let value = format!("CASE WHEN abs({double}) <= {:e} THEN {double} END", f64::MAX);
    let call = match function {
        Windowing::Lag => return format!("lag({column}, {}) OVER ({over})", window.rows.unwrap_or(1)),
        Windowing::Count => format!("count({column})"),
        Windowing::Mean => format!("avg({value})"),
        Windowing::Sum => format!("sum({value})"),
        Windowing::Min => format!("min({value})"),
        Windowing::Max => format!("max({value})"),
        Windowing::Std => format!("stddev({value})"),
    };
    let frame = match (&window.range, current) {
        (None, true) => {
            format!("{over} ROWS BETWEEN {} PRECEDING AND CURRENT ROW", window.rows.unwrap_or(1).saturating_sub(1))
        }
        (None, false) => format!("{over} ROWS BETWEEN {} PRECEDING AND 1 PRECEDING", window.rows.unwrap_or(1)),
        (Some(range), current) => {
            let long = microseconds(range).unwrap_or(1);
            // From the one end without it: seven days are seven dates.
            let (from, to) =
                if *current { (long - 1, "CURRENT ROW") } else { (long, "INTERVAL '1 microseconds' PRECEDING") };
            let time = format!("CAST({} AS TIMESTAMP)", quoted(order));
            format!(
                "{by}ORDER BY {time} ASC NULLS FIRST RANGE BETWEEN INTERVAL '{from} microseconds' PRECEDING AND {to}"
            )
        }
    };
    format!("{call} OVER ({frame})")
}

/// A time like `7d`, `12h`, `30m` or `90s`.
fn microseconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("found {}, expected a time like 7d, 12h, 30m or 90s", say::excerpt(text, 20));
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let seconds: u64 = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    // A hundred years.
    let long = count.checked_mul(seconds).filter(|long| (1..=36_525 * 86_400).contains(long)).ok_or_else(wrong)?;
    Ok(long * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_what_is_none_is_told() {
        assert_eq!(microseconds("90s"), Ok(90_000_000));
        assert_eq!(microseconds("7d"), Ok(7 * 86_400 * 1_000_000));
        for wrong in ["7", "d", "", "-1d", "1.5h", "0d", "7 d", "7w", "99999999999d", "1é"] {
            assert!(microseconds(wrong).is_err(), "{wrong}");
        }
    }
}
