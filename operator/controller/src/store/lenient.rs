//! Objects that are read one by one. A list with an object that no program can read (nested too deeply, a number out of
//! range) is still a list of all the others: one tenant's object must not stop the watch of everybody's.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object, or why it cannot be read.
#[derive(Clone, Debug)]
pub struct Lenient<K> {
    meta: ObjectMeta,
    pub object: Result<K, String>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let head: Head = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let object = serde_json::from_str(raw.get()).map_err(|error| error.to_string());
        Ok(Self { meta: head.metadata, object })
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use kube::api::{ObjectList, WatchEvent};
    use millrace_core::api::MLPipelineRun;

    use super::*;

    type Run = Lenient<MLPipelineRun>;

    fn run(name: &str, value: &str) -> String {
        format!(
            r#"{{"apiVersion":"millrace.dev/v1alpha1","kind":"MLPipelineRun","metadata":{{"name":"{name}"}},"spec":{{"params":{{"p":{value}}}}}}}"#
        )
    }

    #[test]
    fn one_that_cannot_be_read_leaves_the_others() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"7"}},"items":[{},{}]}}"#,
            run("good", "1"),
            run("deep", &deep)
        );
        let list: ObjectList<Run> = serde_json::from_str(&text).unwrap();
        assert!(list.items[0].object.is_ok());
        assert_eq!(list.items[1].meta().name.as_deref(), Some("deep"));
        assert!(list.items[1].object.as_ref().unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn an_event_of_one_that_cannot_be_read_is_an_event() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let event = format!(r#"{{"type":"ADDED","object":{}}}"#, run("deep", &deep));
        let event: WatchEvent<Run> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Added(run) if run.object.is_err()));
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"MLPipelineRun","apiVersion":"millrace.dev/v1alpha1","metadata":{"resourceVersion":"9"}}}"#;
        assert!(matches!(serde_json::from_str::<WatchEvent<Run>>(bookmark).unwrap(), WatchEvent::Bookmark(_)));
    }
}
