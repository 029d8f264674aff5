//! Ctrl-C, and a terminal that goes away.

use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{Place, end, eventually, is_alive, script};

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// A stage that notes its number and stays; on SIGTERM it does what `last` says.
fn stays(place: &Place, last: &str) {
    let (number, stopped) = (place.path("number"), place.path("stopped"));
    let text =
        format!("trap '{last}' TERM\necho $$ > {0}.new; mv {0}.new {0}\nwhile :; do sleep 0.1; done", number.display());
    let text = text.replace("STOPPED", &stopped.display().to_string());
    place.pipeline(
        &json!({ "a": script(&text, &json!({})), "b": script("echo never", &json!({ "needs": ["a"] })) }),
        &json!({ "finally": { "tell": script("echo told", &json!({})) } }),
    );
}

#[test]
fn one_signal_ends_it_gracefully_and_finally_runs() {
    let place = Place::new();
    stays(&place, "echo > STOPPED; exit 0");
    let child = place.start(&["-f", "p.yaml"]);
    eventually("the program runs", || place.path("number").exists());
    signal(&child, Signal::SIGINT);
    let ran = end(child);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(place.path("stopped").exists(), "{ran:?}");
    assert!(ran.out.contains("tell | told") && ran.out.contains("Canceled"), "{ran:?}");
    assert!(!ran.out.contains("never"), "{ran:?}");
}

#[test]
fn a_second_signal_does_not_wait_for_the_grace_period() {
    let place = Place::new();
    stays(&place, "");
    let child = place.start(&["-f", "p.yaml"]);
    eventually("the program runs", || place.path("number").exists());
    signal(&child, Signal::SIGINT);
    eventually("it is being canceled", || place.read(".millrace/runs/p-1/run.yaml").contains("Canceling"));
    signal(&child, Signal::SIGINT);
    let ran = end(child);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(!ran.out.contains("told"), "{ran:?}");
    assert!(!is_alive(&place.read("number")), "the program is left behind");
}

#[test]
fn a_program_that_is_killed_takes_its_stages_along_and_the_run_can_go_on() {
    let place = Place::new();
    stays(&place, "exit 0");
    let mut child = place.start(&["-f", "p.yaml"]);
    eventually("the program runs", || place.path("number").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let number = place.read("number");
    eventually("the stage's program ended", || !is_alive(&number));
    std::fs::remove_file(place.path("number")).unwrap();
    let child = place.start(&["--again", "p-1"]);
    eventually("the stage runs again", || place.path("number").exists());
    signal(&child, Signal::SIGTERM);
    let ran = end(child);
    assert_eq!(ran.code, 1, "{ran:?}");
}
