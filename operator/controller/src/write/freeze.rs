//! Keeps what a run runs in a ControllerRevision, made once under the name of its hash.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use millrace_core::plan::Refusal;

use super::Writer;
use super::create::post;
use super::error::{NAME_TAKEN, WriteError, code, refused};
use crate::metrics::Verb;

impl Writer {
    pub(super) async fn freeze(
        &self,
        namespace: &str,
        revision: &ControllerRevision,
    ) -> Result<Option<Refusal>, WriteError> {
        let name = revision.name_any();
        let object = format!("ControllerRevision {name}");
        let api = self.api::<ControllerRevision>(namespace);
        self.metrics.wrote(Verb::Create);
        let kept = match api.create(&post(), revision).await {
            Ok(made) => made,
            Err(error) if code(&error) == Some(409) => {
                api.get(&name).await.map_err(|e| WriteError::new("read", &object, e))?
            }
            Err(error) => return refused("create", &object, error).map(Some),
        };
        if kept.data != revision.data {
            let message = format!("{object} is there already with other content: delete it");
            return Ok(Some(Refusal { object, code: 409, reason: NAME_TAKEN.into(), message }));
        }
        // One whose owner was made again goes with its old owner: to use it is to lose it.
        if kept.metadata.deletion_timestamp.is_some() || owners(&kept).is_disjoint(&owners(revision)) {
            let message = format!("{object} is there already and has another owner: it goes with it, or delete it");
            return Ok(Some(Refusal { object, code: 409, reason: NAME_TAKEN.into(), message }));
        }
        self.frozen.keep(namespace, &kept)?;
        Ok(None)
    }
}

fn owners(revision: &ControllerRevision) -> BTreeSet<&str> {
    revision.metadata.owner_references.iter().flatten().map(|owner| owner.uid.as_str()).collect()
}
