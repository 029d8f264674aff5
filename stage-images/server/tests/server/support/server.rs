//! A server process that ends with its test.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::{Caller, GrpcCaller};

/// How long a test waits for what a loaded machine may make slow.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    stderr: Arc<Mutex<String>>,
}

/// Waits until something holds, however slow the machine is.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where a model for tests lies.
pub fn model_dir(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model)
}

/// ONNX Runtime: the one that the environment names, else the pinned one.
fn onnxruntime() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        std::env::var("ORT_DYLIB_PATH").unwrap_or_else(|_| {
            let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/onnxruntime/fetch");
            let output = Command::new(fetch).stderr(Stdio::inherit()).output().unwrap();
            assert!(output.status.success(), "dev/onnxruntime/fetch failed");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
    })
}

impl Server {
    /// A server that is ready.
    pub fn ready(model: &str, flags: &[&str]) -> Self {
        Self::ready_with("3", model, flags)
    }

    /// A server of this version that is ready.
    pub fn ready_with(version: &str, model: &str, flags: &[&str]) -> Self {
        let all: Vec<&str> = ["--model-version", version].iter().chain(flags).copied().collect();
        let mut server = Self::listening(&model_dir(model), &all);
        let start = Instant::now();
        while Caller::new(server.address).get("/v2/health/ready").status != 200 {
            assert_eq!(server.child.try_wait().unwrap(), None, "the server ended: {}", server.stderr());
            assert!(start.elapsed() < PATIENCE, "the server is not ready: {}", server.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A server that listens, and may not have loaded its model yet.
    fn listening(model: &Path, flags: &[&str]) -> Self {
        let (child, stderr, address) = spawn(model, flags);
        let address =
            address.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no address: {}", stderr.lock().unwrap()));
        Self { child, address, stderr }
    }

    /// Runs a server that is expected to end by itself; its status and what it printed.
    pub fn fails(model: &Path, flags: &[&str]) -> (ExitStatus, String) {
        let (mut child, stderr, address) = spawn(model, flags);
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                // The reader ends with the pipe.
                while address.recv_timeout(PATIENCE).is_ok() {}
                let text = stderr.lock().unwrap().clone();
                return (status, text);
            }
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("the server did not end: {}", stderr.lock().unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn caller(&self) -> Caller {
        Caller::new(self.address)
    }

    /// A caller of the port that is for the operator.
    pub fn operator(&self) -> Caller {
        let stderr = self.stderr();
        let (_, rest) = stderr.split_once("the operator may ask address=").unwrap();
        Caller::new(rest.split_whitespace().next().unwrap().parse().unwrap())
    }

    /// A connection of HTTP/2.
    pub fn grpc(&self) -> GrpcCaller {
        GrpcCaller::new(self.address)
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server did not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The largest memory that the process ever had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The value of one series of `/metrics`.
    pub fn metric(&self, series: &str) -> f64 {
        let text = String::from_utf8(self.caller().get("/metrics").body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    /// Waits until a series has a value.
    pub fn wait_for_metric(&self, series: &str, value: f64) {
        let start = Instant::now();
        while self.metric(series).total_cmp(&value).is_ne() {
            assert!(start.elapsed() < PATIENCE, "{series} is {}, not {value}", self.metric(series));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(model: &Path, flags: &[&str]) -> (Child, Arc<Mutex<String>>, Receiver<SocketAddr>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-server"))
        .args(["--model-name", "m", "--host", "127.0.0.1"])
        .env("MILLRACE_PORT", "0")
        .arg("--model-dir")
        .arg(model)
        .args(flags)
        .env("ORT_DYLIB_PATH", onnxruntime())
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = Arc::new(Mutex::new(String::new()));
    let (found, address) = channel();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let kept = Arc::clone(&stderr);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening address=") {
                let address = rest.split_whitespace().next().unwrap_or_default();
                // The test may have what it wanted and be gone.
                let _ = found.send(address.parse().unwrap());
            }
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
        }
    });
    (child, stderr, address)
}
