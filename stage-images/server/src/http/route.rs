//! From a method and a path to what is asked for. Pure.

use std::borrow::Cow;

use hyper::Method;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Server,
    Live,
    Ready,
    Metrics,
    Model(ModelPath<'a>),
    ModelReady(ModelPath<'a>),
    Infer(ModelPath<'a>),
    /// The v1 form of `Infer`.
    Predict(ModelPath<'a>),
    /// As `Infer`, to explain the answer.
    Explain(ModelPath<'a>),
    /// The model's OpenAPI document.
    OpenApi(ModelPath<'a>),
    /// The v1 form of `Model` and `ModelReady`.
    ModelStatus(ModelPath<'a>),
    /// The v1 list of models.
    Models,
    Repository(RepositoryPath<'a>),
    /// The path exists, with this method only.
    WrongMethod(&'static str),
    Unknown,
}

/// The model that a path names.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelPath<'a> {
    pub name: Cow<'a, str>,
    pub version: Option<Cow<'a, str>>,
}

/// What is asked of the model repository.
#[derive(Debug, PartialEq, Eq)]
pub enum RepositoryPath<'a> {
    Index,
    Load(Cow<'a, str>),
    Unload(Cow<'a, str>),
}

/// Finds the route. A slash at the end makes no difference.
pub fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let mut next = || segments.next();
    let found = match [next(), next(), next(), next(), next(), next(), next()] {
        [Some("v2"), None, ..] => Route::Server,
        [Some("metrics"), None, ..] => Route::Metrics,
        [Some("v2"), Some("health"), Some("live"), None, ..] => Route::Live,
        [Some("v2"), Some("health"), Some("ready"), None, ..] => Route::Ready,
        [Some("v2"), Some("models"), Some(name), None, ..] => model(Route::Model, name, None),
        [Some("v2"), Some("models"), Some(name), Some("versions"), Some(version), last, None] => last
            .map_or(Some(Route::Model as fn(_) -> _), of_model)
            .map_or(Route::Unknown, |route| model(route, name, Some(version))),
        [Some("v2"), Some("models"), Some(name), Some(last), None, ..] => {
            of_model(last).map_or(Route::Unknown, |route| model(route, name, None))
        }
        [Some("v2"), Some("repository"), Some("index"), None, ..] => Route::Repository(RepositoryPath::Index),
        [Some("v2"), Some("repository"), Some("models"), Some(name), Some(verb), None, _] => {
            match (unescape(name), verb) {
                (Some(name), "load") => Route::Repository(RepositoryPath::Load(name)),
                (Some(name), "unload") => Route::Repository(RepositoryPath::Unload(name)),
                _ => Route::Unknown,
            }
        }
        [Some("v1"), Some("models"), None, ..] => Route::Models,
        [Some("v1"), Some("models"), Some(name), None, ..] => match name.strip_suffix(":predict") {
            None => model(Route::ModelStatus, name, None),
            Some(name) => model(Route::Predict, name, None),
        },
        [Some("v1"), Some("models"), Some(name), Some("versions"), Some(version), None, _] => {
            match version.strip_suffix(":predict") {
                None => model(Route::ModelStatus, name, Some(version)),
                Some(version) => model(Route::Predict, name, Some(version)),
            }
        }
        _ => Route::Unknown,
    };
    match found {
        Route::Unknown | Route::WrongMethod(_) => found,
        Route::Infer(_) | Route::Predict(_) | Route::Explain(_) | Route::Repository(_) if method == Method::POST => {
            found
        }
        Route::Infer(_) | Route::Predict(_) | Route::Explain(_) | Route::Repository(_) => Route::WrongMethod("POST"),
        _ if method == Method::GET || method == Method::HEAD => found,
        _ => Route::WrongMethod("GET"),
    }
}

/// What a path asks of a model by its last segment.
fn of_model<'a>(last: &str) -> Option<fn(ModelPath<'a>) -> Route<'a>> {
    match last {
        "ready" => Some(Route::ModelReady),
        "infer" => Some(Route::Infer),
        "explain" => Some(Route::Explain),
        "openapi.json" => Some(Route::OpenApi),
        _ => None,
    }
}

fn model<'a>(route: fn(ModelPath<'a>) -> Route<'a>, name: &'a str, version: Option<&'a str>) -> Route<'a> {
    match (unescape(name), version.map(unescape)) {
        (Some(name), None) => route(ModelPath { name, version: None }),
        (Some(name), Some(Some(version))) => route(ModelPath { name, version: Some(version) }),
        _ => Route::Unknown,
    }
}

/// Undoes percent escapes; `None` if they are wrong or not UTF-8.
fn unescape(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (escape, tail) = tail.split_at_checked(2)?;
        if !escape.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path<'a>(name: &'a str, version: Option<&'a str>) -> ModelPath<'a> {
        ModelPath { name: name.into(), version: version.map(Cow::from) }
    }

    #[test]
    fn every_path_of_the_protocol_is_found() {
        let get = |path| route(&Method::GET, path);
        assert_eq!(get("/v2"), Route::Server);
        assert_eq!(get("/v2/"), Route::Server);
        assert_eq!(get("/metrics"), Route::Metrics);
        assert_eq!(get("/v2/health/live"), Route::Live);
        assert_eq!(get("/v2/health/ready"), Route::Ready);
        assert_eq!(get("/v2/models/a"), Route::Model(path("a", None)));
        assert_eq!(get("/v2/models/a/ready"), Route::ModelReady(path("a", None)));
        assert_eq!(get("/v2/models/a/versions/3"), Route::Model(path("a", Some("3"))));
        assert_eq!(get("/v2/models/a/versions/3/ready"), Route::ModelReady(path("a", Some("3"))));
        assert_eq!(get("/v2/models/a/openapi.json"), Route::OpenApi(path("a", None)));
        assert_eq!(route(&Method::POST, "/v2/models/a/explain"), Route::Explain(path("a", None)));
        assert_eq!(route(&Method::POST, "/v2/models/a/infer"), Route::Infer(path("a", None)));
        assert_eq!(route(&Method::POST, "/v2/models/a/versions/3/infer"), Route::Infer(path("a", Some("3"))));
    }

    #[test]
    fn every_path_of_v1_is_found() {
        let (get, post) = (|path| route(&Method::GET, path), |path| route(&Method::POST, path));
        assert_eq!(get("/v1/models"), Route::Models);
        assert_eq!(get("/v1/models/a"), Route::ModelStatus(path("a", None)));
        assert_eq!(get("/v1/models/a/versions/3"), Route::ModelStatus(path("a", Some("3"))));
        assert_eq!(post("/v1/models/a:predict"), Route::Predict(path("a", None)));
        assert_eq!(post("/v1/models/a:b:predict"), Route::Predict(path("a:b", None)));
        assert_eq!(post("/v1/models/a/versions/3:predict"), Route::Predict(path("a", Some("3"))));
        assert_eq!(get("/v1/models/a:predict"), Route::WrongMethod("POST"));
        assert_eq!(get("/v1/models/a/versions/3/x"), Route::Unknown);
    }

    #[test]
    fn every_path_of_the_repository_is_found() {
        let post = |path| route(&Method::POST, path);
        assert_eq!(post("/v2/repository/index"), Route::Repository(RepositoryPath::Index));
        let load = Route::Repository(RepositoryPath::Load("a b".into()));
        assert_eq!(post("/v2/repository/models/a%20b/load"), load);
        let unload = Route::Repository(RepositoryPath::Unload("a".into()));
        assert_eq!(post("/v2/repository/models/a/unload"), unload);
        assert_eq!(post("/v2/repository/models/a/delete"), Route::Unknown);
        assert_eq!(post("/v2/repository/models/a/load/x"), Route::Unknown);
        assert_eq!(route(&Method::GET, "/v2/repository/index"), Route::WrongMethod("POST"));
    }

    #[test]
    fn a_name_may_be_escaped() {
        assert_eq!(route(&Method::GET, "/v2/models/a%2Fb%20c"), Route::Model(path("a/b c", None)));
        for wrong in ["/v2/models/%", "/v2/models/%2", "/v2/models/%zz", "/v2/models/%+1", "/v2/models/%ff"] {
            assert_eq!(route(&Method::GET, wrong), Route::Unknown, "{wrong}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        for wrong in ["/", "", "/v1", "/v2/x", "/v2/models", "/v2/models/a/x", "/v2/models/a/versions/3/infer/x"] {
            assert_eq!(route(&Method::GET, wrong), Route::Unknown, "{wrong:?}");
        }
        assert_eq!(route(&Method::GET, "/v2/models/a/infer"), Route::WrongMethod("POST"));
        assert_eq!(route(&Method::POST, "/v2/health/live"), Route::WrongMethod("GET"));
    }
}
