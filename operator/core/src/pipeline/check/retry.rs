//! `retry.when` and `retry.memoryGrowth`: which failures are tried again, and with how much memory.

use serde_json::{Value, json};

use super::expression::References;
use super::resolve::Resolved;
use super::{Problems, freeze, quoted};
use crate::api::{MLPipelineSpec, Resources, Retry};
use crate::expr::{self, Names, Type};
use crate::pod::{amount, quantity};

const REASON: &str = "InvalidRetry";

/// Why an attempt may fail, in the order in which the field's documentation has it. A test of `run::ending` shows that what an agent reports is in it.
pub(crate) const REASONS: [&str; 15] = [
    "Error",
    "OOMKilled",
    "Timeout",
    "CannotStart",
    "OutputMissing",
    "ResultTooLarge",
    "BadResult",
    "StoreNotWritable",
    "StoreNotReadable",
    "NoReport",
    "BadReport",
    "DeadlineExceeded",
    "AgentNotDelivered",
    "StartError",
    "ContainerCannotRun",
];

/// What can be said of a retry wherever it stands.
pub(super) fn check(retry: &Retry, path: &str, names: &Names, problems: &mut Problems) {
    let Retry { limit, backoff: _, when, memory_growth } = retry;
    for (field, given) in [("when", when.is_some()), ("memoryGrowth", memory_growth.is_some())] {
        if given && *limit == 0 {
            let message = "limit is 0, so that there is no other attempt: write a limit of at least 1 beside it";
            problems.add(format!("{path}.{field}"), REASON, message);
        }
    }
    if let Some(when) = when {
        condition(when, &format!("{path}.when"), names, problems);
    }
    let Some(growth) = memory_growth else { return };
    if let Some(factor) = growth.factor.filter(|factor| !(1.1..=10.0).contains(factor)) {
        let message = format!("{factor} is out of bounds: write 1.1 to 10");
        problems.add(format!("{path}.memoryGrowth.factor"), "OutOfBounds", message);
    }
    if amount(&growth.max).is_none_or(|max| max <= 0.0) {
        let message = format!("{} is no amount of memory: write one such as 64Gi", quoted(&growth.max));
        problems.add(format!("{path}.memoryGrowth.max"), REASON, message);
    }
}

/// `names` besides those of the attempt: of a run, or of none where a StageTemplate has it, which knows no run's parameters.
fn condition(when: &str, path: &str, names: &Names, problems: &mut Problems) {
    if expr::has_template(when) {
        let message = "when is an expression by itself: leave the `$[[` and `]]` out";
        problems.add(path, "InvalidExpression", message);
        return;
    }
    let attempt = [("exitCode", Type::Number), ("reason", Type::Text), ("attempt", Type::Number)];
    let mut names = names.clone();
    names.extend(attempt.map(|(name, kind)| (name.to_owned(), kind)));
    References::default().take(expr::check(when, &names, &Type::Boolean), path, problems);
    for reason in expr::compared(when, "reason").unwrap_or_default() {
        if !REASONS.contains(&reason.as_str()) {
            let hint = expr::did_you_mean(&reason, REASONS);
            let message = format!(
                "no failure that is asked about has the reason `{reason}`: {hint}. Failures of the infrastructure, such as \
                 Evicted, are tried again without being asked about"
            );
            problems.add(path, REASON, message);
        }
    }
}

/// What can be said once it is known which stage a retry is for.
pub(super) fn of_stage(name: &str, resolved: &Resolved<'_>, spec: &MLPipelineSpec, problems: &mut Problems) {
    let at = resolved.at(name);
    let Some((retry, path)) = effective(resolved, spec, &at) else { return };
    if resolved.stage.for_each.is_some() {
        let Retry { limit, backoff, when, memory_growth } = retry;
        let when = when.as_ref().map(|when| format!(", when: {}", json!(when))).unwrap_or_default();
        for (field, given) in [("backoff", backoff.is_some()), ("memoryGrowth", memory_growth.is_some())] {
            if given {
                let message = format!(
                    "`{name}` has forEach, and the Job of its items tries them again by itself, all in the same way, after 10s and then twice \
                     as long each time: leave {field} out, or write {at}.retry: {{ limit: {limit}{when} }}"
                );
                problems.add(format!("{path}.{field}"), REASON, message);
            }
        }
        return;
    }
    let Some(growth) = &retry.memory_growth else { return };
    let (resources, field) = match (&resolved.stage.container, resolved.template) {
        (Some(own), _) => (own.settings.resources.clone(), format!("{at}.container.resources.limits.memory")),
        (None, Some(template)) => {
            let together = freeze::overridden(&template.container, resolved.stage.overrides.as_ref());
            (together.settings.resources, format!("{at}.overrides.resources.limits.memory"))
        }
        (None, None) => return,
    };
    let limit = memory_limit(resources.as_ref());
    let path = format!("{path}.memoryGrowth");
    let Some(limit) = limit else {
        let message = format!("the stage `{name}` has no memory limit to grow from: write {field}");
        problems.add(path, REASON, message);
        return;
    };
    if let (Some(from), Some(max)) = (amount(limit), amount(&growth.max))
        && from >= max
    {
        let (from, max) = (quantity(limit).0, quantity(&growth.max).0);
        let message = format!(
            "max is {max}, and the stage `{name}` has a memory limit of {from} already: raise max, or lower {field}"
        );
        problems.add(path, REASON, message);
    }
}

fn memory_limit(resources: Option<&Resources>) -> Option<&Value> {
    resources?.limits.get("memory")
}

/// The retry that a stage has, and where it stands.
fn effective<'a>(resolved: &Resolved<'a>, spec: &'a MLPipelineSpec, at: &str) -> Option<(&'a Retry, String)> {
    if let Some(own) = &resolved.stage.retry {
        return Some((own, format!("{at}.retry")));
    }
    // Its StageTemplate may bring one.
    if resolved.unknown {
        return None;
    }
    if let Some(retry) = resolved.template.and_then(|template| template.retry.as_ref()) {
        return Some((retry, format!("{at}.retry")));
    }
    let retry = spec.defaults.as_ref()?.retry.as_ref()?;
    Some((retry, "spec.defaults.retry".to_owned()))
}
