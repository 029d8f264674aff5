//! The query that is sent. Pure: names and values are quoted here, so that none of them is taken for SQL.

use super::DatabaseError;
use crate::ingest::layout::{check_names, choose};
use crate::ingest::params::{Params, SqlParams};
use crate::ingest::values;
use crate::say;
use crate::types::ColumnType;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Mysql,
    Sqlite,
}

impl Dialect {
    /// Whether it compares values of a type as what they are. SQLite has no type for times: it would compare their texts, of
    /// which `2026-11-02T09:00` and `2026-11-02 10:00` have another order.
    fn compares(self, column_type: ColumnType) -> bool {
        self != Self::Sqlite || !matches!(column_type, ColumnType::Date | ColumnType::Timestamp)
    }

    /// A name as the database quotes it.
    pub fn quoted(self, name: &str) -> String {
        match self {
            Self::Postgres | Self::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
            Self::Mysql => format!("`{}`", name.replace('`', "``")),
        }
    }

    /// A value that was found to be of the type. Numbers are not quoted: SQLite would compare text.
    fn literal(self, value: &str, column_type: ColumnType) -> String {
        match column_type {
            ColumnType::Integer | ColumnType::Number => value.to_owned(),
            // MySQL knows neither `Z` nor, in MariaDB, an offset: the same moment, in the session's UTC.
            ColumnType::Timestamp if self == Self::Mysql => format!("'{}'", in_utc(value)),
            _ => format!("'{}'", value.replace('\'', "''")),
        }
    }
}

/// A timestamp as `2026-11-21 12:00:00.5`.
fn in_utc(value: &str) -> String {
    let moment = values::timestamp(value).and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    moment.map_or_else(String::new, |moment| moment.to_string().replace('T', " ").replace('Z', ""))
}

/// A column as the database has it.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub column_type: ColumnType,
}

/// What is read: the columns of the table, and the watermark's, which is read last if it is none of them.
#[derive(Debug)]
pub struct Plan {
    pub query: String,
    pub columns: Vec<Found>,
    pub mark: Option<Mark>,
}

/// The watermark's column among those that are read.
#[derive(Clone, Debug)]
pub struct Mark {
    pub index: usize,
    pub name: String,
    pub column_type: ColumnType,
    pub above: Option<String>,
    /// Whether the query leaves out what is not above; otherwise whoever reads the rows does.
    pub compared: bool,
}

/// The query whose rows are wanted, as it is written or for a table.
pub fn base(dialect: Dialect, sql: &SqlParams) -> String {
    match (&sql.query, &sql.table) {
        (Some(query), _) => query.trim().trim_end_matches(';').to_owned(),
        (None, table) => {
            let parts: Vec<String> =
                table.as_deref().unwrap_or_default().split('.').map(|name| dialect.quoted(name)).collect();
            format!("SELECT * FROM {}", parts.join("."))
        }
    }
}

/// The columns and rows wanted, of all that the query gives.
pub fn plan(
    name: &str,
    dialect: Dialect,
    sql: &SqlParams,
    params: &Params,
    found: &[Found],
) -> Result<Plan, DatabaseError> {
    let header: Vec<String> = found.iter().map(|column| column.name.clone()).collect();
    check_names(name, &header)?;
    let chosen = choose(name, params, &header)?;
    let columns: Vec<Found> = chosen
        .iter()
        .map(|index| {
            let Found { name, column_type } = &found[*index];
            let declared = params.schema.as_ref().and_then(|schema| schema.get(name)).copied();
            Found { name: name.clone(), column_type: declared.unwrap_or(*column_type) }
        })
        .collect();
    let mark = mark(dialect, sql, found, &columns)?;
    let mut read: Vec<String> = columns.iter().map(|column| dialect.quoted(&column.name)).collect();
    let mut rows = String::new();
    if let Some(mark) = &mark {
        let column = dialect.quoted(&mark.name);
        if mark.index == read.len() {
            read.push(column.clone());
        }
        rows = match &mark.above {
            Some(above) if mark.compared => format!(" WHERE {column} > {}", dialect.literal(above, mark.column_type)),
            _ => format!(" WHERE {column} IS NOT NULL"),
        };
    }
    // On lines of its own: the query may end with a comment.
    let query = format!("SELECT {} FROM (\n{}\n) AS source{rows}", read.join(", "), base(dialect, sql));
    Ok(Plan { query, columns, mark })
}

fn mark(dialect: Dialect, sql: &SqlParams, found: &[Found], columns: &[Found]) -> Result<Option<Mark>, DatabaseError> {
    let Some(watermark) = &sql.watermark else { return Ok(None) };
    let name = &watermark.column;
    let own = found.iter().find(|column| column.name == *name).ok_or_else(|| DatabaseError::WatermarkColumn {
        column: say::excerpt(name, 60),
        known: say::names(found.iter().map(|column| &column.name)),
    })?;
    let column_type = own.column_type;
    // A first run has none, and its parameter is empty.
    let above = watermark.above.as_ref().map(|above| above.0.trim()).filter(|above| !above.is_empty());
    let fits = |above: &str| match column_type {
        ColumnType::Integer => values::integer(above).is_some(),
        ColumnType::Number => values::number(above).is_some(),
        ColumnType::Date => values::date(above).is_some(),
        ColumnType::Timestamp => values::timestamp(above).is_some(),
        ColumnType::String | ColumnType::Boolean => false,
    };
    if matches!(column_type, ColumnType::String | ColumnType::Boolean) {
        return Err(DatabaseError::WatermarkType { column: name.clone(), found: column_type.word() });
    }
    if let Some(above) = above.filter(|above| !fits(above)) {
        return Err(DatabaseError::WatermarkAbove {
            column: name.clone(),
            found: say::excerpt(above, 60),
            expected: column_type.word(),
        });
    }
    let index = columns.iter().position(|column| column.name == *name).unwrap_or(columns.len());
    let compared = dialect.compares(column_type);
    Ok(Some(Mark { index, name: name.clone(), column_type, above: above.map(ToOwned::to_owned), compared }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::parse;

    fn planned(params: &str) -> Result<Plan, String> {
        planned_for(Dialect::Postgres, params)
    }

    fn planned_for(dialect: Dialect, params: &str) -> Result<Plan, String> {
        let params: Params = parse("ingest", params).unwrap();
        let column = |name: &str, column_type| Found { name: name.into(), column_type };
        let found = [
            column("id", ColumnType::Integer),
            column("a \"b\"", ColumnType::String),
            column("at", ColumnType::Timestamp),
        ];
        plan("db", dialect, params.sql.as_ref().unwrap(), &params, &found).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_values_are_quoted() {
        let plan = planned(r#"{"source": "x", "sql": {"table": "shop.or\"ders"}}"#).unwrap();
        assert_eq!(
            plan.query,
            "SELECT \"id\", \"a \"\"b\"\"\", \"at\" FROM (\nSELECT * FROM \"shop\".\"or\"\"ders\"\n) AS source"
        );
        let above = |above: &str| {
            planned(&format!(
                r#"{{"source": "x", "sql": {{"query": "SELECT 1 -- all;", "watermark": {{"column": "at", "above": {above}}}}}}}"#
            ))
        };
        assert!(
            above(r#""2026-11-01 00:00:00""#)
                .unwrap()
                .query
                .ends_with("FROM (\nSELECT 1 -- all\n) AS source WHERE \"at\" > '2026-11-01 00:00:00'")
        );
        assert!(above(r#""""#).unwrap().query.ends_with("WHERE \"at\" IS NOT NULL"));
        let message = above(r#""2026' OR '1'='1""#).unwrap_err();
        assert!(message.contains("is no timestamp, which the column at holds"), "{message}");
    }

    #[test]
    fn mysql_has_quotes_and_times_of_its_own() {
        let sql = r#"{"source": "x", "sql": {"table": "shop.or`ders", "watermark": {"column": "at", "above": "2026-11-01T02:00:00.5+02:00"}}}"#;
        let plan = planned_for(Dialect::Mysql, sql).unwrap();
        assert_eq!(
            plan.query,
            "SELECT `id`, `a \"b\"`, `at` FROM (\nSELECT * FROM `shop`.`or``ders`\n) AS source WHERE `at` > '2026-11-01 00:00:00.5'"
        );
    }

    #[test]
    fn sqlite_does_not_compare_the_texts_of_times() {
        let sql = |column: &str, above: &str| {
            format!(
                r#"{{"source": "x", "sql": {{"table": "t", "watermark": {{"column": "{column}", "above": "{above}"}}}}}}"#
            )
        };
        let plan = planned_for(Dialect::Sqlite, &sql("at", "2026-11-01 00:00:00")).unwrap();
        assert!(plan.query.ends_with("WHERE \"at\" IS NOT NULL"), "{}", plan.query);
        assert!(!plan.mark.unwrap().compared);
        let plan = planned_for(Dialect::Sqlite, &sql("id", "7")).unwrap();
        assert!(plan.query.ends_with("WHERE \"id\" > 7") && plan.mark.unwrap().compared, "{}", plan.query);
    }

    #[test]
    fn a_watermark_that_is_not_kept_is_read_last() {
        let params = r#"{"source": "x", "columns": ["a \"b\""], "sql": {"table": "t", "watermark": {"column": "id", "above": 7}}}"#;
        let plan = planned(params).unwrap();
        assert_eq!((plan.columns.len(), plan.mark.unwrap().index), (1, 1));
        assert!(plan.query.starts_with("SELECT \"a \"\"b\"\"\", \"id\" FROM") && plan.query.ends_with("\"id\" > 7"));
        let text = r#"{"source": "x", "sql": {"table": "t", "watermark": {"column": "a \"b\""}}}"#;
        assert!(planned(text).unwrap_err().contains("is of type string, expected integer, number, date or timestamp"));
    }
}
