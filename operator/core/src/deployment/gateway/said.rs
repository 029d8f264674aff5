//! What a Gateway says of the route.

use super::Gateways;
use super::lack::Lack;
use super::observed::{GatewayView, RouteView, gateway_key};
use crate::api::GatewayRef;
use crate::gateway_api::{ParentCondition, RouteParent};

const ACCEPTED: &str = "Accepted";
const RESOLVED: &str = "ResolvedRefs";
/// It has left out rules.
const PARTLY: &str = "PartiallyInvalid";

fn condition<'a>(parent: &'a RouteParent, kind: &str) -> Option<&'a ParentCondition> {
    parent.conditions.iter().find(|condition| condition.type_ == kind)
}

/// It sends requests by some generation of the route.
pub(super) fn accepts(parent: &RouteParent) -> bool {
    condition(parent, ACCEPTED).is_some_and(|accepted| accepted.status == "True")
}

/// What it says is of this generation, or of a later one.
pub(super) fn is_of(parent: &RouteParent, generation: i64) -> bool {
    [ACCEPTED, RESOLVED]
        .into_iter()
        .all(|kind| condition(parent, kind).is_some_and(|condition| condition.observed_generation >= generation))
}

/// Why one of the Gateways that the spec names does not take the route. `own` is the ModelDeployment's namespace.
pub(super) fn of(asked: &GatewayRef, own: &str, view: &RouteView, gateways: &Gateways) -> Option<Lack> {
    let namespace = asked.namespace.as_deref().unwrap_or(own);
    let called = called(asked, namespace, own);
    let entries = view.parents.iter().filter(|parent| {
        let of = &parent.parent_ref;
        of.name == asked.name
            && of.namespace.as_deref().unwrap_or(own) == namespace
            && of.section_name == asked.section_name
    });
    let lacks: Vec<Option<Lack>> = entries.map(|entry| of_entry(entry, &called, view.generation)).collect();
    if lacks.iter().any(Option::is_none) {
        return None;
    }
    // What a controller said once that has no part in it any more is beside those that have.
    let newest = lacks.into_iter().flatten().min_by_key(Lack::is_pending);
    newest.or_else(|| Some(unanswered(&called, namespace, gateways.named.get(&gateway_key(namespace, &asked.name)))))
}

fn called(asked: &GatewayRef, namespace: &str, own: &str) -> String {
    let name = if namespace == own { asked.name.clone() } else { format!("{namespace}/{}", asked.name) };
    match &asked.section_name {
        None => format!("Gateway {name}"),
        Some(section) => format!("Gateway {name}, listener {section},"),
    }
}

fn of_entry(entry: &RouteParent, called: &str, generation: i64) -> Option<Lack> {
    for kind in [ACCEPTED, RESOLVED] {
        let Some(said) = condition(entry, kind).filter(|said| said.observed_generation >= generation) else {
            return Some(Lack::pending(format!("{called} has not looked at the newest HTTPRoute yet")));
        };
        if said.status != "True" {
            return Some(rejected(called, said));
        }
    }
    let partly = condition(entry, PARTLY).filter(|said| said.status == "True");
    partly.map(|said| rejected(called, said))
}

fn rejected(called: &str, said: &ParentCondition) -> Lack {
    let ParentCondition { type_, reason, message, .. } = said;
    let message = message.trim();
    let colon = if message.is_empty() { "" } else { ": " };
    Lack::new(
        "RouteRejected",
        format!("{called} does not take the HTTPRoute: {type_} is {}, {reason}{colon}{message}", said.status),
    )
}

fn unanswered(called: &str, namespace: &str, known: Option<&Option<std::sync::Arc<GatewayView>>>) -> Lack {
    match known {
        Some(None) => Lack::new(
            "GatewayMissing",
            format!(
                "there is no {called} in namespace {namespace}: make it, or name one that is there in routing.gateway.parentRefs"
            ),
        ),
        Some(Some(view)) => Lack::pending(format!(
            "{called} has not answered: a controller of its class {} has to run, and a listener to take routes of this namespace",
            view.class
        )),
        None => Lack::pending(format!(
            "{called} has not answered; whether it is there the operator cannot see, which may not read namespace {namespace}"
        )),
    }
}
