//! In which order stages run: what stands in one step may run side by side.

use std::collections::BTreeMap;

use millrace_core::pipeline::Frozen;

/// Names, step after step; those of `finally` apart.
pub fn steps(frozen: &Frozen, finally: bool) -> Vec<Vec<&str>> {
    let mut depths = BTreeMap::new();
    for name in frozen.stages.keys() {
        measure(frozen, name, &mut depths);
    }
    let mut steps: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (name, depth) in depths.into_iter().filter(|(name, _)| frozen.stages[*name].finally == finally) {
        steps.entry(depth).or_default().push(name);
    }
    steps.into_values().collect()
}

/// `ingest → prepare, validate → train`.
pub fn text(steps: &[Vec<&str>]) -> String {
    steps.iter().map(|step| step.join(", ")).collect::<Vec<_>>().join(" → ")
}

fn measure<'a>(frozen: &'a Frozen, name: &'a str, depths: &mut BTreeMap<&'a str, usize>) -> usize {
    if let Some(depth) = depths.get(name) {
        return *depth;
    }
    let needs = frozen.stages.get(name).map(|stage| stage.needs.as_slice()).unwrap_or_default();
    let depth = needs.iter().map(|need| 1 + measure(frozen, need, depths)).max().unwrap_or_default();
    depths.insert(name, depth);
    depth
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_for_nothing_comes_first_and_finally_last() {
        let stage = |needs: &[&str], finally: bool| json!({ "needs": needs, "finally": finally, "kind": { "register": { "model": "m", "from": "a.b" } } });
        let frozen: Frozen = serde_json::from_value(json!({ "params": {}, "stages": {
            "a": stage(&[], false), "b": stage(&["a"], false), "c": stage(&["a"], false), "d": stage(&["a", "c"], false), "z": stage(&[], true),
        } }))
        .unwrap();
        assert_eq!(text(&steps(&frozen, false)), "a → b, c → d");
        assert_eq!(text(&steps(&frozen, true)), "z");
    }
}
