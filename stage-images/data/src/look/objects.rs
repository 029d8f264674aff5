//! What a bucket's server says of an object, or of all objects below a prefix. Of a listing nothing is kept but a digest.

use futures::StreamExt;
use millrace_contract::LookAccess;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::files::Fingerprint;
use super::{Fault, Seen, amount, brief};
use crate::objects::{self, Access, AzureParams, GcsParams, ObjectError, Place, S3Params, Version, is_data};

pub(super) async fn look(uri: &str, asked: &LookAccess) -> Result<Seen, Fault> {
    let Some(place) = objects::open(uri, &access(asked)) else {
        return Err(Fault::lasting("BadAddress", "write s3://bucket/key, or the same with gs:// or az://"));
    };
    let place = place.map_err(fault)?;
    let (mut version, mut print) = (Version::default(), Fingerprint::default());
    let mut add = |object: &ObjectMeta| {
        version.add(object.e_tag.as_deref());
        let changed = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or_default();
        print.add(object.location.as_ref().as_bytes(), object.size, changed);
    };
    let key = Path::from(place.key.as_str());
    if place.key.is_empty() || place.key.ends_with('/') {
        let mut listing = place.store.list(Some(&key));
        while let Some(object) = listing.next().await {
            let object = object.map_err(|error| fault(place.explain(uri, &error)))?;
            if is_data(&object) {
                add(&object);
            }
        }
    } else {
        match place.store.head(&key).await {
            Ok(object) => add(&object),
            Err(object_store::Error::NotFound { .. }) => return not_there(uri, &place).await,
            Err(error) => return Err(fault(place.explain(uri, &error))),
        }
    }
    if print.count == 0 {
        return Ok(Seen::nothing());
    }
    let found = amount(print.count, "object", print.bytes);
    // Without ETags: names, sizes and times.
    Ok(Seen::new(version.finish().unwrap_or_else(|| print.version()), found))
}

/// The answer to a question for the head has no words: a listing tells whether there is a bucket.
async fn not_there(uri: &str, place: &Place) -> Result<Seen, Fault> {
    let listed = place.store.list(Some(&Path::from(place.key.as_str()))).next().await;
    match listed.map(|object| object.map_err(|error| place.explain(uri, &error))) {
        Some(Err(error @ ObjectError::NoBucket { .. })) => Err(fault(error)),
        _ => Ok(Seen::nothing()),
    }
}

/// As each cloud has it. Without TLS only with `http://`.
fn access(asked: &LookAccess) -> Access {
    let LookAccess { endpoint, region, account, anonymous } = asked.clone();
    let anonymous = anonymous.then_some(true);
    let plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    Access {
        s3: S3Params { endpoint: endpoint.clone(), region, allow_http: plain.then_some(true), anonymous },
        gcs: GcsParams { endpoint: endpoint.clone(), anonymous },
        azure: AzureParams { account, endpoint, anonymous },
    }
}

fn fault(error: ObjectError) -> Fault {
    match error {
        ObjectError::Refused { name, credentials, .. } => {
            let message = format!(
                "{name}: access is refused; name in access.secretRef a Secret with {credentials} of an account that may list and read it, or set access.anonymous for what is public"
            );
            Fault::lasting("Refused", message)
        }
        ObjectError::NoBucket { name, .. } => {
            let message = format!("{name}: there is no such bucket; correct the bucket, or access.endpoint");
            Fault::lasting("NoSuchBucket", message)
        }
        ObjectError::Nobody { name, credentials, .. } => {
            let message = format!(
                "{name}: there are no credentials; name in access.secretRef a Secret with {credentials}, or set access.anonymous for what is public"
            );
            Fault::lasting("NoCredentials", message)
        }
        ObjectError::Transfer { name, answer, .. } => {
            let message = format!("{name}: look at access, and at the network: {answer}");
            Fault::passing("Unreachable", brief(&message))
        }
        ObjectError::Client { source, .. } => {
            let message = format!("the client cannot be made; look at access and at its Secret: {source}");
            Fault::lasting("BadAddress", brief(&message))
        }
        ObjectError::NoAccount { address } => {
            let message = format!("{address}: nobody says whose container it is; write access.account");
            Fault::lasting("BadAddress", message)
        }
        ObjectError::Address { form, .. } => {
            let message = format!("write {form}key, or {form}prefix/ for all objects below it");
            Fault::lasting("BadAddress", message)
        }
        other @ (ObjectError::NotFound { .. }
        | ObjectError::EmptyPrefix { .. }
        | ObjectError::OtherAccount { .. }
        | ObjectError::Write { .. }) => Fault::lasting("BadAddress", brief(&other.to_string())),
    }
}
