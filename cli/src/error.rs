//! What can go wrong, in words for the person who typed the command.

use std::error::Error as _;

use kube::config::{InferConfigError, KubeconfigError};
use kube::runtime::watcher;
use millrace_core::plan::FIELD_OWNED;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was found and what to do instead.
    #[error("{0}")]
    Said(String),
    #[error("failed to {verb} {object}")]
    Request { verb: &'static str, object: String, source: Box<kube::Error> },
    #[error("failed to read {path}")]
    File { path: String, source: std::io::Error },
    #[error("failed to write {path}")]
    Write { path: String, source: std::io::Error },
    #[error("failed to read the kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("failed to find a cluster: write --kubeconfig, or set KUBECONFIG")]
    Cluster(#[from] InferConfigError),
    /// By the person who typed it: nothing else is to be done.
    #[error("interrupted")]
    Interrupted,
    #[error("failed to write")]
    Output(#[from] std::io::Error),
}

impl Error {
    pub fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    pub fn request(verb: &'static str, object: impl Into<String>, source: kube::Error) -> Self {
        Self::Request { verb, object: object.into(), source: Box::new(source) }
    }
}

/// The apiserver's status code, if it answered.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// An error of the apiserver in its own words: kube's own text has the whole answer in it.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

/// The same of a watch.
pub fn watch_words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => words(cause),
        watcher::Error::WatchError(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

/// The field managers that own what an apply was to set; none if that is not why it was refused.
pub fn owners(error: &kube::Error) -> Vec<String> {
    let kube::Error::Api(status) = error else { return Vec::new() };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let owned = causes.filter(|cause| cause.reason == FIELD_OWNED);
    // The cause says: conflict with "manager" using millrace.dev/v1alpha1
    let mut owners: Vec<_> = owned.filter_map(|cause| cause.message.split('"').nth(1)).map(str::to_owned).collect();
    owners.sort();
    owners.dedup();
    owners
}

/// An error with its causes in one line.
pub fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // The apiserver's own words, without their wrapping.
        let next = match error.downcast_ref::<Box<kube::Error>>().map(|error| &**error) {
            Some(kube::Error::Api(status)) if !status.message.is_empty() => {
                return format!("{text}: {}", status.message);
            }
            _ => error.to_string(),
        };
        // Several of kube's errors repeat their source.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str, details: &serde_json::Value) -> kube::Error {
        let mut status = kube::core::Status::failure(message, "Refused");
        (status.code, status.details) = (code, serde_json::from_value(details.clone()).unwrap());
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn a_conflict_names_each_owner_once() {
        let cause = |who: &str, field: &str| {
            let message = format!("conflict with \"{who}\" using millrace.dev/v1alpha1");
            serde_json::json!({ "reason": "FieldManagerConflict", "message": message, "field": field })
        };
        let causes = [cause("flux", ".spec.a"), cause("flux", ".spec.b"), cause("argocd", ".spec.a")];
        assert_eq!(owners(&refused(409, "no", &serde_json::json!({ "causes": causes }))), ["argocd", "flux"]);
        assert!(owners(&refused(409, "no", &serde_json::json!({}))).is_empty());
    }

    #[test]
    fn the_apiservers_words_stand_alone() {
        let refused = || refused(403, "you may not", &serde_json::json!({}));
        let error = Error::request("read", "MLPipelineRun r", refused());
        assert_eq!(chain(&error), "failed to read MLPipelineRun r: you may not");
        assert_eq!(words(&refused()), "you may not");
        assert_eq!(watch_words(&watcher::Error::WatchStartFailed(refused())), "you may not");
    }
}
