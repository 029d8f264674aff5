//! Rows of a time: the files that cannot have any are left out by their bounds, and of the others the rows.

use arrow::array::{Date32Array, RecordBatch, Scalar, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::boolean::and;
use arrow::compute::kernels::cmp::{gt_eq, lt};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::error::ArrowError;
use serde_json::Value;

use super::TableError;
use super::snapshot::Add;
use crate::ingest::values;
use crate::types;

const DAY: i64 = 86_400_000_000;
/// Bounds of a file have milliseconds.
const SLACK: i64 = 1000;

/// From a time on, up to another one that does not belong to it: microseconds since 1970 in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub column: String,
    pub from: i64,
    pub until: i64,
}

impl Window {
    /// The column is one of times.
    pub(super) fn check(&self, schema: &Schema) -> Result<(), TableError> {
        match schema.field_with_name(&self.column)?.data_type() {
            DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(()),
            other => Err(TableError::TimeColumn { column: self.column.clone(), found: types::word(other) }),
        }
    }

    /// False where the file says of itself that it has no such row: by its partition, or its least and largest value.
    pub(super) fn may_have(&self, file: &Add) -> bool {
        let time = |text: &str| values::timestamp(text).or_else(|| values::date(text).map(|day| i64::from(day) * DAY));
        let (least, largest) = if let Some(value) = file.partition_values.get(&self.column) {
            let at = value.as_deref().and_then(time);
            (at, at)
        } else {
            let stats = file.stats.as_deref().and_then(|stats| serde_json::from_str::<Value>(stats).ok());
            let bound = |of: &str| stats.as_ref()?.get(of)?.get(&self.column)?.as_str().and_then(time);
            (bound("minValues"), bound("maxValues"))
        };
        least.is_none_or(|least| least < self.until)
            && largest.is_none_or(|largest| largest.saturating_add(SLACK) >= self.from)
    }

    /// The rows that lie in it. One without a time does not.
    pub(super) fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let missing = || ArrowError::SchemaError(format!("the column {} is not read", self.column));
        let column = batch.column_by_name(&self.column).ok_or_else(missing)?;
        let within = match column.data_type() {
            DataType::Date32 => {
                let bound = |time| Scalar::new(Date32Array::from(vec![days(time)]));
                and(&gt_eq(column, &bound(self.from))?, &lt(column, &bound(self.until))?)?
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let bound =
                    |time| Scalar::new(TimestampMicrosecondArray::from(vec![time]).with_timezone_opt(zone.clone()));
                and(&gt_eq(column, &bound(self.from))?, &lt(column, &bound(self.until))?)?
            }
            other => return Err(ArrowError::SchemaError(format!("the column {} is {other}", self.column))),
        };
        filter_record_batch(batch, &within)
    }
}

/// The first day whose first moment is not before a time.
fn days(time: i64) -> i32 {
    i32::try_from(time.div_euclid(DAY) + i64::from(time.rem_euclid(DAY) > 0)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;

    use super::*;

    fn window(from: i64, until: i64) -> Window {
        Window { column: "at".into(), from, until }
    }

    fn kept(column: ArrayRef, from: i64, until: i64) -> usize {
        let batch = RecordBatch::try_from_iter_with_nullable([("at", column, true)]).unwrap();
        window(from, until).keep(&batch).unwrap().num_rows()
    }

    #[test]
    fn the_end_does_not_belong_to_it_and_a_row_without_a_time_is_in_none() {
        let times = TimestampMicrosecondArray::from(vec![Some(9), Some(10), Some(19), Some(20), None]);
        assert_eq!(kept(Arc::new(times.clone()), 10, 20), 2);
        assert_eq!(kept(Arc::new(times.with_timezone("UTC")), 10, 20), 2);
    }

    #[test]
    fn a_date_counts_as_its_first_moment() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(-1), Some(0), Some(1), Some(2), None]));
        assert_eq!(kept(days.clone(), 0, DAY), 1);
        assert_eq!(kept(days.clone(), 1, 2 * DAY + 1), 2);
        assert_eq!(kept(days, -DAY, DAY + 1), 3);
    }

    #[test]
    fn a_file_is_left_out_only_where_it_says_enough() {
        let file = |stats: &str| Add { stats: Some(stats.to_owned()), ..Add::default() };
        let bounds = file(
            r#"{"minValues": {"at": "1970-01-02T00:00:00.000Z"}, "maxValues": {"at": "1970-01-02T12:00:00.000Z"}}"#,
        );
        assert!(window(DAY, 2 * DAY).may_have(&bounds) && window(0, DAY + 1).may_have(&bounds));
        assert!(!window(0, DAY).may_have(&bounds) && !window(2 * DAY, 3 * DAY).may_have(&bounds));
        // The largest value may have been cut to milliseconds.
        assert!(window(DAY + DAY / 2 + 999, 3 * DAY).may_have(&bounds));
        assert!(window(5, 6).may_have(&file("{}")) && window(5, 6).may_have(&Add::default()));
        let partition =
            |day: &str| Add { partition_values: [("at".to_owned(), Some(day.to_owned()))].into(), ..Add::default() };
        assert!(window(DAY, 2 * DAY).may_have(&partition("1970-01-02")));
        assert!(!window(DAY + SLACK + 1, 2 * DAY).may_have(&partition("1970-01-02")));
    }
}
