//! A real S3 server, versitygw over a folder, which the Go toolchain builds and the cache keeps.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub const ACCOUNT: &str = "millrace";
/// Nothing else has these words.
pub const SECRET: &str = "s3cret-4Wq8-words";
/// What the names of the agent's variables begin with.
pub const PREFIX: &str = "MILLRACE_STORE_0A1B2C3D_";

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/certs/server.crt");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/certs/server.key");

/// The certificate of the server's authority.
pub fn authority() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/certs/ca.crt")).unwrap()
}

/// A server with the bucket `lake`. It ends with the value.
pub struct Server {
    child: Child,
    pub port: u16,
    folder: TempDir,
    tls: bool,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server's program, which the first test of a machine builds.
fn program() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/s3/server");
    let built = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success(), "{script} failed");
    String::from_utf8(built.stdout).unwrap().trim().into()
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// It speaks TLS, with a certificate of an authority that is [`authority`].
    pub fn start_tls() -> Self {
        Self::start_with(true)
    }

    fn start_with(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("root/lake")).unwrap();
        fs::create_dir_all(folder.path().join("meta")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { child: Self::spawn(&folder, port, tls), port, folder, tls };
        server.listens();
        server
    }

    fn spawn(folder: &TempDir, port: u16, tls: bool) -> Child {
        let certificate = ["--cert", CERTIFICATE, "--key", KEY];
        Command::new(program())
            .args(certificate.iter().filter(|_| tls))
            .args(["--access", ACCOUNT, "--secret", SECRET, "--port", &format!("127.0.0.1:{port}"), "--quiet"])
            .args(["posix", "--sidecar"])
            .arg(folder.path().join("meta"))
            .arg(folder.path().join("root"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn listens(&mut self) {
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "the S3 server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn again(&mut self) {
        self.child = Self::spawn(&self.folder, self.port, self.tls);
        self.listens();
    }

    /// Where an object of the bucket lies on this disk.
    pub fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join("root/lake").join(key)
    }

    /// Keys of all objects below a folder, sorted.
    pub fn keys(&self, below: &str) -> Vec<String> {
        let root = self.object(below);
        let mut found = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    /// The store as a task names it.
    pub fn store(&self) -> Value {
        let scheme = if self.tls { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{}", self.port);
        json!({ "kind": "s3", "bucket": "lake", "endpoint": endpoint, "credentials": PREFIX })
    }

    pub fn source(&self, key: &str) -> Value {
        json!({ "store": self.store(), "key": key })
    }
}

/// The credentials as the agent gets them.
pub fn credentials(command: &mut Command) -> &mut Command {
    command
        .env(format!("{PREFIX}AWS_ACCESS_KEY_ID"), ACCOUNT)
        .env(format!("{PREFIX}AWS_SECRET_ACCESS_KEY"), SECRET)
        // What the pod has for its program is not what the agent uses.
        .env("AWS_ACCESS_KEY_ID", "somebody-else")
}
