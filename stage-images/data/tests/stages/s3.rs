//! `ingest` from a real S3 server: versitygw over a folder, built by the Go toolchain and kept in the cache.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use object_store::ObjectStoreExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Run, stage};

/// A server with the bucket `lake`. It ends with the value.
pub struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes another bucket.
    pub fn bucket(&self, name: &str) {
        std::fs::create_dir(self.folder.path().join("root").join(name)).unwrap();
    }

    /// The bucket `lake`.
    pub fn store(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_bucket_name("lake")
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("me")
            .with_secret_access_key("secret")
            .build()
            .unwrap()
    }

    pub fn put(&self, key: &str, text: &'static str) {
        let store = self.store();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(store.put(&key.into(), text.into())).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's program, which the first test of a machine builds.
fn program() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/s3/server");
    let built = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success(), "{script} failed");
    String::from_utf8(built.stdout).unwrap().trim().into()
}

pub fn serve() -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("root/lake")).unwrap();
    std::fs::create_dir_all(folder.path().join("meta")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(program())
        .args(["--access", "me", "--secret", "secret", "--port", &format!("127.0.0.1:{port}"), "posix", "--sidecar"])
        .arg(folder.path().join("meta"))
        .arg(folder.path().join("root"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { child, port, folder };
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "the S3 server does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.put("penguins/a.csv", "a,b\n1,2\n");
    server.put("penguins/b.csv", "a,b\n3,4\n");
    server
}

pub fn ingest(server: &Server, source: &str, secret: &str) -> Run {
    stage("ingest")
        .variable("AWS_ACCESS_KEY_ID", "me")
        .variable("AWS_SECRET_ACCESS_KEY", secret)
        .run(&params(server, source))
}

fn params(server: &Server, source: &str) -> Value {
    json!({"source": source, "s3": {"endpoint": server.endpoint(), "region": "us-east-1", "allowHttp": true}})
}

#[test]
fn an_object_and_all_objects_below_a_prefix_are_fetched() {
    let server = serve();
    let one = ingest(&server, "s3://lake/penguins/a.csv", "secret").well();
    assert_eq!(one.table("data").rows, [["1", "2"]]);
    let version = one.result("source_version");
    assert!(!version.as_str().unwrap().is_empty());
    let all = ingest(&server, "s3://lake/penguins/", "secret").well();
    assert_eq!(all.table("data").rows, [["1", "2"], ["3", "4"]]);
    // Other bytes, another version.
    server.put("penguins/a.csv", "a,b\n1,2\n5,6\n");
    let again = ingest(&server, "s3://lake/penguins/a.csv", "secret").well();
    assert_ne!(again.result("source_digest"), one.result("source_digest"));
    assert_ne!(again.result("source_version"), version);
}

#[test]
fn refusals_name_the_object_and_the_remedy() {
    let server = serve();
    let error = ingest(&server, "s3://lake/none.csv", "secret").error();
    assert!(error.contains("there is no object s3://lake/none.csv"), "{error}");
    let error = ingest(&server, "s3://lake/penguins/a.csv", "wrong").error();
    assert!(error.contains("s3://lake/penguins/a.csv: access is refused; give the stage AWS_ACCESS_KEY_ID"), "{error}");
    // Also where the server's answer is long.
    let error = ingest(&server, "s3://lake/penguins/", "wrong").error();
    assert!(error.contains("s3://lake/penguins/: access is refused"), "{error}");
    assert!(error.len() < 1024, "only so much of a log reaches the status: {error}");
    let error = ingest(&server, "s3://pond/penguins/", "secret").error();
    assert!(error.contains("s3://pond/penguins/: there is no such bucket"), "{error}");
    let error = ingest(&server, "s3://lake/nothing/", "secret").error();
    assert!(error.contains("there are no objects below s3://lake/nothing/"), "{error}");
    let mut small = params(&server, "s3://lake/penguins/");
    small["maxBytes"] = json!(10);
    let run =
        stage("ingest").variable("AWS_ACCESS_KEY_ID", "me").variable("AWS_SECRET_ACCESS_KEY", "secret").run(&small);
    assert!(run.error().contains("16 bytes, but maxBytes is 10"));
}
