//! A graph of models: what a router asks of which model, in which order, for one request. A router takes only what has an end: nodes do not
//! lead back to each other.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::check::{Problem, ensure};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Graph {
    /// The node that a request begins at.
    pub root: String,
    pub nodes: BTreeMap<String, GraphNode>,
    /// From the arrival of a request until its answer begins.
    pub timeout_ms: u64,
    /// Bytes of a request, and of an answer that a later step or an ensemble takes.
    pub body_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum GraphNode {
    Sequence(Vec<GraphStep>),
    /// The first step whose condition holds, or that has none.
    Switch(Vec<GraphStep>),
    Ensemble(Ensemble),
    /// By weight.
    Splitter(Vec<GraphStep>),
}

/// Steps that are asked at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ensemble {
    pub steps: Vec<GraphStep>,
    /// One answer with the outputs of all of them; else an object of their answers.
    #[serde(default)]
    pub tensors: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GraphStep {
    pub name: String,
    pub to: GraphTarget,
    /// An expression of CEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(default)]
    pub input: GraphInput,
    /// Inputs by the names of the tensors that they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// It may fail.
    #[serde(default)]
    pub soft: bool,
    #[serde(default)]
    pub weight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum GraphTarget {
    /// A model of the routes, there. One that is not in the routes is a step that fails.
    Model {
        name: String,
        path: String,
    },
    Node(String),
}

/// What a step is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GraphInput {
    /// What the node was given.
    #[default]
    Request,
    /// The answer of the step before.
    Answer,
    Both,
}

impl GraphNode {
    #[must_use]
    pub fn steps(&self) -> &[GraphStep] {
        match self {
            Self::Sequence(steps)
            | Self::Switch(steps)
            | Self::Splitter(steps)
            | Self::Ensemble(Ensemble { steps, tensors: _ }) => steps,
        }
    }
}

/// Depth, and questions to models.
type Reach = Option<(usize, u64)>;

impl Graph {
    /// Nodes, at most.
    pub const MOST_NODES: usize = 32;
    /// Nodes below each other, at most.
    pub const DEEPEST: usize = 8;
    /// Questions to models for one request, at most.
    pub const MOST_ASKED: u64 = 64;
    /// Bytes of a body, at most.
    pub const LONGEST_BODY: u64 = 32 << 20;

    /// How deep a node is, and how many questions to models it takes at most. Nothing if it leads back to itself, or too deep, or asks too
    /// often.
    #[must_use]
    pub fn reach(&self, node: &str) -> Option<(usize, u64)> {
        self.below(node, &mut BTreeMap::new())
    }

    fn below<'a>(&'a self, name: &'a str, known: &mut BTreeMap<&'a str, Reach>) -> Reach {
        if let Some(found) = known.get(name) {
            return *found;
        }
        // Who comes here again before it is known has come in a circle.
        known.insert(name, None);
        let found = self.look(self.nodes.get(name)?, known);
        known.insert(name, found);
        found
    }

    fn look<'a>(&'a self, node: &'a GraphNode, known: &mut BTreeMap<&'a str, Reach>) -> Reach {
        let (mut deepest, mut sum, mut most) = (0, 0, 0);
        for step in node.steps() {
            let (depth, asked) = match &step.to {
                GraphTarget::Model { .. } => (0, 1),
                GraphTarget::Node(next) => self.below(next, known)?,
            };
            (deepest, sum, most) = (deepest.max(depth), sum + asked, most.max(asked));
        }
        let asked = match node {
            GraphNode::Sequence(_) | GraphNode::Ensemble(_) => sum,
            GraphNode::Switch(_) | GraphNode::Splitter(_) => most,
        };
        (deepest < Self::DEEPEST && asked <= Self::MOST_ASKED).then_some((deepest + 1, asked))
    }

    pub(crate) fn check(&self, at: &dyn Fn(&str) -> String) -> Result<(), Problem> {
        let Self { root, nodes, timeout_ms, body_bytes } = self;
        ensure(nodes.contains_key(root), || at("root"), "is none of nodes")?;
        ensure(nodes.len() <= Self::MOST_NODES, || at("nodes"), "must not be more than 32")?;
        ensure(*timeout_ms > 0, || at("timeoutMs"), "must not be 0")?;
        let bounded = (1..=Self::LONGEST_BODY).contains(body_bytes);
        ensure(bounded, || at("bodyBytes"), "must be from 1 to 33554432")?;
        for (name, node) in nodes {
            let at = |field: &str| at(&format!("nodes[{name}].{field}"));
            let mut names = BTreeSet::new();
            ensure(!node.steps().is_empty(), || at("steps"), "must not be empty")?;
            for (i, step) in node.steps().iter().enumerate() {
                let at = |field: &str| at(&format!("steps[{}].{field}", step.name));
                ensure(names.insert(&step.name), || at("name"), "is there twice")?;
                ensure(step.timeout_ms != Some(0), || at("timeoutMs"), "must not be 0")?;
                let first = i > 0 || step.input == GraphInput::Request;
                ensure(first, || at("input"), "must be Request: no step is before it")?;
                match &step.to {
                    GraphTarget::Model { path, .. } => {
                        let plain = path.starts_with('/') && path.bytes().all(|b| (b'!'..=b'~').contains(&b));
                        ensure(
                            plain,
                            || at("path"),
                            "must begin with / and have neither spaces nor control characters",
                        )?;
                    }
                    GraphTarget::Node(next) => ensure(nodes.contains_key(next), || at("node"), "is none of nodes")?,
                }
            }
            if let GraphNode::Splitter(steps) = node {
                ensure(steps.iter().any(|step| step.weight > 0), || at("steps"), "must have a weight above 0")?;
            }
            let ends = self.reach(name).is_some();
            ensure(ends, || at("steps"), "lead back to the node, too deep, or to too many questions")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Routes, RoutesError};

    const GOOD: &str = r#"{"models": [{"name": "g", "port": 9001, "revisions": [], "graph": {
        "root": "main", "timeoutMs": 1000, "bodyBytes": 1024, "nodes": {
            "main": {"sequence": [
                {"name": "a", "to": {"model": {"name": "a", "path": "/v2/models/a/infer"}}},
                {"name": "b", "to": {"node": "pick"}, "input": "Answer", "when": "answer.x > 1", "soft": true, "rename": {"p": "q"}}]},
            "pick": {"switch": [{"name": "c", "to": {"node": "all"}}]},
            "all": {"ensemble": {"steps": [{"name": "d", "to": {"model": {"name": "d", "path": "/"}}}], "tensors": true}},
            "split": {"splitter": [{"name": "e", "to": {"node": "all"}, "weight": 100, "timeoutMs": 5}]}
        }}}]}"#;

    #[test]
    fn a_full_graph_is_read_and_written_alike() {
        let routes = Routes::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(Routes::parse(&serde_json::to_vec(&routes).unwrap()).unwrap(), routes);
        let graph = routes.models[0].graph.as_ref().unwrap();
        assert_eq!(
            (graph.reach("main"), graph.reach("split"), graph.reach("none")),
            (Some((3, 2)), Some((2, 1)), None)
        );
    }

    #[test]
    fn what_has_no_end_or_makes_no_sense_is_named() {
        for (from, to, expected) in [
            (r#""root": "main""#, r#""root": "other""#, "root: is none of nodes"),
            (r#""timeoutMs": 1000"#, r#""timeoutMs": 0"#, "timeoutMs: must not be 0"),
            (r#""bodyBytes": 1024"#, r#""bodyBytes": 33554433"#, "bodyBytes: must be from 1"),
            (r#"{"node": "pick"}"#, r#"{"node": "gone"}"#, "nodes[main].steps[b].node: is none of nodes"),
            (r#"{"node": "pick"}"#, r#"{"node": "main"}"#, "nodes[main].steps: lead back"),
            (r#""name": "b""#, r#""name": "a""#, "nodes[main].steps[a].name: is there twice"),
            (r#""path": "/""#, r#""path": "x y""#, "nodes[all].steps[d].path: must begin with /"),
            (r#""weight": 100"#, r#""weight": 0"#, "nodes[split].steps: must have a weight"),
            (
                r#""name": "c", "to""#,
                r#""name": "c", "input": "Both", "to""#,
                "nodes[pick].steps[c].input: must be Request",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let Err(RoutesError::Wrong(problem)) = Routes::parse(GOOD.replacen(from, to, 1).as_bytes()) else {
                panic!("{to} was taken");
            };
            assert!(problem.to_string().starts_with(&format!("models[g].graph.{expected}")), "{problem}");
        }
    }

    #[test]
    fn a_graph_that_would_ask_very_often_is_refused_in_little_time() {
        for kind in ["sequence", "switch"] {
            assert_eq!(wide(kind).is_ok(), kind == "switch", "{kind}");
        }
    }

    /// Eight nodes, each with sixteen steps to the next one.
    fn wide(kind: &str) -> Result<Routes, RoutesError> {
        let steps = |next: &str| {
            let step = |i: usize| format!(r#"{{"name": "s{i}", "to": {next}}}"#);
            format!("[{}]", (0..16).map(step).collect::<Vec<_>>().join(","))
        };
        let node = |i: usize| format!(r#""n{i}": {{"{kind}": {}}}"#, steps(&format!(r#"{{"node": "n{}"}}"#, i + 1)));
        let last = format!(r#""n7": {{"{kind}": {}}}"#, steps(r#"{"model": {"name": "m", "path": "/"}}"#));
        let nodes: Vec<String> = (0..7).map(node).chain([last]).collect();
        let text = format!(
            r#"{{"models": [{{"name": "g", "port": 9001, "revisions": [], "graph": {{"root": "n0", "timeoutMs": 1, "bodyBytes": 1, "nodes": {{{}}}}}}}]}}"#,
            nodes.join(",")
        );
        Routes::parse(text.as_bytes())
    }
}
