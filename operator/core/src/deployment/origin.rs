//! Where the files of a served model come from: a claim that is mounted, or what the agent fetches, out of a bucket or from a web server.

use millrace_contract::{FetchSource, WebFile};

use crate::access::{self, Kind};
use crate::api::StoreAccess;
use crate::problem::Problem;
use crate::store::{self, Place};

/// What Millrace's own server finds.
pub(super) const MODEL_FILE: &str = "model.onnx";
/// Nothing unpacks them.
const ARCHIVES: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"];
const REASON: &str = "InvalidArtifact";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Mounted from a claim, by its path.
    Claim { claim: String, path: String },
    /// Brought by the agent.
    Fetched {
        source: FetchSource,
        /// With what it takes to reach it.
        secret: Option<String>,
    },
}

impl From<Place> for Origin {
    fn from(place: Place) -> Self {
        match place {
            Place::Claim { claim, path } => Self::Claim { claim, path },
            Place::Objects(objects) => Self::Fetched {
                source: FetchSource::Objects(objects.source()),
                secret: objects.secret().map(str::to_owned),
            },
        }
    }
}

/// What an address names. A file is called after the model's format, which its server knows.
pub(super) fn origin(uri: &str, format: &str, access: Option<&StoreAccess>) -> Option<Origin> {
    let Some(address) = Web::of(uri) else { return store::place(uri, access).map(Origin::from) };
    if !address.faults().is_empty() || !ends_a_name(format) {
        return None;
    }
    let secret = access.and_then(|access| access.secret_ref.as_ref()).map(|secret| secret.name.clone());
    let file = WebFile {
        uri: uri.to_owned(),
        file: format!("model.{format}"),
        credentials: secret.as_deref().map(store::variables),
    };
    Some(Origin::Fetched { source: FetchSource::Web(file), secret })
}

/// What is wrong with an address and with how it is reached. `own` is of Millrace's own server.
pub(super) fn check(uri: &str, format: &str, access: Option<&StoreAccess>, own: bool) -> Vec<Problem> {
    let Some(address) = Web::of(uri) else {
        let mut problems = access::of_model(uri, access, "spec.model");
        if let Some(problem) = problems.iter_mut().find(|problem| problem.path == "spec.model.uri") {
            problem.message.push_str("; or https://<host>/<file>");
        }
        return problems;
    };
    let mut faults = address.faults();
    if own && ARCHIVES.iter().any(|end| address.path.to_ascii_lowercase().ends_with(end)) {
        faults.push(format!(
            "{} is an archive, and nothing unpacks it: write the address of the .onnx file itself, or put what is in it into a bucket",
            address.path.rsplit('/').next().unwrap_or_default()
        ));
    }
    let format = (!ends_a_name(format)).then(|| {
        let message = format!("\"{format}\" cannot end the name of a file, and the server finds this one as /mnt/models/model.<format>: write letters and digits, such as onnx or gguf");
        Problem::new("spec.model.format", REASON, message)
    });
    let problems = faults.into_iter().map(|fault| Problem::new("spec.model.uri", REASON, fault)).chain(format);
    let given = access.cloned().map(StoreAccess::for_any).unwrap_or_default();
    problems.chain(access::unfit(Kind::Web, &given, "spec.model.access", REASON)).collect()
}

fn ends_a_name(format: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !format.is_empty() && format.chars().all(plain)
}

/// An address of the web, by its parts.
struct Web<'a> {
    host: &'a str,
    path: &'a str,
}

impl<'a> Web<'a> {
    fn of(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        if Kind::of(scheme) != Some(Kind::Web) {
            return None;
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Self { host, path })
    }

    fn faults(&self) -> Vec<String> {
        const OPEN: &str = "which everybody sees who may read the ModelDeployment: write access.secretRef, a Secret with HTTP_AUTHORIZATION";
        let Self { host, path } = self;
        let mut faults = Vec::new();
        if host.contains('@') {
            faults.push(format!("it holds a user or a password, {OPEN}"));
        } else if access::is_metadata(host) {
            faults.push(format!("{host} is for the machine alone, not for data: write the address of a server"));
        }
        if host.contains(['?', '#']) || path.contains(['?', '#']) {
            faults.push(format!("an address of a model has no ? and no #: write it without what follows, or put the file into a bucket where it needs that; a key there is one {OPEN}"));
        } else if is_no_file(host, path) {
            faults.push("it names no file: write https://<host>/<file>".to_owned());
        }
        faults
    }
}

/// No host, or no file there.
fn is_no_file(host: &str, path: &str) -> bool {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    host.is_empty() || path.split('/').any(odd) || path.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn access(value: Value) -> StoreAccess {
        serde_json::from_value(value).unwrap()
    }

    fn web(uri: &str, format: &str) -> (WebFile, Option<String>) {
        let keys = access(json!({ "secretRef": { "name": "keys" } }));
        match origin(uri, format, Some(&keys)) {
            Some(Origin::Fetched { source: FetchSource::Web(file), secret }) => (file, secret),
            found => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_file_of_the_web_is_called_after_its_format() {
        let uri = "https://models.example/penguins/3/Penguins.onnx";
        let (file, secret) = web(uri, "onnx");
        assert_eq!((file.uri.as_str(), file.file.as_str(), secret.as_deref()), (uri, "model.onnx", Some("keys")));
        assert!(file.credentials.unwrap().starts_with("MILLRACE_STORE_"));
        assert_eq!(web("http://models:8080/x/y", "gguf").0.file, "model.gguf");
        assert_eq!(web("https://cdn.example/npm/x@1/m.tar.gz", "tar.gz").0.file, "model.tar.gz");
    }

    #[test]
    fn a_bucket_and_a_claim_are_what_they_are_elsewhere() {
        let lies = origin("s3://lake/m", "onnx", None);
        assert!(matches!(lies, Some(Origin::Fetched { source: FetchSource::Objects(_), secret: None })), "{lies:?}");
        let lies = origin("pvc://models/a/b", "onnx", None);
        assert_eq!(lies, Some(Origin::Claim { claim: "models".into(), path: "a/b".into() }));
        assert_eq!(origin("ftp://models/a/b", "onnx", None), None);
    }

    #[test]
    fn an_address_that_cannot_be_is_told_with_what_to_write() {
        let own = |uri: &str, given: Value| {
            let found = check(uri, "onnx", Some(&access(given)), true);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(own("https://h/m.onnx", json!({ "secretRef": { "name": "k" } })), Vec::<String>::new());
        for (uri, given, says) in [
            ("https://me:pass@h/m.onnx", json!({}), "spec.model.uri: it holds a user or a password"),
            ("https://h/m.onnx?sig=hush", json!({}), "spec.model.uri: an address of a model has no ? and no #"),
            ("https://h?path=/a/m.onnx&key=hush", json!({}), "spec.model.uri: an address of a model has no ? and no #"),
            ("http://169.254.169.254/m", json!({}), "spec.model.uri: 169.254.169.254 is for the machine alone"),
            ("https://h/models/", json!({}), "spec.model.uri: it names no file"),
            ("https:///m.onnx", json!({}), "spec.model.uri: it names no file"),
            ("https://h/a/../m.onnx", json!({}), "spec.model.uri: it names no file"),
            ("https://h/m.tar.gz", json!({}), "spec.model.uri: m.tar.gz is an archive, and nothing unpacks it"),
            ("https://h/m.onnx", json!({ "region": "eu" }), "spec.model.access.region: region is for an address"),
            ("https://h/m.onnx", json!({ "anonymous": true }), "spec.model.access.anonymous: anonymous is for"),
            ("ftp://h/m.onnx", json!({}), "spec.model.uri: \"ftp://h/m.onnx\" is no address: write pvc://"),
        ] {
            let found = own(uri, given);
            assert!(found.len() == 1 && found[0].starts_with(says), "{uri}: {found:?}");
            assert!(!found[0].contains("hush") && !found[0].contains("pass@"), "{found:?}");
        }
        assert!(own("ftp://h/m", json!({}))[0].ends_with("; or https://<host>/<file>"));
        assert!(check("https://h/m.tar.gz", "tar.gz", None, false).is_empty());
        let odd = check("https://h/m", "a/../b", None, false);
        assert!(odd.len() == 1 && odd[0].path == "spec.model.format", "{odd:?}");
        assert_eq!(origin("https://h/m", "a/../b", None), None);
    }
}
