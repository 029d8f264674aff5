//! The one status write of a pass.

use kube::ResourceExt;
use serde_json::json;

use super::create::post;
use super::error::{WriteError, code};
use super::{Planned, Writer};
use crate::key::Id;
use crate::metrics::Verb;
use crate::store::{News, keep, whole};

impl Writer {
    /// Writes the status that was decided from this state of the object. False if the object has changed since: then
    /// the decision is void.
    pub(super) async fn write_status<K: Planned>(&self, object: &K, status: &K::Status) -> Result<bool, WriteError> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let text = format!("the status of {} {name}", K::kind(&()));
        // A write to the status subresource takes nothing but the status: the spec need not travel.
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name, "namespace": namespace, "uid": object.uid(), "resourceVersion": object.resource_version() },
            "status": status,
        });
        self.metrics.wrote(Verb::Status);
        match self.api::<K>(&namespace).replace_subresource("status", &name, &post(), &body).await {
            Ok(written) => {
                written.note(&self.stores, &self.queues);
                if let Some(News { id, value: written, .. }) = keep(K::shelf(&self.stores), written, whole) {
                    K::wake_others(&self.stores, &self.queues, &id, &written);
                } else if K::shelf(&self.stores).get(&Id::new(namespace, name)).is_none() {
                    // It was deleted before the reply came.
                    object.forget(&self.stores, &self.queues);
                }
                Ok(true)
            }
            Err(error) if code(&error) == Some(404) => {
                // Its deletion may have come before the reply to the write that put it here.
                K::shelf(&self.stores).remove(&Id::new(namespace, name), u64::MAX);
                Ok(false)
            }
            Err(error) if code(&error) == Some(409) => Ok(false),
            Err(error) => Err(WriteError::new("write", &text, error)),
        }
    }
}
