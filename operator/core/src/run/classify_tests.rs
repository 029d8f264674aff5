//! Tables of what is seen of an attempt, and where it stands then.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{ContainerView, Terminated};
use super::*;

const WANTED: Wanted<'static> =
    Wanted { run_uid: "run-uid", stage: "train", attempt: 1, items: false, outputs: &BTreeMap::new() };

fn reference(uid: Option<&str>) -> JobRef {
    JobRef { name: "r-train-1".into(), uid: uid.map(str::to_owned) }
}

fn job(change: impl FnOnce(&mut JobView)) -> JobView {
    let mut job = JobView {
        name: "r-train-1".into(),
        uid: "job-uid".into(),
        owner: Some("run-uid".into()),
        stage: "train".into(),
        attempt: 1,
        ..JobView::default()
    };
    change(&mut job);
    job
}

fn pod(change: impl FnOnce(&mut PodView)) -> PodView {
    let mut pod = PodView {
        name: "p".into(),
        owner: Some("job-uid".into()),
        stage: "train".into(),
        attempt: 1,
        phase: "Pending".into(),
        main: Some(ContainerView::default()),
        ..PodView::default()
    };
    change(&mut pod);
    pod
}

fn words(reason: &str) -> Words {
    Words { reason: reason.into(), message: "m".into() }
}

fn ended(exit_code: i32) -> ContainerView {
    let message = serde_json::json!({
        "millrace": "v1", "runUid": "run-uid", "stage": "train", "attempt": 1,
        "outcome": if exit_code == 0 { "Succeeded" } else { "Failed" },
        "reason": if exit_code == 0 { "Completed" } else { "Error" }, "exitCode": exit_code,
    });
    let terminated = Terminated { exit_code, message: message.to_string(), ..Terminated::default() };
    ContainerView { terminated: Some(terminated), ..ContainerView::default() }
}

fn standing(uid: Option<&str>, job: Option<JobView>, pod: Option<PodView>) -> String {
    let observed = Observed {
        jobs: job.into_iter().map(Arc::new).collect(),
        pods: pod.into_iter().map(Arc::new).collect(),
        ..Observed::default()
    };
    match look(WANTED, &reference(uid), &observed).standing {
        Standing::Unmade => "unmade".into(),
        Standing::Pending(None) => "pending".into(),
        Standing::Pending(Some(words)) => format!("pending {}", words.reason),
        Standing::Starting => "starting".into(),
        Standing::Running(_) => "running".into(),
        Standing::Unclear => "unclear".into(),
        Standing::Ended(Ending::Succeeded(_)) => "succeeded".into(),
        Standing::Ended(Ending::Failed(failure)) => format!("failed {}", failure.reason),
        Standing::Ended(Ending::Disrupted { reason, .. }) => format!("disrupted {reason}"),
    }
}

#[test]
fn an_attempt_without_a_job_is_unmade_until_its_job_was_seen_and_disrupted_after() {
    assert_eq!(standing(None, None, None), "unmade");
    assert_eq!(standing(Some("job-uid"), None, None), "disrupted JobDeleted");
}

#[test]
fn a_job_of_somebody_else_or_made_again_under_the_name_is_not_the_attempts() {
    assert_eq!(standing(None, Some(job(|j| j.owner = Some("other".into()))), None), "unmade");
    assert_eq!(standing(Some("older"), Some(job(|_| {})), None), "disrupted JobDeleted");
}

#[test]
fn the_pod_tells_before_the_job_does() {
    let with = |change: fn(&mut PodView)| standing(None, Some(job(|_| {})), Some(pod(change)));
    assert_eq!(with(|_| {}), "starting");
    assert_eq!(with(|p| p.main = Some(ended(0))), "succeeded");
    assert_eq!(with(|p| p.main = Some(ended(1))), "failed Error");
    assert_eq!(
        with(|p| p.main = Some(ContainerView { running_since: Some(Timestamp::UNIX_EPOCH), ..Default::default() })),
        "running"
    );
}

#[test]
fn a_waiting_pod_is_pending_with_the_words_of_whom_it_waits_for() {
    let with = |change: fn(&mut PodView)| standing(None, Some(job(|_| {})), Some(pod(change)));
    let view = |reason: &str| Some(ContainerView { waiting: Some(words(reason)), ..Default::default() });
    assert_eq!(with(|p| p.unschedulable = Some(words("Unschedulable"))), "pending Unschedulable");
    for reason in ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "InvalidImageName"] {
        let mut waiting = pod(|_| {});
        waiting.main = view(reason);
        assert_eq!(standing(None, Some(job(|_| {})), Some(waiting.clone())), format!("pending {reason}"));
        waiting.main = view("PodInitializing");
        waiting.init = view(reason);
        assert_eq!(standing(None, Some(job(|_| {})), Some(waiting)), format!("pending {reason}"));
    }
    let mut creating = pod(|_| {});
    creating.main = view("ContainerCreating");
    assert_eq!(standing(None, Some(job(|_| {})), Some(creating)), "starting");
}

#[test]
fn what_the_scheduler_says_twice_is_said_once() {
    let said = "0/1 nodes are available: persistentvolumeclaim \"minio\" not found. not found";
    let unplaced = pod(|p| p.unschedulable = Some(Words { reason: "Unschedulable".into(), message: said.into() }));
    let observed =
        Observed { jobs: vec![Arc::new(job(|_| {}))], pods: vec![Arc::new(unplaced)], ..Observed::default() };
    let Standing::Pending(Some(words)) = look(WANTED, &reference(None), &observed).standing else {
        panic!("not pending")
    };
    assert_eq!(words.message, "0/1 nodes are available: persistentvolumeclaim \"minio\" not found");
}

#[test]
fn what_ended_without_a_word_is_disrupted() {
    for (change, expected) in [
        (
            pod(|p| {
                p.phase = "Failed".into();
                p.words = Some(words("Evicted"));
            }),
            "disrupted Evicted",
        ),
        (
            pod(|p| {
                p.phase = "Failed".into();
                p.disrupted = Some(words("PreemptionByScheduler"));
            }),
            "disrupted PreemptionByScheduler",
        ),
        (pod(|p| p.phase = "Failed".into()), "disrupted PodFailed"),
        (pod(|p| p.phase = "Unknown".into()), "disrupted NodeLost"),
        (
            pod(|p| {
                p.deleting = true;
                p.disrupted = Some(words(NODE_LOST));
            }),
            "disrupted NodeLost",
        ),
    ] {
        assert_eq!(standing(None, Some(job(|_| {})), Some(change)), expected);
    }
    assert_eq!(
        standing(None, Some(job(|j| j.failed = Some(words("BackoffLimitExceeded")))), None),
        "disrupted PodLost"
    );
    assert_eq!(standing(None, Some(job(|j| j.complete = true)), None), "disrupted PodLost");
    assert_eq!(standing(None, Some(job(|j| j.deleting = true)), None), "disrupted JobDeleted");
}

#[test]
fn an_init_container_that_failed_is_a_failure() {
    let terminated = Terminated { exit_code: 74, reason: "Error".into(), ..Terminated::default() };
    let init = ContainerView { terminated: Some(terminated), ..Default::default() };
    let failed = pod(|p| {
        p.phase = "Failed".into();
        p.init = Some(init);
    });
    assert_eq!(standing(None, Some(job(|_| {})), Some(failed)), "failed AgentNotDelivered");
}

#[test]
fn a_failed_job_waits_for_the_last_word_of_its_pod_unless_its_deadline_ended_it() {
    let failed = job(|j| j.failed = Some(words("BackoffLimitExceeded")));
    assert_eq!(standing(None, Some(failed.clone()), Some(pod(|_| {}))), "unclear");
    assert_eq!(standing(None, Some(failed), Some(pod(|p| p.main = Some(ended(0))))), "succeeded");
    let late = job(|j| j.failed = Some(words("DeadlineExceeded")));
    assert_eq!(standing(None, Some(late.clone()), Some(pod(|_| {}))), "failed DeadlineExceeded");
    assert_eq!(standing(None, Some(late), None), "failed DeadlineExceeded");
}

#[test]
fn a_pod_of_another_attempt_or_job_never_counts() {
    let zombie = pod(|p| {
        p.main = Some(ended(0));
        p.attempt = 2;
    });
    assert_eq!(standing(None, Some(job(|_| {})), Some(zombie)), "pending");
    let stranger = pod(|p| {
        p.main = Some(ended(0));
        p.owner = Some("other".into());
    });
    assert_eq!(standing(None, Some(job(|_| {})), Some(stranger)), "pending");
}

#[test]
fn a_pod_that_outlives_its_job_still_counts() {
    assert_eq!(standing(Some("job-uid"), None, Some(pod(|p| p.main = Some(ended(0))))), "succeeded");
}

#[test]
fn the_job_controllers_words_are_those_of_a_job_without_a_pod() {
    let observed = Observed {
        jobs: vec![Arc::new(job(|_| {}))],
        job_warnings: [("r-train-1".to_owned(), words("FailedCreate"))].into(),
        ..Observed::default()
    };
    let seen = look(WANTED, &reference(None), &observed);
    assert_eq!(seen.standing, Standing::Pending(Some(words("FailedCreate"))));
}
