//! What can be wrong with a bucket, and what the answers of each cloud mean.

use object_store::Error;

use crate::say;

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("parameter source: `{address}` names no object; write {form}key, or {form}prefix/ for all below it")]
    Address { address: String, form: &'static str },
    #[error("the client cannot be made; set {settings}")]
    Client {
        settings: &'static str,
        #[source]
        source: Error,
    },
    #[error(
        "there is no object {name}; correct the bucket or the key, or end it with `/` to take all objects below it"
    )]
    NotFound { name: String },
    #[error("{name}: there is no such bucket; correct it, or {endpoint}")]
    NoBucket { name: String, endpoint: &'static str },
    #[error(
        "{name}: access is refused; give the stage {credentials} of an account that may read it (from a Secret, in `env`), or set {anonymous} for what is public: {answer}"
    )]
    Refused { name: String, credentials: &'static str, anonymous: &'static str, answer: String },
    #[error(
        "failed to fetch {name}; nobody has set {credentials}, and this machine gives no credentials by itself: give the stage some from a Secret, or set {anonymous}: {answer}"
    )]
    Nobody { name: String, credentials: &'static str, anonymous: &'static str, answer: String },
    #[error("failed to fetch {name}; look at {settings}, and at the network: {answer}")]
    Transfer { name: String, settings: &'static str, answer: String },
    #[error(
        "{address}: nobody says whose container it is; set azure.account, or write abfss://container@account.dfs.core.windows.net/key"
    )]
    NoAccount { address: String },
    #[error("parameter azure.account: found {account}, but the address names {named}; leave out one of them")]
    OtherAccount { named: String, account: String },
    #[error("there are no objects below {name}")]
    EmptyPrefix { name: String },
    #[error("failed to write what was fetched from {name}")]
    Write {
        name: String,
        #[source]
        source: std::io::Error,
    },
}

/// What a cloud calls things.
#[derive(Debug)]
pub(super) struct Words {
    /// How an address begins.
    pub form: &'static str,
    /// The variables that say who asks.
    pub credentials: &'static str,
    pub anonymous: &'static str,
    pub endpoint: &'static str,
    /// All that says where its server is.
    pub settings: &'static str,
    /// In an answer: there is no such bucket.
    pub no_bucket: &'static str,
}

impl Words {
    /// What an answer means.
    pub fn explain(&self, name: &str, source: &Error) -> ObjectError {
        let name = name.to_owned();
        let text = say::one_line(source);
        // A server answers with pages of XML: they must not push what to do out of a log's last lines.
        let answer = say::excerpt(&text, 300);
        let Self { credentials, anonymous, endpoint, settings, no_bucket, .. } = *self;
        match source {
            _ if text.contains(no_bucket) => ObjectError::NoBucket { name, endpoint },
            Error::NotFound { .. } => ObjectError::NotFound { name },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                ObjectError::Refused { name, credentials, anonymous, answer }
            }
            _ if text.contains("403 Forbidden") || text.contains("401 Unauthorized") => {
                ObjectError::Refused { name, credentials, anonymous, answer }
            }
            // The address at which machines of a cloud ask who they are.
            _ if text.contains("169.254.") || text.contains("metadata.google.internal") => {
                ObjectError::Nobody { name, credentials, anonymous, answer }
            }
            _ => ObjectError::Transfer { name, settings, answer },
        }
    }
}
