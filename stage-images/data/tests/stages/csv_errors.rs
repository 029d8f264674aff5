//! `ingest` of what is wrong: each error says what, where, what was found and what to do.

use serde_json::{Value, json};

use crate::support::{Files, stage};

/// The error for a CSV file with these bytes; more parameters may be given.
fn error(bytes: &[u8], more: Value) -> String {
    let files = Files::new(&[("x.csv", bytes)]);
    let mut params = json!({"source": files.path("x.csv")});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stage("ingest").run(&params).error()
}

#[track_caller]
fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
}

#[test]
fn a_row_with_too_many_or_too_few_fields_names_line_and_content() {
    says(
        &error(b"a,b\n1,2\n3,4,5\n", json!({})),
        &["x.csv, line 3: found 3 fields, expected 2 fields", "the line is '3,4,5'"],
    );
    says(&error(b"a,b\n1,2\n3\n", json!({})), &["line 3: found 1 field, expected 2 fields"]);
    // Also where the types are declared, and so there is one pass only.
    let declared = json!({"schema": {"a": "integer", "b": "integer"}});
    says(&error(b"a,b\n1,2\n3\n", declared), &["line 3: found 1 field"]);
}

#[test]
fn a_wrong_delimiter_is_named_and_the_right_one_proposed() {
    says(&error(b"a;b;c\n1;2;3\n", json!({})), &["the header is one column, 'a;b;c'", "set csv.delimiter: \";\""]);
    says(&error(b"a\tb\n1\t2\n", json!({})), &["set csv.delimiter: \"\\t\""]);
}

#[test]
fn a_wrong_encoding_names_line_and_byte() {
    says(
        &error(b"name\nok\nJos\xE9\n", json!({})),
        &["x.csv: line 3: byte 11 (0xE9) is not UTF-8", "csv.encoding: latin1"],
    );
    says(&error(b"\xFF\xFEn\0a\0", json!({})), &["it is UTF-16", "iconv"]);
    says(&error(b"a,b\n\0\x01,2\n", json!({})), &["line 2: byte 4 is NUL"]);
}

#[test]
fn an_empty_file_and_a_header_without_rows_are_told_apart() {
    says(&error(b"", json!({})), &["x.csv is empty"]);
    says(&error(b"\n\n", json!({})), &["x.csv is empty"]);
    says(&error(b"a,b\n", json!({})), &["x.csv has a header but no rows"]);
    says(&error(b"a,b\n", json!({"schema": {"a": "string", "b": "string"}})), &["has a header but no rows"]);
}

#[test]
fn columns_that_are_missing_or_there_twice_are_named() {
    says(
        &error(b"a,b\n1,2\n", json!({"columns": ["c"]})),
        &["parameter columns: there is no column `c`; the columns are: a, b"],
    );
    says(&error(b"a,b\n1,2\n", json!({"schema": {"c": "string"}})), &["parameter schema: there is no column `c`"]);
    says(&error(b"a,b,a\n1,2,3\n", json!({})), &["the column `a` is there twice (columns 1 and 3)"]);
    says(&error(b"a,,c\n1,2,3\n", json!({})), &["column 2 has no name"]);
}

#[test]
fn a_value_that_is_not_of_the_declared_type_names_line_and_column() {
    says(
        &error(b"a,b\n1,2\nx,4\n", json!({"schema": {"a": "integer"}})),
        &["x.csv, line 3, column a: found 'x', expected an integer", "schema: {a: string}"],
    );
}

#[test]
fn an_open_quote_names_the_line_where_it_opens() {
    says(&error(b"a,b\n1,\"x\n2,y\n", json!({})), &["x.csv: line 2: the quote that opens here is never closed"]);
}

#[test]
fn files_of_one_source_have_the_same_columns() {
    let files = Files::new(&[("1.csv", b"a,b\n1,2\n"), ("2.csv", b"a,c\n1,2\n")]);
    let error = stage("ingest").run(&json!({"source": files.path("")})).error();
    says(&error, &["2.csv: the header is [a, c]", "1.csv it is [a, b]"]);
}

#[test]
fn a_source_that_is_not_there_or_too_large_is_named() {
    let run = |params: Value| stage("ingest").run(&params).error();
    says(&run(json!({"source": "/nowhere/x.csv"})), &["parameter source: there is nothing at /nowhere/x.csv"]);
    says(&run(json!({"source": "ftp://host/x.csv"})), &["`ftp://` is not supported"]);
    says(&run(json!({"source": "s3://bucket"})), &["write s3://bucket/key"]);
    let files = Files::new(&[("x.csv", b"a\n1\n"), ("x.dat", b"a\n")]);
    says(&run(json!({"source": files.path("x.csv"), "maxBytes": 3})), &["4 bytes, but maxBytes is 3"]);
    says(&run(json!({"source": files.path("x.dat")})), &["set format to csv, jsonl or parquet"]);
}

#[test]
fn wrong_parameters_are_named_before_anything_is_read() {
    let run = |params: Value| stage("ingest").run(&params).error();
    says(&run(json!({})), &["ingest: parameter (top level): missing field `source`"]);
    says(&run(json!({"source": "x", "delimiter": ";"})), &["unknown field `delimiter`"]);
    says(
        &run(json!({"source": "x", "csv": {"header": "no"}})),
        &["csv.header: invalid type: string \"no\", expected a boolean"],
    );
}
