//! Makes the checks: one pass over the table for all that can be counted together, then a few rows for each that failed.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{count, max, sum};
use datafusion::logical_expr::{Expr, ident, lit, when};
use datafusion::prelude::{DataFrame, SessionContext, cast};

use super::check::{Check, Rule};
use super::params::{ColumnRule, Severity};
use super::predicate::broken_rows;
use crate::types::{ColumnType, word};
use crate::{engine, say};

#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(
        "expectation {number} ({name}): the query cannot be planned; the table is `data` with the columns: {columns}"
    )]
    Sql {
        number: usize,
        name: String,
        columns: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("expectation {number} ({name}): the check cannot be made")]
    Check {
        number: usize,
        name: String,
        #[source]
        source: Box<DataFusionError>,
    },
    #[error("failed to read the table")]
    Read(#[source] Box<DataFusionError>),
}

/// How a check went.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub name: String,
    pub severity: Severity,
    pub passed: bool,
    /// What was found, in a few words.
    pub found: String,
    pub rows: Option<Rows>,
}

/// A few rows that broke a check.
#[derive(Clone, Debug)]
pub struct Rows {
    pub columns: Vec<String>,
    pub cells: Vec<Vec<String>>,
}

const SHOWN_ROWS: usize = 5;
const COUNT: &str = "rows_alike";

/// Makes all checks. The verdicts in the checks' order, and the number of rows.
pub async fn judge(
    context: &SessionContext,
    data: &DataFrame,
    checks: &[Check],
    now: jiff::Timestamp,
) -> Result<(Vec<Verdict>, u64), JudgeError> {
    let schema = data.schema().as_arrow().clone();
    let counts = count_all(data, &schema, checks).await?;
    let mut verdicts = Vec::with_capacity(checks.len());
    for (index, check) in checks.iter().enumerate() {
        let number = index + 1;
        let failed = |source| JudgeError::Check { number, name: check.name.clone(), source: Box::new(source) };
        let missing = check.rule.columns().into_iter().find(|column| schema.field_with_name(column).is_err());
        let (passed, found, rows) = if let Some(column) = missing {
            (false, format!("there is no column `{column}`; the columns are: {}", known(&schema)), None)
        } else {
            match &check.rule {
                Rule::Type { column, expected } => {
                    let arrow = data_type(&schema, column);
                    (ColumnType::of(&arrow) == Some(*expected), format!("the type is {}", word(&arrow)), None)
                }
                Rule::Rows { min, max } => {
                    let rows = counts.rows;
                    let passed = min.is_none_or(|min| rows >= min) && max.is_none_or(|max| rows <= max);
                    (passed, format!("{rows} rows"), None)
                }
                Rule::Columns(rule) => columns_verdict(rule, &schema),
                Rule::Freshness { max_age, .. } => freshness_verdict(&counts.of[index], *max_age, now),
                Rule::Unique { columns } => unique_verdict(data, columns).await.map_err(failed)?,
                Rule::Sql { sql, max_rows } => {
                    let planned = engine::query(context, sql).await.map_err(|source| JudgeError::Sql {
                        number,
                        name: check.name.clone(),
                        columns: known(&schema),
                        source: Box::new(source),
                    })?;
                    sql_verdict(planned, *max_rows).await.map_err(failed)?
                }
                Rule::Nulls { .. } | Rule::Range { .. } | Rule::Allowed { .. } | Rule::Matches { .. } => {
                    row_verdict(data, &schema, &check.rule, &counts, index).await.map_err(failed)?
                }
            }
        };
        verdicts.push(Verdict { name: check.name.clone(), severity: check.severity, passed, found, rows });
    }
    Ok((verdicts, counts.rows))
}

type Judged = (bool, String, Option<Rows>);

/// What one pass over the table counted.
struct Counts {
    rows: u64,
    of: Vec<Count>,
}

#[derive(Clone, Debug)]
enum Count {
    /// Nothing was to be counted.
    None,
    /// The rule does not go with the column.
    Unfit(String),
    Broken(u64),
    /// Microseconds since 1970; none if there is no value.
    Latest(Option<i64>),
}

async fn count_all(data: &DataFrame, schema: &Schema, checks: &[Check]) -> Result<Counts, JudgeError> {
    let read = |source| JudgeError::Read(Box::new(source));
    let mut of = vec![Count::None; checks.len()];
    let mut aggregates = vec![count(lit(1)).alias("rows")];
    let mut places = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let columns = check.rule.columns();
        let Some(column) = columns.first().filter(|column| schema.field_with_name(column).is_ok()) else { continue };
        let arrow = data_type(schema, column);
        let expression: Expr = match &check.rule {
            Rule::Freshness { .. }
                if !matches!(ColumnType::of(&arrow), Some(ColumnType::Date | ColumnType::Timestamp)) =>
            {
                of[index] = Count::Unfit(format!("the column is of type {}, expected date or timestamp", word(&arrow)));
                continue;
            }
            Rule::Freshness { .. } => cast(max(ident(*column)), DataType::Timestamp(TimeUnit::Microsecond, None)),
            rule => match broken_rows(rule, &arrow) {
                Ok(Some(broken)) => sum(when(broken, lit(1_i64)).otherwise(lit(0_i64)).map_err(read)?),
                Ok(None) => continue,
                Err(words) => {
                    of[index] = Count::Unfit(words);
                    continue;
                }
            },
        };
        aggregates.push(cast(expression, DataType::Int64).alias(format!("check_{index}")));
        places.push(index);
    }
    let batches = data.clone().aggregate(vec![], aggregates).map_err(read)?.collect().await.map_err(read)?;
    let value = |position: usize| {
        let batch = batches.iter().find(|batch| batch.num_rows() > 0)?;
        let column = batch.column(position).as_primitive_opt::<Int64Type>()?;
        column.is_valid(0).then(|| column.value(0))
    };
    let number = |position: usize| value(position).map_or(0, i64::unsigned_abs);
    for (position, index) in places.into_iter().enumerate() {
        of[index] = match checks[index].rule {
            Rule::Freshness { .. } => Count::Latest(value(position + 1)),
            _ => Count::Broken(number(position + 1)),
        };
    }
    Ok(Counts { rows: number(0), of })
}

async fn row_verdict(
    data: &DataFrame,
    schema: &Schema,
    rule: &Rule,
    counts: &Counts,
    index: usize,
) -> Result<Judged, DataFusionError> {
    let broken = match &counts.of[index] {
        Count::Broken(broken) => *broken,
        Count::Unfit(words) => return Ok((false, words.clone(), None)),
        Count::None | Count::Latest(_) => 0,
    };
    let passed = match rule {
        Rule::Nulls { max_fraction, .. } if *max_fraction > 0.0 => broken as f64 <= max_fraction * counts.rows as f64,
        _ => broken == 0,
    };
    let found = format!("{broken} of {} rows", counts.rows);
    let column = rule.columns().first().map_or(DataType::Null, |column| data_type(schema, column));
    let rows = match broken_rows(rule, &column) {
        Ok(Some(broken)) if !passed => Some(sample(data.clone().filter(broken)?).await?),
        _ => None,
    };
    Ok((passed, found, rows))
}

/// Rows with a null in one of the columns are not compared, as in SQL.
async fn unique_verdict(data: &DataFrame, columns: &[String]) -> Result<Judged, DataFusionError> {
    let keys: Vec<Expr> = columns.iter().map(ident).collect();
    let present = keys.iter().cloned().map(Expr::is_not_null).reduce(Expr::and);
    let rows = match present {
        Some(present) => data.clone().filter(present)?,
        None => data.clone(),
    };
    let repeated =
        rows.aggregate(keys.clone(), vec![count(lit(1)).alias(COUNT)])?.filter(ident(COUNT).gt(lit(1_i64)))?;
    let totals = repeated
        .clone()
        .aggregate(vec![], vec![count(lit(1)).alias("groups"), sum(ident(COUNT)).alias("rows")])?
        .collect()
        .await?;
    let total = |position: usize| {
        let batch = totals.iter().find(|batch| batch.num_rows() > 0)?;
        let column = batch.column(position).as_primitive_opt::<Int64Type>()?;
        column.is_valid(0).then(|| column.value(0))
    };
    let (groups, alike) = (total(0).unwrap_or(0), total(1).unwrap_or(0));
    if groups == 0 {
        return Ok((true, "no value twice".into(), None));
    }
    let mut order = vec![ident(COUNT).sort(false, false)];
    order.extend(keys.into_iter().map(|key| key.sort(true, false)));
    let rows = sample(repeated.sort(order)?).await?;
    Ok((false, format!("{groups} values are there more than once, in {alike} rows"), Some(rows)))
}

async fn sql_verdict(planned: DataFrame, max_rows: u64) -> Result<Judged, DataFusionError> {
    let found = planned.clone().count().await? as u64;
    let passed = found <= max_rows;
    let rows = if passed { None } else { Some(sample(planned).await?) };
    Ok((passed, format!("{found} rows, at most {max_rows}"), rows))
}

fn columns_verdict(rule: &ColumnRule, schema: &Schema) -> Judged {
    let (wanted, exactly) = match rule {
        ColumnRule::Exactly(names) => (names, true),
        ColumnRule::Include(names) => (names, false),
    };
    let there: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    let missing: Vec<&String> = wanted.iter().filter(|name| !there.contains(name)).collect();
    let extra: Vec<&&String> = there.iter().filter(|name| exactly && !wanted.contains(name)).collect();
    let mut found = Vec::new();
    if !missing.is_empty() {
        found.push(format!("missing: {}", say::names(missing)));
    }
    if !extra.is_empty() {
        found.push(format!("not expected: {}", say::names(extra.into_iter().copied())));
    }
    let passed = found.is_empty();
    (passed, if passed { format!("{} columns", there.len()) } else { found.join("; ") }, None)
}

fn freshness_verdict(latest: &Count, max_age: std::time::Duration, now: jiff::Timestamp) -> Judged {
    let latest = match latest {
        Count::Unfit(words) => return (false, words.clone(), None),
        Count::Latest(Some(latest)) => *latest,
        Count::Latest(None) | Count::None | Count::Broken(_) => return (false, "there is no value".into(), None),
    };
    let Ok(instant) = jiff::Timestamp::from_microsecond(latest) else {
        return (false, format!("the latest value is {latest} µs after 1970, beyond the calendar"), None);
    };
    let age = now.duration_since(instant);
    // A value from the future is not old.
    let passed = std::time::Duration::try_from(age).map_or(true, |age| age <= max_age);
    (passed, format!("the latest value is {instant:.0}, {:.1} hours old", age.as_secs_f64() / 3600.0), None)
}

async fn sample(frame: DataFrame) -> Result<Rows, DataFusionError> {
    let columns = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    let batches = frame.limit(0, Some(SHOWN_ROWS))?.collect().await?;
    Ok(Rows { columns, cells: cells(&batches)? })
}

fn cells(batches: &[RecordBatch]) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| say::excerpt(&column.value(row).to_string(), 80)).collect());
        }
    }
    Ok(rows)
}

fn data_type(schema: &Schema, column: &str) -> DataType {
    schema.field_with_name(column).map_or(DataType::Null, |field| field.data_type().clone())
}

fn known(schema: &Schema) -> String {
    say::names(schema.fields().iter().map(|field| field.name()))
}
