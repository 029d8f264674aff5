//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use k8s_openapi::api::core::v1::ResourceRequirements;
use millrace_core::config::{Config, RouterConfig};
use millrace_core::duration;

/// The Millrace operator.
#[derive(Parser)]
#[command(name = "millrace-controller", version)]
pub struct Settings {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the controller.
    Run(Box<RunSettings>),
    /// Print the CustomResourceDefinitions, or write one file for each.
    Crds {
        /// Folder to write to.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print the ClusterRole that the controller needs.
    Rbac {
        #[arg(long, default_value = "millrace-controller")]
        name: String,
    },
    /// Print the API reference as Markdown.
    Reference,
}

#[derive(Args, Clone)]
pub struct RunSettings {
    /// Namespace of the StageTemplates and PodTemplates for everyone.
    #[arg(long, env = "MILLRACE_CATALOG_NAMESPACE", default_value = "millrace-system")]
    pub catalog_namespace: String,
    /// Image that brings the agent into images that do not carry it.
    #[arg(long, env = "MILLRACE_AGENT_IMAGE")]
    pub agent_image: String,
    /// Image of the model server.
    #[arg(long, env = "MILLRACE_SERVER_IMAGE")]
    pub server_image: String,
    /// Image of the model server for GPUs of NVIDIA.
    #[arg(long, env = "MILLRACE_SERVER_CUDA_IMAGE")]
    pub server_cuda_image: String,
    /// Image of the operator, which has the router's program.
    #[arg(long, env = "MILLRACE_OPERATOR_IMAGE")]
    pub operator_image: String,
    /// ClusterRole with the rights that a router has in its namespace.
    #[arg(long, env = "MILLRACE_ROUTER_ROLE", default_value = "millrace-router")]
    pub router_role: String,
    /// Routers in each namespace that serves models.
    #[arg(long, env = "MILLRACE_ROUTER_REPLICAS", default_value_t = 2, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub router_replicas: i32,
    /// Resources of a router, as JSON: {"requests": {…}, "limits": {…}}.
    #[arg(long, env = "MILLRACE_ROUTER_RESOURCES", default_value = "{}", value_parser = parse_resources)]
    pub router_resources: ResourceRequirements,
    /// Connections of callers that each router has at once, for all models of its namespace together. The default fits into 256 MiB of memory.
    #[arg(long, env = "MILLRACE_ROUTER_MAX_CONNECTIONS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub router_max_connections: u32,
    /// Whether NetworkPolicies are made for the routers and the pods behind them.
    #[arg(long, env = "MILLRACE_ROUTER_NETWORK_POLICIES", default_value_t = true, action = clap::ArgAction::Set)]
    pub router_network_policies: bool,
    /// Whether ModelDeployments may ask for HTTPRoutes. The Gateway API may be installed later.
    #[arg(long, env = "MILLRACE_GATEWAY_API", default_value_t = false, action = clap::ArgAction::Set)]
    pub gateway_api: bool,
    /// Namespaces in which Gateways have their pods, where those are not the Gateways' own, separated by commas.
    #[arg(long, env = "MILLRACE_GATEWAY_NAMESPACES", value_delimiter = ',')]
    pub gateway_namespaces: Vec<String>,
    /// Image of the stock data stages: its program looks for new data. Without it `onData` cannot work.
    #[arg(long, env = "MILLRACE_DATA_IMAGE", default_value = "")]
    pub data_image: String,
    /// Images of the stock stages, separated by commas.
    #[arg(long, env = "MILLRACE_STAGE_IMAGES", value_delimiter = ',')]
    pub stage_images: Vec<String>,
    /// When Millrace's own images are pulled. Default: as the cluster does it.
    #[arg(long, env = "MILLRACE_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// Service accounts that stages and servers may name, separated by commas.
    #[arg(long, env = "MILLRACE_SERVICE_ACCOUNTS", value_delimiter = ',')]
    pub service_accounts: Vec<String>,
    /// Secrets with credentials for Millrace's own images, separated by commas.
    #[arg(long, env = "MILLRACE_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub image_pull_secrets: Vec<String>,
    /// How long a finished Job and its pods are kept.
    #[arg(long, env = "MILLRACE_JOB_TTL", default_value = "1h", value_parser = parse_job_ttl)]
    pub job_ttl: Duration,
    /// Namespaces to work in, separated by commas. Default: all.
    #[arg(long, env = "MILLRACE_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MILLRACE_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address of the validating webhook. Default: there is none.
    #[arg(long, env = "MILLRACE_WEBHOOK_LISTEN", requires = "webhook_certificate")]
    pub webhook_listen: Option<SocketAddr>,
    /// Folder with tls.crt and tls.key for the webhook. They may come later, and may change.
    #[arg(long, env = "MILLRACE_WEBHOOK_CERTIFICATE")]
    pub webhook_certificate: Option<PathBuf>,
    /// Namespace of the lease, and of the operator itself.
    #[arg(long, env = "MILLRACE_LEASE_NAMESPACE", default_value = "millrace-system")]
    pub lease_namespace: String,
    #[arg(long, env = "MILLRACE_LEASE_NAME", default_value = "millrace-controller")]
    pub lease_name: String,
    /// Work without a lease. Only one such controller may run.
    #[arg(long)]
    pub no_lease: bool,
    /// Who this replica is: its pod's name.
    #[arg(long, env = "MILLRACE_POD_NAME")]
    pub identity: Option<String>,
    /// What is logged, such as `info` or `info,kube_client=debug`.
    #[arg(long, env = "MILLRACE_LOG", default_value = "info")]
    pub log: String,
}

impl RunSettings {
    /// What decisions depend on. Empty entries come from empty environment variables.
    pub fn config(&self) -> Config {
        let given = |list: &[String]| list.iter().filter(|s| !s.is_empty()).cloned().collect::<Vec<_>>();
        Config {
            operator_namespace: self.lease_namespace.clone(),
            namespaces: self.namespaces(),
            catalog_namespace: self.catalog_namespace.clone(),
            agent_image: self.agent_image.clone(),
            server_image: self.server_image.clone(),
            server_cuda_image: self.server_cuda_image.clone(),
            data_image: self.data_image.clone(),
            stage_images: given(&self.stage_images).into_iter().collect(),
            image_pull_policy: self.image_pull_policy.clone(),
            service_accounts: given(&self.service_accounts).into_iter().collect(),
            image_pull_secrets: given(&self.image_pull_secrets),
            job_ttl_seconds: i32::try_from(self.job_ttl.as_secs()).unwrap_or(i32::MAX),
            router: RouterConfig {
                image: self.operator_image.clone(),
                role: self.router_role.clone(),
                replicas: self.router_replicas,
                resources: self.router_resources.clone(),
                max_connections: self.router_max_connections,
                network_policies: self.router_network_policies,
                gateway_namespaces: given(&self.gateway_namespaces),
            },
        }
    }

    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces.iter().filter(|s| !s.is_empty()).cloned().collect()
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("{text:?} is not a duration; write it as 90s, 1h30m or 7d"))
}

fn parse_resources(text: &str) -> Result<ResourceRequirements, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("{text:?} is not right ({error}); write it as {{\"requests\": {{\"cpu\": \"50m\"}}}}"))
}

/// A Job takes its pod along, and with it the report: the operator must have seen it, after a restart too.
fn parse_job_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if ttl < Duration::from_mins(1) { Err(format!("{text:?} is too short: write at least 1m")) } else { Ok(ttl) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<RunSettings, clap::Error> {
        let first = [
            "millrace-controller",
            "run",
            "--agent-image=a",
            "--server-image=s",
            "--server-cuda-image=c",
            "--operator-image=o",
        ];
        match Settings::try_parse_from(first.iter().chain(arguments))?.command {
            Command::Run(settings) => Ok(*settings),
            _ => unreachable!("the arguments say run"),
        }
    }

    #[test]
    fn lists_are_read_and_empty_ones_stay_empty() {
        let settings = run(&["--service-accounts=a,b", "--namespaces=", "--job-ttl=90m"]).unwrap();
        assert_eq!(settings.config().service_accounts.len(), 2);
        assert_eq!(settings.config().job_ttl_seconds, 5400);
        assert!(settings.namespaces().is_empty());
    }

    #[test]
    fn resources_of_a_router_are_json() {
        let settings =
            run(&[r#"--router-resources={"limits": {"memory": "64Mi"}}"#, "--router-network-policies=false"]);
        let router = settings.unwrap().config().router;
        assert_eq!(router.resources.limits.unwrap()["memory"].0, "64Mi");
        assert_eq!((router.replicas, router.max_connections, router.network_policies), (2, 1000, false));
        let error = run(&["--router-resources=64Mi"]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("write it as"), "{error}");
        assert!(run(&["--router-replicas=0"]).is_err());
        let more = run(&["--router-max-connections=5000"]).unwrap().config().router;
        assert_eq!(more.max_connections, 5000);
        assert!(run(&["--router-max-connections=0"]).is_err());
    }

    #[test]
    fn a_pull_policy_is_one_that_the_cluster_knows() {
        let settings = run(&["--image-pull-policy=Always", "--stage-images=data:1,train:1"]).unwrap();
        assert_eq!(settings.config().image_pull_policy.as_deref(), Some("Always"));
        assert!(settings.config().stage_images.contains("train:1"));
        let error = run(&["--image-pull-policy=Sometimes"]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("IfNotPresent"), "{error}");
    }

    #[test]
    fn a_webhook_needs_a_certificate() {
        assert!(run(&[]).unwrap().webhook_listen.is_none());
        assert!(run(&["--webhook-listen=0.0.0.0:9443", "--webhook-certificate=/tls"]).is_ok());
        let error = run(&["--webhook-listen=0.0.0.0:9443"]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("--webhook-certificate"), "{error}");
    }

    #[test]
    fn the_gateway_api_is_off_unless_it_is_asked_for() {
        assert!(!run(&[]).unwrap().gateway_api);
        let settings = run(&["--gateway-api=true", "--gateway-namespaces=a,"]).unwrap();
        assert!(settings.gateway_api);
        assert_eq!(settings.config().router.gateway_namespaces, ["a"]);
    }

    #[test]
    fn a_wrong_duration_says_how_one_is_written() {
        let error = run(&["--job-ttl=soon"]).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("write it as 90s, 1h30m or 7d"), "{error}");
    }
}
