//! `ingest` from a real server of MySQL's kind: Debian's MariaDB, with a password and TLS, on a folder of its own.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Run, stage};

const PASSWORD: &str = "rIght-s3cret";
/// A user without rights, because the server does not run as root.
const NOBODY: u32 = 65534;

/// A server with the database `shop` and the user `me`. It ends with the value.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn well(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A command that runs as nobody where this is root.
fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// An authority, and a certificate of it for this machine.
fn certify(folder: &Path) {
    let openssl = |arguments: &str| well(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority -days 30"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 30 -extfile names",
    );
}

fn serve() -> Server {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/mariadb/programs");
    let found = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(found.status.success(), "{script} failed");
    let program = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    certify(folder.path());
    std::fs::create_dir(folder.path().join("data")).unwrap();
    // Fails where this is not root, who alone needs it.
    let _ = Command::new("chown").args(["-R", &NOBODY.to_string(), &path("")]).output();
    let data = format!("--datadir={}", path("data"));
    well(unprivileged("mariadb-install-db").args([
        "--no-defaults",
        &data,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        &format!("--tmpdir={}", path("")),
    ]));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = unprivileged(program)
        .args(["--no-defaults", &data, "--bind-address=127.0.0.1", &format!("--port={port}")])
        .arg(format!("--socket={}", path("socket")))
        .arg(format!("--pid-file={}", path("pid")))
        .args([format!("--ssl-cert={}", path("server.crt")), format!("--ssl-key={}", path("server.key"))])
        // None of what a server may be set to is to matter.
        .args(["--default-time-zone=+05:30", "--character-set-server=latin1", "--sql-mode="])
        .args(["--innodb-flush-method=nosync", "--innodb-buffer-pool-size=16M"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { child, port, folder };
    let started = Instant::now();
    while server.sql("SELECT 1").as_deref() != Some("1") {
        assert!(started.elapsed() < Duration::from_mins(1), "the server does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    server
        .sql(&format!(
            "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE USER me@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO me@'%'"
        ))
        .unwrap();
    server
}

impl Server {
    /// What its own client says, as the administrator; none if it fails.
    fn sql(&self, statements: &str) -> Option<String> {
        let mut client = Command::new("mariadb")
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"])
            .arg(format!("--socket={}", self.folder.path().join("socket").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A client that finds no server reads nothing.
        let _ = client.stdin.take().unwrap().write_all(statements.as_bytes());
        let output = client.wait_with_output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn ingest(&self, params: Value) -> Run {
        self.ingest_with(params, &[("MYSQL_PASSWORD", PASSWORD)], "me@localhost")
    }

    fn ingest_with(&self, params: Value, variables: &[(&str, &str)], host: &str) -> Run {
        let mut all = json!({"source": format!("mysql://{host}:{}/shop", self.port)});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let authority = self.folder.path().join("ca.crt").display().to_string();
        let mut run = stage("ingest").variable("SSL_CERT_FILE", &authority);
        for (name, value) in variables {
            run = run.variable(name, value);
        }
        run.run(&all)
    }
}

const ORDERS: &str = r#"USE shop; SET time_zone = '+00:00';
    CREATE TABLE orders (id bigint PRIMARY KEY, customer varchar(40), total decimal(10, 2), ratio double, paid boolean, day date,
        placed_at timestamp(6) NULL, local datetime(1), kind enum('web', 'shop'), raw varbinary(8), note json, took time);
    INSERT INTO orders VALUES
        (1, 'Änn', 10.50, 0.1, true, '2026-11-01', '2026-11-01 08:00:00.000001', '2026-11-01 08:00:00', 'web', x'00ff', '{"a": 1}', '-01:02:03'),
        (2, 'Bo\t"B"\nBee \\N', 20, 1e-300, false, '2026-11-02', '2026-11-02 09:00:00', '2026-11-02 09:00:00.5', 'shop', NULL, NULL, NULL),
        (3, NULL, NULL, NULL, NULL, '0000-00-00', '2026-11-03 10:00:00', NULL, NULL, NULL, NULL, NULL);"#;

#[test]
fn a_table_keeps_its_types_and_values() {
    let server = serve();
    server.sql(ORDERS).unwrap();
    let run = server.ingest(json!({"sql": {"table": "shop.orders"}})).well();
    let table = run.table("data");
    let timestamp = "Timestamp(µs, \"UTC\")";
    assert_eq!(
        table.columns,
        [
            "id: Int64".to_owned(),
            "customer: Utf8".to_owned(),
            "total: Float64".to_owned(),
            "ratio: Float64".to_owned(),
            "paid: Boolean".to_owned(),
            "day: Date32".to_owned(),
            format!("placed_at: {timestamp}"),
            format!("local: {timestamp}"),
            "kind: Utf8".to_owned(),
            "raw: Utf8".to_owned(),
            "note: Utf8".to_owned(),
            "took: Utf8".to_owned(),
        ]
    );
    let at = ["2026-11-01T08:00:00.000001Z", "2026-11-01T08:00:00Z"];
    assert_eq!(
        table.rows[0],
        ["1", "Änn", "10.5", "0.1", "true", "2026-11-01", at[0], at[1], "web", "\\x00ff", "{\"a\": 1}", "-01:02:03"]
    );
    assert_eq!(table.rows[1][..5], ["2", "Bo\t\"B\"\nBee \\N", "20.0", "1e-300", "false"]);
    assert_eq!(table.rows[2][1..6], ["NULL"; 5]);
    // A query, with a comment at its end, and a user from the environment.
    let query = json!({"sql": {"query": "SELECT customer, count(*) AS `n` FROM orders WHERE id < 3 GROUP BY 1 ORDER BY 1 -- each;"}});
    let variables = [("MYSQL_USER", "me"), ("MYSQL_PASSWORD", PASSWORD)];
    let table = server.ingest_with(query, &variables, "127.0.0.1").well().table("data");
    assert_eq!(table.columns, ["customer: Utf8", "n: Int64"]);
    assert_eq!(table.rows.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["1", "1"]);
}

#[test]
fn a_watermark_reads_what_is_new_and_says_what_it_reached() {
    let server = serve();
    server.sql(ORDERS).unwrap();
    let run = |column: &str, above: Value| {
        let sql = json!({"table": "orders", "watermark": {"column": column, "above": above}});
        server.ingest(json!({"sql": sql, "columns": ["customer"]})).well()
    };
    for (column, rows, reached) in [
        ("id", 3, "3"),
        ("placed_at", 3, "2026-11-03 10:00:00"),
        ("local", 2, "2026-11-02 09:00:00.500000"),
        ("total", 2, "20.00"),
    ] {
        let first = run(column, json!(""));
        assert_eq!((first.result("rows"), first.result("watermark")), (json!(rows), json!(reached)), "{column}");
        assert_eq!(first.table("data").columns, ["customer: Utf8"]);
        let second = run(column, first.result("watermark"));
        assert_eq!((second.result("rows"), second.result("watermark")), (json!(0), json!(reached)), "{column}");
    }
    server
        .sql("SET time_zone = '+00:00'; INSERT INTO shop.orders (id, customer, placed_at) VALUES (4, 'Cy', '2026-11-03 10:00:00.000001')")
        .unwrap();
    // The same moment, as another zone has it.
    let third = run("placed_at", json!("2026-11-03T12:00:00+02:00"));
    assert_eq!(third.result("watermark"), json!("2026-11-03 10:00:00.000001"));
    assert_eq!(third.table("data").rows, [["Cy"]]);
}

#[test]
fn many_rows_are_streamed_and_a_database_is_only_read() {
    let server = serve();
    server
        .sql("USE shop; CREATE TABLE numbers AS SELECT seq AS n, concat('row ', seq) AS text FROM seq_1_to_300000")
        .unwrap();
    let run = server.ingest(json!({"sql": {"query": "SELECT * FROM numbers ORDER BY n LIMIT 300000"}})).well();
    let table = run.table("data");
    assert_eq!(table.rows.len(), 300_000);
    assert!(
        (1..).zip(&table.rows).all(|(number, row)| row[0] == format!("{number}") && row[1] == format!("row {number}"))
    );
    let error = server.ingest(json!({"sql": {"table": "numbers"}, "maxBytes": 1000})).error();
    assert!(error.contains("but maxBytes is 1000"), "{error}");
    server
        .sql("DELIMITER //\nCREATE FUNCTION shop.clear() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM shop.numbers; RETURN 1; END//\n")
        .unwrap();
    for query in [
        "DELETE FROM numbers",
        "DELETE FROM numbers RETURNING n",
        "SELECT 1 AS a) AS b; COMMIT; DELETE FROM numbers; SELECT * FROM (SELECT 1 AS a",
        "SELECT shop.clear()",
    ] {
        let error = server.ingest(json!({"sql": {"query": query}})).error();
        assert!(error.contains("does not take the query") || error.contains("failed to read"), "{query}: {error}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM shop.numbers").unwrap(), "300000");
}

#[test]
fn a_connection_is_verified_and_what_fails_is_told_without_secrets() {
    let server = serve();
    server.sql(ORDERS).unwrap();
    let sql = json!({"sql": {"table": "orders"}});
    let secret = [("MYSQL_PASSWORD", PASSWORD)];
    // Certificates of another authority are no reason to trust it.
    let other = [("MYSQL_PASSWORD", PASSWORD), ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")];
    let error = server.ingest_with(sql.clone(), &other, "me@localhost").error();
    assert!(error.contains("failed to sign in to localhost") && error.contains("certificate"), "{error}");
    let plain = json!({"sql": {"table": "orders", "allowPlaintext": true}});
    server.ingest_with(plain, &other, "me@localhost").well();
    for (params, variables, host, words) in [
        (sql.clone(), &[("MYSQL_PASSWORD", "wr0ng")][..], "me@localhost", "Access denied for user 'me'"),
        (sql.clone(), &[("MYSQL_USER", "")], "localhost", "there is no user for localhost"),
        (sql.clone(), &[("MYSQL_USER", "me")], "localhost", "the password is taken from MYSQL_PASSWORD"),
        (sql.clone(), &secret, "me:hunter2@localhost", "parameter source: it has a password"),
        (json!({"sql": {"table": "birds"}}), &secret, "me@localhost", "Table 'shop.birds' doesn't exist"),
        (
            json!({"sql": {"query": "SELECT id FROM orders WHERE id > 9"}}),
            &secret,
            "me@localhost",
            "the query gives no rows",
        ),
        (
            json!({"sql": {"query": "SELECT 7 AS `n`, 18446744073709551615 AS big"}}),
            &secret,
            "me@localhost",
            "column big: '18446744073709551615' is no integer; declare another type in schema",
        ),
    ] {
        let error = server.ingest_with(params, variables, host).error();
        assert!(error.contains(words), "{words}: {error}");
        assert!(!error.contains("hunter2") && !error.contains(PASSWORD) && !error.contains("wr0ng"), "{error}");
    }
    // A server that is not there, and one that takes the connection and says nothing.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = |port: u16| json!({"source": format!("mysql://me@127.0.0.1:{port}/shop"), "sql": {"table": "orders"}});
    let error = stage("ingest").run(&source(free)).error();
    assert!(error.contains(&format!("failed to connect to 127.0.0.1:{free}/shop")), "{error}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = stage("ingest").run(&source(silent.local_addr().unwrap().port())).error();
    assert!(error.contains("it does not answer within 20 s"), "{error}");
}
