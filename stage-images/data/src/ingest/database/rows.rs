//! Rows, as the text of their values, into the table.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};

use super::statement::{Mark, Plan};
use super::{DatabaseError, Read};
use crate::ingest::columns::ColumnBuilder;
use crate::ingest::source::check_size;
use crate::ingest::values;
use crate::say;
use crate::sink::{FolderSink, SinkError};
use crate::types::ColumnType;

const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 8 << 20;

/// Takes rows, and holds a batch of them at most.
pub struct Rows<'a> {
    name: String,
    plan: &'a Plan,
    limit: Option<u64>,
    schema: Arc<Schema>,
    builders: Vec<ColumnBuilder>,
    sink: FolderSink,
    held: usize,
    held_bytes: usize,
    read: u64,
    /// Rows that are not above the watermark.
    old: u64,
    bytes: u64,
    /// What rows are to be above, where the database does not compare it.
    above: Option<Key>,
    high: Option<(Key, String)>,
}

/// What orders values of the watermark's column.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Key {
    Whole(i64),
    Number(f64),
}

impl<'a> Rows<'a> {
    pub fn create(name: String, plan: &'a Plan, limit: Option<u64>, to: &Path) -> Result<Self, DatabaseError> {
        let field = |column: &super::statement::Found| Field::new(&column.name, column.column_type.arrow(), true);
        let schema = Arc::new(Schema::new(plan.columns.iter().map(field).collect::<Vec<_>>()));
        let builders = schema.fields().iter().map(|field| ColumnBuilder::new(field.data_type())).collect();
        let sink = FolderSink::create(to, &schema)?;
        let mark = plan.mark.as_ref().filter(|mark| !mark.compared);
        let above = mark.and_then(|mark| key(mark.above.as_deref()?, mark));
        Ok(Self {
            name,
            plan,
            limit,
            schema,
            builders,
            sink,
            held: 0,
            held_bytes: 0,
            read: 0,
            old: 0,
            bytes: 0,
            above,
            high: None,
        })
    }

    /// Where a row has the value that says whether it is new, if the database does not.
    pub fn compares(&self) -> Option<usize> {
        self.above.and(self.plan.mark.as_ref()).map(|mark| mark.index)
    }

    /// Whether a row with this value in the watermark's column is new. One that is not is left out.
    pub fn is_new(&mut self, value: &str) -> Result<bool, DatabaseError> {
        let (Some(above), Some(mark)) = (self.above, &self.plan.mark) else { return Ok(true) };
        let key = key(value, mark).ok_or_else(|| self.no_mark(value, mark, self.number()))?;
        let new = key > above;
        self.old += u64::from(!new);
        Ok(new)
    }

    /// The number of the row that comes next, from 1.
    pub fn number(&self) -> u64 {
        self.read + self.old + 1
    }

    fn no_mark(&self, value: &str, mark: &Mark, row: u64) -> DatabaseError {
        DatabaseError::Value {
            name: self.name.clone(),
            row,
            column: mark.name.clone(),
            found: say::excerpt(value, 60),
            expected: mark.column_type.word(),
        }
    }

    /// Takes a row: a value, or none, for each column of the plan, and the watermark's after them if it is none of those.
    pub fn push<S: AsRef<str>>(&mut self, row: &[Option<S>]) -> Result<(), DatabaseError> {
        let number = self.number();
        self.read += 1;
        for (index, builder) in self.builders.iter_mut().enumerate() {
            let column = &self.plan.columns[index];
            let value = row.get(index).and_then(Option::as_ref).map(AsRef::as_ref);
            let value = value.and_then(|value| plain(value, column.column_type));
            let Some(value) = value else {
                builder.push_null();
                continue;
            };
            if !builder.push(value) {
                return Err(DatabaseError::Value {
                    name: self.name.clone(),
                    row: number,
                    column: column.name.clone(),
                    found: say::excerpt(value, 60),
                    expected: column.column_type.word(),
                });
            }
            self.held_bytes += value.len();
        }
        if let Some(mark) = &self.plan.mark {
            let value = row.get(mark.index).and_then(Option::as_ref).map(AsRef::as_ref).unwrap_or_default();
            let key = key(value, mark).ok_or_else(|| self.no_mark(value, mark, number))?;
            if self.high.as_ref().is_none_or(|(high, _)| key > *high) {
                self.high = Some((key, value.to_owned()));
            }
        }
        self.held += 1;
        if self.held == BATCH_ROWS || self.held_bytes > BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Counts bytes that came from the database.
    pub fn count(&mut self, bytes: usize) -> Result<(), DatabaseError> {
        self.bytes += bytes as u64;
        Ok(check_size(&self.name, self.bytes, self.limit)?)
    }

    fn flush(&mut self) -> Result<(), DatabaseError> {
        let columns = self.builders.iter_mut().map(ColumnBuilder::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(SinkError::Cast)?;
        self.sink.write(&batch)?;
        (self.held, self.held_bytes) = (0, 0);
        Ok(())
    }

    pub fn finish(mut self) -> Result<Read, DatabaseError> {
        if self.held > 0 {
            self.flush()?;
        }
        self.sink.finish()?;
        let given = self.plan.mark.as_ref().and_then(|mark| mark.above.clone());
        let watermark = self.high.map(|(_, text)| text).or(given);
        Ok(Read { rows: self.read, schema: self.schema, watermark })
    }
}

/// A value in the words of the other formats; none for NaN, which is what missing numbers are.
fn plain(value: &str, column_type: ColumnType) -> Option<&str> {
    match (column_type, value) {
        (ColumnType::Boolean, "t" | "1") => Some("true"),
        (ColumnType::Boolean, "f" | "0") => Some("false"),
        (ColumnType::Number, "NaN") => None,
        _ => Some(value),
    }
}

fn key(value: &str, mark: &Mark) -> Option<Key> {
    match mark.column_type {
        ColumnType::Integer => values::integer(value).map(Key::Whole),
        ColumnType::Number => values::number(value).map(Key::Number),
        ColumnType::Date => values::date(value).map(|days| Key::Whole(days.into())),
        ColumnType::Timestamp => values::timestamp(value).map(Key::Whole),
        ColumnType::String | ColumnType::Boolean => None,
    }
}
