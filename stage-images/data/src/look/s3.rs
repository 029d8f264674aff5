//! What an S3 server says of an object, or of all objects below a prefix. Of a listing nothing is kept but a digest.

use futures::StreamExt;
use millrace_contract::LookS3;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::files::Fingerprint;
use super::{Fault, Seen, amount, brief};
use crate::ingest::S3Params;
use crate::ingest::s3::{ObjectError, Version, client, explain, is_data};

/// `path` is what stands behind `s3://`.
pub(super) async fn look(uri: &str, path: &str, options: Option<&LookS3>) -> Result<Seen, Fault> {
    let LookS3 { endpoint, region, allow_http, anonymous } = options.cloned().unwrap_or_default();
    let no_address = || {
        let message = "write s3://bucket/key, or s3://bucket/prefix/ for all objects below it";
        Fault::lasting("BadAddress", message)
    };
    let (bucket, key) = path.split_once('/').ok_or_else(no_address)?;
    if bucket.is_empty() {
        return Err(no_address());
    }
    let store = client(bucket, &S3Params { endpoint, region, allow_http, anonymous }).map_err(fault)?;
    let (mut version, mut print) = (Version::default(), Fingerprint::default());
    let mut add = |object: &ObjectMeta| {
        version.add(object.e_tag.as_deref());
        let changed = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or_default();
        print.add(object.location.as_ref().as_bytes(), object.size, changed);
    };
    if key.is_empty() || key.ends_with('/') {
        let mut listing = store.list(Some(&Path::from(key)));
        while let Some(object) = listing.next().await {
            let object = object.map_err(|error| fault(explain(uri, &error)))?;
            if is_data(&object) {
                add(&object);
            }
        }
    } else {
        match store.head(&Path::from(key)).await {
            Ok(object) => add(&object),
            Err(object_store::Error::NotFound { .. }) => {
                // The answer to a question for the head has no words: a listing tells whether there is a bucket.
                let listed = store.list(Some(&Path::from(key))).next().await;
                return match listed.map(|object| object.map_err(|error| explain(uri, &error))) {
                    Some(Err(error @ ObjectError::NoBucket { .. })) => Err(fault(error)),
                    _ => Ok(Seen::nothing()),
                };
            }
            Err(error) => return Err(fault(explain(uri, &error))),
        }
    }
    if print.count == 0 {
        return Ok(Seen::nothing());
    }
    let found = amount(print.count, "object", print.bytes);
    // Without ETags: names, sizes and times.
    Ok(Seen::new(version.finish().unwrap_or_else(|| print.version()), found))
}

fn fault(error: ObjectError) -> Fault {
    match error {
        ObjectError::Refused { name, .. } => {
            let message = format!(
                "{name}: access is refused; name in secretRef a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of an account that may list and read it, or set s3.anonymous for a public bucket"
            );
            Fault::lasting("Refused", message)
        }
        ObjectError::NoBucket { name, .. } => {
            let message = format!("{name}: there is no such bucket; correct the bucket, or s3.endpoint");
            Fault::lasting("NoSuchBucket", message)
        }
        ObjectError::Transfer { name, answer, .. } if answer.contains("169.254.") => {
            let message = format!(
                "{name}: there are no credentials; name in secretRef a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set s3.anonymous for a public bucket"
            );
            Fault::lasting("NoCredentials", message)
        }
        ObjectError::Transfer { name, answer, .. } => {
            let hint = "look at s3.endpoint, s3.region and s3.allowHttp, and at the network";
            Fault::passing("Unreachable", brief(&format!("{name}: {hint}: {answer}")))
        }
        ObjectError::Client { settings, source } => {
            Fault::lasting("BadAddress", brief(&format!("the client cannot be made; set {settings}: {source}")))
        }
        other @ (ObjectError::Address { .. }
        | ObjectError::NotFound { .. }
        | ObjectError::EmptyPrefix { .. }
        | ObjectError::NoAccount { .. }
        | ObjectError::OtherAccount { .. }
        | ObjectError::Write { .. }) => Fault::lasting("BadAddress", brief(&other.to_string())),
    }
}
