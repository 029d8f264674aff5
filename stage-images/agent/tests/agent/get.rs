//! `millrace-agent get` against real servers: parts, broken connections, redirects, digests, buckets, claims, and how much memory it takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::s3::{self, ACCOUNT, SECRET, Server};
use crate::support::web::{self, Web, say};

/// The program, and a folder for what it brings.
struct Get {
    folder: TempDir,
    command: Command,
}

impl Get {
    fn new(uri: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-agent"));
        command.args(["get", "--uri", uri, "--to"]).arg(folder.path().join("data"));
        command.env("MILLRACE_OUT", folder.path().join("out"));
        Self { folder, command }
    }

    fn with(mut self, words: &[&str]) -> Self {
        self.command.args(words);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn run(mut self) -> Got {
        let output = self.command.output().unwrap();
        Got { folder: self.folder, output }
    }
}

struct Got {
    folder: TempDir,
    output: Output,
}

impl Got {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn well(self) -> Self {
        assert_eq!(self.output.status.code(), Some(0), "{}", self.errors());
        self
    }

    fn errors(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn version(&self) -> Option<String> {
        self.result("source_version")
    }

    /// What a later run asks the source.
    fn validator(&self) -> Option<String> {
        self.result("source_validator")
    }

    fn result(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.path().join("out/results").join(name)).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The source was asked, and had nothing new.
    #[track_caller]
    fn unchanged(self) {
        let got = self.well();
        assert!(got.said().contains("what an earlier run read lies there still"), "{}", got.said());
        assert!(!got.data().exists() && got.validator().is_none() && got.version().is_none());
    }

    /// It ended with this status and these words.
    #[track_caller]
    fn failed(self, status: i32, words: &str) {
        let errors = self.errors();
        assert_eq!(self.output.status.code(), Some(status), "{errors}");
        assert!(errors.starts_with("millrace-agent: error: ") && errors.contains(words), "{errors}");
    }
}

fn bytes(count: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

#[test]
fn a_file_is_brought_as_it_is_with_its_version_and_no_secret_is_told() {
    let body = [&[0x1f, 0x8b, 8, 0][..], b"not really gzip"].concat();
    let served = body.clone();
    let server = Web::serve(move |asked, _, stream| match asked.path.as_str() {
        "/a.csv.gz?signature=hush" => {
            say(stream, "200 OK", &["ETag: \"v1\"", "Content-Encoding: gzip"], served.len(), &served);
        }
        _ => say(stream, "404 Not Found", &[], 0, b""),
    });
    let got = Get::new(&format!("{}/a.csv.gz?signature=hush", server.address))
        .env("GET_HTTP_AUTHORIZATION", "Bearer t0ken")
        .run()
        .well();
    assert_eq!(fs::read(got.data()).unwrap(), body, "nothing is unpacked");
    assert_eq!(got.version().as_deref(), Some("v1"));
    assert!(got.said().contains(&digest(&body)), "{}", got.said());
    assert!(!got.said().contains("hush") && !got.said().contains("t0ken"), "{}", got.said());
    let [asked] = server.asked().try_into().unwrap();
    assert_eq!(asked.header("authorization"), Some("bearer t0ken"));
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    Get::new(&format!("{}/b?signature=hush", server.address)).run().failed(2, "404 Not Found; nothing is there");
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let body = bytes(400_000);
    let served = body.clone();
    let server = Web::serve(move |asked, number, stream| {
        let first = asked.first();
        // Two times it breaks off after 100,000 bytes.
        let last = if number < 2 { first + 100_000 } else { served.len() };
        let range = format!("Content-Range: bytes {first}-{}/{}", served.len() - 1, served.len());
        let (status, headers) = if first > 0 {
            ("206 Partial Content", vec!["ETag: \"v1\"", range.as_str()])
        } else {
            ("200 OK", vec!["ETag: \"v1\""])
        };
        say(stream, status, &headers, served.len() - first, &served[first..last]);
    });
    let got = Get::new(&server.address).with(&["--digest", &digest(&body)]).run().well();
    assert_eq!(fs::read(got.data()).unwrap(), body);
    let firsts: Vec<usize> = server.asked().iter().map(web::Asked::first).collect();
    assert_eq!(firsts, [0, 100_000, 200_000]);
    assert_eq!(server.asked()[1].header("if-range"), Some("\"v1\""));
}

/// Headers of an answer, and what is known of it for sure.
const VERSIONS: [(&str, &[&str], Option<&str>); 6] = [
    ("/strong", &["ETag: \"v1\"", "Last-Modified: Sun, 22 Nov 2026 14:00:00 GMT"], Some("etag:\"v1\"")),
    ("/weak", &["ETag: W/\"v1\"", "Last-Modified: Sun, 22 Nov 2026 14:00:00 GMT"], None),
    (
        "/dated",
        &["Last-Modified: Sun, 22 Nov 2026 14:00:00 GMT", "Date: Sun, 22 Nov 2026 15:00:00 GMT"],
        Some("modified:Sun, 22 Nov 2026 14:00:00 GMT"),
    ),
    ("/just-now", &["Last-Modified: Sun, 22 Nov 2026 14:00:00 GMT", "Date: Sun, 22 Nov 2026 14:00:30 GMT"], None),
    ("/undated", &["Last-Modified: Sun, 22 Nov 2026 14:00:00 GMT"], None),
    ("/silent", &[], None),
];

#[test]
fn what_a_server_has_still_is_not_brought_again_if_it_says_so_for_sure() {
    let server = Web::serve(|asked, _, stream| {
        let (_, headers, _) = VERSIONS.iter().find(|(path, ..)| *path == asked.path).unwrap();
        assert!(asked.header("if-modified-since").is_none(), "a server may say 304 of an older file");
        let same = asked.header("if-none-match") == Some("\"v1\"");
        if same { say(stream, "304 Not Modified", headers, 0, b"") } else { say(stream, "200 OK", headers, 4, b"rows") }
    });
    for (path, _, validator) in VERSIONS {
        let get = || Get::new(&format!("{}{path}", server.address));
        let got = get().run().well();
        assert_eq!(got.validator().as_deref(), validator, "{path}");
        if let Some(validator) = validator {
            get().env("GET_KNOWN", validator).run().unchanged();
        }
        let got = get().env("GET_KNOWN", "etag:\"v0\"").run().well();
        assert_eq!(fs::read(got.data()).unwrap(), b"rows", "{path}");
        assert_eq!(got.validator().as_deref(), validator, "{path}");
    }
    let asked = server.asked();
    assert!(asked[0].header("if-none-match").is_none() && asked[1].header("if-none-match") == Some("\"v1\""));
}

#[test]
fn a_server_that_looks_at_no_condition_is_believed_by_its_tag_and_a_broken_connection_changes_nothing() {
    let body = bytes(200_000);
    let served = body.clone();
    let server = Web::serve(move |asked, number, stream| match (asked.path.as_str(), number) {
        // It would break off, if anybody read that far.
        ("/same", _) => say(stream, "200 OK", &["ETag: \"v1\""], served.len(), b"ro"),
        ("/other", _) if asked.header("range").is_none() => {
            say(stream, "200 OK", &["ETag: \"v2\""], served.len(), &served[..90_000]);
        }
        _ => {
            let range = format!("Content-Range: bytes {}-{}/{}", asked.first(), served.len() - 1, served.len());
            let rest = &served[asked.first()..];
            say(stream, "206 Partial Content", &["ETag: \"v2\"", &range], rest.len(), rest);
        }
    });
    let get = |path: &str| Get::new(&format!("{}{path}", server.address)).env("GET_KNOWN", "etag:\"v1\"");
    get("/same").run().unchanged();
    let got = get("/other").run().well();
    assert_eq!(fs::read(got.data()).unwrap(), body);
    assert_eq!(got.validator().as_deref(), Some("etag:\"v2\""));
}

#[test]
fn what_is_another_file_by_now_is_begun_anew() {
    let (old, new) = (bytes(200_000), vec![7; 50_000]);
    let (before, after) = (old.clone(), new.clone());
    let server = Web::serve(move |_, number, stream| match number {
        0 => say(stream, "200 OK", &["ETag: \"v1\""], before.len(), &before[..90_000]),
        // A server whose file has changed gives the whole.
        _ => say(stream, "200 OK", &["ETag: \"v2\""], after.len(), &after),
    });
    let got = Get::new(&server.address).run().well();
    assert_eq!(fs::read(got.data()).unwrap(), new);
    assert_eq!(got.version().as_deref(), Some("v2"));
}

#[test]
fn without_a_version_nothing_is_put_together_of_two_answers() {
    let body = bytes(200_000);
    let served = body.clone();
    for header in ["ETag: W/\"v1\"", "X-None: 1"] {
        let served = served.clone();
        let server = Web::serve(move |_, number, stream| {
            let last = if number == 0 { 90_000 } else { served.len() };
            say(stream, "200 OK", &[header], served.len(), &served[..last]);
        });
        let got = Get::new(&server.address).run().well();
        assert_eq!(fs::read(got.data()).unwrap(), body);
        assert!(server.asked().iter().all(|asked| asked.header("range").is_none()));
    }
}

#[test]
fn a_server_that_always_breaks_is_given_up_and_may_be_tried_again() {
    let server = Web::serve(|_, _, stream| say(stream, "200 OK", &[], 10, b"half"));
    Get::new(&server.address).run().failed(1, "the transfer broke");
    assert!(server.asked().len() < 30, "{}", server.asked().len());
    let busy = Web::serve(|_, _, stream| say(stream, "503 Service Unavailable", &[], 0, b""));
    Get::new(&busy.address).run().failed(1, "503 Service Unavailable");
    Get::new("http://127.0.0.1:1/x").run().failed(1, "no connection");
}

#[test]
fn redirects_lead_no_further_than_an_address_may() {
    let server = Web::serve(|asked, _, stream| {
        let to = |stream: &mut _, place: &str| say(stream, "302 Found", &[&format!("Location: {place}")], 0, b"");
        match asked.path.as_str() {
            "/moved" => to(stream, "/here"),
            "/here" => say(stream, "200 OK", &[], 2, b"ok"),
            "/round" => to(stream, "/round"),
            "/metadata" => to(stream, "http://169.254.169.254/latest/meta-data/iam"),
            "/number" => to(stream, "http://2852039166/latest"),
            "/file" => to(stream, "file:///etc/passwd"),
            _ => say(stream, "404 Not Found", &[], 0, b""),
        }
    });
    let at = |path: &str| Get::new(&format!("{}{path}", server.address)).run();
    assert_eq!(fs::read(at("/moved").well().data()).unwrap(), b"ok");
    at("/round").failed(2, "more than 10 times");
    at("/metadata").failed(2, "169.254.169.254 is for the machine alone");
    at("/number").failed(2, "169.254.169.254 is for the machine alone");
    assert_ne!(at("/file").output.status.code(), Some(0));
    Get::new("http://169.254.169.254/latest").run().failed(2, "no request goes there");
    Get::new("http://[fe80::1]/latest").run().failed(2, "no request goes there");
}

#[test]
fn other_bytes_than_asked_for_are_refused() {
    let server = Web::serve(|_, _, stream| say(stream, "200 OK", &[], 5, b"right"));
    let wanted = digest(b"wrong");
    let got = Get::new(&server.address).with(&["--digest", &wanted]).run();
    let errors = got.errors();
    assert!(errors.contains(&wanted) && errors.contains(&digest(b"right")), "{errors}");
    got.failed(2, "is not what is asked for");
}

#[test]
fn a_proxy_that_the_environment_names_is_asked() {
    let proxy = Web::serve(|asked, _, stream| say(stream, "200 OK", &[], asked.path.len(), asked.path.as_bytes()));
    let get = || Get::new("http://data.example.com/rows").env("http_proxy", &proxy.address).env("no_proxy", "");
    assert_eq!(fs::read(get().run().well().data()).unwrap(), b"http://data.example.com/rows");
}

#[test]
fn a_large_file_takes_little_memory() {
    let body = bytes(64 << 20);
    let served = body.clone();
    let server = Web::serve(move |_, _, stream| say(stream, "200 OK", &["ETag: \"v\""], served.len(), &served));
    let mut get = Get::new(&server.address);
    let mut child = get.command.spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let held = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(held.unwrap_or_default());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(digest(&fs::read(get.folder.path().join("data")).unwrap()), digest(&body));
    // 20 MB as measured beside the file's 64.
    assert!(most > 0 && most < 48_000, "{most} kB");
}

fn bucket(server: &Server, uri: &str) -> Get {
    let scheme = "http";
    Get::new(uri)
        .with(&["--endpoint", &format!("{scheme}://127.0.0.1:{}", server.port), "--secret"])
        .env("GET_AWS_ACCESS_KEY_ID", ACCOUNT)
        .env("GET_AWS_SECRET_ACCESS_KEY", SECRET)
}

#[test]
fn an_authority_of_ones_own_is_good_where_it_is_named() {
    let server = Server::start_tls();
    put(&server, "raw/a.csv", b"a");
    let get = || {
        Get::new("s3://lake/raw/a.csv")
            .with(&["--endpoint", &format!("https://127.0.0.1:{}", server.port), "--secret"])
            .env("GET_AWS_ACCESS_KEY_ID", ACCOUNT)
            .env("GET_AWS_SECRET_ACCESS_KEY", SECRET)
    };
    assert_eq!(fs::read(get().env("GET_ca.crt", &s3::authority()).run().well().data()).unwrap(), b"a");
    get().run().failed(2, "ca.crt");
    // The same server asked as a web server: it answers, which needs the authority too.
    let web = || Get::new(&format!("https://127.0.0.1:{}/lake/raw/a.csv", server.port));
    web().env("GET_ca.crt", &s3::authority()).run().failed(2, "403");
    web().run().failed(1, "if the authority is one of your own");
}

fn put(server: &Server, key: &str, bytes: &[u8]) {
    let path = server.object(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_object_or_a_folder_of_a_bucket_is_brought() {
    let server = Server::start();
    put(&server, "raw/a.csv", b"a");
    put(&server, "raw/sub/b c.csv", b"b");
    put(&server, "large", &bytes(12 << 20));
    let got = bucket(&server, "s3://lake/raw/").run().well();
    assert_eq!(fs::read(got.data().join("a.csv")).unwrap(), b"a");
    assert_eq!(fs::read(got.data().join("sub/b c.csv")).unwrap(), b"b");
    assert!(got.said().contains("2 files"), "{}", got.said());
    let got = bucket(&server, "s3://lake/large").run().well();
    assert_eq!(digest(&fs::read(got.data()).unwrap()), digest(&bytes(12 << 20)));
    assert!(!got.said().contains(SECRET));
    bucket(&server, "s3://lake/nothing").run().failed(2, "there is no s3://lake/nothing");
    let wrong = bucket(&server, "s3://lake/raw").env("GET_AWS_SECRET_ACCESS_KEY", "other").run();
    wrong.failed(2, "s3://lake/raw cannot be read");
    Get::new("s3://lake/raw").with(&["--endpoint", "http://169.254.169.254"]).run().failed(2, "no request goes there");
}

/// As people do it: what lies in the server's folder without its doing has no version.
fn upload(server: &Server, key: &str, bytes: &[u8]) {
    let store = AmazonS3Builder::new()
        .with_bucket_name("lake")
        .with_endpoint(format!("http://127.0.0.1:{}", server.port))
        .with_region("us-east-1")
        .with_allow_http(true)
        .with_access_key_id(ACCOUNT)
        .with_secret_access_key(SECRET)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(store.put(&key.into(), bytes.to_vec().into())).unwrap();
}

#[test]
fn what_lies_in_a_bucket_still_is_not_brought_again() {
    let server = Server::start();
    let upload = |key: &str, bytes: &[u8]| upload(&server, key, bytes);
    upload("rows/a.csv", b"a");
    upload("rows/sub/b.csv", b"b");
    upload("one.csv", b"1");
    let known = |uri: &str| {
        let got = bucket(&server, uri).run().well();
        got.validator().unwrap_or_else(|| panic!("{uri}: {}", got.said()))
    };
    let (folder, one) = (known("s3://lake/rows/"), known("s3://lake/one.csv"));
    let again = |uri: &str, known: &str| bucket(&server, uri).env("GET_KNOWN", known).run();
    again("s3://lake/rows/", &folder).unchanged();
    again("s3://lake/one.csv", &one).unchanged();
    // Of the same length.
    upload("rows/sub/b.csv", b"c");
    let got = again("s3://lake/rows/", &folder).well();
    assert_eq!(fs::read(got.data().join("sub/b.csv")).unwrap(), b"c");
    let folder = got.validator().unwrap();
    upload("rows/new.csv", b"n");
    assert!(again("s3://lake/rows/", &folder).well().data().join("new.csv").exists());
    again("s3://lake/one.csv", &folder).well();
    upload("one.csv", b"2");
    assert_eq!(fs::read(again("s3://lake/one.csv", &one).well().data()).unwrap(), b"2");
}

#[test]
fn a_claim_is_copied_without_following_links() {
    let claim = tempfile::tempdir().unwrap();
    fs::create_dir_all(claim.path().join("rows/a")).unwrap();
    fs::write(claim.path().join("rows/a/b.csv"), "1").unwrap();
    fs::write(claim.path().join("one.csv"), "2").unwrap();
    let get = |path: &str| {
        let from = claim.path().join(path);
        Get::new(&format!("pvc://raw/{path}")).with(&["--from", from.to_str().unwrap()]).run()
    };
    assert_eq!(fs::read(get("rows").well().data().join("a/b.csv")).unwrap(), b"1");
    assert_eq!(fs::read(get("one.csv").well().data()).unwrap(), b"2");
    get("two.csv").failed(2, "there is no pvc://raw/two.csv");
    std::os::unix::fs::symlink("/etc/passwd", claim.path().join("rows/passwd")).unwrap();
    get("rows").failed(2, "passwd is a link");
    assert!(Path::new("/etc/passwd").exists());
}
