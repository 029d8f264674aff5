//! `InferenceGraph`: served models behind one address, one after the other, side by side or by choice.

use std::collections::{BTreeMap, BTreeSet};

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Address, Condition, Security, schema};

/// Several ModelDeployments of the namespace that answer a request together. A request begins at the root node; a node is a sequence, a
/// switch, an ensemble or a splitter, and each of its steps is a model or another node. A model is asked as by any other caller of its
/// address: its weights, its queue, its start from zero and its limits hold.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "InferenceGraph",
    plural = "inferencegraphs",
    shortname = "mlg",
    category = "millrace",
    namespaced,
    status = "InferenceGraphStatus",
    derive = "Default",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = r#".status.conditions[?(@.type=="Ready")].lastTransitionTime"#
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Models", type_ = "string", json_path = ".status.modelsReady"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.root) || self.nodes.size() == 1", "message": "root is needed where there are several nodes: write the name of the one that a request begins at" },
    { "rule": "!has(self.root) || self.root in self.nodes", "message": "root is none of nodes: write the name of one of them" },
    { "rule": "!has(self.security) || !has(self.security.maxBodyBytes)", "message": "security.maxBodyBytes is of a model: write maxBodyBytes of the graph, which holds for answers too" }
]))]
pub struct InferenceGraphSpec {
    /// The node that a request begins at. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub root: Option<String>,
    /// Nodes by name. They must not lead back to each other, lie no more than 8 deep, and ask models no more than 64 times for a request.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub nodes: BTreeMap<String, GraphNode>,
    /// From a request's arrival until its answer begins: one that takes longer is answered 504. 10ms to 30m, default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
    /// Bytes of a request, and of each answer that a later step or an ensemble takes: a longer request is answered 413, a longer
    /// answer is a step that failed. The answer of the last step passes through, however long it is. Default 4194304.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 33_554_432))]
    pub max_body_bytes: Option<i64>,
    /// Who may ask the graph, as for a model. Where one of its models asks for `tls` or `auth`, the graph must too: it is no way past them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // In a box, as a ModelDeployment's is.
    pub security: Option<Box<Security>>,
}

/// Exactly one of the four.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "[has(self.sequence), has(self.switch), has(self.ensemble), has(self.splitter)].filter(x, x).size() == 1", "message": "a node is exactly one of sequence, switch, ensemble and splitter" }
]))]
pub struct GraphNode {
    /// One step after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<GraphSequence>,
    /// The first step whose condition holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<GraphSwitch>,
    /// All steps at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<GraphEnsemble>,
    /// One step, drawn by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splitter: Option<GraphSplitter>,
}

/// Its answer is that of the last step that was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphSequence {
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<SequenceStep>,
}

/// Its answer is that of the step that was taken. A request for which no condition holds is answered 422.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.steps.filter(s, !has(s.when)).size() <= 1 && (self.steps.all(s, has(s.when)) || !has(self.steps[self.steps.size() - 1].when))", "message": "what stands behind a step without when is never taken: put the one step without when last" }
]))]
pub struct GraphSwitch {
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<SwitchStep>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphEnsemble {
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<EnsembleStep>,
    /// What its answer looks like. Default `ByStep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<EnsembleAnswer>,
}

/// `ByStep`: a JSON object of the steps' answers, by the names of the steps. `Tensors`: one answer of the Open Inference Protocol with the
/// outputs of all steps, each named `STEP.OUTPUT`, which a later step can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EnsembleAnswer {
    /// A JSON object of the steps' answers, by the names of the steps.
    #[default]
    ByStep,
    /// One answer of the Open Inference Protocol with the outputs of all steps, each named `STEP.OUTPUT`.
    Tensors,
}

/// Its answer is that of the step that was drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.steps.map(s, s.weight).sum() == 100", "message": "the weights of a splitter are percent: they must add up to 100" }
]))]
pub struct GraphSplitter {
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<SplitterStep>,
}

/// Who is asked: exactly one of `model` and `node`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphTarget {
    /// Unique within its node. It is in the header `x-millrace-graph-step` of an error, in metrics and in the answer of an ensemble.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A ModelDeployment of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub model: Option<String>,
    /// A node of this graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub node: Option<String>,
    /// Where the model is asked. Default: `/v2/models/MODEL/infer`, where MODEL is the ModelDeployment's `spec.model.name`,
    /// or with `spec.model.uri` what the ModelDeployment is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!$-;=?-_a-~]*$"))]
    pub path: Option<String>,
    /// A step whose answer has not begun by then has failed with 504. 10ms to 30m. Default: what is left of the graph's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    pub timeout: Option<String>,
}

/// What is said of every step.
fn target_rules() -> Value {
    json!([
        { "rule": "has(self.model) != has(self.node)", "message": "a step asks exactly one of model and node" },
        { "rule": "!has(self.path) || has(self.model)", "message": "path is of a model: leave it out beside node" }
    ])
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = target_rules()))]
pub struct SequenceStep {
    #[serde(flatten)]
    pub target: GraphTarget,
    /// The step is left out unless this expression of CEL is true: of `request`, the JSON that the node was given, `answer`, that of the step
    /// before, and `headers`. The first step has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// What the step is given. Default: `Answer`, and `Request` for the first step, which takes nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<StepInput>,
    /// Inputs of the step by the names of tensors that it is given: `{probabilities: scores}` gives it what was called `probabilities` as
    /// `scores`. Only for bodies of the Open Inference Protocol. Names have at most 256 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = { "type": "string", "minLength": 1, "maxLength": 256 }))]
    pub rename: BTreeMap<String, String>,
    /// What its failure means. Default `Hard`. The first step is `Hard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<Dependency>,
}

/// `Request`: what the node was given, as it is. `Answer`: the answer of the step before, and if that is one of the Open Inference Protocol,
/// its outputs as inputs. `Both`: the inputs of what the node was given and, behind them, the outputs of the step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepInput {
    /// What the node was given.
    Request,
    /// The answer of the step before.
    Answer,
    /// The inputs of what the node was given, and the outputs of the step before.
    Both,
}

/// `Hard`: a step that fails ends the request with its status. `Soft`: it is left out, and the header `x-millrace-graph-left-out` of the
/// answer names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Dependency {
    /// Its failure is that of the graph.
    #[default]
    Hard,
    /// It is left out.
    Soft,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = target_rules()))]
pub struct SwitchStep {
    #[serde(flatten)]
    pub target: GraphTarget,
    /// An expression of CEL that is true or false: of `request`, the JSON that the node was given, and `headers`. Only the last step may
    /// have none, and is taken when no other is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = target_rules()))]
pub struct EnsembleStep {
    #[serde(flatten)]
    pub target: GraphTarget,
    /// What its failure means. Default `Hard`. Where all steps fail, the graph fails as the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<Dependency>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = target_rules()))]
pub struct SplitterStep {
    #[serde(flatten)]
    pub target: GraphTarget,
    /// Percent of the requests.
    #[schemars(range(min = 0, max = 100))]
    pub weight: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceGraphStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, and kstatus's `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// Its port on the routers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_port: Option<i32>,
    /// How many of its models can be asked, as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models_ready: Option<String>,
    /// Its models, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub models: Vec<GraphModelStatus>,
}

/// A model of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphModelStatus {
    /// Of the ModelDeployment.
    pub name: String,
    pub ready: bool,
    /// The reason of its `Ready`, or `NotFound`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl GraphNode {
    /// What it is called in a spec, and every step with its place in it.
    #[must_use]
    pub fn targets(&self) -> Vec<(&'static str, &GraphTarget)> {
        let Self { sequence, switch, ensemble, splitter } = self;
        let sequence = sequence.iter().flat_map(|node| &node.steps).map(|step| ("sequence", &step.target));
        let switch = switch.iter().flat_map(|node| &node.steps).map(|step| ("switch", &step.target));
        let ensemble = ensemble.iter().flat_map(|node| &node.steps).map(|step| ("ensemble", &step.target));
        let splitter = splitter.iter().flat_map(|node| &node.steps).map(|step| ("splitter", &step.target));
        sequence.chain(switch).chain(ensemble).chain(splitter).collect()
    }
}

impl InferenceGraphSpec {
    /// The node that a request begins at; nothing where none is named and there are several.
    #[must_use]
    pub fn root(&self) -> Option<&str> {
        let only = || self.nodes.keys().next().filter(|_| self.nodes.len() == 1).map(String::as_str);
        self.root.as_deref().or_else(only)
    }

    /// The ModelDeployments that its steps name.
    pub fn models(&self) -> BTreeSet<&str> {
        self.nodes.values().flat_map(GraphNode::targets).filter_map(|(_, target)| target.model.as_deref()).collect()
    }
}
