//! The spec of the `HTTPRoute`, from the spec and the status of a ModelDeployment.

use kube_core::ResourceExt;
use serde_json::{Map, Value, json};

use super::{asked, provider};
use crate::api::{GatewayRef, ModelDeployment, Provider, RevisionStatus};
use crate::deployment::SERVER_PORT;
use crate::deployment::objects::ADDRESS_PORT;
use crate::routing::header_rules;

/// A share of requests is written in parts of this.
const PARTS: f64 = 10_000.0;

/// What it is to be. Nothing where no route is asked for, and where a Gateway would have nobody to send requests to.
pub(super) fn spec(owner: &ModelDeployment) -> Option<Map<String, Value>> {
    let asked = asked(owner)?;
    let path = json!({ "type": "PathPrefix", "value": asked.path.as_deref().unwrap_or("/") });
    let rules = match provider(owner) {
        Provider::Router => {
            let backend = json!({ "name": owner.name_any(), "port": ADDRESS_PORT });
            vec![json!({ "matches": [{ "path": path }], "backendRefs": [backend] })]
        }
        Provider::GatewayAPI => split(owner, &path)?,
    };
    let mut spec = Map::new();
    spec.insert("parentRefs".to_owned(), asked.parent_refs.iter().map(parent).collect());
    if !asked.hostnames.is_empty() {
        spec.insert("hostnames".to_owned(), json!(asked.hostnames));
    }
    spec.insert("rules".to_owned(), Value::Array(rules));
    Some(spec)
}

fn parent(parent: &GatewayRef) -> Value {
    let GatewayRef { name, namespace, section_name } = parent;
    let mut written = json!({ "name": name });
    for (key, value) in [("namespace", namespace), ("sectionName", section_name)] {
        if let Some(value) = value {
            written[key] = json!(value);
        }
    }
    written
}

/// The rules of headers in the order of their names, then the shares. Every match has one header and the same path, so the order decides
/// between them, and a header goes before none.
fn split(owner: &ModelDeployment, path: &Value) -> Option<Vec<Value>> {
    let revisions = &owner.status.as_ref()?.revisions;
    let shares: Vec<Value> = revisions.iter().filter(|revision| revision.weight > 0).map(share).collect();
    if shares.is_empty() {
        return None;
    }
    let shadow = revisions.iter().find(|revision| revision.sample.is_some_and(|sample| sample > 0.0));
    let mut rules: Vec<Value> = Vec::new();
    for rule in header_rules(owner) {
        let header = json!({ "type": "Exact", "name": rule.header, "value": rule.value });
        let copied = shadow.filter(|shadow| shadow.name != rule.revision);
        rules.push(ruled(
            &json!({ "path": path, "headers": [header] }),
            &json!([{ "name": rule.revision, "port": SERVER_PORT, "weight": 1 }]),
            copied,
        ));
    }
    rules.push(ruled(&json!({ "path": path }), &Value::Array(shares), shadow));
    Some(rules)
}

fn share(revision: &RevisionStatus) -> Value {
    json!({ "name": revision.name, "port": SERVER_PORT, "weight": revision.weight })
}

fn ruled(matched: &Value, backends: &Value, shadow: Option<&RevisionStatus>) -> Value {
    let mut rule = json!({ "matches": [matched], "backendRefs": backends });
    if let Some(shadow) = shadow {
        rule["filters"] = json!([{ "type": "RequestMirror", "requestMirror": mirror(shadow) }]);
    }
    rule
}

fn mirror(shadow: &RevisionStatus) -> Value {
    let mut mirror = json!({ "backendRef": { "name": shadow.name, "port": SERVER_PORT } });
    let sample = shadow.sample.unwrap_or(1.0);
    if sample < 1.0 {
        #[allow(clippy::cast_possible_truncation, reason = "a share of 10,000")]
        let parts = (sample * PARTS).round().max(1.0) as i64;
        mirror["fraction"] = json!({ "numerator": parts, "denominator": 10_000 });
    }
    mirror
}
