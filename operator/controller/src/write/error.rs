//! A write that could not be made, and a write that the apiserver refused.

use std::error::Error;

use millrace_core::plan::{FIELD_OWNED, Refusal};

pub use millrace_core::plan::NAME_TAKEN;

/// A request that had no answer, or one that says to try again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("failed to {verb} {object}")]
    Request { verb: &'static str, object: String, source: Box<kube::Error> },
    #[error("failed to read {object}: its content is no frozen pipeline")]
    Content { object: String, source: serde_json::Error },
}

impl WriteError {
    pub fn new(verb: &'static str, object: &str, source: kube::Error) -> Self {
        Self::Request { verb, object: object.to_owned(), source: Box::new(source) }
    }
}

/// HTTP status of an answer, if there was one.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// A refusal if the answer will be the same next time; else an error, to try again. Its reason is [`FIELD_OWNED`] if
/// another field manager is the cause.
pub fn refused(verb: &'static str, object: &str, error: kube::Error) -> Result<Refusal, WriteError> {
    match error {
        error if owned_by_another(&error) => {
            let message = if let kube::Error::Api(status) = &error { status.message.clone() } else { String::new() };
            Ok(Refusal { object: object.to_owned(), code: 409, reason: FIELD_OWNED.to_owned(), message })
        }
        kube::Error::Api(status) if is_final(status.code) => Ok(Refusal {
            object: object.to_owned(),
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
        }),
        other => Err(WriteError::new(verb, object, other)),
    }
}

/// The answer to a write of a whole object. A conflict passes: somebody wrote meanwhile, or deleted it, and the next pass sees what.
pub fn written<K>(object: &str, answer: Result<K, kube::Error>) -> Result<Result<K, Refusal>, WriteError> {
    match answer {
        Ok(written) => Ok(Ok(written)),
        Err(error) if matches!(code(&error), Some(404 | 409)) => Err(WriteError::new("apply", object, error)),
        Err(error) => refused("apply", object, error).map(Err),
    }
}

/// A conflict of server-side apply: another field manager owns what was to be set.
pub fn owned_by_another(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 409 && causes.into_iter().any(|cause| cause.reason == FIELD_OWNED)
}

/// 401 (a token that is being renewed), 408 and 429 pass by themselves, as do 5xx.
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 401 | 408 | 429)
}

pub fn name_taken(object: &str, owner: Option<&str>) -> Refusal {
    let owner =
        owner.map_or_else(|| "it has no controller".to_owned(), |uid| format!("its controller has the uid {uid}"));
    Refusal {
        object: object.to_owned(),
        code: 409,
        reason: NAME_TAKEN.to_owned(),
        message: format!("{object} is there already and belongs to somebody else ({owner}): delete or rename it"),
    }
}

/// What the apiserver answered: kube's own words have the whole answer in them, twice.
fn said(error: &(dyn Error + 'static)) -> Option<String> {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match error.downcast_ref::<kube::Error>().or_else(boxed)? {
        kube::Error::Api(status) => Some(format!("{} ({})", status.message, status.reason)),
        _ => None,
    }
}

/// An error with its causes, for the one line that it is logged in.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(answer) = said(error) {
        return answer;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(answer) = said(error) {
            return format!("{text}: {answer}");
        }
        let next = error.to_string();
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

    fn answer(code: u16) -> kube::Error {
        let mut status = kube::core::Status::failure("exceeded quota: small", "Forbidden");
        status.code = code;
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn an_answer_that_will_not_change_is_a_refusal_and_the_rest_is_tried_again() {
        for code in [400, 403, 404, 409, 422] {
            let refusal = refused("create", "Job a", answer(code)).unwrap();
            assert_eq!((refusal.code, refusal.message.as_str()), (code, "exceeded quota: small"));
        }
        for code in [401, 408, 429, 500, 503] {
            assert!(refused("create", "Job a", answer(code)).is_err(), "{code}");
        }
    }

    #[test]
    fn only_a_conflict_that_names_a_manager_says_that_somebody_owns_the_field() {
        let conflict = |reason: &str| {
            let details = serde_json::json!({ "causes": [{ "reason": reason, "field": ".spec.model.version" }] });
            let mut status = kube::core::Status::failure("conflict with \"kubectl\": .spec", "Conflict");
            (status.code, status.details) = (409, serde_json::from_value(details).unwrap());
            kube::Error::Api(status.boxed())
        };
        assert!(owned_by_another(&conflict("FieldManagerConflict")));
        assert!(!owned_by_another(&conflict("UidMismatch")) && !owned_by_another(&answer(409)));
        assert_eq!(refused("apply", "a", conflict("FieldManagerConflict")).unwrap().reason, FIELD_OWNED);
    }

    #[test]
    fn an_error_is_told_once_with_its_cause() {
        let error = WriteError::new("create", "Job a", answer(500));
        assert_eq!(chain(&error), "failed to create Job a: exceeded quota: small (Forbidden)");
        assert_eq!(chain(&answer(500)), "exceeded quota: small (Forbidden)");
    }
}
