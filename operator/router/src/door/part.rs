//! Something of a door that lies in a mounted Secret or ConfigMap: what is in force, and what is wrong with what lies there.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use millrace_routes::{Source, Use};
use sha2::{Digest, Sha256};

use super::mounted::{self, Files};
use crate::state::{lock, read, write};

/// What was made of the entries.
pub enum Reading<T> {
    /// In force from now on, with what is wrong beside it.
    Use(T, Vec<String>),
    /// What was in force stays: the new state is broken.
    Keep(Vec<String>),
    /// Nobody is let in.
    Close(Vec<String>),
}

/// What can be read of entries. What it says names entries and never what is in them.
pub trait Readable: Sized {
    /// `object` is what to call the object in words, `key` the one entry that is asked for.
    fn read(files: &Files, object: &str, key: Option<&str>) -> Reading<Self>;
}

#[derive(Debug)]
pub struct Part<T> {
    /// Such as `Secret keys`.
    object: String,
    /// The one entry that counts.
    key: Option<String>,
    folder: PathBuf,
    now: RwLock<Option<Arc<T>>>,
    problems: RwLock<Vec<String>>,
    /// Digest of the entries that were read last.
    seen: Mutex<Option<[u8; 32]>>,
    absent: bool,
}

impl<T: Readable> Part<T> {
    /// The one that there was, where it is the same; else one that has been read.
    pub fn of(old: Option<&Arc<Self>>, of: Source, name: &str, usage: Use<'_>, mounted: &Path) -> Arc<Self> {
        let folder = mounted.join(of.folder(name, usage));
        let absent = !folder.is_dir();
        let same = |old: &&Arc<Self>| old.folder == folder && old.absent == absent;
        if let Some(old) = old.filter(same) {
            return old.clone();
        }
        let key = match usage {
            Use::Tls | Use::ApiKeys | Use::Sasl => None,
            Use::Jwks(key) | Use::Issuer(key) | Use::Prometheus(key) | Use::Log(key) | Use::Broker(key) => {
                Some(key.to_owned())
            }
        };
        let part = Self {
            object: format!("{} {name}", of.as_str()),
            key,
            folder,
            now: RwLock::default(),
            problems: RwLock::default(),
            seen: Mutex::default(),
            absent,
        };
        part.look();
        Arc::new(part)
    }

    pub fn now(&self) -> Option<Arc<T>> {
        read(&self.now).clone()
    }

    pub fn problems(&self) -> Vec<String> {
        read(&self.problems).clone()
    }

    /// Says so where it is not mounted into this pod.
    pub fn absent(&self) -> Option<String> {
        self.absent.then(|| self.not_mounted())
    }

    /// Reads what lies there, if it is something else than the last time.
    pub fn look(&self) {
        let files = match mounted::read(&self.folder) {
            Ok(Some(files)) => files,
            Ok(None) => return self.say(vec![self.not_mounted()]),
            Err(error) => return self.say(vec![format!("{} cannot be read: {}", self.object, error.kind())]),
        };
        let digest = digest(&files);
        {
            let mut seen = lock(&self.seen);
            if *seen == Some(digest) {
                return;
            }
            *seen = Some(digest);
        }
        let problems = match T::read(&files, &self.object, self.key.as_deref()) {
            Reading::Use(new, problems) => {
                *write(&self.now) = Some(Arc::new(new));
                tracing::info!(object = self.object, "taken");
                problems
            }
            Reading::Keep(problems) => problems,
            Reading::Close(problems) => {
                *write(&self.now) = None;
                problems
            }
        };
        self.say(problems);
    }

    fn not_mounted(&self) -> String {
        let entry = self.key.as_ref().map_or_else(String::new, |key| format!(" with its entry {key}"));
        format!("{}{entry} is not mounted into this router: one that has it is on its way", self.object)
    }

    fn say(&self, problems: Vec<String>) {
        say(&self.problems, problems);
    }
}

/// Logged when it changes.
pub fn say(said: &RwLock<Vec<String>>, problems: Vec<String>) {
    let mut said = write(said);
    if *said != problems {
        for problem in &problems {
            tracing::warn!(problem, "a door is not as it should be");
        }
        *said = problems;
    }
}

fn digest(files: &Files) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (name, content) in files {
        for part in [name.as_bytes(), content] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that lies in the entry `n`.
    #[derive(Debug)]
    struct Number(u32);

    impl Readable for Number {
        fn read(files: &Files, object: &str, _: Option<&str>) -> Reading<Self> {
            let Some(text) = files.get("n") else { return Reading::Close(vec![format!("{object} has no n")]) };
            match String::from_utf8_lossy(text).parse() {
                Ok(n) => Reading::Use(Self(n), Vec::new()),
                Err(_) => Reading::Keep(vec![format!("{object}: n is no number")]),
            }
        }
    }

    #[test]
    fn the_last_good_state_stays_until_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path().join("secrets/s/keys");
        std::fs::create_dir_all(&mount).unwrap();
        let part: Arc<Part<Number>> = Part::of(None, Source::Secret, "s", Use::ApiKeys, folder.path());
        let seen = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(mount.join("n"), text).unwrap(),
                None => std::fs::remove_file(mount.join("n")).unwrap(),
            }
            part.look();
            (part.now().map(|number| number.0), part.problems())
        };
        assert_eq!(seen(Some("7")), (Some(7), vec![]));
        assert_eq!(seen(Some("x")), (Some(7), vec!["Secret s: n is no number".to_owned()]));
        assert_eq!(seen(Some("8")), (Some(8), vec![]));
        assert_eq!(seen(None), (None, vec!["Secret s has no n".to_owned()]));
        assert_eq!(seen(Some("x")), (None, vec!["Secret s: n is no number".to_owned()]));
        let same = Part::of(Some(&part), Source::Secret, "s", Use::ApiKeys, folder.path());
        assert!(Arc::ptr_eq(&same, &part));
        std::fs::remove_dir_all(&mount).unwrap();
        part.look();
        assert!(part.problems()[0].contains("not mounted"), "{:?}", part.problems());
    }
}
