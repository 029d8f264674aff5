//! The graph of stages: every reference is an edge, and there is no way round in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::Problems;

/// For each stage the stages that it refers to, and the field that refers first.
#[derive(Default)]
pub(super) struct Edges(BTreeMap<String, BTreeMap<String, String>>);

impl Edges {
    /// The stage `from`, at `path`, refers to the stage `to`, which exists.
    pub fn add(&mut self, from: &str, to: &str, path: &str) {
        self.0.entry(from.to_owned()).or_default().entry(to.to_owned()).or_insert_with(|| path.to_owned());
    }

    /// What a stage refers to, sorted.
    pub fn of(&self, stage: &str) -> Vec<String> {
        self.0.get(stage).map(|to| to.keys().cloned().collect()).unwrap_or_default()
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
                Some((to, path)) => {
                    if let Some(at) = trail.iter().position(|on| *on == to.as_str()) {
                        circle(&trail[at..], path, problems);
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
