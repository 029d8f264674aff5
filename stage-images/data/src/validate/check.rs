//! From an expectation as written to one check that is known to make sense. No data is read here.

use std::time::Duration;

use serde_json::Value;

use super::params::{Bounds, ColumnRule, Columns, Expectation, Severity};
use crate::types::ColumnType;

/// What is wrong with an expectation; the caller adds which one it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error(
        "has no check; write one of type, notNull, maxNullFraction, min, max, unique, allowed, matches, rows, freshness, columns, sql"
    )]
    NoCheck,
    #[error("has {0}: write one expectation for each check")]
    SeveralChecks(String),
    #[error("has `{check}` but no `column`; add column: <name>")]
    NoColumn { check: &'static str },
    #[error("has `{key}`, which does not go with `{check}`; leave it out")]
    Stray { key: &'static str, check: &'static str },
    #[error("{key}: found {found}, expected {expected}")]
    Value { key: &'static str, found: String, expected: &'static str },
}

/// One check with what it needs.
#[derive(Clone, Debug)]
pub struct Check {
    pub name: String,
    pub severity: Severity,
    pub rule: Rule,
}

#[derive(Clone, Debug)]
pub enum Rule {
    Type { column: String, expected: ColumnType },
    Nulls { column: String, max_fraction: f64 },
    Range { column: String, min: Option<Value>, max: Option<Value> },
    Unique { columns: Vec<String> },
    Allowed { column: String, values: Vec<Value> },
    Matches { column: String, pattern: String },
    Rows { min: Option<u64>, max: Option<u64> },
    Freshness { column: String, max_age: Duration, written: String },
    Columns(ColumnRule),
    Sql { sql: String, max_rows: u64 },
}

impl Rule {
    /// The columns that must be in the table for this check to be made.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Type { column, .. }
            | Self::Nulls { column, .. }
            | Self::Range { column, .. }
            | Self::Allowed { column, .. }
            | Self::Matches { column, .. }
            | Self::Freshness { column, .. } => vec![column],
            Self::Unique { columns } => columns.iter().map(String::as_str).collect(),
            Self::Rows { .. } | Self::Columns(_) | Self::Sql { .. } => Vec::new(),
        }
    }
}

impl TryFrom<&Expectation> for Check {
    type Error = CheckError;

    fn try_from(written: &Expectation) -> Result<Self, CheckError> {
        let rule = rule(written)?;
        let name = written.name.clone().unwrap_or_else(|| default_name(&rule));
        Ok(Self { name, severity: written.severity, rule })
    }
}

fn rule(written: &Expectation) -> Result<Rule, CheckError> {
    let keys = present(written);
    let kind = match keys.as_slice() {
        [] => return Err(CheckError::NoCheck),
        [one] => *one,
        many => return Err(CheckError::SeveralChecks(many.join(" and "))),
    };
    if written.max_rows.is_some() && kind != "sql" {
        return Err(CheckError::Stray { key: "maxRows", check: kind });
    }
    let column = || written.column.clone().ok_or(CheckError::NoColumn { check: kind });
    let no_column = || match written.column {
        Some(_) => Err(CheckError::Stray { key: "column", check: kind }),
        None => Ok(()),
    };
    if kind != "unique" && kind != "columns" && written.columns.is_some() {
        return Err(CheckError::Stray { key: "columns", check: kind });
    }
    let expectation = written.clone();
    Ok(match kind {
        "type" => Rule::Type { column: column()?, expected: written.column_type.ok_or(CheckError::NoCheck)? },
        "notNull" => {
            if written.not_null == Some(false) {
                return Err(only_true("notNull"));
            }
            Rule::Nulls { column: column()?, max_fraction: 0.0 }
        }
        "maxNullFraction" => {
            let max_fraction = written.max_null_fraction.unwrap_or_default();
            if !(0.0..=1.0).contains(&max_fraction) {
                return Err(CheckError::Value {
                    key: "maxNullFraction",
                    found: max_fraction.to_string(),
                    expected: "a number from 0 to 1",
                });
            }
            Rule::Nulls { column: column()?, max_fraction }
        }
        "min/max" => {
            for (key, bound) in [("min", &written.min), ("max", &written.max)] {
                if let Some(bound) = bound.as_ref().filter(|bound| !bound.is_number() && !bound.is_string()) {
                    return Err(CheckError::Value {
                        key,
                        found: bound.to_string(),
                        expected: "a number, or a date or timestamp as text",
                    });
                }
            }
            Rule::Range { column: column()?, min: expectation.min, max: expectation.max }
        }
        "unique" => {
            if written.unique == Some(false) {
                return Err(only_true("unique"));
            }
            match (&written.column, &written.columns) {
                (Some(column), None) => Rule::Unique { columns: vec![column.clone()] },
                (None, Some(Columns::Names(columns))) if !columns.is_empty() => {
                    Rule::Unique { columns: columns.clone() }
                }
                _ => return Err(CheckError::NoColumn { check: "unique" }),
            }
        }
        "allowed" => {
            let values = expectation.allowed.unwrap_or_default();
            if values.is_empty() || values.iter().any(|value| value.is_null() || value.is_array() || value.is_object())
            {
                return Err(CheckError::Value {
                    key: "allowed",
                    found: Value::Array(values).to_string(),
                    expected: "a list of texts, numbers or booleans",
                });
            }
            Rule::Allowed { column: column()?, values }
        }
        "matches" => Rule::Matches { column: column()?, pattern: expectation.matches.unwrap_or_default() },
        "rows" => {
            no_column()?;
            let Bounds { min, max } = written.rows.unwrap_or(Bounds { min: None, max: None });
            if min.is_none() && max.is_none() {
                return Err(CheckError::Value { key: "rows", found: "{}".into(), expected: "min, max or both" });
            }
            Rule::Rows { min, max }
        }
        "freshness" => {
            no_column()?;
            let Some(freshness) = expectation.freshness else { return Err(CheckError::NoCheck) };
            let max_age = duration(&freshness.max_age)?;
            Rule::Freshness { column: freshness.column, max_age, written: freshness.max_age }
        }
        "columns" => {
            no_column()?;
            match expectation.columns {
                Some(Columns::Rule(rule)) => Rule::Columns(rule),
                _ => return Err(CheckError::NoCheck),
            }
        }
        _ => {
            no_column()?;
            Rule::Sql { sql: expectation.sql.unwrap_or_default(), max_rows: written.max_rows.unwrap_or(0) }
        }
    })
}

/// The checks whose keys are there.
fn present(written: &Expectation) -> Vec<&'static str> {
    // Destructured: a new key must say here which check it makes.
    let Expectation {
        name: _,
        severity: _,
        column: _,
        columns,
        column_type,
        not_null,
        max_null_fraction,
        min,
        max,
        unique,
        allowed,
        matches,
        rows,
        freshness,
        sql,
        max_rows: _,
    } = written;
    [
        ("type", column_type.is_some()),
        ("notNull", not_null.is_some()),
        ("maxNullFraction", max_null_fraction.is_some()),
        ("min/max", min.is_some() || max.is_some()),
        ("unique", unique.is_some()),
        ("allowed", allowed.is_some()),
        ("matches", matches.is_some()),
        ("rows", rows.is_some()),
        ("freshness", freshness.is_some()),
        ("columns", matches!(columns, Some(Columns::Rule(_)))),
        ("sql", sql.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, there)| there.then_some(key))
    .collect()
}

fn only_true(key: &'static str) -> CheckError {
    CheckError::Value { key, found: "false".into(), expected: "true, or no such expectation" }
}

fn duration(text: &str) -> Result<Duration, CheckError> {
    let wrong = || CheckError::Value {
        key: "freshness.maxAge",
        found: format!("'{}'", crate::say::excerpt(text, 40)),
        expected: "a duration like 24h, 90m or 7d",
    };
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    // A day is 24 hours: there is no calendar in an age.
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).map_err(|_| wrong())
}

fn default_name(rule: &Rule) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    match rule {
        Rule::Type { column, expected } => format!("{column} is of type {}", expected.word()),
        Rule::Nulls { column, max_fraction } if *max_fraction == 0.0 => format!("{column} is not null"),
        Rule::Nulls { column, max_fraction } => format!("{column} is null in at most {max_fraction} of the rows"),
        Rule::Range { column, min: Some(min), max: Some(max) } => {
            format!("{column} is from {} to {}", plain(min), plain(max))
        }
        Rule::Range { column, min: Some(min), .. } => format!("{column} is at least {}", plain(min)),
        Rule::Range { column, max, .. } => {
            format!("{column} is at most {}", max.as_ref().map(plain).unwrap_or_default())
        }
        Rule::Unique { columns } => format!("{} is unique", columns.join(" + ")),
        Rule::Allowed { column, .. } => format!("{column} has only allowed values"),
        Rule::Matches { column, pattern } => format!("{column} matches {pattern}"),
        Rule::Rows { min: Some(min), max: Some(max) } => format!("there are {min} to {max} rows"),
        Rule::Rows { min: Some(min), .. } => format!("there are at least {min} rows"),
        Rule::Rows { max, .. } => format!("there are at most {} rows", max.unwrap_or_default()),
        Rule::Freshness { column, written, .. } => format!("{column} is at most {written} old"),
        Rule::Columns(ColumnRule::Exactly(names)) => format!("the columns are exactly {}", names.join(", ")),
        Rule::Columns(ColumnRule::Include(names)) => format!("the columns include {}", names.join(", ")),
        Rule::Sql { sql, .. } => format!("no rows from {}", crate::say::excerpt(sql, 60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::parse;
    use crate::validate::Params;

    fn check(json: &str) -> Result<Check, String> {
        let params: Params =
            parse("validate", &format!("{{\"expectations\": [{json}]}}")).map_err(|error| error.to_string())?;
        Check::try_from(&params.expectations[0]).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_of_check_is_read_and_named() {
        for (json, name) in [
            (r#"{"column": "a", "type": "integer"}"#, "a is of type integer"),
            (r#"{"column": "a", "notNull": true}"#, "a is not null"),
            (r#"{"column": "a", "maxNullFraction": 0.1}"#, "a is null in at most 0.1 of the rows"),
            (r#"{"column": "a", "min": 0, "max": 10}"#, "a is from 0 to 10"),
            (r#"{"column": "a", "max": "2026-01-01"}"#, "a is at most 2026-01-01"),
            (r#"{"columns": ["a", "b"], "unique": true}"#, "a + b is unique"),
            (r#"{"column": "a", "allowed": ["x"]}"#, "a has only allowed values"),
            (r#"{"column": "a", "matches": "^x$"}"#, "a matches ^x$"),
            (r#"{"rows": {"min": 1}}"#, "there are at least 1 rows"),
            (r#"{"freshness": {"column": "t", "maxAge": "24h"}}"#, "t is at most 24h old"),
            (r#"{"columns": {"include": ["a"]}}"#, "the columns include a"),
            (r#"{"sql": "SELECT 1 FROM data", "name": "mine"}"#, "mine"),
        ] {
            assert_eq!(check(json).unwrap().name, name);
        }
    }

    #[test]
    fn an_expectation_has_exactly_one_check() {
        assert!(check(r#"{"column": "a"}"#).unwrap_err().contains("has no check; write one of type"));
        let two = check(r#"{"column": "a", "notNull": true, "unique": true}"#).unwrap_err();
        assert!(two.contains("has notNull and unique: write one expectation for each"), "{two}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_key() {
        for (json, words) in [
            (r#"{"notNull": true}"#, "has `notNull` but no `column`"),
            (r#"{"column": "a", "notNull": false}"#, "notNull: found false, expected true"),
            (r#"{"column": "a", "maxNullFraction": 2}"#, "found 2, expected a number from 0 to 1"),
            (r#"{"column": "a", "allowed": []}"#, "allowed: found [], expected a list"),
            (r#"{"column": "a", "rows": {"min": 1}}"#, "has `column`, which does not go with `rows`"),
            (r#"{"column": "a", "notNull": true, "maxRows": 1}"#, "has `maxRows`, which does not go with `notNull`"),
            (r#"{"freshness": {"column": "t", "maxAge": "soon"}}"#, "found 'soon', expected a duration like 24h"),
            (r#"{"column": "a", "min": [1]}"#, "min: found [1], expected a number"),
            (r#"{"column": "a", "mni": 1}"#, "expectations[0].mni: unknown field `mni`"),
            (r#"{"columns": {"only": ["a"]}}"#, "expected a list of columns"),
        ] {
            let message = check(json).unwrap_err();
            assert!(message.contains(words), "{json}: {message}");
        }
    }

    #[test]
    fn ages_are_read_as_people_write_them() {
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert!(duration("-1h").is_err());
    }
}
