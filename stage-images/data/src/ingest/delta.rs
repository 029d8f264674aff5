//! A Delta table as a source: a snapshot of it, or what is new since another one.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::params::{Bound, DeltaParams, Params};
use super::position::{PositionError, Since};
use super::{Read, values};
use crate::say;
use crate::table::{Ask, Table, TableError, Window};

#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    #[error("parameter delta: it is for Delta tables; write format: delta, or leave it out")]
    NoDelta,
    #[error("parameter {parameter}: it is not for a Delta table; leave it out")]
    NotForDelta { parameter: &'static str },
    #[error("parameter {parameter}: found '{found}', expected {expected}")]
    Value { parameter: &'static str, found: String, expected: &'static str },
    #[error("parameter delta.{given}: it needs delta.{needed}; write both, or none")]
    Together { given: &'static str, needed: &'static str },
    #[error(
        "parameter delta.window: what is new since a version is read whatever its time is; leave delta.window or {other} out"
    )]
    WindowOfNew { other: &'static str },
    #[error("parameter delta.version: what is appended goes on to the last version; leave it out")]
    VersionOfNew,
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Where the next run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    /// The table's own id: one that was made anew has another.
    id: String,
    version: u64,
}

/// Reads what the parameters ask for.
pub async fn read(params: &Params, since: &Since, to: &Path) -> Result<Read, DeltaError> {
    for (parameter, there) in [
        ("csv", params.csv.is_some()),
        ("schema", params.schema.is_some()),
        ("sql", params.sql.is_some()),
        ("kafka", params.kafka.is_some()),
        ("s3", params.s3.is_some() && !params.is_at(&["s3://"])),
        ("gcs", params.gcs.is_some() && !params.is_at(&["gs://"])),
        ("azure", params.azure.is_some() && !params.is_at(&["az://", "abfs://", "abfss://"])),
    ] {
        if there {
            return Err(DeltaError::NotForDelta { parameter });
        }
    }
    let delta = params.delta.clone().unwrap_or_default();
    let before: Option<Position> = since.get()?;
    let version = number("delta.version", delta.version.as_ref())?;
    let after = number("delta.after", delta.after.as_ref())?;
    let grows = params.table.is_some() || delta.after.is_some();
    if grows && delta.window.is_some() {
        let other = if params.table.is_some() { "table" } else { "delta.after" };
        return Err(DeltaError::WindowOfNew { other });
    }
    if params.table.is_some() && version.is_some() {
        return Err(DeltaError::VersionOfNew);
    }
    let window = window(&delta)?;
    let table = Table::at(&params.source, &params.access())?;
    let snapshot = table.wanted(version).await?;
    let id = snapshot.metadata.id.clone();
    if let Some(before) = before.as_ref().filter(|before| before.id != id) {
        return Err(TableError::OtherTable { name: table.name, found: id, expected: before.id.clone() }.into());
    }
    let ask = Ask {
        since: before.map(|before| before.version).or(after),
        columns: params.columns.as_deref(),
        window: window.as_ref(),
        limit: params.max_bytes,
    };
    let found = table.read(&snapshot, &ask, to).await?;
    let mut results = vec![
        ("source_version", json!(found.version.to_string())),
        ("source_digest", json!(found.digest)),
        ("watermark", json!(found.version.to_string())),
    ];
    if let Some(window) = &window {
        let text = |time| Timestamp::from_microsecond(time).map_or_else(|_| time.to_string(), |time| time.to_string());
        results.extend([("window_from", json!(text(window.from))), ("window_until", json!(text(window.until)))]);
    }
    let position = Some(json!(Position { id, version: found.version }));
    let from = format!("version {} of {}", found.version, table.name);
    Ok(Read { rows: found.rows, schema: found.schema, from, position, results })
}

/// A version; none where the text is empty, as a parameter of a first run.
fn number(parameter: &'static str, bound: Option<&Bound>) -> Result<Option<u64>, DeltaError> {
    let Some(text) = bound.map(|bound| bound.0.trim()).filter(|text| !text.is_empty()) else { return Ok(None) };
    let expected = "the number of a version";
    text.parse().map(Some).map_err(|_| DeltaError::Value { parameter, found: say::excerpt(text, 60), expected })
}

fn window(delta: &DeltaParams) -> Result<Option<Window>, DeltaError> {
    let until = delta.until.as_deref().map(str::trim).filter(|until| !until.is_empty());
    let Some(window) = &delta.window else {
        return match until {
            Some(_) => Err(DeltaError::Together { given: "until", needed: "window" }),
            None => Ok(None),
        };
    };
    let column = delta.time_column.clone();
    let column = column.ok_or(DeltaError::Together { given: "window", needed: "timeColumn" })?;
    let wrong = |parameter, found: &str, expected| {
        let found = say::excerpt(found, 60);
        DeltaError::Value { parameter, found, expected }
    };
    let no_time = || wrong("delta.window", window, "a time like 12h or 30d");
    let span: jiff::Span = window.parse().map_err(|_| no_time())?;
    // A day is 24 hours: there is no calendar in a window.
    let span = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| no_time())?;
    let length = i64::try_from(span.as_micros()).ok().filter(|length| *length > 0).ok_or_else(no_time)?;
    let until = match until {
        Some(until) => {
            values::timestamp(until).ok_or_else(|| wrong("delta.until", until, "a time like 2026-11-21T00:00:00Z"))?
        }
        None => Timestamp::now().as_microsecond(),
    };
    Ok(Some(Window { column, from: until.saturating_sub(length), until }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<Window>, String> {
        window(&serde_json::from_str(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_window_ends_before_its_end() {
        let found = of(r#"{"timeColumn": "at", "window": "1d", "until": "1970-01-03T00:00:00Z"}"#).unwrap();
        assert_eq!(found, Some(Window { column: "at".into(), from: 86_400_000_000, until: 172_800_000_000 }));
        assert_eq!(of(r#"{"timeColumn": "at"}"#).unwrap(), None);
        let now = of(r#"{"timeColumn": "at", "window": "2h", "until": ""}"#).unwrap().unwrap();
        assert_eq!(now.until - now.from, 7_200_000_000);
    }

    #[test]
    fn what_makes_no_window_is_refused() {
        for (text, message) in [
            (r#"{"window": "1d"}"#, "delta.window: it needs delta.timeColumn"),
            (r#"{"until": "2026-01-01"}"#, "delta.until: it needs delta.window"),
            (r#"{"timeColumn": "at", "window": "soon"}"#, "found 'soon', expected a time like 12h"),
            (r#"{"timeColumn": "at", "window": "0s"}"#, "found '0s', expected a time like 12h"),
            (r#"{"timeColumn": "at", "window": "1d", "until": "later"}"#, "found 'later', expected a time like 2026"),
        ] {
            let found = of(text).unwrap_err();
            assert!(found.contains(message), "{found}");
        }
    }
}
