//! The first request to a model at zero scales it to one.

use std::error::Error;

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use kube::{Api, Client};

/// What wakes a Deployment.
pub trait Scaler: Send + Sync {
    /// Sees to it that the Deployment has a replica. One that has some is left alone: their number is the autoscaler's.
    fn wake<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ScaleError>>;
}

#[derive(Debug, thiserror::Error)]
#[error("failed to scale {deployment} from 0 to 1")]
pub struct ScaleError {
    pub deployment: String,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// By the `scale` subresource.
pub struct KubeScaler(Api<Deployment>);

impl KubeScaler {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    async fn wake(&self, deployment: &str) -> Result<(), kube::Error> {
        let mut scale = self.0.get_scale(deployment).await?;
        let spec = scale.spec.get_or_insert_default();
        if spec.replicas.unwrap_or(0) > 0 {
            return Ok(());
        }
        spec.replicas = Some(1);
        // With the version that was read: whoever changed it meanwhile knows better.
        match self.0.replace_scale(deployment, &PostParams::default(), &scale).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Scaler for KubeScaler {
    fn wake<'a>(&'a self, deployment: &'a str) -> BoxFuture<'a, Result<(), ScaleError>> {
        Box::pin(async move {
            let failed = |source: kube::Error| ScaleError { deployment: deployment.to_owned(), source: source.into() };
            self.wake(deployment).await.map_err(failed)
        })
    }
}
