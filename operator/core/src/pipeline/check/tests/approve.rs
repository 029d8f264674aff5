//! Stages that wait for a person.

use serde_json::{Value, json};

use super::{checked, merge, refused, stage};
use crate::pipeline::{Bond, FrozenKind};

/// Somebody approves between the score and the register.
fn signed(patch: Value) -> Value {
    let mut approve = json!({ "needs": ["score"], "approve": { "message": "Ship $[[ params.model_name ]]?" } });
    merge(&mut approve, patch);
    json!({ "stages": { "sign-off": approve, "register": { "needs": ["score", "sign-off"] } } })
}

#[test]
fn what_an_approval_asks_may_name_what_came_before() {
    let message = "f1 $[[ stages.score.metrics.f1 ]], and fit $[[ stages.fit.status ]]";
    let frozen = checked(signed(json!({ "approve": { "message": message, "timeout": "24h" } }))).unwrap();
    let found = &frozen.stages["sign-off"];
    assert!(matches!(found.kind, FrozenKind::Approve(_)));
    assert_eq!(found.needs, ["fit", "score"]);
    assert_eq!((found.bond("fit"), found.bond("score")), (Bond::Follows, Bond::Uses));
    let at = "spec.stages.sign-off.approve";
    let asks = |text: &str| signed(json!({ "approve": { "message": text } }));
    refused(asks("$[[ params.nobody ]]"), &format!("{at}.message"), "`params.nobody` is unknown");
    refused(asks("$[[ stages.scor.metrics.f1 ]]"), &format!("{at}.message"), "did you mean `score`?");
    refused(asks("  "), &format!("{at}.message"), "write what is asked");
    refused(signed(json!({ "approve": { "timeout": "10ms" } })), &format!("{at}.timeout"), "write at least 1s");
}

#[test]
fn an_approval_that_nothing_depends_on_is_refused() {
    let alone = stage("sign-off", json!({ "needs": ["score"], "approve": { "message": "?" } }));
    refused(alone, "spec.stages.sign-off", "write needs: [sign-off] into the stages that are to wait for it");
    // Who is told of it at the very end does not wait for it.
    let mut told = stage("sign-off", json!({ "approve": { "message": "?" } }));
    let tell = json!({ "container": { "image": "i", "command": ["$[[ stages.sign_off.status ]]"] } });
    merge(&mut told, json!({ "finally": { "tell": tell } }));
    refused(told, "spec.stages.sign-off", "nothing depends on `sign-off`");
    let mut asked = stage("sign-off", json!({ "approve": { "message": "?" } }));
    merge(&mut asked, stage("mend", json!({ "when": "stages.sign_off.status == 'Skipped'", "uses": "load" })));
    assert!(checked(asked).is_ok());
}

#[test]
fn nobody_is_asked_in_finally_and_an_approval_is_nothing_else_and_has_nothing() {
    let mut ends = json!({ "finally": { "tell": { "approve": { "message": "?" } } } });
    refused(ends.clone(), "spec.finally.tell", "nobody is asked in finally");
    merge(&mut ends, json!({ "finally": { "tell": { "approve": null, "uses": "load" } } }));
    assert!(checked(ends).is_ok());
    let at = "spec.stages.sign-off";
    refused(signed(json!({ "timeout": "1h" })), &format!("{at}.timeout"), "timeout belongs to");
    let from = json!({ "stages": { "register": { "register": { "from": "sign-off.model" } } } });
    let mut both = signed(json!({}));
    merge(&mut both, from);
    refused(both, "spec.stages.register.register.from", "the stage `sign-off` has no outputs");
    let mut metrics = signed(json!({}));
    merge(&mut metrics, json!({ "stages": { "register": { "register": { "metrics": "sign-off" } } } }));
    refused(metrics, "spec.stages.register.register.metrics", "the stage `sign-off` has no metrics");
}
