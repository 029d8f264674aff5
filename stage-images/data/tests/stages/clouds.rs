//! `ingest` from servers that speak as Google Cloud Storage and as Azure Blob Storage do: fake-gcs-server and Azurite, kept in the cache.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::{ClientOptions, ObjectStoreExt};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Run, stage};

/// A server. It ends with the value.
pub struct Server {
    child: Child,
    port: u16,
    /// Behind the port.
    path: &'static str,
    _folder: TempDir,
    /// The server behind this one, which ends with it.
    behind: Option<Box<Server>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.path)
    }
}

/// The account that Azurite has, with the key that everybody knows.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// A right to make containers that this key has signed, until 2099.
const RIGHT: &str = "restype=container&sv=2021-12-02&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&sig=tznf%2BUguWwNe%2B7oTyobyNUc7TDthIuY2m9EdDOYdBvE%3D";
/// fake-gcs-server asks nobody who they are.
pub const ANYBODY: &str =
    r#"{"client_email": "me@example.com", "private_key": "none", "private_key_id": "none", "disable_oauth": true}"#;
/// Another key.
pub const WRONG: &str = "d3Jvbmctc2VjcmV0";
const OBJECTS: [(&str, &str); 3] =
    [("penguins/a.csv", "a,b\n1,2\n"), ("penguins/b.csv", "a,b\n3,4\n"), ("penguins/_c.csv", "x\n")];

/// The program that a script of `dev` prints.
fn program(script: &str) -> String {
    let script = format!("{}/../../dev/{script}", env!("CARGO_MANIFEST_DIR"));
    let found = Command::new(&script).stderr(Stdio::inherit()).output().unwrap();
    assert!(found.status.success(), "{script} failed");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

fn serve(command: impl FnOnce(u16, &TempDir) -> Command) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = command(port, &folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Server { child, port, path: "", _folder: folder, behind: None };
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < Duration::from_mins(1), "the server does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

pub fn gcs() -> Server {
    serve(|port, folder| {
        for (name, text) in OBJECTS {
            let path = folder.path().join("lake").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut command = Command::new(program("gcs/server"));
        command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string(), "-backend", "memory"]);
        command.args(["-public-host", &format!("127.0.0.1:{port}"), "-data"]).arg(folder.path());
        command
    })
}

/// With the writing half of the XML API, which the server itself has not.
pub fn gcs_with_writes() -> Server {
    let fake = gcs();
    let address = format!("127.0.0.1:{}", fake.port);
    let mut front = serve(|port, _| {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/gcs/xml"));
        command.args(["127.0.0.1", &port.to_string(), &address]);
        command
    });
    front.behind = Some(Box::new(fake));
    front
}

/// The container of Azurite.
pub fn container(server: &Server) -> MicrosoftAzure {
    MicrosoftAzureBuilder::new()
        .with_account(ACCOUNT)
        .with_access_key(KEY)
        .with_container_name("lake")
        .with_endpoint(server.endpoint())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap()
}

/// The bucket of fake-gcs-server.
pub fn bucket(server: &Server) -> GoogleCloudStorage {
    GoogleCloudStorageBuilder::new()
        .with_bucket_name("lake")
        .with_base_url(&server.endpoint())
        .with_service_account_key(ANYBODY)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap()
}

pub fn azure() -> Server {
    let mut server = serve(|port, folder| {
        let mut command = Command::new("node");
        command.args([
            &program("azure/server"),
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &port.to_string(),
            "--silent",
        ]);
        command.args(["--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(folder.path());
        command
    });
    server.path = "/devstoreaccount1";
    let endpoint = server.endpoint();
    let store = container(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let made =
            reqwest::Client::new().put(format!("{endpoint}/lake?{RIGHT}")).header("content-length", "0").send().await;
        assert_eq!(made.unwrap().status().as_u16(), 201);
        for (name, text) in OBJECTS {
            store.put(&name.into(), text.into()).await.unwrap();
        }
    });
    server
}

fn from_gcs(server: &Server, source: &str, gcs: &Value, variables: &[(&str, &str)]) -> Run {
    let mut gcs = gcs.clone();
    gcs["endpoint"] = json!(server.endpoint());
    let run = variables.iter().fold(stage("ingest"), |run, (name, value)| run.variable(name, value));
    run.run(&json!({"source": source, "gcs": gcs}))
}

fn from_azure(server: &Server, source: &str, azure: &Value, key: &str) -> Run {
    let mut azure = azure.clone();
    azure["endpoint"] = json!(server.endpoint());
    stage("ingest").variable("AZURE_STORAGE_ACCOUNT_KEY", key).run(&json!({"source": source, "azure": azure}))
}

#[test]
fn objects_of_google_cloud_storage_are_fetched() {
    let server = gcs();
    let open = json!({"anonymous": true});
    let one = from_gcs(&server, "gs://lake/penguins/a.csv", &open, &[]).well();
    assert_eq!(one.table("data").rows, [["1", "2"]]);
    assert!(!one.result("source_version").as_str().unwrap().is_empty());
    let all = from_gcs(&server, "gs://lake/penguins/", &open, &[]).well();
    assert_eq!(all.table("data").rows, [["1", "2"], ["3", "4"]]);
    for (source, words) in [
        ("gs://lake/none.csv", "there is no object gs://lake/none.csv"),
        ("gs://lake/none/", "there are no objects below gs://lake/none/"),
        ("gs://lake", "`gs://lake` names no object; write gs://bucket/key"),
    ] {
        let error = from_gcs(&server, source, &open, &[]).error();
        assert!(error.contains(words), "{error}");
    }
    // A key that is none is told by its variable, and not repeated.
    let key = [("GOOGLE_SERVICE_ACCOUNT_KEY", "{\"private_key\": \"hunter2\"}")];
    let error = from_gcs(&server, "gs://lake/penguins/a.csv", &json!({}), &key).error();
    assert!(error.contains("GOOGLE_SERVICE_ACCOUNT_KEY") && !error.contains("hunter2"), "{error}");
}

#[test]
fn objects_of_azure_are_fetched() {
    let server = azure();
    let account = json!({"account": ACCOUNT});
    let one = from_azure(&server, "az://lake/penguins/a.csv", &account, KEY).well();
    assert_eq!(one.table("data").rows, [["1", "2"]]);
    assert!(!one.result("source_version").as_str().unwrap().is_empty());
    let named = format!("abfss://lake@{ACCOUNT}.dfs.core.windows.net/penguins/");
    let all = from_azure(&server, &named, &json!({}), KEY).well();
    assert_eq!(all.table("data").rows, [["1", "2"], ["3", "4"]]);
    for (source, azure, key, words) in [
        ("az://lake/none.csv", &account, KEY, "there is no object az://lake/none.csv"),
        ("az://lake/none/", &account, KEY, "there are no objects below az://lake/none/"),
        ("az://pond/penguins/", &account, KEY, "az://pond/penguins/: there is no such bucket"),
        ("az://lake/penguins/a.csv", &account, WRONG, "access is refused; give the stage AZURE_STORAGE_ACCOUNT_KEY"),
        ("az://lake/penguins/a.csv", &json!({}), KEY, "nobody says whose container it is; set azure.account"),
        (&named, &json!({"account": "other"}), KEY, "found other, but the address names devstoreaccount1"),
        ("az://lake", &account, KEY, "names no object; write az://container/key"),
    ] {
        let error = from_azure(&server, source, azure, key).error();
        assert!(error.contains(words), "{words}: {error}");
        assert!(!error.contains(KEY) && !error.contains(WRONG), "{error}");
    }
    let error = stage("ingest").run(&json!({"source": "/data/a.csv", "azure": {"account": "me"}})).error();
    assert!(error.contains("parameter azure: it is for az:// and abfs:// addresses"), "{error}");
}
