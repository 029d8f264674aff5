//! SQLite: a file that is opened to read only, in one snapshot. Its columns have declared types, or none; its values have their own.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::rows::Rows;
use super::statement::{self, Dialect, Found, Plan};
use super::{DatabaseError, Read};
use crate::ingest::layout::check_names;
use crate::ingest::params::{Params, SqlParams};
use crate::say;
use crate::types::ColumnType;

/// A value may have this many bytes as text, as a record of a file may.
const VALUE_BYTES: usize = 16 << 20;
const HEX: &[u8; 16] = b"0123456789abcdef";

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
    let base = statement::base(Dialect::Sqlite, sql);
    // Not run: for its names alone, two of which would get another one below.
    let names =
        connection.prepare(&base).map_err(query)?.column_names().into_iter().map(ToOwned::to_owned).collect::<Vec<_>>();
    check_names(&name, &names)?;
    // As a part of another query it can only be one that selects.
    let base = format!("SELECT * FROM (\n{base}\n)");
    let declared = declared_columns(&connection, &base).map_err(query)?;
    let found = columns(&connection, &base, declared, sql, params).map_err(read)?;
    let plan = statement::plan(&name, Dialect::Sqlite, sql, params, &found)?;
    let mut rows = Rows::create(name.clone(), &plan, params.max_bytes, to)?;
    let mut selected = connection.prepare(&plan.query).map_err(query)?;
    let mut values = selected.query([]).map_err(query)?;
    let width = plan.columns.len() + 1;
    let mut texts: Vec<Option<String>> = Vec::with_capacity(width);
    while let Some(row) = values.next().map_err(read)? {
        if let Some(index) = rows.compares() {
            let value = row.get_ref(index).map_err(read)?;
            refuse_long(&name, &plan, rows.number(), index, value)?;
            if !rows.is_new(&text(value).unwrap_or_default())? {
                continue;
            }
        }
        // Before any of it is copied: one value may be a gigabyte.
        let mut bytes = 0;
        for index in 0..row.as_ref().column_count() {
            let value = row.get_ref(index).map_err(read)?;
            refuse_long(&name, &plan, rows.number(), index, value)?;
            bytes += length(value);
        }
        rows.count(bytes)?;
        texts.clear();
        for index in 0..row.as_ref().column_count() {
            texts.push(text(row.get_ref(index).map_err(read)?));
        }
        rows.push(&texts)?;
    }
    rows.finish()
}

fn refuse_long(name: &str, plan: &Plan, row: u64, index: usize, value: ValueRef) -> Result<(), DatabaseError> {
    let bytes = length(value);
    if bytes <= VALUE_BYTES {
        return Ok(());
    }
    let own = plan.columns.get(index).map(|column| &column.name);
    let own = own.or(plan.mark.as_ref().map(|mark| &mark.name));
    let column = own.map_or_else(String::new, |own| say::excerpt(own, 60));
    Err(DatabaseError::LongValue { name: name.to_owned(), row, column, bytes, limit: VALUE_BYTES })
}

/// The columns of a query, and what their declared types say.
fn declared_columns(connection: &Connection, base: &str) -> rusqlite::Result<Vec<(String, Option<ColumnType>)>> {
    let statement = connection.prepare(base)?;
    let columns = statement.columns();
    Ok(columns.iter().map(|column| (column.name().to_owned(), column.decl_type().and_then(declared))).collect())
}

/// Where a column that is wanted has no declared type, as the result of a calculation, its values are looked at: all of them, but
/// no more than `maxBytes`, beyond which the rows are not read either.
fn columns(
    connection: &Connection,
    base: &str,
    declared: Vec<(String, Option<ColumnType>)>,
    sql: &SqlParams,
    params: &Params,
) -> rusqlite::Result<Vec<Found>> {
    let wanted = |name: &String| {
        let kept = params.columns.as_ref().is_none_or(|columns| columns.contains(name));
        let typed = params.schema.as_ref().is_some_and(|schema| schema.contains_key(name));
        sql.watermark.as_ref().is_some_and(|mark| mark.column == *name) || (kept && !typed)
    };
    let unknown: Vec<String> =
        declared.iter().filter(|(name, known)| known.is_none() && wanted(name)).map(|(name, _)| name.clone()).collect();
    let seen = look(connection, base, &unknown, params.max_bytes)?;
    let of = |name: &str| {
        let index = unknown.iter().position(|own| own == name);
        index.map_or(ColumnType::String, |index| seen[index].result())
    };
    let found = |(name, known): (String, Option<ColumnType>)| {
        let column_type = known.unwrap_or_else(|| of(&name));
        Found { name, column_type }
    };
    Ok(declared.into_iter().map(found).collect())
}

/// The kinds of values in some columns. It ends early where no value can change what is known.
fn look(connection: &Connection, base: &str, names: &[String], limit: Option<u64>) -> rusqlite::Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); names.len()];
    if names.is_empty() {
        return Ok(seen);
    }
    let selected: Vec<String> = names.iter().map(|name| Dialect::Sqlite.quoted(name)).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM ({base}) AS source", selected.join(", ")))?;
    let mut rows = statement.query([])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        for (index, seen) in seen.iter_mut().enumerate().filter(|(_, seen)| !seen.other) {
            let value = row.get_ref(index)?;
            bytes += length(value) as u64;
            seen.see(value);
        }
        if seen.iter().all(|seen| seen.other) || limit.is_some_and(|limit| bytes > limit) {
            break;
        }
    }
    Ok(seen)
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

/// The bytes of a value as text. A number counts as SQLite holds it.
fn length(value: ValueRef) -> usize {
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(bytes) => bytes.len(),
        ValueRef::Blob(bytes) => 2 + 2 * bytes.len(),
    }
}

/// A value as text; bytes in hexadecimal.
fn text(value: ValueRef) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => {
            let mut hex = String::with_capacity(length(value));
            hex.push_str("\\x");
            for byte in bytes {
                hex.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)])));
            }
            Some(hex)
        }
    }
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
