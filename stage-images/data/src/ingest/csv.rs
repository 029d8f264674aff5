//! CSV into a table: once over the file to learn the types and to check every row, once more to write.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

use super::columns::ColumnBuilder;
use super::infer::{Candidates, settle};
use super::layout::{LayoutError, check_names, choose};
use super::params::{CsvParams, Params};
use super::records::{Record, RecordError, Records};
use super::source::{SourceError, SourceFile};
use super::text::Utf8Reader;
use crate::say;
use crate::sink::{FolderSink, SinkError};

#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    #[error("{name}")]
    Record {
        name: String,
        #[source]
        source: RecordError,
    },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("failed to build a batch")]
    Batch(#[source] ArrowError),
    #[error("{name} is empty: expected a header and rows")]
    Empty { name: String },
    #[error("{name} has a header but no rows")]
    NoRows { name: String },
    #[error(
        "{name}, line {line}: found {found}, expected {expected} as in the header; the line is '{content}'; correct the line, or set csv.delimiter or csv.quote"
    )]
    FieldCount { name: String, line: u64, found: String, expected: String, content: String },
    #[error(
        "{name}: the header is one column, '{header}', and has '{other}' in it: the delimiter is not '{used}'; set csv.delimiter: \"{other}\""
    )]
    Delimiter { name: String, header: String, used: String, other: String },
    #[error(
        "{name}, line {line}, column {column}: found '{found}', expected {expected}; correct it, list it in csv.nullValues, or declare schema: {{{column}: string}}"
    )]
    Value { name: String, line: u64, column: String, found: String, expected: &'static str },
    #[error(
        "{name}: the header is [{found}], but in {first_name} it is [{expected}]; all files of a source have the same columns in the same order"
    )]
    OtherHeader { name: String, first_name: String, found: String, expected: String },
    #[error(
        "parameter csv.columnNames: it names the columns of a file without a header; set csv.header: false, or leave it out"
    )]
    NamesAndHeader,
    #[error("parameter csv.columnNames: {found} names, but line 1 of {name} has {expected} fields")]
    NameCount { name: String, found: usize, expected: usize },
}

const BATCH_ROWS: usize = 8192;

/// How this CSV is written.
struct Dialect {
    delimiter: u8,
    quote: u8,
    header: bool,
    column_names: Option<Vec<String>>,
    null_values: Vec<String>,
    params: CsvParams,
}

impl Dialect {
    fn new(params: &Params, first_name: &str) -> Result<Self, CsvError> {
        let csv = params.csv.clone().unwrap_or_default();
        let header = csv.header.unwrap_or(true);
        if header && csv.column_names.is_some() {
            return Err(CsvError::NamesAndHeader);
        }
        let tabs = [".tsv", ".tab", ".tsv.gz"].iter().any(|end| first_name.to_ascii_lowercase().ends_with(end));
        let default_delimiter = if tabs { b'\t' } else { b',' };
        Ok(Self {
            delimiter: csv.delimiter.map_or(default_delimiter, |byte| byte.0),
            quote: csv.quote.map_or(b'"', |byte| byte.0),
            header,
            column_names: csv.column_names.clone(),
            null_values: csv
                .null_values
                .clone()
                .unwrap_or_else(|| CsvParams::NULL_VALUES.iter().map(ToString::to_string).collect()),
            params: csv,
        })
    }

    fn open(&self, file: &SourceFile) -> Result<Records, CsvError> {
        let input = Utf8Reader::new(file.open()?, self.params.encoding.unwrap_or_default());
        Ok(Records::new(input, self.delimiter, self.quote))
    }

    fn is_null(&self, value: &str) -> bool {
        self.null_values.iter().any(|null| null == value)
    }

    /// Reads the header, or makes one up. The record holds the first row already if there is no header.
    fn header(&self, file: &SourceFile, records: &mut Records, record: &mut Record) -> Result<Vec<String>, CsvError> {
        if !read(file, records, record)? {
            return Err(CsvError::Empty { name: file.name.clone() });
        }
        match &self.column_names {
            Some(names) if names.len() == record.len() => Ok(names.clone()),
            Some(names) => {
                Err(CsvError::NameCount { name: file.name.clone(), found: names.len(), expected: record.len() })
            }
            None if self.header => Ok(record.iter().map(|name| name.trim().to_owned()).collect()),
            None => Ok((0..record.len()).map(|index| format!("column_{index}")).collect()),
        }
    }
}

/// Writes all files as one table. The columns and their types.
pub fn ingest(files: &[SourceFile], params: &Params, to: &std::path::Path) -> Result<(u64, Arc<Schema>), CsvError> {
    let dialect = Dialect::new(params, &files[0].name)?;
    let plan = survey(files, params, &dialect)?;
    let mut sink = FolderSink::create(to, &plan.schema)?;
    let mut builders: Vec<ColumnBuilder> =
        plan.schema.fields().iter().map(|field| ColumnBuilder::new(field.data_type())).collect();
    let mut held = 0;
    for file in files {
        each_row(file, &dialect, plan.width, |record| {
            for (builder, (index, field)) in builders.iter_mut().zip(plan.chosen.iter().zip(plan.schema.fields())) {
                let value = record.field(*index);
                if dialect.is_null(value) {
                    builder.push_null();
                } else if !builder.push(value) {
                    return Err(CsvError::Value {
                        name: file.name.clone(),
                        line: record.line,
                        column: field.name().clone(),
                        found: say::excerpt(value, 60),
                        expected: expected(field.data_type()),
                    });
                }
            }
            held += 1;
            if held == BATCH_ROWS {
                held = 0;
                sink.write(&batch(&plan.schema, &mut builders)?)?;
            }
            Ok(())
        })?;
    }
    if held > 0 {
        sink.write(&batch(&plan.schema, &mut builders)?)?;
    }
    Ok((sink.finish()?, plan.schema))
}

/// What the first pass learns.
struct Plan {
    width: usize,
    chosen: Vec<usize>,
    schema: Arc<Schema>,
}

fn survey(files: &[SourceFile], params: &Params, dialect: &Dialect) -> Result<Plan, CsvError> {
    let first = &files[0];
    let header = dialect.header(first, &mut dialect.open(first)?, &mut Record::default())?;
    if dialect.header {
        check_delimiter(&first.name, &header, dialect, params)?;
    }
    check_names(&first.name, &header)?;
    let chosen = choose(&first.name, params, &header)?;
    let declared = |index: usize| params.schema.as_ref().and_then(|schema| schema.get(&header[index]).copied());
    for file in &files[1..] {
        let other = dialect.header(file, &mut dialect.open(file)?, &mut Record::default())?;
        if other != header {
            return Err(CsvError::OtherHeader {
                name: file.name.clone(),
                first_name: first.name.clone(),
                found: say::names(&other),
                expected: say::names(&header),
            });
        }
    }
    let mut candidates = vec![Candidates::default(); chosen.len()];
    let mut rows = 0_u64;
    // Where every type is declared the second pass checks the rows by itself.
    if chosen.iter().any(|index| declared(*index).is_none()) {
        for file in files {
            each_row(file, dialect, header.len(), |record| {
                rows += 1;
                for (column, index) in candidates.iter_mut().zip(&chosen) {
                    let value = record.field(*index);
                    if declared(*index).is_none() && !dialect.is_null(value) {
                        column.see(value);
                    }
                }
                Ok(())
            })?;
        }
        if rows == 0 {
            return Err(CsvError::NoRows { name: first.name.clone() });
        }
    } else {
        has_row(files, dialect, header.len())?;
    }
    let fields: Vec<Field> = chosen
        .iter()
        .zip(candidates)
        .map(|(index, column)| Field::new(&header[*index], settle(declared(*index), column), true))
        .collect();
    Ok(Plan { width: header.len(), chosen, schema: Arc::new(Schema::new(fields)) })
}

/// Fails if no file has a row.
fn has_row(files: &[SourceFile], dialect: &Dialect, width: usize) -> Result<(), CsvError> {
    for file in files {
        let (mut records, mut record) = (dialect.open(file)?, Record::default());
        dialect.header(file, &mut records, &mut record)?;
        if !dialect.header || read(file, &mut records, &mut record)? {
            check_width(file, dialect, &record, width)?;
            return Ok(());
        }
    }
    Err(CsvError::NoRows { name: files[0].name.clone() })
}

/// Calls `row` for each row after the header. Every row has as many fields as the header.
fn each_row(
    file: &SourceFile,
    dialect: &Dialect,
    width: usize,
    mut row: impl FnMut(&Record) -> Result<(), CsvError>,
) -> Result<(), CsvError> {
    let (mut records, mut record) = (dialect.open(file)?, Record::default());
    if dialect.header {
        read(file, &mut records, &mut record)?;
    }
    while read(file, &mut records, &mut record)? {
        check_width(file, dialect, &record, width)?;
        row(&record)?;
    }
    Ok(())
}

fn read(file: &SourceFile, records: &mut Records, record: &mut Record) -> Result<bool, CsvError> {
    records.read(record).map_err(|source| CsvError::Record { name: file.name.clone(), source })
}

fn check_width(file: &SourceFile, dialect: &Dialect, record: &Record, width: usize) -> Result<(), CsvError> {
    if record.len() == width {
        return Ok(());
    }
    let fields = |count: usize| if count == 1 { "1 field".to_owned() } else { format!("{count} fields") };
    let delimiter = char::from(dialect.delimiter).to_string();
    Err(CsvError::FieldCount {
        name: file.name.clone(),
        line: record.line,
        found: fields(record.len()),
        expected: fields(width),
        content: say::excerpt(&record.iter().collect::<Vec<_>>().join(&delimiter), 120),
    })
}

/// A header that is one column and has another usual delimiter in it was written with that one. A column that the
/// parameters name so is meant.
fn check_delimiter(name: &str, header: &[String], dialect: &Dialect, params: &Params) -> Result<(), CsvError> {
    let [only] = header else { return Ok(()) };
    let meant = params.schema.as_ref().is_some_and(|schema| schema.contains_key(only))
        || params.columns.as_ref().is_some_and(|columns| columns.contains(only));
    let other = [",", ";", "\t", "|"]
        .into_iter()
        .find(|other| other.as_bytes()[0] != dialect.delimiter && only.contains(other));
    match other {
        Some(other) if !meant => Err(CsvError::Delimiter {
            name: name.into(),
            header: say::excerpt(only, 80),
            used: say::excerpt(&char::from(dialect.delimiter).to_string(), 2),
            other: say::excerpt(other, 2),
        }),
        _ => Ok(()),
    }
}

fn batch(schema: &Arc<Schema>, builders: &mut [ColumnBuilder]) -> Result<RecordBatch, CsvError> {
    RecordBatch::try_new(schema.clone(), builders.iter_mut().map(ColumnBuilder::finish).collect())
        .map_err(CsvError::Batch)
}

fn expected(arrow: &DataType) -> &'static str {
    match arrow {
        DataType::Int64 => "an integer",
        DataType::Float64 => "a number",
        DataType::Boolean => "true or false",
        DataType::Date32 => "a date like 2026-11-21",
        DataType::Timestamp(_, _) => "a timestamp like 2026-11-21T12:00:00Z",
        _ => "text",
    }
}
