//! A pod that reads a store: made in the namespace and with the rights of the person who asks, and deleted again, also after Ctrl-C. If this
//! program is killed, it ends by itself and goes with the run.

use std::future::Future;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerState, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use millrace_contract::{READ_ENV, ReadTask};
use millrace_core::api::{API_VERSION, AgentImage, MLPipelineRun, PodSettings};
use millrace_core::duration;
use millrace_core::pipeline::Frozen;
use millrace_core::pod::{self, Access, Claims};
use millrace_core::store::Objects;
use tokio::signal::unix::{SignalKind, signal};

use crate::connect::{Cluster, Named};
use crate::error::{Error, code};
use crate::{output, patch};

/// How often it is looked whether the pod has begun.
const LOOK: Duration = Duration::from_millis(300);
/// How long it is waited for.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long after its log has ended a pod may take to say how it ended.
const LATE: Duration = Duration::from_secs(30);
/// What the program ends with if it is interrupted: there is no answer.
const INTERRUPTED: i32 = 2;
/// Runs that are looked through for one that names the agent's image.
const RUNS: u32 = 50;

/// The agent's image: the one that is asked for, else what the run noted of it, else what another run of the namespace did.
pub async fn agent(cluster: &Cluster, run: Option<&MLPipelineRun>, asked: Option<&str>) -> Result<AgentImage, Error> {
    let noted = |run: &MLPipelineRun| run.status.as_ref()?.agent.clone();
    let of_run = run.and_then(noted);
    if let Some(image) = asked {
        return Ok(AgentImage { image: image.to_owned(), ..of_run.unwrap_or_default() });
    }
    if let Some(agent) = of_run {
        return Ok(agent);
    }
    let listed = cluster.api::<MLPipelineRun>().list(&ListParams::default().limit(RUNS)).await;
    let runs = listed.map_err(|error| Error::request("list", "the runs of the namespace", error))?.items;
    let newest = runs.iter().filter(|run| noted(run).is_some()).max_by_key(|run| run.creation_timestamp());
    newest.and_then(noted).ok_or_else(|| {
        let message = "no run of the namespace says which image reads its store: write --image with that of the agent, which `kubectl get \
             jobs -o yaml` shows in the init container `agent` of any stage";
        Error::said(message)
    })
}

/// Of the stage that ran: its user, where it may run, and who it is.
pub fn settings(frozen: &Frozen, stage: &str) -> Option<PodSettings> {
    Some(frozen.stages.get(stage)?.container()?.container.settings.clone())
}

/// Where the agent has a path, this means what it is told of.
pub const STORED: &str = "-";

/// The variable by which the agent is told what to read out of a store of objects. `size` is an artifact's.
pub fn told(objects: &Objects, size: Option<u64>) -> Result<(String, String), Error> {
    let task = ReadTask { source: objects.source(), size };
    let text = serde_json::to_string(&task).map_err(std::io::Error::from)?;
    Ok((READ_ENV.to_owned(), text))
}

/// What is to be done about an agent that does not know the command.
pub fn if_older(said: &str) -> &'static str {
    if said.contains("usage:") { "; the agent is of an older version: write --image with a newer one" } else { "" }
}

/// With this object the pod goes.
pub fn owner<K: Named>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.meta().uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// What a person needs the right to, for an error that says that they have not got it.
#[derive(Clone, Copy, Debug)]
pub enum Rights {
    Logs,
    Exec,
}

impl Rights {
    fn said(self, cluster: &Cluster, error: &kube::Error) -> Option<Error> {
        if code(error) != Some(403) {
            return None;
        }
        let kube::Error::Api(status) = error else { return None };
        let more = match self {
            Self::Logs => "get on pods/log",
            Self::Exec => "get and create on pods/exec",
        };
        Some(Error::said(format!(
            "what lies in the store is read by a pod in the namespace {}, for which you need the verbs create, get and delete on pods, and {more}: \
             {}",
            cluster.namespace, status.message
        )))
    }

    pub fn failed(self, cluster: &Cluster, verb: &'static str, object: String, error: kube::Error) -> Error {
        self.said(cluster, &error).unwrap_or_else(|| Error::request(verb, object, error))
    }
}

/// Brings the pod to the node where its claims are in use. Whoever may not read them gets it there if the scheduler can.
async fn beside(cluster: &Cluster, pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let volumes = spec.volumes.iter().flatten();
    let named: Vec<String> =
        volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|of| of.claim_name.clone()).collect();
    let api: Api<PersistentVolumeClaim> = cluster.api();
    let mut claims = Claims::new();
    for name in named {
        // What is wrong with the claim the pod says itself.
        if let Ok(Some(claim)) = api.get_opt(&name).await {
            claims.insert(name, Access::of(&claim));
        }
    }
    pod::stay_together(&mut pod.metadata, spec, &claims);
}

/// Makes the pod, works with it once it has begun, and deletes it whatever comes of that.
pub async fn with<T, F>(
    cluster: &Cluster,
    mut pod: Pod,
    rights: Rights,
    work: impl FnOnce(Api<Pod>, String) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let api: Api<Pod> = cluster.api();
    beside(cluster, &mut pod).await;
    let parameters = PostParams { field_manager: Some(patch::MANAGER.to_owned()), ..PostParams::default() };
    // From here on a signal ends the work, not the program.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let made = api.create(&parameters, &pod).await;
    let made =
        made.map_err(|error| rights.failed(cluster, "create", "a pod that reads the store".to_owned(), error))?;
    let name = made.name_any();
    let worked = tokio::select! {
        worked = async {
            begun(&api, &name).await.map_err(|error| match error {
                Failed::Request(error) => rights.failed(cluster, "read", format!("pod {name}"), *error),
                Failed::Said(error) => error,
            })?;
            work(api.clone(), name.clone()).await
        } => worked,
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
    };
    let gone = api.delete(&name, &DeleteParams::default()).await;
    if let Err(error) = gone.map(|_| ()).or_else(|error| if code(&error) == Some(404) { Ok(()) } else { Err(error) }) {
        let error = rights.failed(cluster, "delete", format!("pod {name}"), error);
        output::warn(&format!("{}; it ends by itself", crate::error::chain(&error)));
    }
    // The next signal is for the program again: whatever it does now leaves nothing behind.
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(INTERRUPTED);
    });
    worked
}

enum Failed {
    Request(Box<kube::Error>),
    Said(Error),
}

/// Waits until the pod's program runs, or has run. What holds it up is told once.
async fn begun(api: &Api<Pod>, name: &str) -> Result<(), Failed> {
    let (since, mut told) = (Instant::now(), None);
    loop {
        let pod = api.get(name).await.map_err(|error| Failed::Request(Box::new(error)))?;
        match standing(&pod) {
            Standing::Begun => return Ok(()),
            Standing::Over(why) => {
                return Err(Failed::Said(Error::said(format!(
                    "pod {name}, which was to read the store, ended: {why}"
                ))));
            }
            Standing::Waits(why) => {
                if since.elapsed() > PATIENCE {
                    let (time, why) = (duration::format(PATIENCE), why.unwrap_or_else(|| "nobody said why".to_owned()));
                    let words = format!("pod {name}, which was to read the store, has not begun within {time}: {why}");
                    return Err(Failed::Said(Error::said(words)));
                }
                if why.is_some() && why != told {
                    output::warn(&format!("pod {name} waits: {}", why.as_deref().unwrap_or_default()));
                    told = why;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the pod says how its program ended: with this code. None if nobody says so.
pub async fn ended(api: &Api<Pod>, name: &str) -> Result<Option<i32>, kube::Error> {
    let since = Instant::now();
    loop {
        let pod = api.get(name).await?;
        let over = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"));
        let code = exit_code(&pod);
        if code.is_some() || over || since.elapsed() > LATE {
            return Ok(code);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let mut containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let main = containers.find(|container| container.name == pod::MAIN)?;
    Some(main.state.as_ref()?.terminated.as_ref()?.exit_code)
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Begun,
    /// Before its program ran.
    Over(String),
    Waits(Option<String>),
}

fn standing(pod: &Pod) -> Standing {
    let Some(status) = &pod.status else { return Standing::Waits(None) };
    let mut containers = status.container_statuses.iter().flatten().filter(|container| container.name == pod::MAIN);
    let state = containers.find_map(|container| container.state.as_ref());
    let words = |reason: Option<&String>, message: Option<&String>| {
        let parts: Vec<&str> = [reason, message].into_iter().flatten().map(String::as_str).collect();
        parts.join(": ")
    };
    if let Some(ContainerState { running, terminated, .. }) = state {
        // The image has no such program.
        let unable = |reason: &String| matches!(reason.as_str(), "StartError" | "ContainerCannotRun");
        match terminated {
            Some(end) if end.reason.as_ref().is_some_and(unable) => {
                return Standing::Over(words(end.reason.as_ref(), end.message.as_ref()));
            }
            Some(_) => return Standing::Begun,
            None if running.is_some() => return Standing::Begun,
            None => {}
        }
    }
    if status.phase.as_deref() == Some("Failed") {
        return Standing::Over(words(status.reason.as_ref(), status.message.as_ref()));
    }
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(found) = scheduled {
        return Standing::Waits(Some(words(found.reason.as_ref(), found.message.as_ref())));
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let ordinary = |reason: &String| matches!(reason.as_str(), "ContainerCreating" | "PodInitializing");
    let waiting = waiting.filter(|waiting| !waiting.reason.as_ref().is_none_or(ordinary));
    Standing::Waits(waiting.map(|waiting| words(waiting.reason.as_ref(), waiting.message.as_ref())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(status: &Value) -> Standing {
        standing(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
    }

    #[test]
    fn a_pod_says_how_its_program_ended() {
        let code = |state: Value| {
            let container = |name: &str, state: &Value| json!({ "name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state });
            let other = json!({ "terminated": { "exitCode": 9 } });
            let status = json!({ "containerStatuses": [container("other", &other), container("main", &state)] });
            exit_code(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
        };
        assert_eq!(code(json!({ "running": {} })), None);
        assert_eq!(code(json!({ "terminated": { "exitCode": 0 } })), Some(0));
        assert_eq!(code(json!({ "terminated": { "exitCode": 2 } })), Some(2));
    }

    #[test]
    fn what_holds_a_pod_up_is_told_in_the_words_of_who_knows() {
        let state = |state: Value| {
            json!({ "containerStatuses": [{
            "name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }] })
        };
        assert_eq!(of(&json!({})), Standing::Waits(None));
        assert_eq!(of(&state(json!({ "waiting": { "reason": "ContainerCreating" } }))), Standing::Waits(None));
        let pull = of(&state(json!({ "waiting": { "reason": "ErrImagePull", "message": "no such image" } })));
        assert_eq!(pull, Standing::Waits(Some("ErrImagePull: no such image".into())));
        let unscheduled = of(&json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes",
        }] }));
        assert_eq!(unscheduled, Standing::Waits(Some("Unschedulable: 0/3 nodes".into())));
        assert_eq!(of(&state(json!({ "running": {} }))), Standing::Begun);
        assert_eq!(of(&state(json!({ "terminated": { "exitCode": 1 } }))), Standing::Begun);
        let unable =
            of(&state(json!({ "terminated": { "exitCode": 128, "reason": "StartError", "message": "no such file" } })));
        assert_eq!(unable, Standing::Over("StartError: no such file".into()));
        let evicted = of(&json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" }));
        assert_eq!(evicted, Standing::Over("Evicted: disk".into()));
    }
}
