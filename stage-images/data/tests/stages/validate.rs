//! `validate`: what passes, what fails, and what the report shows.

use serde_json::{Value, json};

use crate::support::{Run, stage, table_of};

const DATA: &str =
    "id,species,mass,seen\n1,Adelie,3750,2007-11-11T00:00:00Z\n2,Gentoo,,2007-11-12T00:00:00Z\n2,<b>Emu</b>,40000,\n";

fn validate(csv: &str, expectations: Value) -> Run {
    stage("validate").input("data", table_of(csv).output("data")).run(&json!({"expectations": expectations}))
}

#[test]
fn expectations_that_hold_pass() {
    let run = validate(
        DATA,
        json!([
            {"column": "id", "type": "integer"}, {"column": "id", "notNull": true}, {"column": "mass", "maxNullFraction": 0.34},
            {"column": "mass", "min": 0, "max": 40000}, {"columns": ["id", "species"], "unique": true},
            {"column": "seen", "min": "2000-01-01", "max": "2030-01-01T00:00:00Z"}, {"column": "mass", "unique": true},
            {"column": "id", "allowed": [1, 2]}, {"column": "species", "matches": "^[A-Z<]"}, {"rows": {"min": 3, "max": 3}},
            {"columns": {"exactly": ["id", "species", "mass", "seen"]}}, {"columns": {"include": ["id"]}},
            {"freshness": {"column": "seen", "maxAge": "40000d"}},
            {"sql": "SELECT * FROM data WHERE mass < 0"}, {"sql": "SELECT * FROM data", "maxRows": 3},
        ]),
    )
    .well();
    let metrics = run.numbers("metrics.json");
    assert_eq!((metrics["checks"], metrics["failed"], metrics["warnings"], metrics["rows"]), (15.0, 0.0, 0.0, 3.0));
    assert_eq!(run.stdout.matches("PASS").count(), 15, "{}", run.stdout);
}

#[test]
fn each_expectation_that_is_broken_fails_and_says_what_was_found() {
    for (expectation, found) in [
        (json!({"column": "id", "type": "string"}), "the type is integer"),
        (json!({"column": "mass", "notNull": true}), "1 of 3 rows"),
        (json!({"column": "mass", "maxNullFraction": 0.3}), "1 of 3 rows"),
        (json!({"column": "mass", "max": 10000}), "1 of 3 rows"),
        (json!({"column": "mass", "min": 3800}), "1 of 3 rows"),
        (json!({"column": "seen", "min": "2007-11-12"}), "1 of 3 rows"),
        (json!({"column": "id", "unique": true}), "1 values are there more than once, in 2 rows"),
        (json!({"column": "species", "allowed": ["Adelie", "Gentoo"]}), "1 of 3 rows"),
        (json!({"column": "species", "matches": "^[A-Za-z]+$"}), "1 of 3 rows"),
        (json!({"rows": {"min": 4}}), "3 rows"),
        (json!({"columns": {"exactly": ["id", "species", "mass"]}}), "not expected: seen"),
        (json!({"columns": {"include": ["id", "age"]}}), "missing: age"),
        (json!({"freshness": {"column": "seen", "maxAge": "24h"}}), "the latest value is 2007-11-12T00:00:00Z"),
        (json!({"freshness": {"column": "mass", "maxAge": "24h"}}), "the column is of type"),
        (json!({"sql": "SELECT * FROM data WHERE mass > 10000"}), "1 rows, at most 0"),
        (
            json!({"column": "none", "notNull": true}),
            "there is no column `none`; the columns are: id, species, mass, seen",
        ),
        (json!({"column": "species", "min": 1}), "min: found a number (1), but the column is of type string"),
    ] {
        let run = validate(DATA, json!([expectation]));
        assert!(run.stdout.contains("FAIL  ") && run.stdout.contains(found), "{expectation}: {}", run.stdout);
        assert!(run.error().starts_with("1 of 1 checks failed: "), "{expectation}: {}", run.stderr);
    }
}

#[test]
fn the_report_shows_the_rows_that_broke_a_check_as_text() {
    let run =
        validate(DATA, json!([{"name": "light <i>birds</i>", "column": "mass", "max": 10000}, {"rows": {"min": 1}}]));
    assert_eq!(run.error(), "1 of 2 checks failed: light <i>birds</i>");
    assert!(run.stdout.contains("<b>Emu</b>  40000"), "{}", run.stdout);
    assert_eq!(run.stdout.lines().filter(|line| line.starts_with("PASS")).collect::<Vec<_>>(), ["PASS  1 more"]);
    let page = run.text("report", "report.html");
    assert!(page.contains("&lt;b&gt;Emu&lt;/b&gt;") && page.contains("light &lt;i&gt;birds&lt;/i&gt;"));
    assert!(!page.contains("<b>Emu") && !page.contains("<i>birds"));
    let report: Value = serde_json::from_str(&run.text("report", "report.json")).unwrap();
    assert_eq!(report["checks"][0]["examples"]["rows"][0][1], json!("<b>Emu</b>"));
    assert_eq!(report["checks"][1]["passed"], json!(true));
}

#[test]
fn at_most_five_rows_are_shown() {
    let csv: String =
        std::iter::once("n".to_owned()).chain((0..100).map(|n| n.to_string())).collect::<Vec<_>>().join("\n");
    let run = validate(&csv, json!([{"column": "n", "max": -1}]));
    let report: Value = serde_json::from_str(&run.text("report", "report.json")).unwrap();
    assert_eq!(report["checks"][0]["found"], json!("100 of 100 rows"));
    assert_eq!(report["checks"][0]["examples"]["rows"].as_array().unwrap().len(), 5);
}

#[test]
fn a_warning_does_not_fail_the_stage() {
    let run = validate(DATA, json!([{"column": "mass", "notNull": true, "severity": "warn"}])).well();
    assert_eq!(run.numbers("metrics.json")["warnings"], 1.0);
    assert!(run.stdout.contains("WARN"), "{}", run.stdout);
}

#[test]
fn expectations_that_make_no_sense_are_refused() {
    for (expectations, words) in [
        (json!([]), "the list is empty"),
        (json!([{"rows": {"min": 1}}, {"column": "id"}]), "parameter expectations: number 2 has no check"),
        (json!([{"column": "id", "notnull": true}]), "expectations[0].notnull: unknown field `notnull`"),
        (
            json!([{"sql": "SELECT * FROM data WHERE x = 1"}]),
            "the table is `data` with the columns: id, species, mass, seen",
        ),
        (json!([{"sql": "DROP TABLE data"}]), "expectation 1"),
    ] {
        let error = validate(DATA, expectations).error();
        assert!(error.contains(words), "{error}");
    }
    let error = stage("validate").run(&json!({"expectations": [{"rows": {"min": 1}}]})).error();
    assert!(error.contains("the input `data` is missing"), "{error}");
}

#[test]
fn a_table_that_is_no_parquet_is_told() {
    let files = crate::support::Files::new(&[("x.csv", b"a\n1\n")]);
    let expectations = json!({"expectations": [{"rows": {"min": 1}}]});
    let error = stage("validate").input("data", files.path("x.csv")).run(&expectations).error();
    assert!(error.contains("x.csv is no complete Parquet file") && error.contains("stage `ingest`"), "{error}");
    let error = stage("validate").input("data", files.path("")).run(&expectations).error();
    assert!(error.contains("has no Parquet file, found: x.csv"), "{error}");
}
