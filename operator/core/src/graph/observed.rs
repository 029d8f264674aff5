//! What the plan of one InferenceGraph looks at.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::ModelDeployment;
use crate::deployment::{Applied, ServiceView};
use crate::plan::Refusal;
use crate::routing::Routers;

/// Everything that the plan of one InferenceGraph depends on, besides itself and the time.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The ModelDeployments of the namespace by name.
    pub models: BTreeMap<String, Arc<ModelDeployment>>,
    /// The Service of its name that carries [`crate::names::GRAPH_LABEL`].
    pub service: Option<Arc<ServiceView>>,
    /// What became of it when this operator applied it last.
    pub applied_service: Option<Applied>,
    /// The routers of the namespace, with the port of this graph.
    pub routers: Routers,
    /// What the apiserver refused of the last pass's effects.
    pub refusals: Vec<Refusal>,
}
