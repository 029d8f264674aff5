//! From an AdmissionReview to its answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millrace_core::admission::{self, Known, Verdict};
use millrace_core::api::{
    GROUP, InferenceGraph, MLPipelineRunSpec, MLPipelineSpec, ModelDeployment, StageTemplateSpec,
};
use millrace_core::config::Config;
use millrace_core::problem::{self, Problem};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::{Feeds, Stores};

/// What is read of a review holds no more values than this: a list of a million numbers is small as text and large in memory.
const MOST_VALUES: usize = 400_000;
/// An apiserver cuts a warning that is longer, and all of them at 4 KiB.
const LONGEST_WARNING: usize = 240;
const MOST_WARNINGS: usize = 8;

/// Judges objects by what the watches have brought.
pub struct Reviewer {
    stores: Arc<Stores>,
    feeds: Arc<Feeds>,
    config: Config,
}

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    kind: GroupKind,
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct GroupKind {
    group: String,
    kind: String,
}

/// An object, read no further than is needed to see whether its spec changes.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(borrow)]
    spec: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Serialize)]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Reviewer {
    pub fn new(stores: Arc<Stores>, feeds: Arc<Feeds>, config: Config) -> Self {
        Self { stores, feeds, config }
    }

    /// The answer as JSON; none if it is no review.
    pub fn answer(&self, review: &[u8]) -> Option<Vec<u8>> {
        if values(review) > MOST_VALUES {
            return None;
        }
        let Review { request } = serde_json::from_slice(review).ok()?;
        // Of what cannot be read as its kind the apiserver's schema has the word.
        let Verdict { problems, warnings } = self.judge(&request).unwrap_or_default();
        let refused = !problems.is_empty();
        let status = refused.then(|| Status { code: 422, reason: "Invalid", message: problem::every(&problems) });
        let response = Response { uid: request.uid, allowed: !refused, status, warnings: said(&warnings) };
        let answer = Answer { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response };
        serde_json::to_vec(&answer).ok()
    }

    fn judge(&self, request: &Request<'_>) -> Option<Verdict> {
        let object = request.object.filter(|_| request.kind.group == GROUP)?;
        let new: Whole<'_> = serde_json::from_str(object.get()).ok()?;
        let old: Option<Whole<'_>> = request.old_object.and_then(|old| serde_json::from_str(old.get()).ok());
        // What is there already is left alone: its labels and finalizers change.
        if new.metadata.deletion_timestamp.is_some() || old.is_some_and(|old| old.spec.get() == new.spec.get()) {
            return None;
        }
        let known = self.feeds.ready().then(|| self.known(&request.namespace));
        let mut verdict = self.verdict(request, object, known.as_ref())?;
        // What was checked less strictly once is not held up by the fault that it had already: it may be somebody else's, or what is mended first.
        let before = request.old_object.and_then(|old| self.verdict(request, old, known.as_ref())).unwrap_or_default();
        let (had, new): (Vec<_>, Vec<_>) =
            verdict.problems.into_iter().partition(|problem| before.problems.contains(problem));
        verdict.problems = new;
        verdict.warnings.extend(had);
        Some(verdict)
    }

    fn verdict(&self, request: &Request<'_>, object: &RawValue, known: Option<&Known>) -> Option<Verdict> {
        let new: Whole<'_> = serde_json::from_str(object.get()).ok()?;
        let (config, spec) = (&self.config, new.spec.get());
        Some(match request.kind.kind.as_str() {
            "MLPipeline" => {
                let name = new.metadata.name.unwrap_or_default();
                admission::pipeline(&name, &serde_json::from_str::<MLPipelineSpec>(spec).ok()?, known, config)
            }
            "MLPipelineRun" => {
                let spec: MLPipelineRunSpec = serde_json::from_str(spec).ok()?;
                let made = request.operation == "CREATE";
                if made { admission::run(&spec, known, config) } else { admission::control(&spec, known, config) }
            }
            "StageTemplate" => admission::template(&serde_json::from_str::<StageTemplateSpec>(spec).ok()?, config),
            "ModelDeployment" => {
                let deployment: ModelDeployment = serde_json::from_str(object.get()).ok()?;
                admission::model_deployment(&deployment, config)
            }
            "InferenceGraph" => {
                let graph: InferenceGraph = serde_json::from_str(object.get()).ok()?;
                admission::inference_graph(&graph)
            }
            _ => return None,
        })
    }

    fn known(&self, namespace: &str) -> Known {
        Known {
            templates: self.stores.templates_for(namespace, &self.config.catalog_namespace),
            pipelines: self.stores.pipelines.group(namespace).into_iter().collect::<BTreeMap<_, _>>(),
        }
    }
}

/// No fewer values than a text of JSON has.
fn values(text: &[u8]) -> usize {
    text.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count()
}

/// Each in one line, as a header of HTTP takes it.
fn said(warnings: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let text: String = problem.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        problem::head(&text, LONGEST_WARNING)
    };
    let mut said: Vec<String> = warnings.iter().take(MOST_WARNINGS).map(line).collect();
    if warnings.len() > MOST_WARNINGS {
        said.push(format!("and {} more: see the condition Accepted", warnings.len() - MOST_WARNINGS));
    }
    said
}
