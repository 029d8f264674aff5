//! Measures the columns of a table: one pass for what is counted of all of them, then one for each column's values.
//!
//! Memory is bounded: the engine groups on disk what does not fit, and nothing here keeps more than a few values a column.

use arrow::array::{AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::correlate::{Correlations, Matrix};
use super::query::{self, Answers, counts, number, quoted};
use super::spread::{Histogram, QUANTILES, Quantiles, Top};
use crate::types::ColumnType;
use crate::{engine, say};

/// Up to so many different values a column's are counted one by one; beyond that their number is an estimate
/// (`HyperLogLog`), and so are quantiles (t-digest).
pub const EXACT_VALUES: u64 = 1_000_000;
/// Number columns that are correlated with each other.
pub const CORRELATED_COLUMNS: usize = 50;
/// Columns that one query counts.
const AT_ONCE: usize = 50;
/// Characters of a value that are shown.
const SHOWN: usize = 60;

/// A column to measure.
#[derive(Clone, Debug)]
pub struct Asked {
    pub name: String,
    pub arrow: DataType,
}

/// What is known of a column.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub arrow: DataType,
    /// Rows that have a value. NaN is none.
    pub present: u64,
    /// Values that are infinite: in no other figure.
    pub infinite: u64,
    pub distinct: Option<Distinct>,
    pub what: What,
}

/// A number of different values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distinct {
    pub count: u64,
    pub exact: bool,
}

/// What there is to say about values of a type.
#[derive(Clone, Debug)]
pub enum What {
    Numbers(Numbers),
    /// The values that come most often, none if there are too many to count; of text the least and largest length, and the mean.
    Words {
        top: Vec<(String, u64)>,
        lengths: Option<[f64; 3]>,
    },
    /// The earliest and the latest.
    Times([String; 2]),
    /// There is no value, or none that this stage can compare.
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Numbers {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// Of a sample: divided by one less than the count.
    pub std: Option<f64>,
    pub quantiles: [f64; 5],
    /// Whether the quantiles are exact.
    pub exact: bool,
    pub histogram: Histogram,
}

/// The table `data` of an engine.
pub struct Measure<'a>(pub &'a SessionContext);

impl Measure<'_> {
    pub async fn rows(&self) -> Result<u64, DataFusionError> {
        Ok(Answers(self.one("SELECT count(*) AS rows FROM data").await?).whole("rows"))
    }

    /// Rows that are the same as an earlier one in all these columns.
    pub async fn duplicates(&self, columns: &[String], rows: u64) -> Result<u64, DataFusionError> {
        let all: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        let all = all.join(", ");
        let query = format!("SELECT count(*) AS different FROM (SELECT {all} FROM data GROUP BY {all})");
        Ok(rows.saturating_sub(Answers(self.one(&query).await?).whole("different")))
    }

    pub async fn columns(&self, asked: &[Asked]) -> Result<Vec<Column>, DataFusionError> {
        let mut measured = Vec::with_capacity(asked.len());
        for some in asked.chunks(AT_ONCE) {
            let counts: Vec<String> =
                some.iter().enumerate().flat_map(|(index, column)| counts(index, column)).collect();
            let answers = Answers(self.one(&format!("SELECT {} FROM data", counts.join(", "))).await?);
            for (index, column) in some.iter().enumerate() {
                measured.push(self.column(column, &answers, index).await?);
            }
        }
        Ok(measured)
    }

    async fn column(&self, asked: &Asked, answers: &Answers, index: usize) -> Result<Column, DataFusionError> {
        let Asked { name, arrow } = asked;
        let present = answers.whole(&format!("present_{index}"));
        let infinite = answers.whole(&format!("infinite_{index}"));
        let estimate = answers.whole(&format!("distinct_{index}"));
        let few = estimate <= EXACT_VALUES;
        let mut column =
            Column { name: name.clone(), arrow: arrow.clone(), present, infinite, distinct: None, what: What::Nothing };
        let kind = ColumnType::of(arrow);
        let values = present - infinite;
        if values == 0 {
            column.distinct = kind.map(|_| Distinct { count: 0, exact: true });
            return Ok(column);
        }
        let (different, what) = match kind {
            Some(ColumnType::Integer | ColumnType::Number) => self.numbers(asked, answers, index, values, few).await?,
            Some(ColumnType::Boolean | ColumnType::String) => {
                let length = |part: &str| answers.number(&format!("{part}_length_{index}"));
                let lengths = length("min").zip(length("max")).zip(length("mean"));
                let lengths = lengths.map(|((min, max), mean)| [min, max, mean]);
                let (different, top) = if few { self.words(asked).await? } else { (estimate, Vec::new()) };
                (different, What::Words { top, lengths })
            }
            Some(ColumnType::Date | ColumnType::Timestamp) => {
                let range = ["min", "max"].map(|end| answers.text(&format!("{end}_{index}")));
                let different = if few { self.words(asked).await?.0 } else { estimate };
                (different, What::Times(range))
            }
            None => return Ok(column),
        };
        column.distinct = Some(Distinct { count: different, exact: few });
        column.what = what;
        Ok(column)
    }

    async fn numbers(
        &self,
        asked: &Asked,
        answers: &Answers,
        index: usize,
        values: u64,
        few: bool,
    ) -> Result<(u64, What), DataFusionError> {
        let figure = |name: &str| answers.number(&format!("{name}_{index}"));
        let (min, max) = (figure("min").unwrap_or(f64::NAN), figure("max").unwrap_or(f64::NAN));
        let mut histogram = Histogram::new(min, max);
        let value = number(asked);
        let mut different = answers.whole(&format!("distinct_{index}"));
        let quantiles = if few {
            let mut quantiles = Quantiles::new(values);
            different = 0;
            self.each(&query::different(asked), |batch| {
                let counts = batch.column(1).as_primitive::<Int64Type>().values();
                for (value, count) in batch.column(0).as_primitive::<Float64Type>().values().iter().zip(counts) {
                    quantiles.take(*value, count.unsigned_abs());
                    histogram.take(*value, count.unsigned_abs());
                    different += 1;
                }
            })
            .await?;
            quantiles.finish()
        } else {
            let query = format!("SELECT v FROM (SELECT {value} AS v FROM data) WHERE v IS NOT NULL");
            self.each(&query, |batch| {
                for value in batch.column(0).as_primitive::<Float64Type>().values() {
                    histogram.take(*value, 1);
                }
            })
            .await?;
            let about = QUANTILES.iter().enumerate().map(|(number, share)| {
                format!("approx_percentile_cont({share}) WITHIN GROUP (ORDER BY {value}) AS q{number}")
            });
            let about: Vec<String> = about.collect();
            let found = Answers(self.one(&format!("SELECT {} FROM data", about.join(", "))).await?);
            std::array::from_fn(|number| found.number(&format!("q{number}")).unwrap_or(f64::NAN))
        };
        let mean = figure("mean").unwrap_or(f64::NAN);
        let numbers = Numbers { min, max, mean, std: figure("std"), quantiles, exact: few, histogram };
        Ok((different, What::Numbers(numbers)))
    }

    /// How many different values there are, and those that come most often.
    async fn words(&self, asked: &Asked) -> Result<(u64, Vec<(String, u64)>), DataFusionError> {
        let name = quoted(&asked.name);
        let query = format!("SELECT {name} AS v, count(*) AS n FROM data WHERE {name} IS NOT NULL GROUP BY {name}");
        let mut top = Top::default();
        let mut different = 0;
        let mut failed = None;
        self.each(&query, |batch| {
            let options = FormatOptions::default();
            let counts = batch.column(1).as_primitive::<Int64Type>().values();
            match ArrayFormatter::try_new(batch.column(0), &options) {
                Ok(values) => {
                    for (row, count) in counts.iter().enumerate() {
                        top.take(&values.value(row).to_string(), count.unsigned_abs());
                        different += 1;
                    }
                }
                Err(error) => failed = Some(error),
            }
        })
        .await?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        Ok((different, top.finish().into_iter().map(|(value, count)| (say::excerpt(&value, SHOWN), count)).collect()))
    }

    /// Correlates the first number columns.
    pub async fn correlations(&self, columns: &[Column]) -> Result<Matrix, DataFusionError> {
        let mut numbers = Vec::new();
        for column in columns {
            if let What::Numbers(figures) = &column.what {
                numbers.push((column, figures.mean));
            }
        }
        let left_out = numbers.len().saturating_sub(CORRELATED_COLUMNS);
        numbers.truncate(CORRELATED_COLUMNS);
        if numbers.len() < 2 {
            return Ok(Matrix::default());
        }
        let values: Vec<String> = numbers
            .iter()
            .enumerate()
            .map(|(index, (column, _))| {
                let asked = Asked { name: column.name.clone(), arrow: column.arrow.clone() };
                format!("{} AS v{index}", number(&asked))
            })
            .collect();
        let mut correlations = Correlations::new(numbers.iter().map(|(_, mean)| *mean).collect());
        self.each(&format!("SELECT {} FROM data", values.join(", ")), |batch| {
            let columns: Vec<Float64Array> =
                batch.columns().iter().map(|column| column.as_primitive::<Float64Type>().clone()).collect();
            correlations.take(&columns);
        })
        .await?;
        Ok(correlations.finish(numbers.into_iter().map(|(column, _)| column.name.clone()).collect(), left_out))
    }

    /// The only row of a query's result.
    async fn one(&self, query: &str) -> Result<RecordBatch, DataFusionError> {
        let batches = engine::query(self.0, query).await?.collect().await?;
        let row = batches.into_iter().find(|batch| batch.num_rows() > 0);
        row.ok_or_else(|| DataFusionError::Internal("an aggregation gave no row".into()))
    }

    async fn each(&self, query: &str, mut take: impl FnMut(&RecordBatch)) -> Result<(), DataFusionError> {
        let mut stream = engine::query(self.0, query).await?.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            take(&batch?);
        }
        Ok(())
    }
}
