//! SQLite: a file that is opened to read only, in one snapshot. Its columns have declared types, or none; its values have their own.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row, Statement};

use super::rows::Rows;
use super::statement::{self, Found};
use super::{DatabaseError, Read};
use crate::ingest::layout::check_names;
use crate::ingest::params::{Params, SqlParams};
use crate::types::ColumnType;

pub fn ingest(path: &Path, sql: &SqlParams, params: &Params, to: &Path) -> Result<Read, DatabaseError> {
    let name = path.display().to_string();
    if !path.is_file() {
        return Err(DatabaseError::NoFile { path: name });
    }
    let opened = |source| DatabaseError::SqliteOpen { path: name.clone(), source };
    let query = |source| DatabaseError::SqliteQuery { path: name.clone(), source };
    let read = |source| DatabaseError::SqliteRead { path: name.clone(), source };
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(opened)?;
    // Its first read is what says that the file is no database.
    connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").map_err(opened)?;
    let base = statement::base(sql);
    // Not run: for its names alone, two of which would get another one below.
    let names =
        connection.prepare(&base).map_err(query)?.column_names().into_iter().map(ToOwned::to_owned).collect::<Vec<_>>();
    check_names(&name, &names)?;
    // As a part of another query it can only be one that selects.
    let base = format!("SELECT * FROM (\n{base}\n)");
    let found = {
        let mut statement = connection.prepare(&base).map_err(query)?;
        columns(&mut statement).map_err(read)?
    };
    let plan = statement::plan(&name, sql, params, &found)?;
    let mut rows = Rows::create(name.clone(), &plan, params.max_bytes, to)?;
    let mut selected = connection.prepare(&plan.query).map_err(query)?;
    let mut values = selected.query([]).map_err(query)?;
    let width = plan.columns.len() + 1;
    let mut texts: Vec<Option<String>> = Vec::with_capacity(width);
    while let Some(row) = values.next().map_err(read)? {
        texts.clear();
        for index in 0..row.as_ref().column_count() {
            texts.push(text(row, index).map_err(read)?);
        }
        rows.count(texts.iter().flatten().map(String::len).sum())?;
        rows.push(&texts)?;
    }
    rows.finish()
}

/// The columns of a query. Where one has no declared type, as the result of a calculation, all its values are looked at.
fn columns(statement: &mut Statement) -> rusqlite::Result<Vec<Found>> {
    let declared: Vec<(String, Option<ColumnType>)> = statement
        .columns()
        .iter()
        .map(|column| (column.name().to_owned(), column.decl_type().and_then(declared)))
        .collect();
    let mut seen = vec![Seen::default(); declared.len()];
    if declared.iter().any(|(_, known)| known.is_none()) {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for (index, seen) in seen.iter_mut().enumerate() {
                seen.see(row.get_ref(index)?);
            }
        }
    }
    let found = declared.into_iter().zip(seen);
    Ok(found.map(|((name, known), seen)| Found { name, column_type: known.unwrap_or(seen.result()) }).collect())
}

/// What a declared type says, in the order of SQLite's own rules, with its words for booleans and times before them. NUMERIC
/// says nothing.
fn declared(declared: &str) -> Option<ColumnType> {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    match () {
        () if has(&["BOOL"]) => Some(ColumnType::Boolean),
        () if has(&["TIMESTAMP", "DATETIME"]) => Some(ColumnType::Timestamp),
        () if has(&["DATE"]) => Some(ColumnType::Date),
        () if has(&["INT"]) => Some(ColumnType::Integer),
        () if has(&["CHAR", "CLOB", "TEXT", "BLOB"]) => Some(ColumnType::String),
        () if has(&["REAL", "FLOA", "DOUB", "DEC"]) => Some(ColumnType::Number),
        () => None,
    }
}

/// The kinds of values in a column without a type.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    whole: bool,
    real: bool,
    other: bool,
}

impl Seen {
    fn see(&mut self, value: ValueRef) {
        match value {
            ValueRef::Null => {}
            ValueRef::Integer(_) => self.whole = true,
            ValueRef::Real(_) => self.real = true,
            ValueRef::Text(_) | ValueRef::Blob(_) => self.other = true,
        }
    }

    fn result(self) -> ColumnType {
        match self {
            Self { other: false, real: true, .. } => ColumnType::Number,
            Self { other: false, whole: true, .. } => ColumnType::Integer,
            Self { .. } => ColumnType::String,
        }
    }
}

/// A value as text; bytes in hexadecimal.
fn text(row: &Row, index: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("\\x{hex}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_those_that_people_write() {
        for (word, expected) in [
            ("INTEGER", Some(ColumnType::Integer)),
            ("unsigned big int", Some(ColumnType::Integer)),
            ("VARCHAR(20)", Some(ColumnType::String)),
            ("double precision", Some(ColumnType::Number)),
            ("DECIMAL(10,2)", Some(ColumnType::Number)),
            ("boolean", Some(ColumnType::Boolean)),
            ("datetime", Some(ColumnType::Timestamp)),
            ("DATE", Some(ColumnType::Date)),
            ("NUMERIC", None),
            ("", None),
        ] {
            assert_eq!(declared(word), expected, "{word}");
        }
    }

    #[test]
    fn a_column_without_a_type_has_that_of_its_values() {
        let seen = |values: &[ValueRef]| {
            let mut seen = Seen::default();
            for value in values {
                seen.see(*value);
            }
            seen.result()
        };
        assert_eq!(seen(&[ValueRef::Integer(1), ValueRef::Null]), ColumnType::Integer);
        assert_eq!(seen(&[ValueRef::Integer(1), ValueRef::Real(0.5)]), ColumnType::Number);
        assert_eq!(seen(&[ValueRef::Integer(1), ValueRef::Text(b"x")]), ColumnType::String);
        assert_eq!(seen(&[ValueRef::Null]), ColumnType::String);
    }
}
