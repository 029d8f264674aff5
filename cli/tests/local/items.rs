//! `forEach`: items as processes.

use serde_json::json;

use crate::support::{Place, script};

#[test]
fn items_run_side_by_side_and_what_they_made_is_put_together() {
    let place = Place::new();
    place.pipeline(
        &json!({
            "plan": script("printf '{\"n\": %s}\\n' 1 2 3 4 5 > \"$MILLRACE_OUTPUT_LIST\"", &json!({ "outputs": { "list": {} } })),
            "square": {
                "forEach": { "from": "plan.list", "parallelism": 2 }, "outputs": { "out": {} },
                "container": {
                    "image": "debian", "args": ["$[[ item.n ]]", "$[[ outputs.out ]]"],
                    "script": "#!/bin/sh\nset -eu\necho \"{\\\"square\\\": $(($1 * $1))}\" > \"$MILLRACE_OUT/metrics.json\"\necho \"item $1\"\necho $(($1 * $1)) > \"$2\"\n",
                },
            },
            "sum": script("cat \"$MILLRACE_INPUT_OUT\"/* | sort -n | tr '\\n' ' '; grep -c square \"$MILLRACE_INPUT_ALL\"", &json!({
                "inputs": { "out": { "from": "square.out" }, "all": { "from": "square.items" } },
            })),
        }),
        &json!({}),
    );
    let ran = place.run(&["-f", "p.yaml"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(place.read(".millrace/runs/p-1/logs/sum.1.log"), "1 4 9 16 25 5\n");
    assert!(ran.out.contains("square[4] | item 5"), "{ran:?}");
    assert_eq!(place.read(".millrace/runs/p-1/logs/square.1/0.log"), "item 1\n");
}

#[test]
fn an_item_is_tried_again_and_one_that_fails_for_good_ends_the_stage() {
    let place = Place::new();
    let tries = "test \"$MILLRACE_ITEM\" != b -o \"$MILLRACE_ATTEMPT\" = 2";
    let each =
        |items: &str, fast: bool| json!({ "forEach": { "items": items, "failFast": fast }, "retry": { "limit": 1 } });
    place.pipeline(&json!({ "a": script(tries, &each("$[[ ['a', 'b'] ]]", false)) }), &json!({}));
    assert_eq!(place.json(0, &[])["stages"]["a"]["items"]["succeeded"], 2);
    let fails =
        "test \"$MILLRACE_ITEM\" != b || { echo 'error: b is bad'; exit 4; }; test \"$MILLRACE_ITEM\" = a || sleep 60";
    let mut stage = script(fails, &each("$[[ ['a', 'b', 'c'] ]]", true));
    stage["retry"]["limit"] = json!(0);
    place.pipeline(&json!({ "a": stage }), &json!({}));
    let run = place.json(1, &[]);
    let message = run["stages"]["a"]["message"].as_str().unwrap();
    assert!(message.starts_with("item 1: Error: error: b is bad"), "{run}");
    assert_eq!(run["stages"]["a"]["reason"], "ItemFailed");
    // What the rule does not name is not tried again.
    let tries =
        "test \"$MILLRACE_ATTEMPT\" = 2 -o \"$MILLRACE_ITEM\" = c || exit 3; test \"$MILLRACE_ITEM\" != b || exit 4";
    let mut stage = script(tries, &each("$[[ ['a', 'b', 'c'] ]]", false));
    stage["retry"] = json!({ "limit": 5, "when": "exitCode != 4" });
    place.pipeline(&json!({ "a": stage }), &json!({}));
    let run = place.json(1, &[]);
    let message = run["stages"]["a"]["message"].as_str().unwrap();
    let no = "no other attempt: retry.when is false (exitCode 4, reason Error, attempt 2)";
    assert!(message.starts_with("item 1: Error: ") && message.contains(no), "{run}");
    assert_eq!(run["stages"]["a"]["items"]["succeeded"], 2);
}
