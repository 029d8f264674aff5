//! `ingest` into Delta tables and out of them: rows and position in one commit, whatever ends the program; snapshots, windows and what is new.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Files, Run, Table, stage};
use crate::{clouds, s3};

/// A database that grows, and the place of a table.
pub struct Shop {
    folder: TempDir,
}

impl Shop {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shop = Self { folder };
        let orders = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL, day DATE, at DATETIME)";
        shop.open().execute_batch(orders).unwrap();
        shop
    }

    fn open(&self) -> Connection {
        Connection::open(self.folder.path().join("shop.db")).unwrap()
    }

    /// Orders of these numbers, one a day from 2026-11-01 on.
    pub fn order(&self, numbers: std::ops::RangeInclusive<u64>) {
        let rows = format!(
            "WITH RECURSIVE g(n) AS (SELECT {} UNION ALL SELECT n + 1 FROM g WHERE n < {})
             INSERT INTO orders SELECT n, 'customer ' || n, n * 1.5, date('2026-10-31', '+' || n || ' days'),
                 strftime('%Y-%m-%dT12:00:00Z', '2026-10-31', '+' || n || ' days') FROM g",
            numbers.start(),
            numbers.end()
        );
        self.open().execute_batch(&rows).unwrap();
    }

    pub fn table(&self) -> PathBuf {
        self.folder.path().join("table")
    }

    pub fn params(&self) -> Value {
        json!({
            "source": format!("sqlite:{}", self.folder.path().join("shop.db").display()),
            "sql": {"table": "orders", "watermark": {"column": "id"}},
            "table": {"uri": self.table()},
        })
    }

    pub fn append(&self) -> Run {
        stage("ingest").run(&self.params())
    }

    /// The last number of a commit.
    fn last(&self) -> Option<u64> {
        let log = std::fs::read_dir(self.table().join("_delta_log")).ok()?;
        let numbers = log.filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".json")?.parse().ok()
        });
        numbers.max()
    }
}

pub fn read(table: &Path, delta: Value) -> Run {
    stage("ingest").run(&json!({"source": table, "format": "delta", "delta": delta}))
}

fn numbers(table: &Table) -> Vec<u64> {
    let mut numbers: Vec<u64> = table.column("id").iter().map(|id| id.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_growing_source_is_appended_with_how_far_it_was_read() {
    let shop = Shop::new();
    shop.order(1..=3);
    let first = shop.append().well();
    assert_eq!((first.result("rows"), first.result("table_version")), (json!(3), json!("0")));
    assert_eq!((first.result("watermark"), first.result("table")), (json!("3"), json!(shop.table())));
    assert!(!first.output("data").exists(), "what is appended is in the table alone");
    // Nothing is new, so nothing is written.
    let second = shop.append().well();
    assert_eq!((second.result("rows"), second.result("table_version")), (json!(0), json!("0")));
    assert_eq!(shop.last(), Some(0));
    shop.order(4..=5);
    let third = shop.append().well();
    assert_eq!((third.result("rows"), third.result("table_version")), (json!(2), json!("1")));

    let whole = read(&shop.table(), json!({})).well();
    assert_eq!(numbers(&whole.table("data")), [1, 2, 3, 4, 5]);
    assert_eq!(whole.result("source_version"), json!("1"));
    let columns = ["id: Int64", "customer: Utf8", "total: Float64", "day: Date32", "at: Timestamp(µs, \"UTC\")"];
    assert_eq!(whole.table("data").columns, columns);
    let before = read(&shop.table(), json!({"version": 0})).well();
    assert_eq!(numbers(&before.table("data")), [1, 2, 3]);
    assert_ne!(before.result("source_digest"), whole.result("source_digest"));
    // The position is in the commit that has the rows.
    let commit = std::fs::read_to_string(shop.table().join("_delta_log/00000000000000000001.json")).unwrap();
    assert!(
        commit.contains(r#"\"above\":\"5\""#) && commit.contains("\"txn\"") && commit.contains("\"add\""),
        "{commit}"
    );
}

#[test]
fn a_program_that_is_killed_at_any_moment_loses_no_row_and_doubles_none() {
    let shop = Shop::new();
    let mut orders = 0;
    let (mut before, mut within) = (0, 0);
    for number in 0..24_u64 {
        shop.order(orders + 1..=orders + 4000);
        orders += 4000;
        let versions = shop.last();
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-data"))
            .args(["ingest", "--params", &shop.params().to_string()])
            .env("MILLRACE_OUT", shop.folder.path().join("out"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let files = || std::fs::read_dir(shop.table()).map_or(0, Iterator::count);
        let had = files();
        match number % 3 {
            // At some moment.
            0 => std::thread::sleep(Duration::from_millis(number * 4)),
            // As soon as a file of rows is there.
            1 => while files() == had && child.try_wait().unwrap().is_none() {},
            // As soon as the commit is there, before it is told.
            _ => while shop.last() == versions && child.try_wait().unwrap().is_none() {},
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if shop.last() == versions { before += 1 } else { within += 1 }
    }
    assert!(before > 0 && within > 0, "killed {before} times before the commit, {within} times after it");
    shop.append().well();
    let found = numbers(&read(&shop.table(), json!({})).well().table("data"));
    assert_eq!(found, (1..=orders).collect::<Vec<_>>());
}

#[test]
fn another_attempt_tells_of_what_the_killed_one_has_appended() {
    let shop = Shop::new();
    shop.order(1..=3);
    let attempt = || {
        let stage = stage("ingest").variable("MILLRACE_NAMESPACE", "n").variable("MILLRACE_STAGE", "ingest");
        stage.variable("MILLRACE_RUN", "r-1").run(&shop.params()).well()
    };
    // The first one ends well, but nobody hears of it.
    attempt();
    let second = attempt();
    assert_eq!((second.result("rows"), second.result("table_version")), (json!(3), json!("0")));
    shop.order(4..=4);
    let third = attempt();
    assert_eq!((third.result("rows"), third.result("table_version")), (json!(4), json!("1")));
    // Another run has appended nothing.
    assert_eq!(shop.append().well().result("rows"), json!(0));
}

#[test]
fn writers_at_once_wait_for_nobody_and_lose_nothing() {
    let shop = Shop::new();
    shop.order(1..=2000);
    let table = shop.table();
    let mut writers = Vec::new();
    for writer in 0..6 {
        let mut params = shop.params();
        params["table"]["position"] = json!(format!("writer-{writer}"));
        writers.push(std::thread::spawn(move || stage("ingest").run(&params)));
    }
    for writer in writers {
        writer.join().unwrap().well();
    }
    let found = numbers(&read(&table, json!({})).well().table("data"));
    let expected: Vec<u64> = (1..=2000).flat_map(|number| [number; 6]).collect();
    assert_eq!(found, expected);
    assert_eq!(shop.last(), Some(5));
}

#[test]
fn of_two_writers_of_one_source_one_appends() {
    let shop = Shop::new();
    shop.order(1..=10);
    shop.append().well();
    for round in 0..4_u64 {
        shop.order(round * 5000 + 11..=round * 5000 + 5010);
        let params = shop.params();
        let other = std::thread::spawn(move || stage("ingest").run(&params));
        let own = shop.append();
        let runs = [own, other.join().unwrap()];
        for run in runs.iter().filter(|run| !run.succeeded) {
            assert!(
                run.error().contains("and nothing of this one's was: another attempt goes on from there"),
                "{}",
                run.error()
            );
        }
        assert!(runs.iter().any(|run| run.succeeded));
    }
    let found = numbers(&read(&shop.table(), json!({})).well().table("data"));
    assert_eq!(found, (1..=20_010).collect::<Vec<_>>());
}

#[test]
fn a_window_ends_before_its_end_and_counts_back_from_it() {
    let shop = Shop::new();
    shop.order(1..=20);
    shop.append().well();
    shop.order(21..=40);
    shop.append().well();
    let of = |column: &str, window: &str, until: &str| {
        let delta = json!({"timeColumn": column, "window": window, "until": until});
        let run = read(&shop.table(), delta).well();
        assert!(run.result("window_until").as_str().unwrap().starts_with(&until[..10]));
        numbers(&run.table("data"))
    };
    // Order n is of noon of the nth day of November.
    assert_eq!(of("at", "2d", "2026-11-10T12:00:00Z"), [8, 9]);
    assert_eq!(of("at", "36h", "2026-11-22T00:00:00Z"), [20, 21]);
    assert_eq!(of("day", "2d", "2026-11-10T00:00:00Z"), [8, 9]);
    assert_eq!(of("day", "1d", "2026-11-10T00:00:01Z"), [10]);
    assert_eq!(of("at", "7d", "2020-01-01T00:00:00Z"), [0; 0]);
    // The column of the window need not be one that is wanted.
    let params = json!({
        "source": shop.table(), "format": "delta", "columns": ["customer"],
        "delta": {"timeColumn": "at", "window": "1d", "until": "2026-11-03T00:00:00Z"},
    });
    let run = stage("ingest").run(&params).well();
    assert_eq!(
        (run.table("data").columns, run.table("data").rows),
        (vec!["customer: Utf8".into()], vec![vec!["customer 2".into()]])
    );
    // Without an end it is now, and all of these are long ago or to come.
    let now = read(&shop.table(), json!({"timeColumn": "at", "window": "1s", "until": ""})).well();
    assert!(now.result("window_until").as_str().unwrap() > "2026");
}

#[test]
fn what_is_new_in_a_table_goes_into_another_one() {
    let shop = Shop::new();
    let copy = shop.folder.path().join("copy");
    let params = json!({"source": shop.table(), "format": "delta", "table": {"uri": copy}});
    shop.order(1..=3);
    shop.append().well();
    assert_eq!(stage("ingest").run(&params).well().result("rows"), json!(3));
    for number in 4..=6 {
        shop.order(number..=number);
        shop.append().well();
    }
    let second = stage("ingest").run(&params).well();
    assert_eq!((second.result("rows"), second.result("source_version")), (json!(3), json!("3")));
    assert_eq!(stage("ingest").run(&params).well().result("rows"), json!(0));
    assert_eq!(numbers(&read(&copy, json!({})).well().table("data")), [1, 2, 3, 4, 5, 6]);

    // The same without a table to append to: what a run has reached is the next one's parameter.
    let all = read(&shop.table(), json!({"after": ""})).well();
    assert_eq!((all.result("rows"), all.result("watermark")), (json!(6), json!("3")));
    let new = read(&shop.table(), json!({"after": "1"})).well();
    assert_eq!(numbers(&new.table("data")), [5, 6]);
    let none = read(&shop.table(), json!({"after": new.result("watermark")})).well();
    assert_eq!((none.result("rows"), none.table("data").rows.len()), (json!(0), 0));

    // Another table in its place is not what was read before.
    std::fs::remove_dir_all(shop.table()).unwrap();
    shop.append().well();
    let error = stage("ingest").run(&params).error();
    assert!(error.contains("is another table than the one that was read before"), "{error}");
}

#[test]
fn a_file_is_appended_once_for_each_of_its_states() {
    let files = Files::new(&[("a.csv", b"id,b\n1,x\n".as_slice())]);
    let table = files.path("table");
    let params = json!({"source": files.path("a.csv"), "table": {"uri": table}});
    for _ in 0..2 {
        stage("ingest").run(&params).well();
    }
    std::fs::write(files.path("a.csv"), "id,b\n2,y\n").unwrap();
    let run = stage("ingest").run(&params).well();
    assert_eq!(run.result("table_version"), json!("1"));
    assert_eq!(numbers(&read(Path::new(&table), json!({})).well().table("data")), [1, 2]);
}

#[test]
fn several_files_are_not_appended_as_one_source() {
    let files = Files::new(&[("a.csv", b"id\n1\n".as_slice()), ("b.csv", b"id\n2\n".as_slice())]);
    let params = json!({"source": files.path("*.csv"), "table": {"uri": files.path("table")}});
    let error = stage("ingest").run(&params).error();
    assert!(error.contains("parameter table: found a source of 2 files, expected one"), "{error}");
    assert!(!Path::new(&files.path("table")).exists());
}

#[test]
fn rows_take_the_types_of_the_table_or_are_refused() {
    let files = Files::new(&[("a.csv", b"id,n,day\n1,1.5,2026-11-01\n".as_slice())]);
    let table = files.path("table");
    let append = |text: &str| {
        std::fs::write(files.path("a.csv"), text).unwrap();
        stage("ingest").run(&json!({"source": files.path("a.csv"), "table": {"uri": table}}))
    };
    append("id,n,day\n1,1.5,2026-11-01\n").well();
    // An integer is a number, nothing is nothing of any type, and a column that is left out has no values.
    append("id,n\n2,7\n").well();
    append("id,n,day\n3,NA,NA\n").well();
    let read = || read(Path::new(&table), json!({})).well().table("data");
    assert_eq!(read().columns, ["id: Int64", "n: Float64", "day: Date32"]);
    assert_eq!(read().rows, [["1", "1.5", "2026-11-01"], ["2", "7.0", "NULL"], ["3", "NULL", "NULL"]]);
    for (text, words) in [
        ("id,other\n4,1\n", "has no column `other`; its columns are: id, n, day"),
        ("id,n\n4.5,1\n", "column id: the rows have the type number, and the table integer"),
        ("id,n\n4,many\n", "column n: a value of type string cannot become number"),
        ("id,day\n4,2026-11-01T10:00:00Z\n", "column day: the rows have the type timestamp, and the table date"),
    ] {
        let error = append(text).error();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(read().rows.len(), 3, "nothing of what was refused is there");
}

#[test]
fn a_table_of_many_commits_has_a_checkpoint_and_keeps_the_position() {
    let shop = Shop::new();
    for number in 1..=12 {
        shop.order(number..=number);
        shop.append().well();
    }
    let log = shop.table().join("_delta_log");
    assert!(log.join("00000000000000000010.checkpoint.parquet").is_file());
    // Another writer may take commits away that a checkpoint has.
    for version in 0..10 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    assert_eq!(shop.append().well().result("rows"), json!(0));
    assert_eq!(numbers(&read(&shop.table(), json!({})).well().table("data")).len(), 12);
    let error = read(&shop.table(), json!({"after": 3})).error();
    assert!(
        error.contains("version 4 is gone from its log, and what is new since version 3 cannot be told"),
        "{error}"
    );
    // Where that of the position is gone too, nothing is read twice.
    for version in 10..=11 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let error = shop.append().error();
    assert!(error.contains("which is gone from the table's log"), "{error}");
}

#[test]
fn a_table_in_a_bucket_is_appended_to_and_read() {
    let server = s3::serve();
    let access = json!({"endpoint": server.endpoint(), "region": "us-east-1", "allowHttp": true});
    let keys = |secret| [("AWS_ACCESS_KEY_ID", "me"), ("AWS_SECRET_ACCESS_KEY", secret)];
    in_a_bucket("s3://lake/tables", &json!({"s3": access}), &keys("secret"), Some(&keys("wrong")));
}

#[test]
fn a_table_in_google_cloud_storage_is_appended_to_and_read() {
    let server = clouds::gcs_with_writes();
    let access = json!({"endpoint": server.endpoint()});
    in_a_bucket("gs://lake/tables", &json!({"gcs": access}), &[("GOOGLE_SERVICE_ACCOUNT_KEY", clouds::ANYBODY)], None);
}

#[test]
fn a_table_in_azure_is_appended_to_and_read() {
    let server = clouds::azure();
    let access = json!({"endpoint": server.endpoint(), "account": clouds::ACCOUNT});
    let key = |key| [("AZURE_STORAGE_ACCOUNT_KEY", key)];
    in_a_bucket("az://lake/tables", &json!({"azure": access}), &key(clouds::KEY), Some(&key(clouds::WRONG)));
}

/// `access` is the parameter of the cloud.
fn in_a_bucket(folder: &str, access: &Value, keys: &[(&str, &str)], wrong: Option<&[(&str, &str)]>) {
    let shop = Shop::new();
    let run_as = |params: &Value, keys: &[(&str, &str)]| {
        keys.iter().fold(stage("ingest"), |stage, (name, value)| stage.variable(name, value)).run(params)
    };
    let run = |params: &Value| run_as(params, keys);
    let with = |mut params: Value| {
        params.as_object_mut().unwrap().extend(access.as_object().unwrap().clone());
        params
    };
    let orders = format!("{folder}/orders");
    let mut params = shop.params();
    params["table"] = with(json!({"uri": orders}));
    for last in [4, 8] {
        shop.order(last - 3..=last);
        run(&params).well();
    }
    // Two at once: the server creates a commit once.
    shop.order(9..=3000);
    let other = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(&params));
        (run(&params), other.join().unwrap())
    });
    assert!(other.0.succeeded || other.1.succeeded);
    let source = with(json!({"source": orders, "format": "delta"}));
    assert_eq!(numbers(&run(&source).well().table("data")), (1..=3000).collect::<Vec<_>>());
    let error = run(&with(json!({"source": format!("{folder}/none"), "format": "delta"}))).error();
    assert!(error.contains(&format!("there is no Delta table at {folder}/none")), "{error}");
    if let Some(wrong) = wrong {
        let refused = run_as(&source, wrong);
        assert!(refused.error().contains("access is refused"), "{}", refused.error());
    }
}

#[test]
fn mistakes_are_told_with_what_to_write() {
    let shop = Shop::new();
    shop.order(1..=3);
    shop.append().well();
    let table = shop.table();
    let nothing = shop.folder.path().join("nothing");
    for (params, words) in [
        (json!({"source": nothing, "format": "delta"}), "there is no Delta table at"),
        (json!({"source": table, "format": "delta", "delta": {"version": 9}}), "has no version 9"),
        (
            json!({"source": table, "format": "delta", "delta": {"version": "x"}}),
            "parameter delta.version: found 'x', expected the number of a version",
        ),
        (
            json!({"source": table, "format": "delta", "delta": {"after": 5}}),
            "what was read before goes up to version 5, and its last version is 0",
        ),
        (
            json!({"source": table, "format": "delta", "columns": ["x"]}),
            "there is no column `x`; the columns are: id, customer",
        ),
        (
            json!({"source": table, "format": "delta", "schema": {"id": "string"}}),
            "parameter schema: it is not for a Delta table",
        ),
        (json!({"source": table, "format": "delta", "kafka": {}}), "parameter kafka: it is not for a Delta table"),
        (json!({"source": table, "format": "delta", "gcs": {}}), "parameter gcs: it is not for a Delta table"),
        (json!({"source": table, "format": "delta", "azure": {}}), "parameter azure: it is not for a Delta table"),
        (json!({"source": table, "format": "delta", "maxBytes": 10}), "but maxBytes is 10"),
        (
            json!({"source": table, "format": "delta", "delta": {"timeColumn": "id", "window": "1d"}}),
            "parameter delta.timeColumn: id is of type integer, expected date or timestamp",
        ),
        (
            json!({"source": table, "format": "delta", "delta": {"timeColumn": "at", "window": "1d", "after": 0}}),
            "leave delta.window or delta.after out",
        ),
        (
            json!({"source": table, "format": "parquet", "delta": {}}),
            "parameter delta: it is for Delta tables; write format: delta",
        ),
        (json!({"source": "ftp://a/b", "format": "delta"}), "`ftp://a/b` is no address of a table"),
        (json!({"source": "s3://lake", "format": "delta"}), "`s3://lake` is no address of a table"),
        (json!({"source": table, "format": "delta", "s3": {}}), "parameter s3: it is not for a Delta table"),
        (
            json!({"source": table, "format": "delta", "table": {"uri": nothing, "gcs": {}}}),
            "parameter table.gcs: it is for a table at gs://, and the table is elsewhere; leave it out",
        ),
        (json!({"source": "gs://lake/", "format": "delta"}), "`gs://lake/` is no address of a table"),
    ] {
        let error = stage("ingest").run(&params).error();
        assert!(error.contains(words), "{params}: {error}");
    }
    let mut whole = shop.params();
    whole["sql"] = json!({"table": "orders"});
    assert!(
        stage("ingest")
            .run(&whole)
            .error()
            .contains("write sql.watermark, so that the table keeps how far it was read")
    );
    let mut other = shop.params();
    other["table"]["position"] = json!("shop");
    stage("ingest").run(&other).well();
    other["sql"]["watermark"]["column"] = json!("at");
    assert!(stage("ingest").run(&other).error().contains("what was read before goes up to a value of id"));
    let kept: BTreeSet<u64> = numbers(&read(&table, json!({})).well().table("data")).into_iter().collect();
    assert_eq!(kept, BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_table_that_asks_for_more_is_refused_by_what_it_asks() {
    let made = |protocol: Value, configuration: Value, column: Value, add: Value| {
        let files = Files::new(&[("rows.csv", b"id\n1\n".as_slice())]);
        let log = PathBuf::from(files.path("table/_delta_log"));
        std::fs::create_dir_all(&log).unwrap();
        let schema =
            json!({"type": "struct", "fields": [{"name": "id", "type": "long", "nullable": true, "metadata": column}]});
        let metadata = json!({"id": "t", "format": {"provider": "parquet", "options": {}}, "schemaString": schema.to_string(),
                              "partitionColumns": [], "configuration": configuration});
        let lines =
            [json!({"protocol": protocol}), json!({"metaData": metadata}), add].map(|line| line.to_string()).join("\n");
        std::fs::write(log.join("00000000000000000000.json"), lines).unwrap();
        files
    };
    let features = |reader: &[&str], writer: &[&str]| json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer});
    let (none, old) = (json!({}), json!({"minReaderVersion": 1, "minWriterVersion": 2}));
    let vector = json!({"add": {"path": "a.parquet", "partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": true,
                                "deletionVector": {"storageType": "u"}}});
    for (protocol, configuration, add, what) in [
        (features(&["variantType"], &["variantType"]), none.clone(), none.clone(), "variantType"),
        (features(&["deletionVectors"], &["deletionVectors"]), none.clone(), vector, "deletionVectors"),
        (old.clone(), json!({"delta.columnMapping.mode": "name"}), none.clone(), "columnMapping"),
    ] {
        let files = made(protocol, configuration, none.clone(), add);
        let error = read(Path::new(&files.path("table")), json!({})).error();
        assert!(error.contains(&format!("uses what is not understood here: {what}")), "{error}");
    }
    for (protocol, configuration, column, what) in [
        (features(&[], &["rowTracking"]), none.clone(), none.clone(), "rowTracking"),
        (old.clone(), json!({"delta.constraints.few": "id < 3"}), none.clone(), "checkConstraints"),
        (old.clone(), none.clone(), json!({"delta.generationExpression": "1"}), "generatedColumns"),
        (
            old,
            json!({"delta.setTransactionRetentionDuration": "interval 1 day"}),
            none.clone(),
            "delta.setTransactionRetentionDuration",
        ),
    ] {
        let files = made(protocol, configuration, column, none.clone());
        let params = json!({"source": files.path("rows.csv"), "table": {"uri": files.path("table")}});
        let error = stage("ingest").run(&params).error();
        assert!(error.contains(what), "{what}: {error}");
        // Whoever only reads it is not concerned.
        assert_eq!(read(Path::new(&files.path("table")), json!({})).well().result("rows"), json!(0));
    }
}
