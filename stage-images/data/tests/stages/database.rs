//! `ingest` from databases. SQLite's are made by the library itself.

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Files, Run, stage};

/// A database that these statements made, and the folder that holds it.
fn database(statements: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    Connection::open(&path).unwrap().execute_batch(statements).unwrap();
    let source = format!("sqlite:{}", path.display());
    (folder, source)
}

const SHOP: &str = "CREATE TABLE orders (
        id INTEGER PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10, 2), paid BOOLEAN, day DATE, placed_at DATETIME, raw BLOB, any);
    INSERT INTO orders VALUES
        (1, 'Ann', 10.5, 1, '2026-11-01', '2026-11-01 08:00:00.000001', x'00ff', 7),
        (2, 'Bo ''B'' Bee', 20, 0, '2026-11-02', '2026-11-02T09:00:00Z', NULL, 'x'),
        (3, NULL, NULL, NULL, NULL, '2026-11-03 10:00:00', NULL, NULL);";

fn ingest(source: &str, params: Value) -> Run {
    let mut all = json!({"source": source});
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    stage("ingest").run(&all)
}

#[test]
fn a_table_keeps_its_types() {
    let (_folder, source) = database(SHOP);
    let run = ingest(&source, json!({"sql": {"table": "orders"}})).well();
    let table = run.table("data");
    assert_eq!(
        table.columns,
        [
            "id: Int64",
            "customer: Utf8",
            "total: Float64",
            "paid: Boolean",
            "day: Date32",
            "placed_at: Timestamp(µs, \"UTC\")",
            "raw: Utf8",
            "any: Utf8"
        ]
    );
    assert_eq!(table.rows[1], ["2", "Bo 'B' Bee", "20.0", "false", "2026-11-02", "2026-11-02T09:00:00Z", "NULL", "x"]);
    assert_eq!((&table.rows[0][6], &table.rows[0][7]), (&"\\x00ff".to_owned(), &"7".to_owned()));
    assert_eq!(table.rows[2][1..5], ["NULL", "NULL", "NULL", "NULL"]);
    assert_eq!((run.result("rows"), run.result("columns")), (json!(3), json!(8)));
}

#[test]
fn a_query_is_read_with_the_types_of_what_it_calculates() {
    let (_folder, source) = database(SHOP);
    let query = "SELECT customer, count(*) AS n, sum(total) AS total, max(any) AS any FROM orders \
                 WHERE total > 0 GROUP BY customer ORDER BY customer -- each of them;";
    let run = ingest(&source, json!({"sql": {"query": query}})).well();
    let table = run.table("data");
    assert_eq!(table.columns, ["customer: Utf8", "n: Int64", "total: Float64", "any: Utf8"]);
    assert_eq!(table.rows, [["Ann", "1", "10.5", "7"], ["Bo 'B' Bee", "1", "20.0", "x"]]);
}

#[test]
fn columns_and_types_are_chosen_as_in_files() {
    let (_folder, source) = database(SHOP);
    let params = json!({"sql": {"table": "orders"}, "columns": ["placed_at", "id"], "schema": {"id": "string", "placed_at": "string"}});
    let table = ingest(&source, params).well().table("data");
    assert_eq!(table.columns, ["placed_at: Utf8", "id: Utf8"]);
    assert_eq!(table.rows[0], ["2026-11-01 08:00:00.000001", "1"]);
}

#[test]
fn a_watermark_reads_what_is_new_and_says_what_it_reached() {
    let (folder, source) = database(SHOP);
    for (column, reached, next) in [("id", "3", "4"), ("day", "2026-11-02", "2026-11-04")] {
        let run = |above: Value| {
            let sql = json!({"table": "orders", "watermark": {"column": column, "above": above}});
            ingest(&source, json!({"sql": sql, "columns": ["customer"]})).well()
        };
        // The first run has nothing to begin above; what has no value is not read.
        let first = run(json!(""));
        assert_eq!(first.result("watermark"), json!(reached), "{column}");
        assert_eq!(first.result("rows"), json!(if column == "id" { 3 } else { 2 }));
        assert_eq!(first.table("data").columns, ["customer: Utf8"]);
        // Nothing is new: a table without rows, and the same value.
        let second = run(first.result("watermark"));
        assert_eq!((second.result("rows"), second.result("watermark")), (json!(0), json!(reached)));
        assert_eq!((second.table("data").columns.len(), second.table("data").rows.len()), (1, 0));
        let add = "INSERT INTO orders (id, customer, day) VALUES (4, 'Cy', '2026-11-04')";
        Connection::open(folder.path().join("shop.db")).unwrap().execute_batch(add).unwrap();
        let third = run(first.result("watermark"));
        assert_eq!((third.result("rows"), third.result("watermark")), (json!(1), json!(next)));
        assert_eq!(third.table("data").rows, [["Cy"]]);
        Connection::open(folder.path().join("shop.db"))
            .unwrap()
            .execute_batch("DELETE FROM orders WHERE id = 4")
            .unwrap();
    }
    let number = json!({"table": "orders", "watermark": {"column": "id", "above": 2}});
    assert_eq!(ingest(&source, json!({"sql": number})).well().result("rows"), json!(1));
}

#[test]
fn times_of_a_watermark_are_compared_whatever_their_form() {
    let (folder, source) = database(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, at DATETIME);
         INSERT INTO events VALUES (1, '2026-11-02T09:00:00Z'), (2, '2026-11-02 10:00:00'), (3, '2026-11-02T10:00:00+02:00'),
             (4, '2026-11-02 09:00:00.000001'), (5, NULL);",
    );
    let params = |above: &str| json!({"sql": {"table": "events", "watermark": {"column": "at", "above": above}}, "columns": ["id"]});
    // As text, 2 and 4 are below the mark, and 3, which is earlier, is above it.
    let run = ingest(&source, params("2026-11-02T09:00:00Z")).well();
    assert_eq!(run.table("data").rows, [["2"], ["4"]]);
    assert_eq!(run.result("watermark"), json!("2026-11-02 10:00:00"));
    let again = ingest(&source, params("2026-11-02 10:00:00")).well();
    assert_eq!((again.result("rows"), again.result("watermark")), (json!(0), json!("2026-11-02 10:00:00")));
    let add = "INSERT INTO events VALUES (6, 'a while ago')";
    Connection::open(folder.path().join("shop.db")).unwrap().execute_batch(add).unwrap();
    let error = ingest(&source, params("2026-11-02 10:00:00")).error();
    assert!(error.contains("row 5, column at: 'a while ago' is no timestamp"), "{error}");
}

#[test]
fn a_value_and_a_query_without_end_are_refused_before_they_fill_memory() {
    let (_folder, source) = database(
        "CREATE TABLE files (id INTEGER PRIMARY KEY, raw BLOB); INSERT INTO files VALUES (1, x'00'), (2, zeroblob(9437184));",
    );
    let error = ingest(&source, json!({"sql": {"table": "files"}})).error();
    assert!(error.contains("row 2, column raw: a value of 18874370 bytes as text, expected at most 16 MiB"), "{error}");
    let kept = ingest(&source, json!({"sql": {"table": "files"}, "columns": ["id"]})).well();
    assert_eq!(kept.result("rows"), json!(2));
    // Its column has no declared type, so its values are looked at first.
    let query = "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g) SELECT n FROM g";
    let error = ingest(&source, json!({"sql": {"query": query}, "maxBytes": 1000})).error();
    assert!(error.contains("but maxBytes is 1000"), "{error}");
}

#[test]
fn many_rows_are_read_in_batches_in_their_order() {
    let (_folder, source) = database(
        "CREATE TABLE numbers (n INTEGER, text TEXT);
         WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 200000)
         INSERT INTO numbers SELECT n, 'row ' || n FROM g;",
    );
    let run = ingest(&source, json!({"sql": {"table": "numbers"}})).well();
    let table = run.table("data");
    assert_eq!(table.rows.len(), 200_000);
    assert!(
        (1..).zip(&table.rows).all(|(number, row)| row[0] == format!("{number}") && row[1] == format!("row {number}"))
    );
    let error = ingest(&source, json!({"sql": {"table": "numbers"}, "maxBytes": 1000})).error();
    assert!(error.contains("but maxBytes is 1000"), "{error}");
}

#[test]
fn a_database_is_only_read() {
    let (folder, source) = database(SHOP);
    for query in [
        "DELETE FROM orders",
        "SELECT 1); DELETE FROM orders; SELECT (2",
        "SELECT 1; SELECT 2",
        "PRAGMA user_version = 7",
    ] {
        let error = ingest(&source, json!({"sql": {"query": query}})).error();
        assert!(error.contains("does not take the query"), "{query}: {error}");
    }
    let left: i64 = Connection::open(folder.path().join("shop.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 3);
}

#[test]
fn mistakes_are_told_with_what_to_write() {
    let (folder, source) = database(SHOP);
    let other = format!("sqlite:{}/nothing.db", folder.path().display());
    let text = Files::new(&[("text.db", b"this is no database, only a text of some length".as_slice())]);
    for (source, params, words) in [
        (&source, json!({}), "parameter sql: it is needed because the source is a database"),
        (&source, json!({"sql": {}}), "parameter sql: found neither, expected one of query and table"),
        (&source, json!({"sql": {"table": "a", "query": "b"}}), "parameter sql: found both"),
        (&source, json!({"sql": {"table": "a"}, "format": "csv"}), "parameter format: it is not for databases"),
        (&source, json!({"sql": {"table": "a"}, "s3": {}}), "parameter s3: it is not for databases"),
        (&source, json!({"sql": {"table": "birds"}}), "no such table: birds"),
        (&source, json!({"sql": {"query": "SELECT FROM orders"}}), "syntax error"),
        (&source, json!({"sql": {"query": "SELECT 1 AS a, 2 AS a"}}), "is there twice"),
        (&source, json!({"sql": {"query": "SELECT id FROM orders WHERE id > 9"}}), "the query gives no rows"),
        (&source, json!({"sql": {"table": "orders"}, "columns": ["x"]}), "parameter columns: there is no column `x`"),
        (
            &source,
            json!({"sql": {"table": "orders"}, "schema": {"customer": "integer"}}),
            "row 1, column customer: 'Ann' is no integer; declare another type in schema",
        ),
        (
            &source,
            json!({"sql": {"table": "orders", "watermark": {"column": "x"}}}),
            "parameter sql.watermark.column: there is no column `x`; the columns are: id, customer",
        ),
        (
            &source,
            json!({"sql": {"table": "orders", "watermark": {"column": "customer"}}}),
            "customer is of type string, expected integer, number, date or timestamp",
        ),
        (
            &source,
            json!({"sql": {"table": "orders", "watermark": {"column": "id", "above": "1 OR 1=1"}}}),
            "parameter sql.watermark.above: '1 OR 1=1' is no integer, which the column id holds",
        ),
        (
            &source,
            json!({"sql": {"table": "orders", "watermark": {"column": "id", "above": true}}}),
            "sql.watermark.above: found a boolean",
        ),
        (&other, json!({"sql": {"table": "orders"}}), "parameter source: there is no file"),
        (&format!("sqlite:{}", text.path("text.db")), json!({"sql": {"table": "orders"}}), "as an SQLite database"),
        (&text.path("text.db"), json!({"sql": {"table": "orders"}}), "parameter sql: it is for databases"),
        (&"oracle://me:hunter2@host/db".to_owned(), json!({}), "`oracle://` is not supported, expected a path"),
    ] {
        let error = ingest(source, params.clone()).error();
        assert!(error.contains(words), "{params}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
