//! `transform`: queries and splits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::{Run, Table, stage, table_of};

fn rows(count: usize) -> String {
    let mut text = String::from("id,kind,day\n");
    for row in 0..count {
        let kind = if row % 10 == 0 { "rare" } else { "common" };
        writeln!(text, "{row},{kind},{}", day((row * 7919) % count)).unwrap();
    }
    text
}

/// Days of the calendar that follow one another.
fn day(number: usize) -> String {
    let day = jiff::civil::date(2020, 1, 1).saturating_add(jiff::Span::new().days(i64::try_from(number).unwrap()));
    day.to_string()
}

fn split(csv: &str, split: Value) -> Run {
    stage("transform").input("data", table_of(csv).output("data")).run(&json!({"split": split}))
}

fn ids(table: &Table) -> BTreeSet<String> {
    table.column("id").into_iter().map(ToOwned::to_owned).collect()
}

#[test]
fn a_query_over_several_inputs_uses_their_names() {
    let birds = table_of("id,Species\n1,Adelie\n2,Gentoo\n");
    let masses = table_of("id,mass\n1,3750\n2,5000\n");
    let run = stage("transform")
        .input("birds", birds.output("data"))
        .input("body-mass", masses.output("data"))
        .run(&json!({"sql": "SELECT Species, mass FROM birds JOIN body_mass USING (id) WHERE mass > 4000"}))
        .well();
    let table = run.table("data");
    assert_eq!(table.columns, ["Species: Utf8", "mass: Int64"]);
    assert_eq!(table.rows, [["Gentoo", "5000"]]);
    assert_eq!(run.result("rows"), json!(1));
}

#[test]
fn without_a_query_the_only_input_is_the_result() {
    let run = stage("transform").input("data", table_of("a,b\n1,2\n").output("data")).run(&json!({})).well();
    assert_eq!(run.table("data").rows, [["1", "2"]]);
}

#[test]
fn a_split_gives_every_row_to_one_part_by_exact_counts() {
    let run = split(&rows(1003), json!({"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 7})).well();
    let parts = ["train", "validation", "test"].map(|part| run.table(part));
    assert_eq!(parts.each_ref().map(|part| part.rows.len()), [602, 201, 200]);
    let all: BTreeSet<String> = parts.iter().flat_map(ids).collect();
    assert_eq!(all.len(), 1003);
    assert_eq!(run.result("test_rows"), json!(200));
    // Shuffled: the test rows are no run of neighbours.
    let numbers: Vec<usize> = parts[2].column("id").iter().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.first().unwrap() < &50 && numbers.last().unwrap() > &950);
}

#[test]
fn the_seed_and_the_rows_decide_not_the_files() {
    let text = rows(500);
    let spec = json!({"test": 0.3, "seed": 1});
    let once = ids(&split(&text, spec.clone()).well().table("test"));
    assert_eq!(ids(&split(&text, spec.clone()).well().table("test")), once);
    // The same rows in three files.
    let lines: Vec<&str> = text.lines().collect();
    let files = crate::support::Files::new(&[(1, "1.csv"), (201, "2.csv"), (340, "3.csv")].map(|(from, name)| {
        let to = match from {
            1 => 201,
            201 => 340,
            _ => lines.len(),
        };
        let bytes: &'static [u8] =
            Box::leak(format!("{}\n{}\n", lines[0], lines[from..to].join("\n")).into_bytes().into_boxed_slice());
        (name, bytes)
    }));
    let tables: Vec<Run> = ["1.csv", "2.csv", "3.csv"]
        .iter()
        .map(|name| stage("ingest").run(&json!({"source": files.path(name)})).well())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for (number, table) in tables.iter().enumerate() {
        std::fs::copy(table.output("data").join("part-00000.parquet"), folder.path().join(format!("{number}.parquet")))
            .unwrap();
    }
    let parts = stage("transform").input("data", folder.path()).run(&json!({"split": spec})).well();
    assert_eq!(ids(&parts.table("test")), once);
    let other = split(&text, json!({"test": 0.3, "seed": 2})).well();
    assert_ne!(ids(&other.table("test")), once);
}

#[test]
fn a_stratified_split_keeps_the_shares_of_every_class() {
    let run = split(&rows(995), json!({"train": 0.7, "validation": 0.1, "test": 0.2, "stratify": "kind"})).well();
    for (part, share) in [("train", 0.7), ("validation", 0.1), ("test", 0.2)] {
        let table = run.table(part);
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for kind in table.column("kind") {
            *counts.entry(kind).or_default() += 1.0;
        }
        assert!((counts["rare"] - 100.0 * share).abs() <= 1.0, "{part}: {counts:?}");
        assert!((counts["common"] - 895.0 * share).abs() <= 1.0, "{part}: {counts:?}");
    }
}

#[test]
fn a_split_by_time_trains_on_nothing_later_than_it_tests_on() {
    let run = split(&rows(300), json!({"train": 0.5, "validation": 0.25, "test": 0.25, "time": "day"})).well();
    let parts = ["train", "validation", "test"].map(|part| run.table(part));
    let latest = |table: &Table| table.column("day").into_iter().max().unwrap().to_owned();
    let earliest = |table: &Table| table.column("day").into_iter().min().unwrap().to_owned();
    assert_eq!(parts.each_ref().map(|part| part.rows.len()), [150, 75, 75]);
    assert!(latest(&parts[0]) < earliest(&parts[1]) && latest(&parts[1]) < earliest(&parts[2]));
}

#[test]
fn the_parts_keep_the_querys_order() {
    let data = table_of(&rows(200));
    let params = json!({"sql": "SELECT * FROM data ORDER BY id DESC", "split": {"test": 0.5}});
    let run = stage("transform").input("data", data.output("data")).run(&params).well();
    let numbers: Vec<i64> = run.table("test").column("id").iter().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] > pair[1]));
}

#[test]
fn a_part_of_no_fraction_is_not_written() {
    let run = split(&rows(10), json!({"test": 0.5})).well();
    assert!(!run.output("validation").exists());
    assert!(!run.output("data").exists());
}

#[test]
fn wrong_queries_and_splits_are_told() {
    let data = table_of(&rows(3));
    let run = |params: Value| stage("transform").input("data", data.output("data")).run(&params).error();
    for (params, words) in [
        (json!({"sql": "SELECT mass FROM data"}), "the tables are: data (id, kind, day)"),
        (json!({"sql": "SELECT * FROM birds"}), "the tables are: data (id, kind, day)"),
        (json!({"sql": "SELEC"}), "parameter sql: the query cannot be planned"),
        (json!({"sql": "DELETE FROM data"}), "parameter sql: the query cannot be planned"),
        (
            json!({"sql": "SELECT * FROM data WHERE id > 9"}),
            "the result has no rows; correct the query, or set allowEmpty: true",
        ),
        (json!({"sql": "SELECT CAST(kind AS INT) AS n FROM data"}), "parameter sql: the query failed"),
        (json!({"split": {"train": 0.5, "test": 0.2}}), "add up to 0.7, expected 1"),
        (
            json!({"split": {"test": 0.5, "stratify": "x"}}),
            "parameter split.stratify: the result has no column `x`; its columns are: id, kind, day",
        ),
        (json!({"split": {"test": 0.1, "validation": 0.1}}), "would have none of the 3 rows"),
        (json!({"split": {"test": "a"}}), "split.test: invalid type: string \"a\", expected"),
        (json!({"splits": {}}), "unknown field `splits`"),
    ] {
        let error = run(params.clone());
        assert!(error.contains(words), "{params}: {error}");
    }
    let error = stage("transform").run(&json!({})).error();
    assert!(error.contains("the stage has no inputs"), "{error}");
    let error =
        stage("transform").input("a", data.output("data")).input("b", data.output("data")).run(&json!({})).error();
    assert!(error.contains("2 inputs (a, b)"), "{error}");
}

#[test]
fn a_missing_time_is_an_error() {
    let error = split("id,day\n1,2020-01-01\n2,\n3,2020-01-03\n", json!({"test": 0.5, "time": "day"})).error();
    assert!(error.contains("`day` is null in 1 rows"), "{error}");
}

#[test]
fn an_empty_result_is_right_where_that_is_said() {
    let params = json!({"sql": "SELECT * FROM data WHERE id > 9", "allowEmpty": true, "split": {"test": 0.5}});
    let run = stage("transform").input("data", table_of(&rows(3)).output("data")).run(&params).well();
    assert_eq!(run.table("train").rows.len(), 0);
    assert_eq!(run.table("train").columns.len(), 3);
}
