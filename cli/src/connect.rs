//! Which cluster and namespace a command is about, and how its objects are read.

use std::fmt::Debug;
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use millrace_core::expr;
use serde::de::DeserializeOwned;

use crate::error::{Error, code};

/// Names that are looked through for one that may be meant.
const NEIGHBOURS: u32 = 500;

/// As `kubectl` has them.
#[derive(Args)]
pub struct Target {
    /// The namespace; default: that of the context
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// The kubeconfig; default: KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

/// A cluster, and the namespace that is meant.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    /// What was given to name them, as a further command takes it: ` -n team`. Empty where nothing was.
    pub options: String,
}

/// A kind that lives in a namespace.
pub trait Named:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static
{
}

impl<K> Named for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static
{
}

impl Target {
    pub async fn connect(&self) -> Result<Cluster, Error> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Error::request("connect to", "the cluster", error))?;
        Ok(Cluster { client, namespace, options: self.options() })
    }

    /// As they were given, so that a command that is told can be pasted.
    fn options(&self) -> String {
        let path = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        let given =
            [("-n", self.namespace.as_ref()), ("--context", self.context.as_ref()), ("--kubeconfig", path.as_ref())];
        let given = given.into_iter().filter_map(|(option, value)| Some(format!(" {option} {}", quoted(value?))));
        given.collect()
    }
}

/// A word of a command line, as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

impl Cluster {
    pub fn api<K: Named>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object that has to be there.
    pub async fn get<K: Named>(&self, name: &str) -> Result<K, Error> {
        let object = format!("{} {name}", K::kind(&()));
        match self.api::<K>().get(name).await {
            Ok(found) => Ok(found),
            // Without details it is the kind that is not there.
            Err(kube::Error::Api(status)) if status.code == 404 && status.details.is_none() => {
                Err(Error::said(format!("the cluster has no kind {}: install Millrace's CRDs", K::kind(&()))))
            }
            Err(error) if code(&error) == Some(404) => Err(self.missing::<K>(name).await),
            Err(error) => Err(Error::request("read", object, error)),
        }
    }

    /// It is not there: what is?
    pub async fn missing<K: Named>(&self, name: &str) -> Error {
        let listed = self.api::<K>().list_metadata(&ListParams::default().limit(NEIGHBOURS)).await;
        let names: Vec<String> =
            listed.map(|list| list.items.iter().map(ResourceExt::name_any).collect()).unwrap_or_default();
        let hint = expr::did_you_mean(name, names.iter().map(String::as_str));
        Error::said(format!("there is no {} {name} in the namespace {}: {hint}", K::kind(&()), self.namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_told_names_what_was_named() {
        let mut target = Target { namespace: None, context: None, kubeconfig: None };
        assert_eq!(target.options(), "");
        target.namespace = Some("team".into());
        assert_eq!(target.options(), " -n team");
        target.kubeconfig = Some("my clusters/it's".into());
        assert_eq!(target.options(), r" -n team --kubeconfig 'my clusters/it'\''s'");
    }
}
