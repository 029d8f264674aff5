//! A pod by which a person reads what lies in a store. The operator touches no store: the command line makes this pod in the tenant's namespace
//! and with the tenant's own rights, and deletes it again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, PersistentVolumeClaimVolumeSource, Pod, PodSpec,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::api::{AgentImage, PodSettings, Resources};
use crate::{names, pod, store};

/// Where the folder is mounted.
pub const MOUNT: &str = "/millrace/read";
/// Who made it: no pod of a run.
pub const MADE_BY: &str = "kubectl-millrace";
const STORE: &str = "millrace-store";
const AGENT: &str = "/millrace-agent";

/// What is to be read, and how.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// The name begins with it.
    pub prefix: &'a str,
    pub agent: &'a AgentImage,
    /// Arguments of the agent.
    pub arguments: Vec<String>,
    pub from: From<'a>,
    /// With it the pod goes.
    pub owner: OwnerReference,
    /// Of the stage that made it: its user, and the nodes where it may run.
    pub settings: Option<&'a PodSettings>,
    /// It ends after this, if whoever made it does not delete it.
    pub seconds: i64,
}

/// Where it lies.
#[derive(Clone, Debug)]
pub enum From<'a> {
    /// The folder of the claim is mounted, or the whole.
    Claim { claim: &'a str, folder: Option<&'a str> },
    /// The folder of the claim is mounted, to be written to.
    Into { claim: &'a str, folder: &'a str, told: (String, String) },
    /// The agent gets at it by itself.
    Objects {
        /// The Secret with the credentials; without it the service account counts.
        secret: Option<&'a str>,
        account: Option<&'a str>,
        /// A variable, and what it tells the agent.
        told: (String, String),
    },
}

/// The pod: restricted, without a token, and with one folder of the claim, read-only unless it is to be written to, or the credentials of one store.
#[must_use]
pub fn pod(reader: Reader<'_>) -> Pod {
    let Reader { prefix, agent, arguments, from, owner, settings, seconds } = reader;
    let mut spec = pod::base();
    let mut main = Container {
        name: pod::MAIN.to_owned(),
        image: Some(agent.image.clone()),
        image_pull_policy: agent.pull_policy.clone(),
        command: Some(vec![AGENT.to_owned()]),
        args: Some(arguments),
        security_context: Some(pod::container_security()),
        ..Container::default()
    };
    let own = settings.cloned().unwrap_or_default();
    let settings = PodSettings {
        run_as_user: own.run_as_user,
        run_as_group: own.run_as_group,
        node_selector: own.node_selector,
        tolerations: own.tolerations,
        affinity: own.affinity,
        resources: Some(Resources {
            requests: [("cpu".to_owned(), json!("10m")), ("memory".to_owned(), json!("32Mi"))].into(),
            limits: [("memory".to_owned(), json!("128Mi"))].into(),
        }),
        ..PodSettings::default()
    };
    pod::settings_into(&mut spec, &mut main, &settings, &BTreeMap::new());
    reach(from, &mut spec, &mut main);
    let secrets = agent.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    spec.image_pull_secrets.get_or_insert_default().extend(secrets);
    spec.automount_service_account_token = Some(false);
    spec.restart_policy = Some("Never".to_owned());
    spec.active_deadline_seconds = Some(seconds);
    spec.termination_grace_period_seconds = Some(1);
    spec.containers = vec![main];
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix.to_owned()),
            labels: Some([(names::MANAGED_BY_LABEL.to_owned(), MADE_BY.to_owned())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        ..Pod::default()
    }
}

fn reach(from: From<'_>, spec: &mut PodSpec, main: &mut Container) {
    match from {
        From::Claim { claim, folder } => {
            main.volume_mounts = Some(vec![VolumeMount {
                name: STORE.to_owned(),
                mount_path: MOUNT.to_owned(),
                sub_path: folder.map(str::to_owned),
                read_only: Some(true),
                ..VolumeMount::default()
            }]);
            spec.volumes = Some(vec![Volume {
                name: STORE.to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.to_owned(),
                    ..PersistentVolumeClaimVolumeSource::default()
                }),
                ..Volume::default()
            }]);
        }
        From::Into { claim, folder, told: (name, value) } => {
            reach(From::Claim { claim, folder: Some(folder) }, spec, main);
            main.volume_mounts.iter_mut().flatten().for_each(|mount| mount.read_only = None);
            main.env = Some(vec![EnvVar { name, value: Some(pod::escape(&value)), value_from: None }]);
        }
        From::Objects { secret, account, told: (name, value) } => {
            // What is on its way is put down here.
            main.volume_mounts = Some(vec![VolumeMount {
                name: STORE.to_owned(),
                mount_path: MOUNT.to_owned(),
                ..VolumeMount::default()
            }]);
            spec.volumes = Some(vec![Volume {
                name: STORE.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            }]);
            main.env = Some(vec![EnvVar { name, value: Some(pod::escape(&value)), value_from: None }]);
            main.env_from = store::environment(secret);
            spec.service_account_name = account.filter(|_| secret.is_none()).map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn made(settings: Option<&PodSettings>, folder: Option<&str>) -> Value {
        let agent = AgentImage {
            image: "registry/agent:1".into(),
            pull_policy: Some("Never".into()),
            pull_secrets: vec!["key".into()],
        };
        let owner = OwnerReference { kind: "MLPipelineRun".into(), name: "r".into(), ..OwnerReference::default() };
        let arguments = vec!["wait".to_owned()];
        let prefix = "millrace-cp-";
        json!(pod(Reader {
            prefix,
            agent: &agent,
            arguments,
            from: From::Claim { claim: "artifacts", folder },
            owner,
            settings,
            seconds: 60
        }))
    }

    #[test]
    fn it_sees_one_folder_read_only_and_ends_by_itself() {
        let pod = made(None, Some("runs/r-12345678"));
        let spec = &pod["spec"];
        let mount = json!({ "name": STORE, "mountPath": MOUNT, "subPath": "runs/r-12345678", "readOnly": true });
        assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!((&spec["activeDeadlineSeconds"], &spec["restartPolicy"]), (&json!(60), &json!("Never")));
        assert_eq!(spec["automountServiceAccountToken"], json!(false));
        assert_eq!(spec["securityContext"]["runAsNonRoot"], json!(true));
        assert_eq!(spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"], json!(false));
        assert_eq!(spec["imagePullSecrets"], json!([{ "name": "key" }]));
        assert_eq!(spec["containers"][0]["imagePullPolicy"], "Never");
        assert_eq!(pod["metadata"]["labels"].as_object().unwrap().len(), 1, "no label of a run's pods");
        assert!(made(None, None)["spec"]["containers"][0]["volumeMounts"][0].get("subPath").is_none());
    }

    #[test]
    fn of_a_bucket_it_has_the_credentials_of_one_store_and_no_volume() {
        let agent = AgentImage { image: "registry/agent:1".into(), ..AgentImage::default() };
        let of = |secret: Option<&'static str>| {
            let from = From::Objects { secret, account: Some("reads"), told: ("ASK".into(), "$(HOME)".into()) };
            let owner = OwnerReference::default();
            let arguments = vec!["history".to_owned()];
            json!(pod(Reader { prefix: "h-", agent: &agent, arguments, from, owner, settings: None, seconds: 60 }))
        };
        let spec = &of(Some("keys"))["spec"];
        assert_eq!(spec["containers"][0]["env"], json!([{ "name": "ASK", "value": "$$(HOME)" }]));
        assert_eq!(spec["containers"][0]["envFrom"][0]["secretRef"]["name"], "keys");
        assert!(spec["volumes"][0].get("emptyDir").is_some() && spec.get("serviceAccountName").is_none());
        assert_eq!(of(None)["spec"]["serviceAccountName"], "reads");
        assert_eq!(of(None)["spec"]["automountServiceAccountToken"], json!(false));
    }

    #[test]
    fn it_runs_as_the_stage_and_where_that_may_with_nothing_else_of_it() {
        let settings: PodSettings = serde_json::from_value(json!({
            "runAsUser": 1000, "nodeSelector": { "disk": "fast" }, "env": { "TOKEN": { "value": "x" } }, "serviceAccountName": "s",
            "resources": { "limits": { "nvidia.com/gpu": 1 } }, "podTemplate": "gpu",
        }))
        .unwrap();
        let spec = &made(Some(&settings), None)["spec"];
        assert_eq!(spec["securityContext"]["runAsUser"], json!(1000));
        assert_eq!(spec["nodeSelector"], json!({ "disk": "fast" }));
        assert!(spec.get("serviceAccountName").is_none() && spec["containers"][0].get("env").is_none());
        assert!(spec["containers"][0]["resources"]["limits"].get("nvidia.com/gpu").is_none());
        assert_eq!(spec["automountServiceAccountToken"], json!(false));
    }
}
