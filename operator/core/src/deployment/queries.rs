//! What the routers are to ask Prometheus for a ModelDeployment: the query that its pods follow, and those of a rollout's analyses.

use std::collections::BTreeMap;

use millrace_routes::{Entry, Query, Source};
use serde_json::json;

use super::look::stable;
use crate::analysis::Asks;
use crate::api::{Analysis, JwksKey, ModelDeployment, PrometheusQuery, ScaleMetric};
use crate::expr::{self, Names, Scope, Type};
use crate::names::sha256_hex;
use crate::problem::Problem;

/// Hex characters of an id.
const SHORT: usize = 16;
/// Analyses that ask: each may ask twice, and all of them are in the routes of the whole namespace.
const MOST: usize = 10;
const REVISION: &str = "revision";
const STABLE: &str = "stable";
const MODEL: &str = "model";
const DEPLOYMENT: &str = "deployment";

/// Every query once, in the order of their ids.
#[must_use]
pub fn queries(deployment: &ModelDeployment) -> Vec<Query> {
    let mut all: BTreeMap<String, Query> = BTreeMap::new();
    let of_analyses = rollout(deployment).into_iter().flat_map(|(candidate, stable, analyses)| {
        let asked = analyses.values().filter_map(|analysis| asked(deployment, analysis, candidate, stable));
        asked.flat_map(|(candidate, stable)| std::iter::once(candidate).chain(stable)).collect::<Vec<_>>()
    });
    for query in followed(deployment).into_iter().chain(of_analyses) {
        all.insert(query.id.clone(), query);
    }
    all.into_values().take(Query::MOST).collect()
}

/// The query that the number of pods follows.
pub(super) fn followed(deployment: &ModelDeployment) -> Option<Query> {
    let scale = deployment.spec.scale.as_ref().filter(|scale| scale.metric == Some(ScaleMetric::Prometheus))?;
    let stable = stable(deployment)?;
    query(deployment, scale.prometheus.as_deref()?, stable, stable)
}

/// The queries of each analysis of the rollout that is under way.
pub(super) fn asks(deployment: &ModelDeployment) -> BTreeMap<String, Asks> {
    let Some((candidate, stable, analyses)) = rollout(deployment) else { return BTreeMap::new() };
    let asks = analyses.iter().filter_map(|(name, analysis)| {
        let (candidate, stable) = asked(deployment, analysis, candidate, stable)?;
        Some((name.clone(), Asks { candidate: candidate.id, stable: stable.map(|query| query.id) }))
    });
    asks.collect()
}

/// What comes, what is promoted, and what is to be found out of both.
fn rollout(deployment: &ModelDeployment) -> Option<(&str, &str, &BTreeMap<String, Analysis>)> {
    let status = deployment.status.as_ref()?;
    let rollout = super::exposed(status.rollout.as_ref())?;
    let analyses = &deployment.spec.rollout.as_ref()?.analysis;
    Some((&rollout.revision, stable(deployment)?, analyses))
}

/// The query of the new revision, and that of the promoted one where both are compared.
fn asked(
    deployment: &ModelDeployment,
    analysis: &Analysis,
    candidate: &str,
    stable: &str,
) -> Option<(Query, Option<Query>)> {
    let asked = analysis.prometheus.as_ref()?;
    let compares = analysis.compares();
    let of_stable = || query(deployment, asked, stable, stable);
    Some((query(deployment, asked, candidate, stable)?, compares.then(of_stable).flatten()))
}

/// `None` for one that was refused.
fn query(deployment: &ModelDeployment, asked: &PrometheusQuery, revision: &str, stable: &str) -> Option<Query> {
    let PrometheusQuery { address, query, token_secret, ca_config_map } = asked;
    let scope = Scope::new()
        .with(REVISION, json!(revision))
        .with(STABLE, json!(stable))
        .with(MODEL, json!(deployment.model_name()))
        // As `run` has them: `namespace` by itself is a word that CEL keeps.
        .with(DEPLOYMENT, json!({ "name": deployment.metadata.name, "namespace": deployment.metadata.namespace }));
    let query = expr::render(query, &scope).ok().filter(|query| query.len() <= Query::LONGEST)?;
    let entry = |of: Source, entry: &JwksKey| Entry { of, name: entry.name.clone(), key: entry.key.clone() };
    let mut whole = Query {
        id: String::new(),
        address: address.clone(),
        query,
        token: token_secret.as_ref().map(|secret| entry(Source::Secret, secret)),
        ca: ca_config_map.as_ref().map(|map| entry(Source::ConfigMap, map)),
    };
    let text = serde_json::to_string(&whole).unwrap_or_default();
    sha256_hex(text.as_bytes())[..SHORT].clone_into(&mut whole.id);
    Some(whole)
}

/// What no schema can see of a ModelDeployment's queries.
pub(super) fn check(deployment: &ModelDeployment) -> Vec<Problem> {
    let mut problems = Vec::new();
    let analyses = deployment.spec.rollout.iter().flat_map(|rollout| &rollout.analysis);
    let scale = deployment.spec.scale.as_ref().and_then(|scale| scale.prometheus.as_deref());
    if let Some(asked) = scale {
        problems.extend(faults("spec.scale.prometheus", asked));
    }
    let mut asking = 0;
    for (name, analysis) in analyses {
        let Some(asked) = &analysis.prometheus else { continue };
        asking += 1;
        let path = format!("spec.rollout.analysis.{name}.prometheus");
        let found = faults(&path, asked);
        if found.is_empty() && analysis.compares() && !names_revision(&asked.query) {
            problems.push(Problem::new(
                format!("{path}.query"),
                "NothingToCompare",
                "a ratio to the promoted revision asks it once more with the promoted revision in the place of $[[ revision ]], which it does not have: write it where the revision is chosen",
            ));
        }
        problems.extend(found);
    }
    if asking > MOST {
        problems.push(Problem::new(
            "spec.rollout.analysis",
            "TooManyQueries",
            format!("{asking} analyses ask Prometheus, and {MOST} may: put some of them together in one query"),
        ));
    }
    problems
}

fn names_revision(query: &str) -> bool {
    expr::references_in(&json!(query)).iter().any(|path| path.first().is_some_and(|name| name == REVISION))
}

fn faults(path: &str, asked: &PrometheusQuery) -> Vec<Problem> {
    let text = |name: &str| (name.to_owned(), Type::Text);
    let mut names = Names::from([REVISION, STABLE, MODEL].map(text));
    names.insert(DEPLOYMENT.to_owned(), Type::Record(["name", "namespace"].map(text).into()));
    let checked = expr::check_text(&asked.query, &names);
    let faults = checked.faults.into_iter();
    let mut problems: Vec<Problem> =
        faults.map(|fault| Problem::new(format!("{path}.query"), "InvalidExpression", fault.to_string())).collect();
    problems.extend(port_fault(&format!("{path}.address"), &asked.address));
    problems
}

/// The schema says how an address looks; this says what of it a router can use.
pub(super) fn port_fault(path: &str, address: &str) -> Option<Problem> {
    let port = address.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()).filter(|port| !port.is_empty())?;
    let wrong = port.parse::<u16>().map_or(true, |port| port == 0);
    wrong.then(|| Problem::new(path, "InvalidAddress", format!("\"{port}\" is no port: write one from 1 to 65535")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ModelDeploymentStatus, RevisionStatus};

    fn model(spec: &serde_json::Value, rollout: Option<serde_json::Value>) -> ModelDeployment {
        let mut whole = json!({ "model": { "name": "penguins" } });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut model = ModelDeployment::new("birds", serde_json::from_value(whole).unwrap());
        model.metadata.namespace = Some("team".to_owned());
        let revisions = vec![RevisionStatus { name: "birds-1".to_owned(), ..RevisionStatus::default() }];
        model.status = Some(ModelDeploymentStatus {
            stable_revision: Some("birds-1".to_owned()),
            rollout: rollout.map(|rollout| serde_json::from_value(rollout).unwrap()),
            revisions,
            ..ModelDeploymentStatus::default()
        });
        model
    }

    fn scale(query: &str) -> serde_json::Value {
        let asked = json!({ "address": "http://p:9090", "query": query });
        json!({ "scale": { "metric": "Prometheus", "max": 3, "target": 1, "prometheus": asked } })
    }

    #[test]
    fn names_are_filled_in_and_another_query_has_another_id() {
        let of = |query: &str| queries(&model(&scale(query), None));
        let all = of(
            "q{a=\"$[[ deployment.name ]]\", b=\"$[[deployment.namespace]]\", c=\"$[[ model ]]\", d=~\"$[[ revision ]]|$[[ stable ]]\"}",
        );
        assert_eq!(all[0].query, "q{a=\"birds\", b=\"team\", c=\"penguins\", d=~\"birds-1|birds-1\"}");
        assert_eq!(of("a")[0].id, of("a")[0].id);
        assert_ne!(of("a")[0].id, of("b")[0].id);
        assert!(of("$[[ nothing ]]").is_empty());
    }

    fn analyses(analysis: &serde_json::Value) -> serde_json::Value {
        json!({ "rollout": { "strategy": "Canary", "steps": [{ "weight": 5, "hold": "1m" }], "analysis": analysis } })
    }

    #[test]
    fn analyses_ask_while_a_step_is_under_way_and_of_both_revisions_where_they_compare() {
        let asked = json!({ "address": "http://p", "query": "q{r=\"$[[ revision ]]\"}" });
        let spec = analyses(&json!({
            "one": { "prometheus": asked, "max": 1 }, "two": { "prometheus": asked, "maxRatioToStable": 1 },
            "three": { "metric": "ErrorRate", "max": 1 },
        }));
        let step = |step: i32| Some(json!({ "revision": "birds-2", "step": step }));
        assert!(queries(&model(&spec, None)).is_empty());
        assert!(queries(&model(&spec, step(0))).is_empty());
        let under_way = model(&spec, step(1));
        let texts: Vec<String> = queries(&under_way).into_iter().map(|query| query.query).collect();
        assert_eq!(texts.len(), 2, "the same is asked once");
        assert!(texts.contains(&"q{r=\"birds-1\"}".to_owned()) && texts.contains(&"q{r=\"birds-2\"}".to_owned()));
        let asks = asks(&under_way);
        assert_eq!(asks.keys().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!((asks["one"].stable.is_none(), asks["two"].stable.is_some()), (true, true));
        assert_eq!(asks["one"].candidate, asks["two"].candidate);
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_to_write() {
        let said = |spec: serde_json::Value| {
            check(&model(&spec, None)).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said(scale("rate(x{n=\"$[[ deployment.name ]]\"}[1m])")), "");
        assert!(
            said(scale("$[[ revison ]]")).starts_with("spec.scale.prometheus.query: "),
            "{}",
            said(scale("$[[ revison ]]"))
        );
        assert!(said(scale("$[[ model")).contains("has no `]]`"));
        let compares = |query: &str| {
            let asked = json!({ "address": "http://p:70000/a", "query": query });
            said(analyses(&json!({ "a": { "prometheus": asked, "maxRatioToStable": 2 } })))
        };
        assert!(compares("up").contains("\"70000\" is no port"), "{}", compares("up"));
        let asked = json!({ "address": "http://p/a", "query": "q{x=\"$[[ deployment.name ]]\"}" });
        let text = said(analyses(&json!({ "a": { "prometheus": asked, "maxRatioToStable": 2 } })));
        assert!(text.contains("in the place of $[[ revision ]]"), "{text}");
        let many = (0..11)
            .map(|i| (format!("a{i}"), json!({ "prometheus": { "address": "http://p", "query": "up" }, "max": 1 })));
        let text = said(analyses(&serde_json::Value::Object(many.collect())));
        assert!(text.contains("11 analyses ask Prometheus, and 10 may"), "{text}");
    }
}
