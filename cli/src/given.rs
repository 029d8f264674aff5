//! What a run is given for inputs of its pipeline: `-i NAME=WHAT`.

use std::collections::BTreeMap;

use millrace_core::api::{ArtifactType, MLPipelineRun, ModelArtifact, ModelVersion, RunInput};

use crate::connect::Cluster;
use crate::cp::{Asked, output_of};
use crate::error::Error;

/// By name: what lies at an address.
pub fn addresses(pairs: &[String]) -> Result<BTreeMap<String, RunInput>, Error> {
    once(pairs)?;
    let given = |(name, what): (String, String)| {
        if !what.contains("://") {
            return Err(Error::said(format!(
                "-i {name}={what}: write an address, as in {name}=s3://bucket/path, or of a run in a cluster RUN/STAGE.OUTPUT or MODEL@VERSION"
            )));
        }
        Ok((name, RunInput { uri: Some(what), ..RunInput::default() }))
    };
    pairs.iter().map(|pair| given(split(pair)?)).collect()
}

/// The same in a cluster, where it may be what another run made, too.
pub async fn in_cluster(cluster: &Cluster, pairs: &[String]) -> Result<BTreeMap<String, RunInput>, Error> {
    once(pairs)?;
    let mut found = BTreeMap::new();
    for pair in pairs {
        let (name, what) = split(pair)?;
        let given = match what.parse::<Asked>() {
            Ok(asked) if !what.contains("://") => made(cluster, &asked).await?,
            _ => {
                found.extend(addresses(std::slice::from_ref(pair))?);
                continue;
            }
        };
        found.insert(name, given);
    }
    Ok(found)
}

/// Nothing is given twice: the second would take the place of the first without a word.
pub fn once(pairs: &[String]) -> Result<(), Error> {
    let names: Vec<&str> =
        pairs.iter().map(|pair| pair.split_once('=').map_or(pair.as_str(), |(name, _)| name)).collect();
    match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        Some((_, name)) => Err(Error::said(format!("{name} is given twice: take one out"))),
        None => Ok(()),
    }
}

fn split(pair: &str) -> Result<(String, String), Error> {
    let (name, what) = pair
        .split_once('=')
        .ok_or_else(|| Error::said(format!("-i {pair}: write name=address, as in data=s3://bucket/path")))?;
    Ok((name.to_owned(), what.to_owned()))
}

/// What a stage made, as the status of its run says, or a registered model.
async fn made(cluster: &Cluster, asked: &Asked) -> Result<RunInput, Error> {
    let (kind, artifact) = match asked {
        Asked::Output { run: name, stage, output } => {
            let run = cluster.get::<MLPipelineRun>(name).await?;
            let found = output_of(&run, stage, output)?;
            let artifact = ModelArtifact {
                uri: found.uri.clone(),
                digest: found.digest.clone(),
                size: found.size,
                access: found.access.clone(),
            };
            (found.kind, artifact)
        }
        Asked::Version { name } => (ArtifactType::Model, cluster.get::<ModelVersion>(name).await?.spec.artifact),
    };
    Ok(RunInput { artifact: Some(Box::new(artifact)), kind, ..RunInput::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_cluster_only_an_address_is_known() {
        let of = |pair: &str| addresses(&[pair.to_owned()]);
        assert_eq!(of("rows=s3://lake/rows").unwrap()["rows"].uri.as_deref(), Some("s3://lake/rows"));
        for wrong in ["rows", "rows=./rows.csv", "rows=r/make.rows"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(addresses(&["a=s3://b/c".to_owned(), "a=s3://b/d".to_owned()]).is_err());
    }
}
