//! The graph of stages: every reference is an edge, and there is no way round in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::Problems;
use crate::pipeline::Bond;

/// For each stage the stages that it refers to.
#[derive(Default)]
pub(super) struct Edges(BTreeMap<String, BTreeMap<String, Edge>>);

/// How one stage refers to another.
struct Edge {
    /// The field that refers first.
    path: String,
    ties: BTreeSet<Tie>,
}

/// One way in which a stage refers to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tie {
    /// What it makes is used.
    Uses,
    /// By `needs`, or its status is told to a program.
    Follows,
    /// By an input that has something else to take, or in `finally` by its status.
    Takes,
    /// `when` names its status.
    WhenStatus,
    /// `when` names something else of it.
    WhenValue,
}

impl Edge {
    /// Who names the status in `when` decides there about the rest of it too.
    fn bond(&self) -> Bond {
        let tied = |tie| self.ties.contains(&tie);
        if tied(Tie::Uses) {
            Bond::Uses
        } else if tied(Tie::WhenStatus) {
            Bond::Asks
        } else if tied(Tie::WhenValue) {
            Bond::Uses
        } else if tied(Tie::Follows) {
            Bond::Follows
        } else {
            Bond::Takes
        }
    }
}

impl Edges {
    /// The stage `from`, at `path`, refers to the stage `to`, which exists.
    pub fn add(&mut self, from: &str, to: &str, path: &str, tie: Tie) {
        let edges = self.0.entry(from.to_owned()).or_default();
        let new = || Edge { path: path.to_owned(), ties: BTreeSet::new() };
        edges.entry(to.to_owned()).or_insert_with(new).ties.insert(tie);
    }

    /// The stage `from` refers to the stage `to`.
    pub fn refers(&self, from: &str, to: &str) -> bool {
        self.0.get(from).is_some_and(|edges| from != to && edges.contains_key(to))
    }

    /// What a stage refers to, sorted.
    pub fn of(&self, stage: &str) -> Vec<String> {
        self.0.get(stage).map(|to| to.keys().cloned().collect()).unwrap_or_default()
    }

    /// How a stage hangs on those whose product it does not use.
    pub fn bonds(&self, stage: &str) -> BTreeMap<String, Bond> {
        let edges = self.0.get(stage).into_iter().flatten();
        let bonds = edges.map(|(to, edge)| (to.clone(), edge.bond()));
        bonds.filter(|(_, bond)| *bond != Bond::Uses).collect()
    }

    /// Names each circle once, at the field that closes it.
    pub fn check(&self, problems: &mut Problems) {
        let mut done = BTreeSet::new();
        for start in self.0.keys() {
            self.visit(start, &mut done, problems);
        }
    }

    /// Walks without recursion: a pipeline may be a chain of 256 stages.
    fn visit<'a>(&'a self, start: &'a str, done: &mut BTreeSet<&'a str>, problems: &mut Problems) {
        let next = |stage: &str| self.0.get(stage).into_iter().flatten().collect::<Vec<_>>().into_iter();
        let mut trail = vec![start];
        let mut pending = vec![next(start)];
        while let (Some(&stage), Some(rest)) = (trail.last(), pending.last_mut()) {
            match rest.next() {
                Some((to, _)) if done.contains(to.as_str()) => {}
                Some((to, edge)) => {
                    if let Some(at) = trail.iter().position(|on| *on == to.as_str()) {
                        circle(&trail[at..], &edge.path, problems);
                    } else {
                        trail.push(to);
                        pending.push(next(to));
                    }
                }
                None => {
                    done.insert(stage);
                    trail.pop();
                    pending.pop();
                }
            }
        }
    }
}

fn circle(stages: &[&str], path: &str, problems: &mut Problems) {
    let Some(first) = stages.first() else { return };
    let message = if stages.len() == 1 {
        format!("the stage `{first}` refers to itself: take this reference out")
    } else {
        format!("the stages wait for each other: {} -> {first}. Take one of these references out", stages.join(" -> "))
    };
    problems.add(path, "Cycle", message);
}
