//! `triggers.onModel`: a run when something has held for a time of what is watched of a served model.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{Kind, Look, Start, has_ended, since};
use crate::api::{DriftStatus, LiveMetrics, ModelTrigger, ModelTriggerStatus};
use crate::expr::{self, Names, Scope, Type};
use crate::problem::head;
use crate::{deployment, duration};

/// What is watched, and what was reported.
const DRIFT: &str = "drift";
const LIVE: &str = "live";
/// After a start nothing starts for so long, unless something else is said.
const COOLDOWN: Duration = Duration::from_hours(1);
/// A message of a status.
const LONGEST: usize = 300;

/// What `when` may name.
pub(in crate::pipeline) fn names() -> Names {
    let numbers =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Type::Number)).collect::<BTreeMap<_, _>>();
    let mut feature = numbers(&["value", "importance", "missing", "referenceMissing", "outOfRange", "newCategories"]);
    feature.insert("drifted".to_owned(), Type::Boolean);
    let mut predictions = numbers(&["value", "outOfRange", "probabilityShift"]);
    predictions.insert("drifted".to_owned(), Type::Boolean);
    let mut drift = numbers(&["share", "samples", "drifted", "compared", "outliers"]);
    drift.insert("features".to_owned(), Type::map_of(Type::Record(feature)));
    drift.insert("predictions".to_owned(), Type::Record(predictions).or_null());
    Names::from([(DRIFT.to_owned(), Type::Record(drift)), (LIVE.to_owned(), Type::map_of(Type::Number))])
}

/// Their values. What is not counted of a feature, because it is of the other sort, is 0.
fn drift_value(drift: &DriftStatus) -> Value {
    let features = drift.features.iter().map(|feature| {
        let value = json!({
            "value": feature.value,
            "drifted": feature.drifted,
            "importance": feature.importance,
            "missing": feature.missing,
            "referenceMissing": feature.reference_missing,
            "outOfRange": feature.out_of_range.unwrap_or_default(),
            "newCategories": feature.new_categories.unwrap_or_default(),
        });
        (feature.name.clone(), value)
    });
    let predictions = drift.predictions.as_ref().map(|predictions| {
        json!({
            "value": predictions.value,
            "drifted": predictions.drifted,
            "outOfRange": predictions.out_of_range.unwrap_or_default(),
            "probabilityShift": predictions.probability_shift.unwrap_or_default(),
        })
    });
    json!({
        "share": drift.share,
        "samples": drift.samples,
        "drifted": drift.drifted,
        "compared": drift.compared,
        "outliers": drift.outliers.unwrap_or_default(),
        "features": Value::Object(features.collect::<Map<_, _>>()),
        "predictions": predictions,
    })
}

/// Looks at one trigger: what its status says then.
pub(super) fn look(
    look: &mut Look<'_>,
    name: &str,
    trigger: &ModelTrigger,
    old: Option<&ModelTriggerStatus>,
) -> ModelTriggerStatus {
    let now = look.now;
    let mut new = old
        .cloned()
        .unwrap_or_else(|| ModelTriggerStatus { start_time: Some(Time(now)), ..ModelTriggerStatus::default() });
    let rule = format!("{} {}", trigger.model_deployment, trigger.when);
    if new.rule != rule {
        new.holds_since = None;
        new.rule = rule;
    }
    // A clock that was ahead.
    for time in [&mut new.holds_since, &mut new.last_time].into_iter().flatten() {
        time.0 = time.0.min(now);
    }
    let mut next = start(name, trigger, &new);
    // It was made, whatever is found of the model now.
    if let Some(run) = look.seen(&next) {
        look.tell(&format!("onModel {name}"), &run, &format!("because `{}` holds", head(&trigger.when, LONGEST)));
        new.runs += 1;
        new.holds_since = None;
        new.last_time = Some(Time(now));
        new.last_run = Some(run);
        next = start(name, trigger, &new);
    }
    new.message = None;
    match holds(look, trigger, new.last_time.as_ref()) {
        Ok(true) => {}
        Ok(false) => {
            new.holds_since = None;
            return new;
        }
        Err(why) => {
            new.holds_since = None;
            look.blocked("onModel", name, &head(&why, LONGEST));
            new.message = Some(head(&why, LONGEST));
            return new;
        }
    }
    let begun = new.holds_since.get_or_insert(Time(look.now)).0;
    let least = |text: Option<&String>| text.and_then(|text| duration::parse(text));
    let held = after(begun, least(trigger.for_.as_ref()).unwrap_or_default());
    let cooled = new.last_time.as_ref().map(|last| after(last.0, least(trigger.cooldown.as_ref()).unwrap_or(COOLDOWN)));
    let due = cooled.map_or(held, |cooled| cooled.max(held));
    if due > look.now {
        look.wait_for(due);
        return new;
    }
    if let Some(last) = new.last_run.as_deref().filter(|last| look.runs.get(last).is_some_and(|run| !has_ended(run))) {
        new.message = Some(format!("waits for the end of MLPipelineRun {last}"));
        return new;
    }
    look.start(next);
    new
}

/// The next start.
fn start<'a>(name: &'a str, trigger: &ModelTrigger, status: &ModelTriggerStatus) -> Start<'a> {
    let key = format!("{name}/{}/{}", since(status.start_time.as_ref()), status.runs + 1);
    Start::of(Kind::Model, name, key, &trigger.params)
}

/// Whether it holds now; or why nobody can say. `last`: its last start.
fn holds(look: &Look<'_>, trigger: &ModelTrigger, last: Option<&Time>) -> Result<bool, String> {
    let name = &trigger.model_deployment;
    let model =
        look.observed.model_deployments.get(name).ok_or_else(|| format!("there is no ModelDeployment {name}"))?;
    let named = expr::check(&trigger.when, &names(), &Type::Boolean).named();
    let asks = |of: &str| named.iter().any(|path| path.first().is_some_and(|name| name == of));
    let least = trigger.min_samples.unwrap_or_default();
    let (mut scope, mut lacks) = (Scope::new(), false);
    if asks(DRIFT) {
        if model.spec.monitoring.as_ref().is_none_or(|monitoring| monitoring.drift.is_none()) {
            return Err(format!("nothing is watched of ModelDeployment {name}: write spec.monitoring.drift there"));
        }
        let drift = model.status.as_ref().and_then(|status| status.drift.as_ref());
        match drift.filter(|drift| drift.share.is_some() && drift.samples >= least) {
            Some(drift) => scope = scope.with(DRIFT, drift_value(drift)),
            None => lacks = true,
        }
    }
    if asks(LIVE) {
        let enough = |live: &&LiveMetrics| live.samples.unwrap_or_default() >= least && is_news(live, last);
        match deployment::live(model).filter(enough) {
            Some(live) => scope = scope.with(LIVE, json!(live.metrics)),
            None => lacks = true,
        }
    }
    match expr::eval_bool(&trigger.when, &scope) {
        // `a || b` holds where `b` does, though nothing is known of `a`.
        Err(_) if lacks => Ok(false),
        holds => holds.map_err(|error| format!("when: {error}")),
    }
}

/// What was measured before the last start has started that, or would start the same again and again until somebody reports anew.
fn is_news(live: &LiveMetrics, last: Option<&Time>) -> bool {
    let second = |time: &Time| time.0.as_second();
    last.is_none_or(|last| live.time.as_ref().is_some_and(|time| second(time) > second(last)))
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| time.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}
