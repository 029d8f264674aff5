//! What is learned of categories with a target: its mean in each.

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::categories::{Category, MOST_CATEGORIES, keys};
use super::sample::{Sample, number, text};
use super::{FitError, Fitter};
use crate::features::op::{Kind, Op};
use crate::features::params::Encode;
use crate::profile::query::{Answers, quoted};
use crate::say;
use crate::types::ColumnType;

/// Rows of the whole table's mean that a category's mean is mixed with.
const SMOOTH: f64 = 10.0;

impl Fitter<'_> {
    /// The mean of the target in each category, mixed with the whole mean as if `smooth` rows of that were in it.
    pub(super) async fn target_means(&self, step: usize, given: &Encode, column: String) -> Result<Op, FitError> {
        let smooth = given.smooth.unwrap_or(SMOOTH);
        let target = self.target_number(step).await?;
        let value = match self.kind(&column) {
            Kind::Text => text(&column),
            Kind::Number => number(&column),
        };
        let rows = format!("SELECT {value} AS v, {target} AS y FROM current");
        let whole = Answers(self.sample().one(&format!("SELECT avg(y) AS m FROM ({rows})")).await?).number("m");
        let whole = whole.ok_or_else(|| FitError::Step {
            step,
            option: "encode",
            reason: "the target has no value in any row; filter the rows, or encode: onehot".into(),
        })?;
        let most = MOST_CATEGORIES;
        let query = format!(
            "SELECT v, count(y) AS n, avg(y) AS m FROM ({rows}) WHERE y IS NOT NULL AND v IS NOT NULL GROUP BY v ORDER BY n DESC, v LIMIT {most}"
        );
        let (mut categories, mut values) = (Vec::new(), Vec::new());
        let mut failed = None;
        let sample: Sample = self.sample();
        sample
            .each(&query, |batch| {
                let counts = batch.column(1).as_primitive::<Int64Type>().values();
                let means = batch.column(2).as_primitive::<Float64Type>().values();
                let mixed = counts.iter().zip(means).map(|(count, mean)| {
                    let count = *count as f64;
                    #[allow(clippy::cast_possible_truncation, reason = "the graph computes in float32")]
                    let mixed = ((count * mean + smooth * whole) / (count + smooth)) as f32;
                    mixed
                });
                values.extend(mixed);
                match cast(batch.column(0), &DataType::Utf8) {
                    Ok(own) if batch.column(0).data_type() != &DataType::Float64 => {
                        let own = own.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned());
                        categories.extend(own.map(Category::Text));
                    }
                    Ok(_) => categories.extend(
                        batch.column(0).as_primitive::<Float64Type>().values().iter().copied().map(Category::Number),
                    ),
                    Err(error) => failed = Some(error),
                }
            })
            .await?;
        if let Some(error) = failed {
            return Err(datafusion::error::DataFusionError::from(error).into());
        }
        #[allow(clippy::cast_possible_truncation, reason = "the graph computes in float32")]
        let unknown = whole as f32;
        Ok(Op::Replace { column, keys: keys(&categories), values, unknown })
    }

    /// The target as a number: of two texts the greater one is 1.
    async fn target_number(&self, step: usize) -> Result<String, FitError> {
        let wrong = |reason: String| FitError::Step { step, option: "encode", reason };
        let Some((target, of)) = &self.target else {
            return Err(wrong("encode: target needs the parameter target: the column whose mean it takes".into()));
        };
        match of {
            ColumnType::Integer | ColumnType::Number | ColumnType::Boolean => Ok(number(target)),
            ColumnType::String => {
                let classes = self.sample().words(target, 4).await?.values;
                let mut classes: Vec<&String> =
                    classes.iter().map(|(class, _)| class).filter(|class| !class.is_empty()).collect();
                classes.sort();
                let [_, positive] = classes.as_slice() else {
                    let found = say::names(&classes);
                    return Err(wrong(format!(
                        "encode: target takes numbers, booleans or two classes, and `{target}` has other classes ({found}); write encode: onehot"
                    )));
                };
                let own = text(target);
                let positive = positive.replace('\'', "''");
                Ok(format!("CASE WHEN {own} = '{positive}' THEN 1.0 WHEN {own} <> '' THEN 0.0 END"))
            }
            ColumnType::Date | ColumnType::Timestamp => Err(wrong(format!(
                "encode: target takes numbers, booleans or two classes, and {} is a time",
                quoted(target)
            ))),
        }
    }
}
