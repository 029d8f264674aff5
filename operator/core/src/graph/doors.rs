//! A graph asks its models from within the routers, past their doors. So it is routed only where its own door asks for as much: else it would
//! be a way around `security.auth` and `security.tls` of a model.

use std::collections::BTreeSet;

use crate::api::{InferenceGraphSpec, ModelDeployment, Security};

/// What a model asks of its callers that the graph does not ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub model: String,
    /// The field of `spec.security`.
    pub field: &'static str,
}

/// What is asked for of `auth` and `tls`.
fn asks(security: Option<&Security>) -> [(&'static str, bool); 2] {
    [
        ("auth", security.is_some_and(|asked| asked.auth.is_some())),
        ("tls", security.is_some_and(|asked| asked.tls.is_some())),
    ]
}

/// The first demand that is not met. `models` are those that the graph leads to, as far as they are there.
fn past_doors<'a>(
    named: &BTreeSet<&str>,
    own: [(&'static str, bool); 2],
    models: impl Iterator<Item = &'a ModelDeployment>,
) -> Option<Demand> {
    let mut models = models.filter(|model| model.metadata.name.as_deref().is_some_and(|name| named.contains(name)));
    models.find_map(|model| {
        let asked = asks(model.spec.security.as_deref());
        let lacking = asked.into_iter().zip(own).find(|((_, asked), (_, given))| *asked && !*given);
        lacking.map(|((field, _), _)| Demand { model: model.metadata.name.clone().unwrap_or_default(), field })
    })
}

impl Demand {
    /// Of a spec.
    pub fn of<'a>(spec: &InferenceGraphSpec, models: impl Iterator<Item = &'a ModelDeployment>) -> Option<Self> {
        past_doors(&spec.models(), asks(spec.security.as_deref()), models)
    }

    /// Of what routers were told before.
    pub fn of_document<'a>(
        graph: &millrace_routes::Model,
        models: impl Iterator<Item = &'a ModelDeployment>,
    ) -> Option<Self> {
        let steps =
            graph.graph.iter().flat_map(|graph| graph.nodes.values()).flat_map(millrace_routes::GraphNode::steps);
        let named = steps.filter_map(|step| match &step.to {
            millrace_routes::GraphTarget::Model { name, path: _ } => Some(name.as_str()),
            millrace_routes::GraphTarget::Node(_) => None,
        });
        let own = graph.security.as_ref();
        let own =
            [("auth", own.is_some_and(|own| own.auth.is_some())), ("tls", own.is_some_and(|own| own.tls.is_some()))];
        past_doors(&named.collect(), own, models)
    }

    pub fn message(&self) -> String {
        let Self { model, field } = self;
        format!(
            "model \"{model}\" has security.{field} and the graph has not: whoever reaches the graph would reach the model; write spec.security.{field} of the graph"
        )
    }
}
