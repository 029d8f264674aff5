//! Delta tables that another implementation reads and writes: `deltalake`, the field's own for Python.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{Run, stage};
use crate::tables::{Shop, read};

/// A Python that has it, which the first test of a machine makes.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/delta/python");
        let made = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(made.status.success(), "{script} failed");
        String::from_utf8(made.stdout).unwrap().trim().into()
    })
}

/// What a program says of the table, as JSON.
#[track_caller]
pub fn ask(table: &Path, program: &str) -> Value {
    let text = format!(
        "import json, sys, datetime as d\nimport pyarrow as pa\nfrom deltalake import DeltaTable, write_deltalake\npath = sys.argv[1]\n{program}\nsys.stdout.flush()\nimport os\n# Its threads sometimes outlive the interpreter, which then aborts.\nos._exit(0)"
    );
    let output = Command::new(python()).args(["-c", &text]).arg(table).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn rows(run: &Run) -> Vec<Vec<String>> {
    let mut rows = run.table("data").rows;
    rows.sort();
    rows
}

#[test]
fn another_reader_sees_the_rows_their_types_and_their_bounds() {
    let shop = Shop::new();
    for last in [3, 6] {
        shop.order(last - 2..=last);
        shop.append().well();
    }
    let found = ask(
        &shop.table(),
        r#"
t = DeltaTable(path)
rows = t.to_pyarrow_table().sort_by("id")
print(json.dumps({
    "version": t.version(),
    "id": rows["id"].to_pylist(),
    "at": [str(x) for x in rows["at"].to_pylist()][:1],
    "day": [str(x) for x in rows["day"].to_pylist()][:1],
    "types": [str(f.type) for f in rows.schema],
    "few": t.to_pyarrow_dataset().to_table(filter=__import__("pyarrow.dataset").dataset.field("id") > 4)["id"].to_pylist(),
    "least": sorted(pa.table(t.get_add_actions(flatten=True)).to_pydict()["min.id"]),
}))"#,
    );
    assert_eq!(found["version"], json!(1));
    assert_eq!(found["id"], json!([1, 2, 3, 4, 5, 6]));
    assert_eq!((&found["at"], &found["day"]), (&json!(["2026-11-01 12:00:00+00:00"]), &json!(["2026-11-01"])));
    assert_eq!(found["types"], json!(["int64", "string", "double", "date32[day]", "timestamp[us, tz=UTC]"]));
    assert_eq!(found["few"], json!([5, 6]));
    assert_eq!(found["least"], json!([1, 4]));
}

#[test]
fn a_table_that_others_write_too_keeps_the_position() {
    let shop = Shop::new();
    shop.order(1..=3);
    shop.append().well();
    // It appends, puts files together, makes a checkpoint and takes out what is no more needed.
    ask(
        &shop.table(),
        r#"
t = DeltaTable(path)
more = t.to_pyarrow_table().slice(0, 1).set_column(0, "id", pa.array([100], pa.int64()))
write_deltalake(path, more, mode="append")
t = DeltaTable(path)
t.optimize.compact()
t.create_checkpoint()
t.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)"#,
    );
    shop.order(4..=4);
    assert_eq!(shop.append().well().result("rows"), json!(1));
    let found = read(&shop.table(), json!({})).well();
    let mut ids: Vec<u64> = found.table("data").column("id").iter().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 100]);
    // Rows that were only put together are not new.
    let new = read(&shop.table(), json!({"after": 1})).well();
    assert_eq!(new.table("data").column("id"), ["4"]);
}

#[test]
fn a_checkpoint_of_ours_has_what_others_took_out() {
    for (setting, gone) in [
        // The first three, and what they were put together into.
        ("set_table_name('orders')", 4),
        // What it lists may be deleted at once, so it is not listed at all.
        ("set_table_properties({'delta.deletedFileRetentionDuration': 'interval 0 seconds'})", 0),
    ] {
        let shop = Shop::new();
        for number in 1..=3 {
            shop.order(number..=number);
            shop.append().well();
        }
        let others = format!(
            "DeltaTable(path).alter.{setting}\nDeltaTable(path).optimize.compact()\nDeltaTable(path).delete('id = 1')"
        );
        ask(&shop.table(), &others);
        let log = shop.table().join("_delta_log");
        for number in 4..=12 {
            shop.order(number..=number);
            shop.append().well();
        }
        assert!(log.join("00000000000000000010.checkpoint.parquet").is_file());
        for version in 0..10 {
            std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
        }
        let found = ask(
            &shop.table(),
            r#"
t = DeltaTable(path)
print(json.dumps({
    "ids": sorted(t.to_pyarrow_table()["id"].to_pylist()),
    "gone": len(t.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True)),
    "name": t.metadata().name,
}))"#,
        );
        assert_eq!(found["ids"], json!((2..=12).collect::<Vec<_>>()), "{setting}");
        assert_eq!(found["gone"], json!(gone), "{setting}");
        assert_eq!(found["name"], json!(setting.contains("orders").then_some("orders")));
        shop.order(13..=13);
        assert_eq!(shop.append().well().result("rows"), json!(1));
        let ids = read(&shop.table(), json!({})).well().table("data").column("id").len();
        assert_eq!(ids, 12);
    }
}

#[test]
fn a_table_with_what_a_checkpoint_of_ours_has_no_room_for_gets_none() {
    let shop = Shop::new();
    let commit = |version: u64| shop.table().join(format!("_delta_log/{version:020}.json"));
    for number in 1..=3 {
        shop.order(number..=number);
        shop.append().well();
    }
    std::fs::write(commit(3), "{\"commitInfo\":{}}\n{\"somethingNew\":{\"of\":\"others\"}}\n").unwrap();
    for number in 4..=11 {
        shop.order(number..=number);
        shop.append().well();
    }
    assert!(commit(11).is_file());
    assert!(!commit(10).with_extension("checkpoint.parquet").exists());
}

#[test]
fn a_table_of_others_with_partitions_and_a_checkpoint_is_read_by_its_window() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("clicks");
    ask(
        &table,
        r#"
for first in (1, 11):
    days = [d.date(2026, 11, first + n) for n in range(10)]
    write_deltalake(path, pa.table({
        "day": pa.array(days, pa.date32()),
        "user": pa.array([f"user {x.day}" for x in days]),
        "tags": pa.array([["a", str(x.day)] for x in days]),
        "spent": pa.array([x.day for x in days], pa.int32()),
    }), mode="append", partition_by=["day"])
t = DeltaTable(path)
t.delete("day = '2026-11-03'")
t.create_checkpoint()"#,
    );
    let window = |window: &str, until: &str| json!({"timeColumn": "day", "window": window, "until": until});
    let found = read(&table, window("2d", "2026-11-05T00:00:00Z")).well();
    assert_eq!(found.table("data").columns[0], "day: Date32");
    assert_eq!(found.table("data").column("user"), ["user 4"], "the third was deleted");
    assert_eq!(found.table("data").column("day"), ["2026-11-04"]);
    let whole = read(&table, json!({})).well();
    assert_eq!((rows(&whole).len(), whole.result("source_version")), (19, json!("2")));
    let first = read(&table, json!({"version": 0})).well();
    assert_eq!(rows(&first).len(), 10);
    // Rows that come are read by themselves, and a row that was taken out ends that.
    let second = read(&table, json!({"version": 1, "after": 0})).well();
    assert_eq!(rows(&second).len(), 10);
    let error = read(&table, json!({"after": 0})).error();
    assert!(error.contains("version 2 takes rows out"), "{error}");
    let files = crate::support::Files::new(&[("a.csv", b"spent\n1\n".as_slice())]);
    let refused = stage("ingest").run(&json!({"source": files.path("a.csv"), "table": {"uri": table}}));
    assert!(refused.error().contains("is partitioned by day"), "{}", refused.error());
}

#[test]
fn rows_are_appended_to_a_table_that_others_made() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("made");
    ask(
        &table,
        r#"
write_deltalake(path, pa.table({"id": pa.array([1], pa.int32()), "name": pa.array(["a"]), "more": pa.array([1.0])}))"#,
    );
    let files = crate::support::Files::new(&[("a.csv", b"id,name\n2,b\n".as_slice())]);
    let params = json!({"source": files.path("a.csv"), "table": {"uri": table}});
    stage("ingest").run(&params).well();
    let found = ask(&table, r#"print(json.dumps(DeltaTable(path).to_pyarrow_table().sort_by("id").to_pylist()))"#);
    assert_eq!(found, json!([{"id": 1, "name": "a", "more": 1.0}, {"id": 2, "name": "b", "more": null}]));
}
