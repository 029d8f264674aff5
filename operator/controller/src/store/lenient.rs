//! Objects that are read one by one. A list with an object that no program can read (nested too deeply, a number out of
//! range) is still a list of all the others: one tenant's object must not stop the watch of everybody's.

use std::borrow::Cow;
use std::collections::BTreeMap;

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
    metadata: Meta,
}

/// What is asked of an object before it is read.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let Head { metadata } = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let Meta { name, namespace, resource_version } = metadata;
        let object = without_managed_fields(raw.get()).and_then(|text| serde_json::from_str(&text));
        let object = object.map_err(|error| error.to_string());
        Ok(Self { meta: ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() }, object })
    }
}

/// An object's text without who wrote which field, at which nobody looks. As a tree this would be most of a run with many stages.
fn without_managed_fields(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;
    let mut object: Fields<'_> = serde_json::from_str(text)?;
    let Some(metadata) = object.get("metadata") else { return Ok(Cow::Borrowed(text)) };
    let mut metadata: Fields<'_> = serde_json::from_str(metadata.get())?;
    if metadata.remove("managedFields").is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let metadata = serde_json::value::to_raw_value(&metadata)?;
    object.insert(Cow::Borrowed("metadata"), &metadata);
    serde_json::to_string(&object).map(Cow::Owned)
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
    fn who_wrote_which_field_is_left_out_and_the_rest_is_as_it_was() {
        let fields = r#""managedFields":[{"manager":"m","operation":"Apply","fieldsV1":{"f:spec":{}}}],"#;
        let with = run("r", "1").replace(r#""name":"#, &format!("{fields}\"uid\":\"u\",\"na\\u006de\":"));
        let read = serde_json::from_str::<Run>(&with).unwrap().object.unwrap();
        assert_eq!((read.metadata.name.as_deref(), read.metadata.uid.as_deref()), (Some("r"), Some("u")));
        assert_eq!((read.metadata.managed_fields, read.spec.params["p"].clone()), (None, serde_json::json!(1)));
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
