//! Tables of who gets a lock.

use super::*;

fn claim(run: &str, priority: i32, second: i64, held: bool, names: &[(&str, u32)]) -> Claim {
    Claim {
        run: run.into(),
        stage: None,
        priority,
        since: Some(Timestamp::from_second(second).unwrap()),
        held,
        names: names.iter().map(|(name, max)| ((*name).to_owned(), *max)).collect(),
    }
}

fn waits(mine: &Claim, others: &[Claim]) -> Option<String> {
    hindered(mine, &others.iter().collect::<Vec<_>>())
}

#[test]
fn a_lock_has_as_many_holders_as_the_least_of_those_who_hold_or_want_it_says() {
    let holds = |run: &str, max: u32| claim(run, 0, 1, true, &[("gpu", max)]);
    let wants = |max: u32| claim("z", 0, 9, false, &[("gpu", max)]);
    assert_eq!(waits(&wants(1), &[]), None);
    assert_eq!(waits(&wants(2), &[holds("a", 2)]), None);
    let one = "waits for the lock `gpu` (1 at a time), held by run a";
    assert_eq!(waits(&wants(1), &[holds("a", 1)]).as_deref(), Some(one));
    assert_eq!(waits(&wants(3), &[holds("a", 1)]).as_deref(), Some(one), "the other is to be alone");
    assert_eq!(waits(&wants(1), &[holds("a", 3)]).as_deref(), Some(one), "it is to be alone itself");
    let others = [claim("a", 0, 1, true, &[("disk", 1)])];
    assert_eq!(waits(&wants(1), &others), None, "another lock");
}

#[test]
fn the_higher_priority_goes_first_then_who_waits_longer() {
    let wants = |run: &str, priority, second| claim(run, priority, second, false, &[("gpu", 1)]);
    let all = [wants("old", 0, 1), wants("young", 0, 2), wants("urgent", 5, 3), wants("also-young", 0, 2)];
    let mut order: Vec<&Claim> = all.iter().collect();
    order.sort_by_key(|claim| claim.rank());
    let names: Vec<_> = order.iter().map(|claim| claim.run.as_str()).collect();
    assert_eq!(names, ["urgent", "old", "also-young", "young"]);
    for (place, mine) in order.iter().enumerate() {
        let others: Vec<Claim> = all.iter().filter(|claim| claim.run != mine.run).cloned().collect();
        let expected = match place {
            0 => None,
            1 => Some("waits for the lock `gpu` (1 at a time); 1 waits before it".to_owned()),
            n => Some(format!("waits for the lock `gpu` (1 at a time); {n} wait before it")),
        };
        assert_eq!(waits(mine, &others), expected);
    }
    let holds = claim("holder", -5, 9, true, &[("gpu", 1)]);
    assert!(waits(&all[2], &[holds]).is_some(), "nobody is pushed out");
}

#[test]
fn who_wants_several_gets_all_or_none_and_those_behind_it_do_not_pass() {
    let holder = claim("a", 0, 1, true, &[("x", 1)]);
    let both = claim("b", 0, 2, false, &[("x", 1), ("y", 1)]);
    let one = claim("c", 0, 3, false, &[("y", 1)]);
    assert!(waits(&both, &[holder.clone(), one.clone()]).unwrap().contains("`x`"));
    let behind = waits(&one, &[holder, both.clone()]).unwrap();
    assert_eq!(behind, "waits for the lock `y` (1 at a time); 1 waits before it");
    assert_eq!(waits(&both, &[one]), None);
}

#[test]
fn what_has_ended_holds_nothing_unless_its_program_still_stops() {
    let run = |completed: bool, state: &str, reason: &str| -> MLPipelineRun {
        let mut status = serde_json::json!({ "stages": { "s": {
            "state": state, "reason": reason,
            "locks": { "names": { "x": 1 }, "holdTime": "2026-01-01T00:00:00Z" },
        } } });
        if completed {
            status["completionTime"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(serde_json::json!({
            "apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": { "name": "r" },
            "spec": {}, "status": status,
        }))
        .unwrap()
    };
    let held = |run: &MLPipelineRun, stops: bool| claims(run, 0, |_| stops).len();
    assert_eq!(held(&run(false, "Running", ""), false), 1);
    assert_eq!(held(&run(false, "BackingOff", "Error"), false), 1);
    assert_eq!(held(&run(false, "Succeeded", ""), true), 0);
    assert_eq!(held(&run(false, "Failed", "Error"), true), 0);
    assert_eq!(held(&run(false, "Failed", "Canceled"), true), 1);
    assert_eq!(held(&run(false, "Failed", "Canceled"), false), 0);
    assert_eq!(held(&run(true, "Failed", "Canceled"), true), 0);
    assert_eq!(lock_names(&run(true, "Failed", "Canceled")), BTreeSet::from(["x"]));
}
