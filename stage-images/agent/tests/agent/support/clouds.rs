//! Servers that speak as Google Cloud Storage and as Azure Blob Storage do: fake-gcs-server, with the writing half of the XML API before it that
//! it lacks, and Azurite. Both are kept in the cache.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::s3::PREFIX;

/// The account that Azurite has, with the key that everybody knows.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// A right to make containers that this key has signed, until 2099.
const RIGHT: &str = "restype=container&sv=2021-12-02&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&sig=tznf%2BUguWwNe%2B7oTyobyNUc7TDthIuY2m9EdDOYdBvE%3D";
/// fake-gcs-server asks nobody who they are.
const ANYBODY: &str =
    r#"{"client_email": "me@example.com", "private_key": "none", "private_key_id": "none", "disable_oauth": true}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gcs,
    Azure,
}

/// A cloud with the bucket `lake`. Its servers end with the value.
pub struct Cloud {
    pub kind: Kind,
    endpoint: String,
    client: Arc<dyn ObjectStore>,
    runtime: Runtime,
    servers: Vec<Child>,
    _folder: TempDir,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop();
    }
}

fn script(name: &str) -> String {
    format!("{}/../../dev/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The program that a script of `dev` prints.
fn program(name: &str) -> String {
    let found = Command::new(script(name)).stderr(Stdio::inherit()).output().unwrap();
    assert!(found.status.success(), "{name} failed");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

fn port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn serve(command: &mut Command, port: &str) -> Child {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(started.elapsed() < Duration::from_mins(1), "{command:?} does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

impl Cloud {
    pub fn start(kind: Kind) -> Self {
        match kind {
            Kind::Gcs => Self::gcs(),
            Kind::Azure => Self::azure(),
        }
    }

    fn gcs() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lake")).unwrap();
        let (inner, outer) = (port(), port());
        let fake = format!("127.0.0.1:{inner}");
        let mut command = Command::new(program("gcs/server"));
        command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &inner, "-backend", "memory"]);
        command.args(["-public-host", &fake, "-data"]).arg(folder.path());
        let mut servers = vec![serve(&mut command, &inner)];
        servers.push(serve(Command::new(script("gcs/xml")).args(["127.0.0.1", &outer, &fake]), &outer));
        let endpoint = format!("http://127.0.0.1:{outer}");
        let client = GoogleCloudStorageBuilder::new()
            .with_service_account_key(ANYBODY)
            .with_bucket_name("lake")
            .with_base_url(&endpoint)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build()
            .unwrap();
        Self { kind: Kind::Gcs, endpoint, client: Arc::new(client), runtime: runtime(), servers, _folder: folder }
    }

    fn azure() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = port();
        let mut command = Command::new("node");
        command.args([&program("azure/server"), "--blobHost", "127.0.0.1", "--blobPort", &port, "--silent"]);
        command.args(["--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(folder.path());
        let servers = vec![serve(&mut command, &port)];
        let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
        let runtime = runtime();
        runtime.block_on(async {
            let request = reqwest::Client::new().put(format!("{endpoint}/lake?{RIGHT}"));
            let made = request.header("content-length", "0").send().await.unwrap();
            assert_eq!(made.status().as_u16(), 201);
        });
        let client = Arc::new(azure_client("lake", &endpoint));
        Self { kind: Kind::Azure, endpoint, client, runtime, servers, _folder: folder }
    }

    pub fn stop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `gs` or `az`.
    pub fn scheme(&self) -> &'static str {
        match self.kind {
            Kind::Gcs => "gs",
            Kind::Azure => "az",
        }
    }

    /// What the Secret has.
    pub fn secret(&self) -> (&'static str, &'static str) {
        match self.kind {
            Kind::Gcs => ("GOOGLE_SERVICE_ACCOUNT_KEY", ANYBODY),
            Kind::Azure => ("AZURE_STORAGE_ACCOUNT_KEY", KEY),
        }
    }

    /// The credentials as the agent gets them.
    pub fn credentials<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let (name, value) = self.secret();
        command.env(format!("{PREFIX}{name}"), value)
    }

    /// The store as a task names it.
    pub fn store(&self) -> Value {
        let mut store = json!({ "bucket": "lake", "endpoint": self.endpoint, "credentials": PREFIX });
        match self.kind {
            Kind::Gcs => store["kind"] = json!("gcs"),
            Kind::Azure => {
                store["kind"] = json!("azure");
                store["account"] = json!(ACCOUNT);
            }
        }
        store
    }

    pub fn source(&self, key: &str) -> Value {
        json!({ "store": self.store(), "key": key })
    }

    pub fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.runtime.block_on(async {
            match self.client.get(&path(key)).await {
                Err(object_store::Error::NotFound { .. }) => None,
                found => Some(found.unwrap().bytes().await.unwrap().to_vec()),
            }
        })
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.runtime.block_on(self.client.put(&path(key), bytes.to_vec().into())).unwrap();
    }

    /// Puts an object where everybody may read it: the bucket and the key.
    pub fn put_open(&self, key: &str, bytes: &[u8]) -> (&'static str, String) {
        if self.kind == Kind::Gcs {
            // fake-gcs-server lets everybody read everything.
            self.put(key, bytes);
            return ("lake", key.to_owned());
        }
        self.runtime.block_on(async {
            let request = reqwest::Client::new().put(format!("{}/open?{RIGHT}", self.endpoint));
            let request = request.header("content-length", "0").header("x-ms-blob-public-access", "container");
            assert_eq!(request.send().await.unwrap().status().as_u16(), 201);
            let client = azure_client("open", &self.endpoint);
            client.put(&path(key), bytes.to_vec().into()).await.unwrap();
        });
        ("open", key.to_owned())
    }

    pub fn delete(&self, key: &str) {
        self.runtime.block_on(self.client.delete(&path(key))).unwrap();
    }

    /// Names of all objects below a folder, sorted, without the folder.
    pub fn keys(&self, below: &str) -> Vec<String> {
        let listed = self.client.list(Some(&path(below)));
        let found: Vec<_> = self.runtime.block_on(listed.try_collect()).unwrap();
        let name = |object: &object_store::ObjectMeta| {
            let name = object.location.as_ref().strip_prefix(&format!("{below}/")).unwrap();
            percent_decode_str(name).decode_utf8().unwrap().into_owned()
        };
        let mut keys: Vec<String> = found.iter().map(name).collect();
        keys.sort();
        keys
    }

    /// Uploads in parts that have neither ended nor been taken back. Azurite tells nobody.
    pub fn open_uploads(&self) -> u64 {
        assert_eq!(self.kind, Kind::Gcs);
        let text = self.runtime.block_on(async {
            reqwest::get(format!("{}/_uploads", self.endpoint)).await.unwrap().text().await.unwrap()
        });
        text.parse().unwrap()
    }
}

fn azure_client(container: &str, endpoint: &str) -> MicrosoftAzure {
    MicrosoftAzureBuilder::new()
        .with_account(ACCOUNT)
        .with_access_key(KEY)
        .with_container_name(container)
        .with_endpoint(endpoint.to_owned())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// As the agent names it: what is odd in a part of a name is written by its number.
fn path(key: &str) -> Path {
    key.split('/').collect()
}
