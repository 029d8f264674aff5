//! What a commit says of a file: how many rows, missing values, and the bounds of whole numbers, dates and times.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use jiff::Timestamp;
use jiff::civil::date;
use serde_json::{Map, Value, json};

/// Grows by batches.
#[derive(Debug, Default)]
pub struct Stats {
    pub rows: u64,
    missing: BTreeMap<String, u64>,
    bounds: BTreeMap<String, (i64, i64, DataType)>,
}

impl Stats {
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows() as u64;
        let schema = batch.schema();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            *self.missing.entry(field.name().clone()).or_default() += column.null_count() as u64;
            let counted = match field.data_type() {
                kind if kind.is_integer() => cast(column, &DataType::Int64)?,
                DataType::Date32 => cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?,
                DataType::Timestamp(_, _) => cast(column, &DataType::Int64)?,
                _ => continue,
            };
            let counted = counted.as_primitive::<Int64Type>();
            let (Some(least), Some(largest)) = (min(counted), max(counted)) else { continue };
            let bounds = self.bounds.entry(field.name().clone());
            let bounds = bounds.or_insert_with(|| (least, largest, field.data_type().clone()));
            (bounds.0, bounds.1) = (bounds.0.min(least), bounds.1.max(largest));
        }
        Ok(())
    }

    /// As JSON in a text.
    pub fn finish(&self) -> String {
        let bound = |largest: bool| -> Map<String, Value> {
            let all = self.bounds.iter().filter_map(|(name, (least, most, kind))| {
                Some((name.clone(), word(if largest { *most } else { *least }, kind, largest)?))
            });
            all.collect()
        };
        let (least, largest) = (bound(false), bound(true));
        json!({ "numRecords": self.rows, "minValues": least, "maxValues": largest, "nullCount": self.missing })
            .to_string()
    }
}

/// A value as a table's statistics have it. Times have milliseconds there: the least is cut, the largest goes up.
fn word(value: i64, kind: &DataType, largest: bool) -> Option<Value> {
    match kind {
        DataType::Date32 => {
            let day = date(1970, 1, 1).checked_add(jiff::Span::new().try_days(value).ok()?).ok()?;
            Some(json!(day.to_string()))
        }
        DataType::Timestamp(_, _) => {
            let up = i64::from(largest && value.rem_euclid(1000) > 0);
            let at = Timestamp::from_millisecond(value.div_euclid(1000) + up).ok()?;
            Some(json!(at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()))
        }
        _ => Some(json!(value)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Int32Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn bounds_hold_every_value_of_all_batches() {
        let batch = |number: i32, at: i64| {
            let columns: [(&str, ArrayRef); 4] = [
                ("n", Arc::new(Int32Array::from(vec![Some(number), None]))),
                ("day", Arc::new(Date32Array::from(vec![number, 0]))),
                ("at", Arc::new(TimestampMicrosecondArray::from(vec![at, at]).with_timezone("UTC"))),
                ("text", Arc::new(StringArray::from(vec!["a", "b"]))),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let mut stats = Stats::default();
        stats.add(&batch(-1, 1)).unwrap();
        stats.add(&batch(7, 1_500_001)).unwrap();
        let found: Value = serde_json::from_str(&stats.finish()).unwrap();
        assert_eq!(
            found,
            json!({
                "numRecords": 4,
                "minValues": {"n": -1, "day": "1969-12-31", "at": "1970-01-01T00:00:00.000Z"},
                "maxValues": {"n": 7, "day": "1970-01-08", "at": "1970-01-01T00:00:01.501Z"},
                "nullCount": {"n": 2, "day": 0, "at": 0, "text": 0}
            })
        );
    }
}
