//! `ingest` from mounted files: formats, types, columns.

use std::fmt::Write as _;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::support::{Files, stage, table_of};

const PENGUINS: &str =
    "species,mass,male,seen\nAdelie,3750,true,2007-11-11\nGentoo,NA,false,2007-11-12\n\"Chin\"\"strap, x\",4100.5,,\n";

#[test]
fn a_csv_file_becomes_a_typed_table() {
    let files = Files::new(&[("penguins.csv", PENGUINS.as_bytes())]);
    let run = stage("ingest").run(&json!({"source": files.path("penguins.csv"), "format": "auto", "csv": null})).well();
    let table = run.table("data");
    assert_eq!(table.columns, ["species: Utf8", "mass: Float64", "male: Boolean", "seen: Date32"]);
    assert_eq!(table.rows[1], ["Gentoo", "NULL", "false", "2007-11-12"]);
    assert_eq!(table.rows[2], ["Chin\"strap, x", "4100.5", "NULL", "NULL"]);
    assert_eq!(run.result("rows"), json!(3));
    assert_eq!(run.result("columns"), json!(4));
    assert!(run.result("source_digest").as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn types_are_inferred_over_all_rows() {
    let mut text = String::from("n\n");
    for row in 0..20_000 {
        writeln!(text, "{row}").unwrap();
    }
    text.push_str("0.5\n");
    let run = table_of(&text);
    assert_eq!(run.table("data").columns, ["n: Float64"]);
    assert_eq!(run.result("rows"), json!(20_001));
}

#[test]
fn a_dialect_is_what_the_parameters_say() {
    let files = Files::new(&[("x.txt", b"1;'a;b';-\n2;c;4\n")]);
    let csv =
        json!({"delimiter": ";", "quote": "'", "header": false, "columnNames": ["n", "t", "m"], "nullValues": ["-"]});
    let table = stage("ingest").run(&json!({"source": files.path("x.txt"), "csv": csv})).well().table("data");
    assert_eq!(table.columns, ["n: Int64", "t: Utf8", "m: Int64"]);
    assert_eq!(table.rows, [["1", "a;b", "NULL"], ["2", "c", "4"]]);
}

#[test]
fn a_schema_and_a_choice_of_columns_are_kept() {
    let files = Files::new(&[("x.csv", b"zip,n,when\n07001,1,2026-11-21T10:00:00+01:00\n")]);
    let params = json!({"source": files.path("x.csv"), "schema": {"n": "string", "when": "timestamp"}, "columns": ["when", "n", "zip"]});
    let table = stage("ingest").run(&params).well().table("data");
    assert_eq!(table.columns, ["when: Timestamp(µs, \"UTC\")", "n: Utf8", "zip: Utf8"]);
    assert_eq!(table.rows, [["2026-11-21T09:00:00Z", "1", "07001"]]);
}

#[test]
fn latin1_becomes_utf8() {
    let files = Files::new(&[("x.csv", b"name\nJos\xE9\n")]);
    let table = stage("ingest")
        .run(&json!({"source": files.path("x.csv"), "csv": {"encoding": "latin1"}}))
        .well()
        .table("data");
    assert_eq!(table.rows, [["José"]]);
}

#[test]
fn a_folder_of_files_and_packed_files_are_read_in_order() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"a,b\n3,4\n").unwrap();
    let packed = packed.finish().unwrap();
    let files = Files::new(&[("1.csv", b"a,b\n1,2\n"), ("2.csv.gz", &packed), ("_SUCCESS", b"")]);
    let table = stage("ingest").run(&json!({"source": files.path("")})).well().table("data");
    assert_eq!(table.rows, [["1", "2"], ["3", "4"]]);
}

#[test]
fn json_lines_become_a_table_with_the_columns_in_their_order() {
    let lines =
        "{\"z\": 1, \"a\": \"x\", \"deep\": {\"q\": 1, \"b\": [1, 2]}}\n\n{\"a\": null, \"z\": 2.5, \"new\": true}\n";
    let files = Files::new(&[("x.jsonl", lines.as_bytes())]);
    let run = stage("ingest").run(&json!({"source": files.path("x.jsonl")})).well();
    let table = run.table("data");
    assert_eq!(
        table.columns.iter().map(|c| c.split(':').next().unwrap()).collect::<Vec<_>>(),
        ["z", "a", "deep", "new"]
    );
    assert_eq!((table.columns[0].as_str(), table.columns[1].as_str()), ("z: Float64", "a: Utf8"));
    assert_eq!(table.column("new"), ["NULL", "true"]);
}

#[test]
fn bad_json_lines_name_the_line() {
    for (lines, words) in [
        ("{\"a\": 1}\n{\"a\": }\n", "x.jsonl, line 2: no JSON (column 7: expected value)"),
        ("[{\"a\": 1}]", "line 1: found a list, expected one JSON object a line"),
        ("", "x.jsonl is empty"),
        ("{\"a\": 1}\n{\"a\": {\"b\": 1}}\n", "the values of a column do not go together"),
    ] {
        let files = Files::new(&[("x.jsonl", lines.as_bytes())]);
        let error = stage("ingest").run(&json!({"source": files.path("x.jsonl")})).error();
        assert!(error.contains(words), "{error}");
    }
    let files = Files::new(&[("x.jsonl", b"{\"a\": \"1\"}\n{\"a\": \"x\"}\n")]);
    let error = stage("ingest").run(&json!({"source": files.path("x.jsonl"), "schema": {"a": "integer"}})).error();
    assert!(error.contains("x.jsonl, line 2: a value does not have its column's type"), "{error}");
}

#[test]
fn parquet_is_read_with_a_choice_of_columns_and_types() {
    let first = table_of(PENGUINS);
    let params = json!({"source": first.output("data").display().to_string(), "columns": ["seen", "mass"], "schema": {"mass": "string"}});
    let table = stage("ingest").run(&params).well().table("data");
    assert_eq!(table.columns, ["seen: Date32", "mass: Utf8"]);
    assert_eq!(table.rows[0], ["2007-11-11", "3750.0"]);
}

#[test]
fn bad_parquet_is_told_by_name() {
    let whole = table_of(PENGUINS);
    let bytes = std::fs::read(whole.output("data").join("part-00000.parquet")).unwrap();
    let damaged: Vec<u8> = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| if at > bytes.len() - 60 && at < bytes.len() - 8 { 0xFF } else { *byte })
        .collect();
    for (name, bytes, words) in [
        (
            "cut.parquet",
            &bytes[..bytes.len() / 2],
            "cut.parquet is no complete Parquet file (it is truncated or damaged",
        ),
        ("text.parquet", &b"a,b\n1,2\n"[..], "(it begins with 'a,b"),
        ("empty.parquet", &b""[..], "(it is empty)"),
        ("damaged.parquet", &damaged[..], "damaged.parquet: the file is damaged"),
    ] {
        let files = Files::new(&[(name, bytes)]);
        let error = stage("ingest").run(&json!({"source": files.path(name)})).error();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    let bytes = || std::fs::read(table_of(PENGUINS).output("data").join("part-00000.parquet")).unwrap();
    assert_eq!(bytes(), bytes());
}
