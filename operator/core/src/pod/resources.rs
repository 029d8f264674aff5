//! Requests and limits, as far as the apiserver would refuse them: a Job that it never takes would only be waited for.

use serde_json::Value;

use super::quantity;
use crate::api::Resources;
use crate::problem::Problem;

/// What is wrong with resources that stand at `path`.
#[must_use]
pub fn check(path: &str, resources: &Resources) -> Vec<Problem> {
    let Resources { requests, limits } = resources;
    let mut problems = Vec::new();
    for (field, all) in [("requests", requests), ("limits", limits)] {
        for (name, value) in all {
            let at = format!("{path}.{field}.{name}");
            if name.split('/').count() > 2 {
                let message = "this is no name of a resource: write a name such as cpu, memory or nvidia.com/gpu";
                problems.push(Problem::new(at.as_str(), "InvalidResources", message));
            }
            if amount(value).is_some_and(|amount| amount < 0.0) {
                let message = format!("{} is negative: write 0 or more", quantity(value).0);
                problems.push(Problem::new(at.as_str(), "InvalidResources", message));
            }
            if is_extended(name) && amount(value).is_some_and(|amount| amount.fract() != 0.0) {
                let message = format!("{} is no whole number: {name} is counted in whole ones", quantity(value).0);
                problems.push(Problem::new(at, "InvalidResources", message));
            }
        }
    }
    for (name, request) in requests {
        let at = format!("{path}.requests.{name}");
        let Some(limit) = limits.get(name) else {
            if is_extended(name) {
                let message = format!("{name} cannot be asked for without a limit: write limits.{name} instead");
                problems.push(Problem::new(at, "InvalidResources", message));
            }
            continue;
        };
        if let (Some(asked), Some(most)) = (amount(request), amount(limit))
            && differ(asked, most)
            && (asked > most || is_extended(name))
        {
            let (asked, most) = (quantity(request).0, quantity(limit).0);
            if is_extended(name) {
                let message = format!("{asked} is not the limit of {most}: leave it out, limits.{name} is enough");
                problems.push(Problem::new(at, "InvalidResources", message));
                continue;
            }
            let message = format!("{asked} is more than the limit of {most}: lower it, or raise limits.{name}");
            problems.push(Problem::new(at, "InvalidResources", message));
        }
    }
    problems
}

/// A device or the like, of which nobody gets a part or more than there is. What has no domain is Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// More than doubles round: 1.005k is 1005.
fn differ(a: f64, b: f64) -> bool {
    (a - b).abs() > a.abs().max(b.abs()) * 1e-12
}

/// The number that a quantity stands for; nothing if it is none.
#[must_use]
pub fn amount(value: &Value) -> Option<f64> {
    let text = quantity(value).0;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (digits, unit) = match text.find(['e', 'E']).filter(|at| text[at + 1..].parse::<i32>().is_ok()) {
        // An exponent: `1e3`. `1E` alone is the unit.
        Some(_) => (text.as_str(), ""),
        None => (digits, &text[digits.len()..]),
    };
    let number: f64 = digits.parse().ok()?;
    // A division by a power of ten is rounded as the literal is: 100m is 0.1.
    Some(match unit {
        "" => number,
        "n" => number / 1e9,
        "u" => number / 1e6,
        "m" => number / 1e3,
        "k" => number * 1e3,
        "M" => number * 1e6,
        "G" => number * 1e9,
        "T" => number * 1e12,
        "P" => number * 1e15,
        "E" => number * 1e18,
        "Ki" => number * f64::from(1_u32 << 10),
        "Mi" => number * f64::from(1_u32 << 20),
        "Gi" => number * f64::from(1_u32 << 30),
        "Ti" => number * f64::from(1_u32 << 20) * f64::from(1_u32 << 20),
        "Pi" => number * f64::from(1_u32 << 30) * f64::from(1_u32 << 20),
        "Ei" => number * f64::from(1_u32 << 30) * f64::from(1_u32 << 30),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_are_compared_whatever_their_unit() {
        for (value, expected) in [
            (json!("100m"), 0.1),
            (json!(2), 2.0),
            (json!(0.5), 0.5),
            (json!("1Gi"), 1_073_741_824.0),
            (json!("1E"), 1e18),
            (json!("1e3"), 1000.0),
            (json!("2E3"), 2000.0),
            (json!(".5M"), 500_000.0),
            (json!("-1"), -1.0),
            (json!("+3k"), 3000.0),
        ] {
            assert_eq!(amount(&value), Some(expected), "{value}");
        }
        assert_eq!(amount(&json!("lots")), None);
    }

    #[test]
    fn what_the_apiserver_would_never_take_is_refused() {
        let found = |resources: Value| -> Vec<String> {
            let resources: Resources = serde_json::from_value(resources).unwrap();
            check("r", &resources).iter().map(ToString::to_string).collect()
        };
        let fine =
            json!({ "requests": { "cpu": "500m", "memory": "1Gi" }, "limits": { "cpu": 0.5, "memory": "1025Mi" } });
        assert_eq!(found(fine), [""; 0]);
        let equal = json!({ "requests": { "memory": "1005" }, "limits": { "memory": "1.005k" } });
        assert_eq!(found(equal), [""; 0]);
        let more = json!({ "requests": { "memory": "1005001m" }, "limits": { "memory": "1.005k" } });
        assert_eq!(found(more).len(), 1);
        let over = found(json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "2G" } }));
        assert_eq!(over, ["r.requests.memory: 2Gi is more than the limit of 2G: lower it, or raise limits.memory"]);
        assert_eq!(found(json!({ "limits": { "cpu": "-1" } })), ["r.limits.cpu: -1 is negative: write 0 or more"]);
        let name = found(json!({ "limits": { "a/b/c": 1 } }));
        assert!(name.len() == 1 && name[0].starts_with("r.limits.a/b/c: this is no name"), "{name:?}");
    }

    #[test]
    fn devices_are_whole_and_asked_for_by_their_limit() {
        let found = |requests: Value, limits: Value| -> Vec<String> {
            let name = |value: Value| if value.is_null() { json!({}) } else { json!({ "nvidia.com/gpu": value }) };
            let resources = json!({ "requests": name(requests), "limits": name(limits) });
            let resources: Resources = serde_json::from_value(resources).unwrap();
            check("r", &resources).iter().map(ToString::to_string).collect()
        };
        for (requests, limits) in [(Value::Null, json!(2)), (json!("1"), json!(1)), (json!("2000m"), json!(2))] {
            assert_eq!(found(requests, limits), [""; 0]);
        }
        for (requests, limits, says) in [
            (Value::Null, json!("0.5"), "r.limits.nvidia.com/gpu: 0.5 is no whole number"),
            (json!(1), Value::Null, "r.requests.nvidia.com/gpu: nvidia.com/gpu cannot be asked for without a limit"),
            (json!(1), json!(2), "r.requests.nvidia.com/gpu: 1 is not the limit of 2: leave it out"),
            (json!(2), json!(1), "r.requests.nvidia.com/gpu: 2 is not the limit of 1: leave it out"),
        ] {
            let found = found(requests, limits);
            assert!(found.len() == 1 && found[0].starts_with(says), "{found:?}");
        }
    }
}
