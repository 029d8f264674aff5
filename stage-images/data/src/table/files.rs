//! Rows as a table's own files: in its types, with the bounds by which readers leave files out.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, SchemaRef};
use serde_json::{Value, json};

use super::stats::Stats;
use super::{Table, TableError};
use crate::sink::FolderSink;
use crate::{dataset, say, types};

const BATCH_ROWS: usize = 8192;

impl Table {
    /// Writes the rows of a folder as files of the table: the actions that name them.
    pub(super) async fn write(&self, staged: &Path, schema: &SchemaRef, work: &Path) -> Result<Vec<Value>, TableError> {
        let mut actions = Vec::new();
        for (number, file) in dataset::files(staged)?.into_iter().enumerate() {
            let stats = self.convert(&file, number, schema, work)?;
            let made = work.join(format!("part-{number:05}.parquet"));
            if stats.rows > 0 {
                let path = format!("part-{}.parquet", random());
                let size = self.bring(&made, &path).await?;
                let modified = jiff::Timestamp::now().as_millisecond();
                actions.push(json!({ "add": {
                    "path": path, "partitionValues": {}, "size": size, "modificationTime": modified, "dataChange": true,
                    "stats": stats.finish()
                } }));
            }
            // Room for the next one.
            let _ = std::fs::remove_file(made);
        }
        Ok(actions)
    }

    /// One file in the table's columns.
    fn convert(&self, file: &Path, number: usize, schema: &SchemaRef, work: &Path) -> Result<Stats, TableError> {
        let mut stats = Stats::default();
        let mut sink = FolderSink::part(work, number, schema)?;
        for batch in dataset::batches(file, BATCH_ROWS)? {
            let batch = self.conform(&batch?, schema)?;
            stats.add(&batch)?;
            sink.write(&batch)?;
        }
        sink.finish()?;
        Ok(stats)
    }

    /// A batch in the table's columns and types. What would be damaged by that is refused.
    fn conform(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, TableError> {
        let own = batch.schema();
        if let Some(new) = own.fields().iter().find(|field| schema.column_with_name(field.name()).is_none()) {
            return Err(TableError::NewColumn {
                name: self.name.clone(),
                column: say::excerpt(new.name(), 60),
                known: say::names(schema.fields().iter().map(|field| field.name())),
            });
        }
        let columns = schema.fields().iter().map(|field| self.column(batch, field)).collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }

    fn column(&self, batch: &RecordBatch, field: &Field) -> Result<ArrayRef, TableError> {
        let (name, column) = (self.name.clone(), say::excerpt(field.name(), 60));
        let wanted = field.data_type();
        let values = match batch.column_by_name(field.name()) {
            None => new_null_array(wanted, batch.num_rows()),
            Some(found) if found.data_type() == wanted => found.clone(),
            // Nobody knows the type of a column without values.
            Some(found) if found.null_count() == found.len() => new_null_array(wanted, found.len()),
            Some(found) => {
                let (own, expected) = (types::word(found.data_type()), types::word(wanted));
                if damages(found.data_type(), wanted) {
                    return Err(TableError::ColumnType { name, column, found: own, expected });
                }
                let options = CastOptions { safe: false, ..CastOptions::default() };
                cast_with_options(found, wanted, &options).map_err(|source| TableError::Value {
                    name: name.clone(),
                    column: column.clone(),
                    found: own,
                    expected,
                    source,
                })?
            }
        };
        match values.null_count() {
            count if count > 0 && !field.is_nullable() => Err(TableError::Missing { name, column, count }),
            _ => Ok(values),
        }
    }
}

/// A name that nobody has: 128 bits of the machine's randomness in hex.
pub(crate) fn random() -> String {
    let bits = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", bits(), bits())
}

/// Whether a cast takes something of a value away without a word.
fn damages(from: &DataType, to: &DataType) -> bool {
    let time = |other: &DataType| matches!(other, DataType::Timestamp(_, _));
    let digits = |own: i8| (own > 0 && to.is_integer()) || scale(to).is_some_and(|other| other < own);
    scale(from).is_some_and(digits)
        || (from.is_floating() && (to.is_integer() || matches!(to, DataType::Decimal128(_, _))))
        || (time(from) && matches!(to, DataType::Date32))
        || (time(from) && to.is_numeric())
}

/// Digits behind the point, of a type that says how many.
fn scale(kind: &DataType) -> Option<i8> {
    match kind {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn what_would_lose_a_part_of_a_value_is_refused() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (from, to, refused) in [
            (DataType::Float64, DataType::Int64, true),
            (time.clone(), DataType::Date32, true),
            (time, DataType::Int64, true),
            (DataType::Decimal128(10, 2), DataType::Int64, true),
            (DataType::Decimal256(40, 3), DataType::Decimal128(12, 2), true),
            (DataType::Decimal128(10, 2), DataType::Decimal128(12, 2), false),
            (DataType::Decimal128(10, 0), DataType::Int64, false),
            (DataType::Int64, DataType::Float64, false),
            (DataType::Int64, DataType::Int32, false),
            (DataType::Date32, DataType::Utf8, false),
        ] {
            assert_eq!(damages(&from, &to), refused, "{from} {to}");
        }
    }

    #[test]
    fn names_are_not_given_twice() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(|_| random()).collect();
        assert_eq!(names.len(), 1000);
    }
}
