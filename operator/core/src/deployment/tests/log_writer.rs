//! The payload log in a table: what writes it, where routers send events, and what is said when it takes nothing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Container;
use millrace_routes::{LogStats, Routes};
use serde_json::{Value, json};

use super::cluster::{Cluster, pair};
use crate::deployment::check;
use crate::names::{DEPLOYMENT_LABEL, LOG_WRITER_LABEL, log_writer};
use crate::routing::Report;

fn logged(table: &Value) -> Cluster {
    let mut cluster = Cluster::serving_version_1();
    set(&mut cluster, Some(table));
    cluster
}

fn set(cluster: &mut Cluster, table: Option<&Value>) {
    let monitoring = table.map(|table| json!({ "log": { "sampling": 1.0, "table": table } }));
    cluster.owner.spec.monitoring = monitoring.map(|monitoring| serde_json::from_value(monitoring).unwrap());
    cluster.edited();
    cluster.settle();
}

fn container(cluster: &Cluster) -> Container {
    cluster.log_writer.clone().unwrap().spec.unwrap().template.spec.unwrap().containers.remove(0)
}

fn strategy(cluster: &Cluster) -> String {
    cluster.log_writer.clone().unwrap().spec.unwrap().strategy.unwrap().type_.unwrap()
}

fn params(cluster: &Cluster) -> Value {
    let args = container(cluster).args.unwrap();
    assert_eq!(args[..2], ["payload-log", "--params"]);
    serde_json::from_str(&args[2]).unwrap()
}

#[test]
fn a_table_in_a_bucket_is_written_by_one_pod_that_alone_has_the_keys() {
    let access = json!({ "endpoint": "http://minio:9000", "region": "eu", "secretRef": { "name": "keys" } });
    let cluster = logged(&json!({ "uri": "s3://lake/requests", "access": access, "interval": "10s" }));
    assert_eq!(strategy(&cluster), "RollingUpdate");
    let name = log_writer("penguins");
    let table = json!({
        "uri": "s3://lake/requests",
        "s3": { "endpoint": "http://minio:9000", "region": "eu", "allowHttp": true },
    });
    let asked = json!({ "table": table, "listen": "[::]:8080", "spool": "/spool", "everySeconds": 10 });
    assert_eq!(params(&cluster), asked);
    let keys: Vec<_> = container(&cluster).env.unwrap().into_iter().map(|variable| variable.name).collect();
    assert_eq!(keys, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
    // It is none of the model's servers, and nobody takes it for a revision.
    let template = cluster.log_writer.clone().unwrap().spec.unwrap().template;
    let labels = template.metadata.unwrap().labels.unwrap();
    assert_eq!(
        (labels.get(LOG_WRITER_LABEL).map(String::as_str), labels.get(DEPLOYMENT_LABEL)),
        (Some("penguins"), None)
    );
    assert_eq!(cluster.observed.deployments.len(), 1);
    let service = &cluster.observed.services[&name];
    assert_eq!(service.selector[LOG_WRITER_LABEL], "penguins");
    let routes: Routes = serde_json::from_str(&cluster.routes.clone().unwrap().text).unwrap();
    let sink = routes.models[0].log.clone().unwrap().sink;
    assert_eq!((sink.address, sink.batched, sink.tells), (format!("http://{name}.team:8080/"), true, true));
    assert!(!cluster.routes.unwrap().text.contains("keys"));
}

#[test]
fn a_table_on_a_claim_is_mounted_and_what_changes_is_applied_once() {
    let mut cluster = logged(&json!({ "uri": "pvc://lake/logs/requests/" }));
    assert_eq!(params(&cluster)["table"], json!({ "uri": "/mnt/table/logs/requests" }));
    assert_eq!(params(&cluster)["everySeconds"], 300);
    assert_eq!(strategy(&cluster), "Recreate", "the claim may be for one pod");
    let pod = cluster.log_writer.clone().unwrap().spec.unwrap().template.spec.unwrap();
    let claims: Vec<_> =
        pod.volumes.unwrap().into_iter().filter_map(|v| v.persistent_volume_claim).map(|c| c.claim_name).collect();
    assert_eq!(claims, ["lake"]);
    assert!(container(&cluster).env.is_none());
    let before = cluster.writes;
    cluster.settle();
    assert_eq!(cluster.writes, before);
    set(&mut cluster, Some(&json!({ "uri": "pvc://lake/logs/requests/", "interval": "1m" })));
    assert_eq!(params(&cluster)["everySeconds"], 60);
}

#[test]
fn without_the_table_its_writer_goes_and_somebody_elses_stays() {
    let mut cluster = logged(&json!({ "uri": "gs://lake/requests" }));
    assert!(cluster.observed.log_writer.is_some());
    set(&mut cluster, None);
    assert!(cluster.observed.log_writer.is_none());
    assert!(!cluster.observed.services.contains_key(&log_writer("penguins")));
    assert_eq!(cluster.observed.deployments.len(), 1, "the revision serves on");
    // What has the name and another owner.
    set(&mut cluster, Some(&json!({ "uri": "gs://lake/requests" })));
    let mut view = cluster.observed.log_writer.clone().unwrap();
    Arc::make_mut(&mut view).owner = Some("somebody".to_owned());
    cluster.observed.log_writer = Some(view);
    cluster.owner.spec.monitoring = None;
    cluster.edited();
    assert!(cluster.plan().delete.iter().all(|delete| delete.uid != "log-writer"));
}

#[test]
fn what_is_lost_is_told_with_what_the_matter_is() {
    let mut cluster = logged(&json!({ "uri": "s3://lake/requests" }));
    let hear = |cluster: &mut Cluster, problem: Option<&str>| {
        for router in &mut cluster.observed.routers.pods {
            let mut report = Report::clone(router.report.as_ref().unwrap());
            let problem = problem.map(|why| format!("http://{}.team:8080/: {why}", log_writer("penguins")));
            report.models.get_mut("penguins").unwrap().log =
                Some(LogStats { failed: 1, problem, ..LogStats::default() });
            router.report = Some(Arc::new(report));
        }
        cluster.pass();
    };
    hear(&mut cluster, None);
    assert_eq!(cluster.condition("PayloadLogged"), pair("True", "Delivering"));
    cluster.wait(30);
    hear(&mut cluster, Some("connection refused"));
    assert_eq!(cluster.condition("PayloadLogged"), pair("False", "SinkFailed"));
    let message = |cluster: &Cluster| {
        let conditions = cluster.owner.status.clone().unwrap().conditions;
        conditions.into_iter().find(|condition| condition.type_ == "PayloadLogged").unwrap().message
    };
    let name = log_writer("penguins");
    let lack = format!("connection refused; no pod of the Deployment {name}, which writes the table, is ready");
    assert!(message(&cluster).ends_with(&lack), "{}", message(&cluster));
    // The same is not written again.
    let before = cluster.writes;
    cluster.wait(3600);
    hear(&mut cluster, Some("connection refused"));
    assert_eq!(cluster.writes, before);
}

#[test]
fn what_cannot_be_a_table_is_refused_with_what_to_write() {
    for (table, says) in [
        (json!({ "uri": "s3://lake" }), "spec.monitoring.log.table.uri: `s3://lake` is no address of a table"),
        (json!({ "uri": "az://box/x" }), "spec.monitoring.log.table.access.account: az:// names the container alone"),
        (
            json!({ "uri": "gs://lake/x", "access": { "region": "eu" } }),
            "spec.monitoring.log.table.access.region: region is for an address that begins with s3://",
        ),
        (
            json!({ "uri": "gs://lake/x", "interval": "2h" }),
            "spec.monitoring.log.table.interval: \"2h\" is no time from 5s to 1h",
        ),
    ] {
        let mut cluster = Cluster::serving_version_1();
        let monitoring = json!({ "log": { "sampling": 1.0, "table": table } });
        cluster.owner.spec.monitoring = Some(serde_json::from_value(monitoring).unwrap());
        let found: Vec<_> = check(&cluster.owner, &cluster.config).iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|problem| problem.starts_with(says)), "{found:?}");
        cluster.edited();
        cluster.settle();
        assert!(cluster.log_writer.is_none(), "nothing is made of it");
    }
    let mut cluster = Cluster::serving_version_1();
    (cluster.config.data_image, cluster.config.agent_image) = (String::new(), "registry/agent:1".to_owned());
    set(&mut cluster, Some(&json!({ "uri": "gs://lake/requests" })));
    assert_eq!(cluster.condition("Accepted").0, "False");
}
