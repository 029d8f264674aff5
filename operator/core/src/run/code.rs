//! The folder that a stage's program runs in: the run's code, out of its store.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec, Volume, VolumeMount};
use millrace_contract::{CODE_ARCHIVE, CODE_DIR, TaskCode};

use super::mounts;
use super::pass::Pass;
use crate::api::RunCode;
use crate::pipeline::FrozenContainer;
use crate::pod;
use crate::store::{self, Place};

/// What a stage gets of its run's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub digest: String,
    size: u64,
    place: Place,
}

/// The code of a stage, if it takes any and the run has some.
pub(super) fn of(pass: &Pass<'_>, stage: &FrozenContainer) -> Option<Code> {
    let RunCode { digest, size, commit: _, dirty: _ } = pass.run.spec.code.as_ref().filter(|_| stage.takes_code())?;
    // A run whose pipeline has no store was refused.
    let place = store::code(pass.frozen.store.as_ref()?, digest)?;
    Some(Code { digest: digest.clone(), size: *size, place })
}

impl Code {
    /// As the agent is told of it.
    pub fn told(&self) -> TaskCode {
        let source = match &self.place {
            Place::Claim { .. } => None,
            Place::Objects(objects) => Some(objects.source()),
        };
        TaskCode { digest: self.digest.clone(), size: self.size, source }
    }

    /// Where the agent finds the archive, and where it unpacks it. The credentials of a bucket are those of the stage's own folder, which is in the
    /// same store.
    pub fn mount(&self, spec: &mut PodSpec) {
        let folder = |path: &str| path.rsplit_once('/').map(|(above, _)| above.to_owned()).unwrap_or_default();
        let (archive, work) = (folder(CODE_ARCHIVE), CODE_DIR.to_owned());
        let scratch = |last: &str| Volume {
            name: format!("{}code-{last}", pod::OWN_VOLUME),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        };
        let mut mounts = vec![VolumeMount { name: scratch("work").name, mount_path: work, ..VolumeMount::default() }];
        let mount = match &self.place {
            Place::Claim { claim, path } => VolumeMount {
                name: mounts::of_claim(spec, claim),
                mount_path: archive,
                sub_path: Some(path.clone()),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            Place::Objects(_) => {
                spec.volumes.get_or_insert_default().push(scratch("archive"));
                VolumeMount { name: scratch("archive").name, mount_path: archive, ..VolumeMount::default() }
            }
        };
        mounts.push(mount);
        spec.volumes.get_or_insert_default().push(scratch("work"));
        if let Some(main) = spec.containers.iter_mut().find(|container| container.name == pod::MAIN) {
            main.volume_mounts.get_or_insert_default().extend(mounts);
        }
    }
}
