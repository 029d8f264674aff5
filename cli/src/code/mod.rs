//! `run --code`: a folder of this machine as an archive that is the same for the same files, in the store of the pipeline that is run.

mod git;
mod ignored;
mod pack;
mod put;

use std::path::{Path, PathBuf};

use clap::Args;
use millrace_core::api::{MLPipelineRun, RunCode, Store};

use crate::connect::Cluster;
use crate::error::Error;
use pack::Packed;

#[derive(Args)]
pub struct Options {
    /// The folder that programs of stages with `container` run in, without what .gitignore and .millraceignore name
    #[arg(long, value_name = "FOLDER", conflicts_with = "again")]
    pub code: Option<PathBuf>,
}

/// A folder that is to be brought to a run.
pub struct Code {
    packed: Packed,
    pub spec: RunCode,
}

impl Code {
    /// Packs the folder that is asked for, if one is.
    pub fn of(options: &Options) -> Result<Option<Self>, Error> {
        options.code.as_deref().map(Self::pack).transpose()
    }

    fn pack(folder: &Path) -> Result<Self, Error> {
        let packed = pack::pack(folder)?;
        let (commit, dirty) = git::checked_out(folder).map_or((None, false), |(commit, dirty)| (Some(commit), dirty));
        let spec = RunCode { digest: packed.digest.clone(), size: packed.bytes.len() as u64, commit, dirty };
        Ok(Self { packed, spec })
    }

    /// Puts it into the store of a run that is there and suspended, and says what became of it.
    pub async fn put(&self, cluster: &Cluster, run: &MLPipelineRun, store: &Store) -> Result<String, Error> {
        let kept = put::put(cluster, run, store, &self.spec, &self.packed.bytes).await?;
        let there = if kept { "is brought" } else { "is in the store already" };
        Ok(format!("the code {} ({}) {there}", short(&self.spec.digest), self.packed.amount()))
    }

    /// Puts it below the folder of a claim of this machine.
    pub fn put_here(&self, claims: &Path, store: Option<&Store>) -> Result<(), Error> {
        let store = store.ok_or_else(no_store)?;
        put::here(claims, store, &self.spec, &self.packed.bytes)
    }
}

/// Who has no store has no place for it.
pub fn no_store() -> Error {
    Error::said("--code brings the folder into the pipeline's store, and it has none: write store into the pipeline")
}

fn short(digest: &str) -> &str {
    digest.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(digest)
}
