//! What the routers are told of a graph.

use std::collections::BTreeMap;

use millrace_routes::{Ensemble, Graph, GraphInput, GraphNode as Node, GraphStep, GraphTarget as To};

use super::{BODY_BYTES, TIMEOUT};
use crate::api::{Dependency, EnsembleAnswer, GraphNode, GraphTarget, InferenceGraphSpec, SequenceStep, StepInput};
use crate::duration;

/// `served` is the name of the model that a ModelDeployment serves. Nothing of what [`super::check`] refuses.
pub(crate) fn document(spec: &InferenceGraphSpec, served: impl Fn(&str) -> String) -> Option<Graph> {
    let nodes = spec.nodes.iter().map(|(name, node)| Some((name.clone(), self::node(node, &served)?)));
    Some(Graph {
        root: spec.root()?.to_owned(),
        nodes: nodes.collect::<Option<BTreeMap<_, _>>>()?,
        timeout_ms: millis(spec.timeout.as_deref()).unwrap_or(u64::try_from(TIMEOUT.as_millis()).unwrap_or_default()),
        body_bytes: u64::try_from(spec.max_body_bytes.unwrap_or(BODY_BYTES)).unwrap_or_default(),
    })
}

fn node(node: &GraphNode, served: &impl Fn(&str) -> String) -> Option<Node> {
    let GraphNode { sequence, switch, ensemble, splitter } = node;
    Some(match (sequence, switch, ensemble, splitter) {
        (Some(sequence), None, None, None) => {
            let steps = sequence.steps.iter().enumerate().map(|(i, step)| in_sequence(step, i == 0, served));
            Node::Sequence(steps.collect::<Option<_>>()?)
        }
        (None, Some(switch), None, None) => {
            let steps = switch.steps.iter();
            let steps = steps.map(|of| Some(GraphStep { when: of.when.clone(), ..step(&of.target, served)? }));
            Node::Switch(steps.collect::<Option<_>>()?)
        }
        (None, None, Some(ensemble), None) => {
            let steps = ensemble.steps.iter();
            let steps = steps.map(|of| Some(GraphStep { soft: is_soft(of.dependency), ..step(&of.target, served)? }));
            let tensors = ensemble.answer == Some(EnsembleAnswer::Tensors);
            Node::Ensemble(Ensemble { steps: steps.collect::<Option<_>>()?, tensors })
        }
        (None, None, None, Some(splitter)) => {
            let steps = splitter.steps.iter();
            let weight = |weight: i32| u32::try_from(weight).ok();
            let steps = steps.map(|of| Some(GraphStep { weight: weight(of.weight)?, ..step(&of.target, served)? }));
            Node::Splitter(steps.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn in_sequence(of: &SequenceStep, first: bool, served: &impl Fn(&str) -> String) -> Option<GraphStep> {
    let usual = if first { StepInput::Request } else { StepInput::Answer };
    let input = match of.input.unwrap_or(usual) {
        StepInput::Request => GraphInput::Request,
        StepInput::Answer => GraphInput::Answer,
        StepInput::Both => GraphInput::Both,
    };
    Some(GraphStep {
        when: of.when.clone(),
        input,
        rename: of.rename.clone(),
        soft: is_soft(of.dependency),
        ..step(&of.target, served)?
    })
}

fn step(target: &GraphTarget, served: &impl Fn(&str) -> String) -> Option<GraphStep> {
    let GraphTarget { name, model, node, path, timeout } = target;
    let to = match (model, node) {
        (Some(model), None) => To::Model {
            name: model.clone(),
            path: path.clone().unwrap_or_else(|| format!("/v2/models/{}/infer", served(model))),
        },
        (None, Some(node)) => To::Node(node.clone()),
        _ => return None,
    };
    Some(GraphStep {
        name: name.clone(),
        to,
        when: None,
        input: GraphInput::Request,
        rename: BTreeMap::new(),
        soft: false,
        weight: 0,
        timeout_ms: millis(timeout.as_deref()),
    })
}

fn is_soft(dependency: Option<Dependency>) -> bool {
    dependency == Some(Dependency::Soft)
}

fn millis(text: Option<&str>) -> Option<u64> {
    u64::try_from(duration::parse(text?)?.as_millis()).ok()
}
