//! Requests as a strict client makes them, namespaces that go away, and the controller as a process.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Request;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// The plural of a kind.
fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

pub async fn client() -> Client {
    Client::try_default().await.expect("KUBECONFIG names a cluster that the tests may use")
}

/// Creates an object as `kubectl create` does: unknown fields are refused. With `dry` nothing is kept.
pub async fn create(client: &Client, namespace: &str, object: &Value, dry: bool) -> Result<Value, String> {
    let kind = object["kind"].as_str().expect("an object has a kind");
    let dry = if dry { "&dryRun=All" } else { "" };
    let path =
        format!("/apis/millrace.dev/v1alpha1/namespaces/{namespace}/{}?fieldValidation=Strict{dry}", plural(kind));
    let request = Request::post(path)
        .header("Content-Type", "application/json")
        .body(serde_json::to_vec(object).expect("an object is JSON"))
        .expect("a request");
    answer(client, request).await
}

/// Applies an object as `kubectl apply --server-side` does. Nothing is kept.
pub async fn apply_dry(client: &Client, namespace: &str, object: &Value) -> Result<Value, String> {
    let (kind, name) = (object["kind"].as_str(), object["metadata"]["name"].as_str());
    let (kind, name) = (kind.expect("an object has a kind"), name.expect("an object has a name"));
    let path = format!(
        "/apis/millrace.dev/v1alpha1/namespaces/{namespace}/{}/{name}?fieldManager=test&fieldValidation=Strict&dryRun=All",
        plural(kind)
    );
    let request = Request::patch(path)
        .header("Content-Type", "application/apply-patch+yaml")
        .body(serde_json::to_vec(object).expect("an object is JSON"))
        .expect("a request");
    answer(client, request).await
}

/// Changes a part of an object by a JSON merge patch.
pub async fn change(client: &Client, namespace: &str, kind: &str, name: &str, patch: &Value) -> Result<Value, String> {
    merge(client, namespace, kind, name, patch).await
}

/// Changes a part of its status, as the operator does.
pub async fn change_status(
    client: &Client,
    namespace: &str,
    kind: &str,
    name: &str,
    patch: &Value,
) -> Result<Value, String> {
    merge(client, namespace, kind, &format!("{name}/status"), patch).await
}

/// The name under which the apiserver knows the tests.
pub async fn whoami(client: &Client) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.expect("a review");
    review.status.and_then(|status| status.user_info?.username).expect("the tests have a name")
}

async fn merge(client: &Client, namespace: &str, kind: &str, part: &str, patch: &Value) -> Result<Value, String> {
    let path =
        format!("/apis/millrace.dev/v1alpha1/namespaces/{namespace}/{}/{part}?fieldValidation=Strict", plural(kind));
    let request = Request::patch(path)
        .header("Content-Type", "application/merge-patch+json")
        .body(serde_json::to_vec(patch).expect("a patch is JSON"))
        .expect("a request");
    answer(client, request).await
}

/// Reads an object of Millrace.
pub async fn read(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<Value, String> {
    let path = format!("/apis/millrace.dev/v1alpha1/namespaces/{namespace}/{}/{name}", plural(kind));
    answer(client, Request::get(path).body(Vec::new()).expect("a request")).await
}

async fn answer(client: &Client, request: Request<Vec<u8>>) -> Result<Value, String> {
    client.request::<Value>(request).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("the apiserver gave no answer: {other}"),
    })
}

/// Runs a test in a namespace of its own.
pub async fn with_temp_ns<F: Future<Output = ()>>(test: impl FnOnce(Client, String) -> F) {
    let client = client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let wanted: Namespace =
        serde_json::from_value(json!({ "metadata": { "generateName": "c-test-" } })).expect("a namespace");
    let made = namespaces.create(&PostParams::default(), &wanted).await.expect("a namespace can be made");
    let name = made.metadata.name.expect("it has a name");
    let ended =
        futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(test(client.clone(), name.clone()))).await;
    namespaces.delete(&name, &DeleteParams::default()).await.expect("the namespace can be deleted");
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Asks until the answer is there, for at most half a minute.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A controller that works in one namespace, which is its catalog too.
pub struct Controller {
    child: Child,
    address: String,
}

impl Controller {
    /// The only one in its namespace.
    pub fn start(namespace: &str) -> Self {
        Self::spawn(namespace, &["--no-lease".to_owned()])
    }

    /// The same, with HTTPRoutes of the Gateway API.
    pub fn start_with_gateways(namespace: &str) -> Self {
        Self::spawn(namespace, &["--no-lease".to_owned(), "--gateway-api=true".to_owned()])
    }

    /// One of several, of which the one with the lease `controller` in that namespace works.
    pub fn start_replica(namespace: &str, identity: &str) -> Self {
        let lease = [format!("--lease-namespace={namespace}"), "--lease-name=controller".to_owned()];
        Self::spawn(namespace, &[&lease[..], &[format!("--identity={identity}")]].concat())
    }

    fn spawn(namespace: &str, arguments: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-controller"))
            .args([
                "run",
                "--listen=127.0.0.1:0",
                "--agent-image=agent:test",
                "--server-image=server:test",
                "--server-cuda-image=server-cuda:test",
                "--operator-image=operator:test",
            ])
            .args([format!("--namespaces={namespace}"), format!("--catalog-namespace={namespace}")])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the controller starts");
        let log = BufReader::new(child.stderr.take().expect("its log is piped"));
        let (found, address) = std::sync::mpsc::channel();
        // The log is read to its end, so that the controller never waits for its reader.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) = line["address"].as_str() {
                    let _nobody_waits = found.send(address.to_owned());
                }
            }
        });
        let address = address.recv_timeout(Duration::from_secs(30)).expect("it says where it listens");
        Self { child, address }
    }

    /// A value of its metrics; 0 if it was not counted yet.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |number| number.parse().expect("a number"))
    }

    /// The answer to a request to its health port.
    pub fn get(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(&self.address).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request can be sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("it ends")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
