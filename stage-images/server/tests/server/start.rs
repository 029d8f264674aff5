//! Models that cannot be served: the process ends with a message, and never was ready.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, model_dir};

/// The server ends with status 1 and these words.
fn assert_ends(dir: &Path, flags: &[&str], words: &[&str]) {
    let (status, stderr) = Server::fails(dir, flags);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("ready model="), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
}

#[test]
fn a_truncated_model_ends_the_server_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(model_dir("tabular").join("model.onnx")).unwrap();
    for part in [whole.len() / 2, whole.len() - 1, 1] {
        fs::write(dir.path().join("model.onnx"), &whole[..part]).unwrap();
        assert_ends(dir.path(), &[], &["model.onnx", "is not a model that ONNX Runtime can load"]);
    }
}

#[test]
fn what_is_no_model_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    assert_ends(dir.path(), &[], &["no .onnx file", "--model-dir needs a folder with model.onnx"]);
    assert_ends(&dir.path().join("missing"), &[], &["failed to read", "missing"]);
    for text in ["", "<html>not found</html>"] {
        fs::write(dir.path().join("model.onnx"), text).unwrap();
        assert_ends(dir.path(), &[], &["model.onnx"]);
    }
}

#[test]
fn one_onnx_file_of_any_name_is_enough_and_two_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_dir("lookup").join("model.onnx");
    fs::copy(&model, dir.path().join("a.onnx")).unwrap();
    fs::copy(&model, dir.path().join("b.onnx")).unwrap();
    assert_ends(dir.path(), &[], &["2 .onnx files"]);
    fs::remove_file(dir.path().join("b.onnx")).unwrap();
    // An absolute path takes the place of the tests' own folder.
    let server = Server::ready(dir.path().to_str().unwrap(), &[]);
    assert_eq!(server.caller().get("/v2/models/m").json()["inputs"][0]["name"], "index");
}

#[test]
fn an_output_that_is_no_tensor_is_refused_with_the_remedy() {
    assert_ends(&model_dir("map-output"), &[], &["output \"scores\"", "zipmap=False"]);
}

#[test]
fn a_signature_that_contradicts_the_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(model_dir("lookup").join("model.onnx"), dir.path().join("model.onnx")).unwrap();
    let signature = dir.path().join("signature.json");
    fs::write(
        &signature,
        r#"{"inputs":[{"name":"index","datatype":"FP32","shape":[-1]}],"outputs":[{"name":"value","datatype":"FP32","shape":[-1]}]}"#,
    )
    .unwrap();
    assert_ends(
        dir.path(),
        &[],
        &["signature.json says datatype FP32 for the input \"index\", but the model says INT64"],
    );
    fs::write(&signature, "{\"inputs\":").unwrap();
    assert_ends(dir.path(), &[], &["is not a signature"]);
}

#[test]
fn a_missing_onnx_runtime_ends_the_server_with_the_remedy() {
    assert_ends(&model_dir("lookup"), &["--onnxruntime", "/nowhere/libonnxruntime.so"], &["set ORT_DYLIB_PATH"]);
}

#[test]
fn a_port_in_use_ends_the_server() {
    let server = Server::ready("lookup", &[]);
    let port = server.address.port().to_string();
    let (status, stderr) = Server::fails(&model_dir("lookup"), &["--port", &port]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains(&format!("failed to listen on 127.0.0.1:{port}")), "{stderr}");
}

#[test]
fn a_wrong_flag_is_refused_with_what_to_write() {
    let (status, stderr) = Server::fails(&model_dir("lookup"), &["--max-body", "8MB"]);
    assert_eq!(status.code(), Some(2));
    assert!(stderr.contains("write bytes, with Ki, Mi or Gi if you like: 8Mi"), "{stderr}");
}

/// By coreutils.
fn sha256(bytes: &[u8]) -> String {
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = sum.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

/// A model of two files, and the digest that `docs/stage-contract.md` gives the folder.
fn registered() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let list = ["model.onnx", "profile.json"].map(|name| {
        let bytes = fs::read(model_dir("product").join(name)).unwrap();
        fs::write(dir.path().join(name), &bytes).unwrap();
        format!("{}  {}  {name}\n", sha256(&bytes), bytes.len())
    });
    (dir, format!("sha256:{}", sha256(list.concat().as_bytes())))
}

#[test]
fn a_model_with_the_digest_it_was_registered_with_is_served() {
    let (dir, digest) = registered();
    let flags = ["--model-digest", &digest];
    let server = Server::ready(dir.path().to_str().unwrap(), &flags);
    assert_eq!(server.caller().get("/v2/models/m").json()["inputs"][0]["name"], "a");
    // The folder's own name may be a link.
    let place = tempfile::tempdir().unwrap();
    let link = place.path().join("current");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    Server::ready(link.to_str().unwrap(), &flags);
}

#[test]
fn a_model_with_another_digest_is_not_served() {
    let (dir, digest) = registered();
    let flags = ["--model-digest", &digest];
    let words = |more: &'static str| {
        ["model \"m\" version \"1\" is not what was registered", &digest, "register these as a new version", more]
    };
    for name in ["model.onnx", "profile.json"] {
        let path = dir.path().join(name);
        let right = fs::read(&path).unwrap();
        let mut wrong = right.clone();
        // A space at the end of a line is as good a profile as a line end.
        let last = wrong.last_mut().unwrap();
        *last ^= 0x2a;
        fs::write(&path, wrong).unwrap();
        assert_ends(dir.path(), &flags, &words("2 files: model.onnx of "));
        fs::remove_file(&path).unwrap();
        assert_ends(dir.path(), &flags, &words("1 file: "));
        fs::write(&path, right).unwrap();
    }
    fs::write(dir.path().join("extra"), "").unwrap();
    assert_ends(dir.path(), &flags, &words("3 files: extra of 0 bytes, model.onnx of "));
    fs::remove_file(dir.path().join("extra")).unwrap();
    Server::ready(dir.path().to_str().unwrap(), &flags);
}

#[test]
fn files_that_have_no_digest_are_not_served() {
    let (dir, digest) = registered();
    let flags = ["--model-digest", &digest];
    let words = |found| ["model \"m\" version \"1\" cannot be compared", &digest, found, "needs the registered files"];
    assert_ends(&dir.path().join("missing"), &flags, &words("missing does not exist"));
    let model = dir.path().join("model.onnx");
    fs::remove_file(&model).unwrap();
    std::os::unix::fs::symlink(model_dir("product").join("model.onnx"), &model).unwrap();
    assert_ends(dir.path(), &flags, &words("model.onnx is a link"));
}

#[test]
fn a_digest_that_is_none_is_refused_with_what_to_write() {
    let (dir, digest) = registered();
    for wrong in [&digest[..70], &digest.to_uppercase(), &digest["sha256:".len()..], ""] {
        let (status, stderr) = Server::fails(dir.path(), &["--model-digest", wrong]);
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("--model-digest"), "{stderr}");
        assert!(stderr.contains("write sha256: and 64 hexadecimal digits"), "{stderr}");
    }
}
