//! Graphs: an answer that is made of those of models. Each step asks a model as a caller of its port would, but within this thread: its
//! weights, its queue, its start from zero, its retries, its counts and its payload log are those of everybody's requests.
//!
//! ```text
//! request ─► door of the graph ─► held, within a bound ─► root node ─► steps ─► model: limits ─► revision ─► pod
//!                                                                    └► nodes below
//! ```
//! What is held of all requests has one bound. The answer of the last step passes through.

mod answer;
mod condition;
mod counts;
mod held;
mod run;
mod serve;
mod tensors;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_routes::Graph as Document;

pub use counts::{Ended, StepCounts, Totals};
pub use held::{Budget, JSON_LENGTH, Room};
pub use serve::serve;
pub use tensors::{MOST_TENSORS, outputs};

/// A graph of the routes. It stays while the document says the same.
#[derive(Debug)]
pub struct Graph {
    pub document: Document,
    pub timeout: Duration,
    /// Bytes of a body that is held.
    pub body_bytes: usize,
    pub totals: Arc<Totals>,
    /// By node and step.
    pub steps: BTreeMap<(String, String), Arc<StepCounts>>,
}

impl Graph {
    /// The graph that a document asks for. What was there before keeps what it has counted.
    pub fn next(before: Option<&Arc<Self>>, asked: Option<&Document>) -> Option<Arc<Self>> {
        let asked = asked?;
        if let Some(same) = before.filter(|before| before.document == *asked) {
            return Some(same.clone());
        }
        let known = |key: &(String, String)| before.and_then(|before| before.steps.get(key).cloned());
        let steps = asked.nodes.iter().flat_map(|(node, of)| of.steps().iter().map(move |step| (node, step)));
        let steps = steps.map(|(node, step)| {
            let key = (node.clone(), step.name.clone());
            let counts = known(&key).unwrap_or_default();
            (key, counts)
        });
        Some(Arc::new(Self {
            timeout: Duration::from_millis(asked.timeout_ms),
            body_bytes: usize::try_from(asked.body_bytes).unwrap_or(usize::MAX),
            totals: before.map_or_else(Arc::default, |before| before.totals.clone()),
            steps: steps.collect(),
            document: asked.clone(),
        }))
    }
}
