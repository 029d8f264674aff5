//! `ingest` from a real PostgreSQL server: Debian's, with a password and TLS, on a folder of its own.

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

/// A server with the database `postgres` and the user `me`. It ends with the value.
struct Server {
    child: Child,
    port: u16,
    programs: PathBuf,
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
fn unprivileged(program: PathBuf) -> Command {
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
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/postgres/programs");
    let found = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(found.status.success(), "{script} failed");
    let programs = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    certify(folder.path());
    std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
    well(Command::new("chmod").args(["600", &path("server.key")]));
    // Fails where this is not root, who alone needs it.
    let _ = Command::new("chown").args(["-R", &NOBODY.to_string(), &path("")]).output();
    let password = format!("--pwfile={}", path("password"));
    well(
        unprivileged(programs.join("initdb"))
            .args(["--pgdata", &path("data"), "--username=me", &password, "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync"]),
    );
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = unprivileged(programs.join("postgres"));
    command.args(["-D", &path("data"), "-p", &port.to_string(), "-h", "127.0.0.1"]);
    for setting in [
        "unix_socket_directories=",
        "fsync=off",
        "ssl=on",
        &format!("ssl_cert_file={}", path("server.crt")),
        &format!("ssl_key_file={}", path("server.key")),
        // None of what a server may be set to is to matter.
        "datestyle=SQL, DMY",
        "timezone=Asia/Kolkata",
        "bytea_output=escape",
    ] {
        command.args(["-c", setting]);
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Server { child, port, programs, folder };
    let started = Instant::now();
    while server.psql("SELECT 1").as_deref() != Some("1") {
        assert!(started.elapsed() < Duration::from_mins(1), "the server does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    server
}

impl Server {
    /// What its own client says; none if it fails.
    fn psql(&self, statements: &str) -> Option<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "me", "-d", "postgres", "-c", statements])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn ingest(&self, params: Value) -> Run {
        self.ingest_with(params, &[("PGPASSWORD", PASSWORD)], "me@localhost")
    }

    fn ingest_with(&self, params: Value, variables: &[(&str, &str)], host: &str) -> Run {
        let mut all = json!({"source": format!("postgresql://{host}:{}/postgres", self.port)});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let authority = self.folder.path().join("ca.crt").display().to_string();
        let mut run = stage("ingest").variable("SSL_CERT_FILE", &authority);
        for (name, value) in variables {
            run = run.variable(name, value);
        }
        run.run(&all)
    }
}

const ORDERS: &str = r#"CREATE TABLE orders (id bigint PRIMARY KEY, customer varchar(40), total numeric(10, 2), ratio float8, paid boolean,
        day date, placed_at timestamptz, local timestamp, tags text[], raw bytea);
    INSERT INTO orders VALUES
        (1, 'Ann', 10.50, 'NaN', true, '2026-11-01', '2026-11-01 09:00:00.000001+01', '2026-11-01 08:00:00', '{a,b}', '\x00ff'),
        (2, E'Bo\t"B"\nBee \\N', 20, 1e-300, false, '2026-11-02', '2026-11-02 09:00:00Z', '2026-11-02 09:00:00.5', NULL, NULL),
        (3, NULL, NULL, NULL, NULL, NULL, '2026-11-03 10:00:00Z', NULL, NULL, NULL);"#;

#[test]
fn a_table_keeps_its_types_and_values() {
    let server = serve();
    server.psql(ORDERS).unwrap();
    let run = server.ingest(json!({"sql": {"table": "public.orders"}})).well();
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
            "tags: Utf8".to_owned(),
            "raw: Utf8".to_owned(),
        ]
    );
    let at = ["2026-11-01T08:00:00.000001Z", "2026-11-01T08:00:00Z"];
    assert_eq!(table.rows[0], ["1", "Ann", "10.5", "NULL", "true", "2026-11-01", at[0], at[1], "{a,b}", "\\x00ff"]);
    assert_eq!(table.rows[1][..5], ["2", "Bo\t\"B\"\nBee \\N", "20.0", "1e-300", "false"]);
    assert_eq!(table.rows[2][1..6], ["NULL"; 5]);
    // A query, with a comment at its end, and a user from the environment.
    let query = json!({"sql": {"query": "SELECT customer, count(*) AS n FROM orders WHERE id < 3 GROUP BY 1 ORDER BY 1 -- each;"}});
    let variables = [("PGUSER", "me"), ("PGPASSWORD", PASSWORD)];
    let table = server.ingest_with(query, &variables, "127.0.0.1").well().table("data");
    assert_eq!(table.columns, ["customer: Utf8", "n: Int64"]);
    assert_eq!(table.rows.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["1", "1"]);
}

#[test]
fn a_watermark_reads_what_is_new_and_says_what_it_reached() {
    let server = serve();
    server.psql(ORDERS).unwrap();
    let run = |column: &str, above: Value| {
        let sql = json!({"table": "orders", "watermark": {"column": column, "above": above}});
        server.ingest(json!({"sql": sql, "columns": ["customer"]})).well()
    };
    for (column, rows, reached) in [
        ("id", 3, "3"),
        ("day", 2, "2026-11-02"),
        ("placed_at", 3, "2026-11-03 10:00:00+00"),
        ("local", 2, "2026-11-02 09:00:00.5"),
    ] {
        let first = run(column, json!(""));
        assert_eq!((first.result("rows"), first.result("watermark")), (json!(rows), json!(reached)), "{column}");
        assert_eq!(first.table("data").columns, ["customer: Utf8"]);
        let second = run(column, first.result("watermark"));
        assert_eq!((second.result("rows"), second.result("watermark")), (json!(0), json!(reached)), "{column}");
    }
    server
        .psql("INSERT INTO orders (id, customer, placed_at) VALUES (4, 'Cy', '2026-11-03 10:00:00.000001Z')")
        .unwrap();
    let third = run("placed_at", json!("2026-11-03 10:00:00+00"));
    assert_eq!(third.result("watermark"), json!("2026-11-03 10:00:00.000001+00"));
    assert_eq!(third.table("data").rows, [["Cy"]]);
}

#[test]
fn many_rows_are_streamed_and_a_database_is_only_read() {
    let server = serve();
    server.psql("CREATE TABLE numbers AS SELECT n, 'row ' || n AS text FROM generate_series(1, 300000) AS n").unwrap();
    let run = server.ingest(json!({"sql": {"query": "SELECT * FROM numbers ORDER BY n"}})).well();
    let table = run.table("data");
    assert!(
        (1..).zip(&table.rows).all(|(number, row)| row[0] == format!("{number}") && row[1] == format!("row {number}"))
    );
    assert_eq!(table.rows.len(), 300_000);
    let error = server.ingest(json!({"sql": {"table": "numbers"}, "maxBytes": 1000})).error();
    assert!(error.contains("but maxBytes is 1000"), "{error}");
    server.psql("CREATE FUNCTION clear() RETURNS int LANGUAGE sql AS 'DELETE FROM numbers; SELECT 1'").unwrap();
    for query in [
        "DELETE FROM numbers",
        "WITH gone AS (DELETE FROM numbers RETURNING n) SELECT * FROM gone",
        "SELECT 1 AS a) AS b) TO STDOUT; DELETE FROM numbers; COPY (SELECT * FROM (SELECT 1",
        "SELECT clear()",
    ] {
        let error = server.ingest(json!({"sql": {"query": query}})).error();
        assert!(error.contains("does not take the query") || error.contains("failed to read"), "{query}: {error}");
    }
    assert_eq!(server.psql("SELECT count(*) FROM numbers").unwrap(), "300000");
}

#[test]
fn a_connection_is_verified_and_what_fails_is_told_without_secrets() {
    let server = serve();
    server.psql(ORDERS).unwrap();
    let sql = json!({"sql": {"table": "orders"}});
    let secret = [("PGPASSWORD", PASSWORD)];
    // Certificates of another authority are no reason to trust it.
    let other = [("PGPASSWORD", PASSWORD), ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")];
    let error = server.ingest_with(sql.clone(), &other, "me@localhost").error();
    assert!(error.contains("failed to sign in to localhost") && error.contains("certificate"), "{error}");
    let plain = json!({"sql": {"table": "orders", "allowPlaintext": true}});
    server.ingest_with(plain, &other, "me@localhost").well();
    for (params, variables, host, words) in [
        (sql.clone(), &[("PGPASSWORD", "wr0ng")][..], "me@localhost", "password authentication failed for user \"me\""),
        (sql.clone(), &[("PGUSER", "")], "localhost", "there is no user for localhost"),
        (sql.clone(), &[("PGUSER", "me")], "localhost", "the password is taken from PGPASSWORD"),
        (sql.clone(), &secret, "me:hunter2@localhost", "parameter source: it has a password"),
        (json!({"sql": {"table": "birds"}}), &secret, "me@localhost", "relation \"birds\" does not exist"),
        (
            json!({"sql": {"query": "SELECT id FROM orders WHERE id > 9"}}),
            &secret,
            "me@localhost",
            "the query gives no rows",
        ),
        (
            json!({"sql": {"table": "orders", "watermark": {"column": "id", "above": "1 OR true"}}}),
            &secret,
            "me@localhost",
            "'1 OR true' is no integer",
        ),
    ] {
        let error = server.ingest_with(params, variables, host).error();
        assert!(error.contains(words), "{words}: {error}");
        assert!(!error.contains("hunter2") && !error.contains(PASSWORD) && !error.contains("wr0ng"), "{error}");
    }
    // A server that is not there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!("postgresql://me@127.0.0.1:{free}/postgres");
    let error = stage("ingest").run(&json!({"source": source, "sql": {"table": "orders"}})).error();
    assert!(error.contains(&format!("failed to connect to 127.0.0.1:{free}/postgres")), "{error}");
}

#[test]
fn a_server_that_takes_the_connection_and_says_nothing_is_not_waited_for() {
    // The system takes connections for a listener that accepts none.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("postgresql://me@127.0.0.1:{}/postgres", silent.local_addr().unwrap().port());
    let started = Instant::now();
    let params = json!({"source": source, "sql": {"table": "orders", "allowPlaintext": true}});
    let error = stage("ingest").run(&params).error();
    assert!(error.contains("it does not answer within 20 s"), "{error}");
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
}
