//! Events on the object that they are about. They are for people: one that cannot be made is logged and forgotten.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use millrace_core::clip::clip;
use millrace_core::plan::Event;

use super::Writer;
use super::create::post;
use super::error::chain;
use crate::metrics::Verb;

/// The apiserver refuses longer notes: this many bytes.
const LONGEST_NOTE: usize = 1024;

impl Writer {
    pub(super) async fn emit<K: Resource<DynamicType = ()>>(&self, object: &K, event: Event) {
        let namespace = object.namespace().unwrap_or_default();
        let Event { warning, reason, message } = event;
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let body = KubeEvent {
            metadata: ObjectMeta {
                name: Some(format!("{}.{nanos:x}", object.name_any())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(clip(&message, LONGEST_NOTE)),
            reason: Some(reason.to_owned()),
            regarding: Some(object.object_ref(&())),
            reporting_controller: Some("millrace.dev/controller".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
            ..KubeEvent::default()
        };
        self.metrics.wrote(Verb::Event);
        if let Err(error) = self.api::<KubeEvent>(&namespace).create(&post(), &body).await {
            tracing::warn!(kind = %K::kind(&()), object = %object.name_any(), reason, error = %chain(&error), "event lost");
        }
    }
}
