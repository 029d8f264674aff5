//! What one attempt leaves for the next.

use std::fs;

use serde_json::json;

use crate::support::Stage;

/// Where the next attempt would go on.
const WHERE: &str = "echo $MILLRACE_RESTORE_DIR; echo $MILLRACE_RESTORE_LATEST; exit 3";

fn attempt(stage: &mut Stage, number: u32, script: &str) -> Vec<String> {
    stage.task["attempt"] = json!(number);
    let ran = stage.sh(script);
    let root = stage.root.path().display().to_string();
    let text = String::from_utf8_lossy(&ran.stdout).replace(&root, "");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn an_attempt_goes_on_from_the_newest_checkpoint_that_was_renamed_into_its_place() {
    let mut stage = Stage::new();
    let two = "cd $MILLRACE_CHECKPOINT_DIR; mkdir step-9; touch -d '2026-01-01' step-9; mkdir step-10; touch -d '2026-01-02' step-10; exit 3";
    attempt(&mut stage, 1, two);
    // Killed while it wrote: what is there begins with a dot.
    attempt(&mut stage, 2, "cd $MILLRACE_CHECKPOINT_DIR; mkdir .step-11; kill -9 $$");
    assert_eq!(attempt(&mut stage, 3, WHERE), ["/stage/attempts/1/checkpoint", "/stage/attempts/1/checkpoint/step-10"]);
    let renamed = "cd $MILLRACE_CHECKPOINT_DIR; echo x > .last; mv .last last; exit 3";
    attempt(&mut stage, 4, renamed);
    assert_eq!(attempt(&mut stage, 6, WHERE), ["/stage/attempts/4/checkpoint", "/stage/attempts/4/checkpoint/last"]);
}

#[test]
fn a_second_pod_of_an_attempt_goes_on_from_what_the_first_one_left() {
    let mut stage = Stage::new();
    attempt(&mut stage, 1, "echo x > $MILLRACE_CHECKPOINT_DIR/a; exit 3");
    attempt(&mut stage, 2, "echo x > $MILLRACE_CHECKPOINT_DIR/b; exit 3");
    let aside = "/stage/attempts/2.replaced-1/checkpoint";
    assert_eq!(attempt(&mut stage, 2, WHERE), [aside.to_owned(), format!("{aside}/b")]);
}

#[test]
fn a_stage_that_is_complete_keeps_no_checkpoints_and_one_that_failed_does() {
    let mut stage = Stage::new().output("model", "artifact");
    let write = "echo x > $MILLRACE_CHECKPOINT_DIR/step; ";
    attempt(&mut stage, 1, &format!("{write} exit 3"));
    let there = |stage: &Stage, attempt: u32| stage.path(&format!("stage/attempts/{attempt}/checkpoint")).exists();
    assert!(there(&stage, 1));
    attempt(&mut stage, 2, &format!("{write} cp $MILLRACE_RESTORE_LATEST $MILLRACE_OUTPUT_MODEL"));
    assert!(stage.manifest().is_some() && !there(&stage, 1) && !there(&stage, 2));
    assert_eq!(fs::read_to_string(stage.path("stage/attempts/2/outputs/model")).unwrap(), "x\n");
}
