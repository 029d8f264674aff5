//! The pass of an InferenceGraph.

use k8s_openapi::jiff::Timestamp;
use millrace_core::graph;
use millrace_core::plan::Refusal;
use millrace_core::routing::Routers;

use super::{Passes, alive};
use crate::key::{Id, Kind};
use crate::metrics::Outcome;
use crate::queue::Next;
use crate::write::WriteError;

impl Passes {
    pub(super) async fn pass_graph(
        &self,
        id: &Id,
        refusals: Vec<Refusal>,
        refused_before: bool,
        now: Timestamp,
    ) -> Result<(Outcome, Next), WriteError> {
        let Some(graph) = alive(self.stores.graphs.get(id)) else { return Ok(self.gone(Kind::Graph, id)) };
        let observed = self.observe_graph(id, refusals);
        // Expressions of strangers are read.
        let plan = tokio::task::block_in_place(|| graph::plan(&graph, &observed, now));
        let moves = plan.status.is_some() && !graph::is_settled(&graph);
        let ended = self.carry_out(id, &*graph, plan, refused_before).await;
        if moves {
            self.stores.hurry.ask(&id.namespace);
        }
        ended
    }

    fn observe_graph(&self, id: &Id, refusals: Vec<Refusal>) -> graph::Observed {
        let service = self.stores.graph_services.get(id);
        let applied_service = service.as_ref().and_then(|there| self.stores.applied_services.get(id, &there.uid));
        graph::Observed {
            models: self.stores.deployments.group(&id.namespace),
            service,
            applied_service,
            routers: Routers { port: self.graph_port(id), ..self.routers(id) },
            refusals,
        }
    }
}
