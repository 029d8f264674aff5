//! What no schema can see of a graph, and, where the schema can, the same again: the routers would take none of the routes of the namespace
//! if something came past it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_routes::Graph;

use super::document;
use crate::api::{Dependency, GraphNode, GraphTarget, InferenceGraph, InferenceGraphSpec, SequenceStep, StepInput};
use crate::expr::{self, Names, Type};
use crate::names;
use crate::problem::{self, Problem};
use crate::routing::check_security;
use crate::{duration, expr::did_you_mean};

/// What a time may be.
const TIMES: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(30);

/// Bytes of what routers are told of it: all routes of a namespace are one ConfigMap, which holds a mebibyte.
const MOST_TOLD: usize = 64 << 10;
/// What `maxBodyBytes` may be.
const BODIES: std::ops::RangeInclusive<i64> = 1..=32 << 20;
/// Characters of a path.
const LONGEST_PATH: usize = 1024;
/// Tensors that a step renames, and characters of their names.
const RENAMED: (usize, usize) = (64, 256);

/// Everything that is wrong with it in itself.
#[must_use]
pub fn check(graph: &InferenceGraph) -> Vec<Problem> {
    let mut problems = Vec::new();
    let name = graph.metadata.name.as_deref().unwrap_or_default();
    if !names::is_label(name) {
        let message = format!(
            "\"{name}\" cannot be the name of a Service: write at most 63 of a-z, 0-9 and '-', beginning with a letter and ending with a letter or digit"
        );
        problems.push(Problem::new("metadata.name", "InvalidName", message));
    }
    let spec = &graph.spec;
    time("spec.timeout", spec.timeout.as_deref(), &mut problems);
    if let Some(bytes) = spec.max_body_bytes.filter(|bytes| !BODIES.contains(bytes)) {
        let message = format!("{bytes} is not from {} to {}: write a number of bytes", BODIES.start(), BODIES.end());
        problems.push(Problem::new("spec.maxBodyBytes", "InvalidSize", message));
    }
    problems.extend(check_security(spec.security.as_deref()));
    for (name, node) in &spec.nodes {
        self::node(spec, name, node, &mut problems);
    }
    problems.extend(root(spec));
    if problems.is_empty() {
        problems.extend(circle(spec).or_else(|| reach(spec)));
    }
    problems
}

/// The root, and what it does not lead to.
fn root(spec: &InferenceGraphSpec) -> Vec<Problem> {
    let known = || spec.nodes.keys().map(String::as_str);
    let Some(root) = spec.root() else {
        let message = format!("it is not said where a request begins: write one of {}", expr::list(known()));
        return vec![Problem::new("spec.root", "NoRoot", message)];
    };
    if !spec.nodes.contains_key(root) {
        let message = format!("`{root}` is none of nodes: {}", did_you_mean(root, known()));
        return vec![Problem::new("spec.root", "UnknownNode", message)];
    }
    let (mut reached, mut next) = (BTreeSet::from([root]), vec![root]);
    while let Some(node) = next.pop().and_then(|name| spec.nodes.get(name)) {
        let below = node.targets().into_iter().filter_map(|(_, target)| target.node.as_deref());
        next.extend(below.filter(|name| reached.insert(*name)));
    }
    let lost = known().filter(|name| !reached.contains(name));
    lost.map(|name| {
        let message = format!("nothing leads to it from `{root}`: name it in a step, or take it out");
        Problem::new(format!("spec.nodes.{name}"), "UnusedNode", message)
    })
    .collect()
}

fn node(spec: &InferenceGraphSpec, name: &str, node: &GraphNode, problems: &mut Vec<Problem>) {
    let at = format!("spec.nodes.{name}");
    if !names::is_label(name) {
        let message = format!("\"{name}\" is no name: write at most 63 of a-z, 0-9 and '-', beginning with a letter");
        problems.push(Problem::new(&at, "InvalidName", message));
    }
    let GraphNode { sequence, switch, ensemble, splitter } = node;
    let kinds = [sequence.is_some(), switch.is_some(), ensemble.is_some(), splitter.is_some()];
    if kinds.into_iter().filter(|is| *is).count() != 1 {
        let message = "a node is exactly one of sequence, switch, ensemble and splitter: write one of them";
        problems.push(Problem::new(&at, "InvalidNode", message));
    }
    let mut seen = BTreeMap::<&str, u32>::new();
    for (kind, step) in node.targets() {
        let at = format!("{at}.{kind}.steps[{}]", step.name);
        target(spec, step, &at, problems);
        let count = seen.entry(&step.name).or_default();
        *count += 1;
        if *count == 2 {
            problems.push(Problem::new(&at, "DuplicateStep", "the name is there twice: give each step its own"));
        }
    }
    for (i, step) in sequence.iter().flat_map(|node| &node.steps).enumerate() {
        let at = format!("{at}.sequence.steps[{}]", step.target.name);
        in_sequence(step, i == 0, &at, problems);
        rename(&step.rename, &at, problems);
    }
    if let Some(switch) = switch {
        let last = switch.steps.len().saturating_sub(1);
        for (i, step) in switch.steps.iter().enumerate() {
            let at = format!("{at}.switch.steps[{}]", step.target.name);
            condition(step.when.as_deref(), &at, false, problems);
            if step.when.is_none() && i < last {
                let message = "it has no when, so that what stands behind it is never taken: put it last";
                problems.push(Problem::new(format!("{at}.when"), "NeverTaken", message));
            }
        }
    }
    if let Some(splitter) = splitter {
        let sum: i64 = splitter.steps.iter().map(|step| i64::from(step.weight)).sum();
        if sum != 100 || splitter.steps.iter().any(|step| step.weight < 0) {
            let message = format!("the weights add up to {sum}: they are percent, write what adds up to 100");
            problems.push(Problem::new(format!("{at}.splitter.steps"), "InvalidWeights", message));
        }
    }
}

fn target(spec: &InferenceGraphSpec, step: &GraphTarget, at: &str, problems: &mut Vec<Problem>) {
    let GraphTarget { name: _, model, node, path, timeout } = step;
    match (model, node) {
        (None, Some(node)) if path.is_some() => {
            let message = format!("path is of a model, and `{node}` is a node: leave it out");
            problems.push(Problem::new(format!("{at}.path"), "InvalidStep", message));
        }
        (None, Some(node)) if !spec.nodes.contains_key(node) => {
            let known = spec.nodes.keys().map(String::as_str);
            let message = format!("`{node}` is none of nodes: {}", did_you_mean(node, known));
            problems.push(Problem::new(format!("{at}.node"), "UnknownNode", message));
        }
        (Some(_), None) | (None, Some(_)) => {}
        (Some(_), Some(_)) => {
            problems.push(Problem::new(at, "InvalidStep", "it has both model and node: write one of them"));
        }
        (None, None) => {
            problems.push(Problem::new(at, "InvalidStep", "it asks nobody: write model or node"));
        }
    }
    if let Some(path) = path.as_deref().filter(|path| !is_path(path)) {
        let message = format!(
            "\"{}\" is no path: write at most {LONGEST_PATH} characters that begin with /, without spaces, #, <, >, \" and `; what must have them writes them as %23 and the like",
            problem::head(path, 100)
        );
        problems.push(Problem::new(format!("{at}.path"), "InvalidPath", message));
    }
    time(&format!("{at}.timeout"), timeout.as_deref(), problems);
}

/// As the schema has it: what the router can ask for.
fn is_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>`".contains(&byte);
    path.len() <= LONGEST_PATH && path.starts_with('/') && path.bytes().all(plain)
}

fn rename(names: &BTreeMap<String, String>, at: &str, problems: &mut Vec<Problem>) {
    let (most, longest) = RENAMED;
    let mut refuse = |message: String| problems.push(Problem::new(format!("{at}.rename"), "InvalidRename", message));
    if names.len() > most {
        refuse(format!("it has {} names: write at most {most}", names.len()));
    }
    let long = names.iter().flat_map(|(from, to)| [from, to]).find(|name| name.chars().count() > longest);
    if let Some(name) = long {
        let found = name.chars().count();
        refuse(format!("\"{}\" has {found} characters: write at most {longest}", problem::head(name, 40)));
    }
}

fn in_sequence(step: &SequenceStep, first: bool, at: &str, problems: &mut Vec<Problem>) {
    condition(step.when.as_deref(), at, true, problems);
    if !first {
        return;
    }
    let mut refuse = |field: &str, message: &str| {
        problems.push(Problem::new(format!("{at}.{field}"), "InvalidFirstStep", message));
    };
    if step.when.is_some() {
        refuse("when", "without the first step there might be no answer: leave when out, or put a switch there");
    }
    if step.dependency == Some(Dependency::Soft) {
        refuse("dependency", "without the first step there might be no answer: write Hard");
    }
    if !matches!(step.input, None | Some(StepInput::Request)) {
        refuse("input", "there is no answer before the first step: write Request");
    }
}

/// An expression over what a request or an answer holds, which nobody knows before.
fn condition(when: Option<&str>, at: &str, answer: bool, problems: &mut Vec<Problem>) {
    let Some(when) = when else { return };
    let mut refuse = |message: String| {
        problems.push(Problem::new(format!("{at}.when"), "InvalidExpression", message));
    };
    if expr::has_template(when) {
        return refuse("when is an expression by itself: leave the `$[[` and `]]` out".to_owned());
    }
    let mut known = Names::from([("request".to_owned(), Type::Any), ("headers".to_owned(), Type::map_of(Type::Text))]);
    if answer {
        known.insert("answer".to_owned(), Type::Any);
    }
    for fault in expr::check(when, &known, &Type::Boolean).faults {
        refuse(fault.to_string());
    }
}

fn time(at: &str, text: Option<&str>, problems: &mut Vec<Problem>) {
    let Some(text) = text else { return };
    if !duration::parse(text).is_some_and(|time| TIMES.contains(&time)) {
        let message = format!("\"{text}\" is no time from 10ms to 30m: write one, such as 30s");
        problems.push(Problem::new(at, "InvalidDuration", message));
    }
}

/// Nodes that lead back to each other.
fn circle(spec: &InferenceGraphSpec) -> Option<Problem> {
    spec.nodes.keys().find_map(|name| {
        let way = way(spec, name)?;
        let nodes: Vec<String> = way.iter().map(|name| format!("`{name}`")).collect();
        let (last, step) = way.last().and_then(|last| {
            let targets = spec.nodes.get(*last)?.targets();
            let (kind, step) = targets.into_iter().find(|(_, step)| step.node.as_deref() == Some(name))?;
            Some((*last, format!("{kind}.steps[{}].node", step.name)))
        })?;
        let message = format!(
            "a request would go round for ever: {} leads back to `{name}`; name a model or another node there",
            nodes.join(" leads to ")
        );
        Some(Problem::new(format!("spec.nodes.{last}.{step}"), "Circle", message))
    })
}

/// From a node to one that leads back to it; each node but once.
fn way<'a>(spec: &'a InferenceGraphSpec, start: &'a str) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([start]);
    let mut ways = vec![vec![start]];
    while let Some(way) = ways.pop() {
        let node = spec.nodes.get(way.last().copied()?)?;
        for next in node.targets().into_iter().filter_map(|(_, target)| target.node.as_deref()) {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

/// How deep it is, how often it asks, and how much is to be said of it.
fn reach(spec: &InferenceGraphSpec) -> Option<Problem> {
    let graph = document::document(spec, str::to_owned)?;
    // The root leads to all of them.
    if graph.reach(&graph.root).is_none() {
        let message = format!(
            "its nodes are more than {} deep, or ask models more than {} times for one request: take some out",
            Graph::DEEPEST,
            Graph::MOST_ASKED
        );
        return Some(Problem::new("spec.nodes", "TooLarge", message));
    }
    let told = serde_json::to_vec(&graph).map_or(usize::MAX, |told| told.len());
    (told > MOST_TOLD).then(|| {
        let message = format!(
            "routers would be told {told} bytes of it, and {MOST_TOLD} is the most: shorten its conditions, paths and renames, or make two graphs of it"
        );
        Problem::new("spec.nodes", "TooLarge", message)
    })
}
