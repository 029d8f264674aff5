//! The cache of models of a namespace: a folder of a claim, in which each model lies once, by digest. Pods on any node fill it and use it at the
//! same time.
//!
//! - A model is fetched beside its place, compared, brought to disk and then renamed: what has its name is whole.
//! - Who fetches it has locked it, so that the others wait; the kernel, or the file server, unlocks it when its pod dies, and the next one takes
//!   over. Where a file system has no locks each pod fetches for itself, and the first one that is done wins.
//! - What is there is compared as a whole before it is used, by every pod: one that was damaged is fetched anew.
//! - What makes room is decided in [`room`].

mod lock;
mod room;
mod shelf;

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use millrace_contract::{Fetch, ModelCacheTask, NEEDED_MODELS, NEEDED_MODELS_DIR, NeededModels};
use millrace_files::digest::{DigestError, Stop, is_digest};
use nix::sys::stat::{Mode, umask};
use thiserror::Error;

use super::progress::{Every, amount, of, say};
use super::{FetchError, Flaw, bring, compare, size};
use crate::place::Place;
use crate::remote::{Budget, RemoteError};
use crate::sync::{self, is_no_room};
use lock::Lock;
use room::{Lack, Wanted};
use shelf::Shelf;

/// How often somebody else's lock is looked at, and how often it is said that it is waited for.
const LOOK: Duration = Duration::from_millis(250);
const SAY: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum CacheError {
    #[error("the model's digest \"{0}\" is none, and the cache knows models by it: register the model anew")]
    NoDigest(String),
    #[error("the claim \"{claim}\" cannot be used for models: {path}: {source}; {}", advice(source))]
    Claim { claim: String, path: String, source: io::Error },
    #[error("the claim \"{claim}\" has no room for the model: {lack}")]
    NoRoom { claim: String, lack: Lack },
    #[error(
        "the claim \"{claim}\" is full: the model has {size}, and nothing that could go is left there; enlarge the claim, or take out what else lies on it"
    )]
    Full { claim: String, size: String },
    #[error("what the claim \"{claim}\" has of the model cannot be compared, so it stays as it is: {source}")]
    Unread { claim: String, source: DigestError },
    #[error("stopped while another pod had the model in hand")]
    Stopped,
}

fn advice(error: &io::Error) -> &'static str {
    if is_no_room(error) {
        "enlarge the claim, or take out what else lies on it"
    } else {
        "it needs an access mode that allows writing, and to be writable for the pod's fsGroup"
    }
}

/// Sees to it that the model is in the cache, whole.
pub fn provide(
    fetch: &Fetch,
    task: &ModelCacheTask,
    place: &Place,
    budget: Budget,
    stop: Stop<'_>,
) -> Result<(), FetchError> {
    // Pods of other users in the group keep the cache in order too.
    umask(Mode::S_IWOTH);
    let hex = fetch.path.rsplit('/').next().filter(|hex| is_digest(&format!("sha256:{hex}")));
    let hex = hex.ok_or_else(|| CacheError::NoDigest(fetch.digest.clone()))?;
    let shelf = Shelf::open(place, &task.claim)?;
    Cache { fetch, task, hex, shelf, place, budget, stop }.provide()
}

struct Cache<'a> {
    fetch: &'a Fetch,
    task: &'a ModelCacheTask,
    hex: &'a str,
    shelf: Shelf,
    place: &'a Place,
    budget: Budget,
    stop: Stop<'a>,
}

impl Cache<'_> {
    fn provide(&self) -> Result<(), FetchError> {
        let lock = self.shelf.lock(self.hex)?;
        let began = Instant::now();
        let mut said: Option<Instant> = None;
        // What was found damaged is not compared again: pods that do so in turn would never leave the lock to one of them alone.
        let mut damaged = None;
        loop {
            let there = self.shelf.state(self.hex);
            // Shared: many pods may compare at a time.
            if there.is_some() && there != damaged && self.shelf.done(lock.try_shared())? {
                if self.is_whole()? {
                    self.found(began);
                    lock.release();
                    break;
                }
                damaged = there;
                lock.release();
            }
            if self.shelf.done(lock.try_exclusive())? {
                // Somebody may have brought it since.
                let there = self.shelf.state(self.hex);
                if there.is_some() && there != damaged && self.is_whole()? {
                    self.found(began);
                } else {
                    self.fetch(&lock)?;
                }
                lock.release();
                break;
            }
            if said.is_none_or(|said| said.elapsed() >= SAY) {
                said = Some(Instant::now());
                let there = amount(self.shelf.coming(self.hex));
                let of = of(self.fetch.size);
                say(&format!("waits for another pod that fetches it or compares it: {there}{of} came"));
            }
            if (self.stop)() {
                return Err(CacheError::Stopped.into());
            }
            thread::sleep(LOOK);
        }
        self.tidy();
        Ok(())
    }

    fn found(&self, began: Instant) {
        self.asked();
        let (uri, claim) = (self.fetch.source.uri(), &self.task.claim);
        say(&format!("{uri} is in the claim \"{claim}\": compared in {:.1} s", began.elapsed().as_secs_f64()));
    }

    /// Keeps it for a while. The model is there: that this cannot be written keeps its server from nothing.
    fn asked(&self) {
        if let Err(error) = self.shelf.asked(self.hex, self.fetch.size) {
            say(&format!("it may go earlier than it should: {error}"));
        }
    }

    /// Which models must stay, as it is said now; `None` if nobody says so.
    fn needed(&self) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.place.at(NEEDED_MODELS_DIR).join(NEEDED_MODELS)).ok()?;
        let all: NeededModels = serde_json::from_str(&text).ok()?;
        let hex = |digest: &String| digest.strip_prefix("sha256:").unwrap_or(digest).to_owned();
        Some(all.claims.get(&self.task.claim).into_iter().flatten().map(hex).collect())
    }

    /// The whole digest every time: a mark that somebody compared it once would say nothing of the disk since.
    fn is_whole(&self) -> Result<bool, FetchError> {
        // Before, too: one whose time is over must not go while it is compared, or right after.
        self.asked();
        match compare(&self.shelf.model(self.hex), self.fetch, self.stop) {
            Ok(_) => Ok(true),
            Err(Flaw::Absent) => Ok(false),
            Err(Flaw::Wrong(why)) => {
                say(&format!(
                    "what the claim \"{}\" has of {} {why}: it is fetched anew",
                    self.task.claim,
                    self.fetch.source.uri()
                ));
                Ok(false)
            }
            Err(Flaw::Size { said, found }) => Err(FetchError::Size { uri: self.fetch.source.uri(), said, found }),
            Err(Flaw::Unread(source)) => Err(CacheError::Unread { claim: self.task.claim.clone(), source }.into()),
            Err(Flaw::Stopped) => Err(FetchError::Stopped),
        }
    }

    /// The lock is held.
    fn fetch(&self, lock: &Lock) -> Result<(), FetchError> {
        let began = Instant::now();
        self.shelf.done(self.shelf.take_out(self.hex))?;
        self.shelf.clear_halves(self.hex, self.shelf.done(lock.time())?)?;
        let said = match self.fetch.size {
            Some(size) => Some(size),
            None => size(&self.fetch.source, self.stop)?,
        };
        // A web server need not say it.
        self.make_room(said.unwrap_or_default(), None)?;
        let done = self.half().or_else(|error| {
            if !is_full(&error) {
                return Err(error);
            }
            let size = said.unwrap_or_else(|| self.shelf.coming(self.hex).saturating_add(1));
            // Others write there too, or there is a quota that nobody told of. What is free shows when models are gone.
            if self.make_room(size, Some(0))? == 0 {
                return Err(self.full(size));
            }
            self.half().map_err(|error| if is_full(&error) { self.full(size) } else { error })
        });
        // What nobody said is known now. On the disk it is already.
        let fits = |size: u64| if said.is_none() { self.make_room(size, Some(size)).map(|_| size) } else { Ok(size) };
        let size = done.and_then(fits).inspect_err(|_| self.shelf.drop_half(self.hex))?;
        self.shelf.put(self.hex, size)?;
        let (uri, claim) = (self.fetch.source.uri(), &self.task.claim);
        say(&format!("{uri} is fetched into the claim \"{claim}\" in {:.1} s", began.elapsed().as_secs_f64()));
        Ok(())
    }

    fn full(&self, size: u64) -> FetchError {
        CacheError::Full { claim: self.task.claim.clone(), size: amount(size) }.into()
    }

    /// Brings it beside its place, onto the disk, and says how many bytes it has.
    fn half(&self) -> Result<u64, FetchError> {
        self.shelf.drop_half(self.hex);
        let half = self.shelf.half(self.hex);
        // Comparing writes nothing, and where there are no locks others take what is silent for left by a dead pod.
        let every = Every::new(SAY);
        let stop = || {
            if every.is_over() {
                self.shelf.keep_half(self.hex);
            }
            (self.stop)()
        };
        let found = bring(self.fetch, &half, self.budget, &stop)?;
        let synced = sync::artifact(&half, &found.files, &stop);
        synced.map_err(|error| match error {
            sync::SyncError::Stopped => FetchError::Stopped,
            sync::SyncError::Store(error) => self.shelf.failed(&half)(error.source).into(),
        })?;
        Ok(found.size)
    }

    /// Takes out what nothing needs until the model with its `bytes` fits, and says how many went. `free` is what the claim has left, where it is known better.
    fn make_room(&self, bytes: u64, free: Option<u64>) -> Result<usize, FetchError> {
        let lock = self.room()?;
        let wanted = Wanted {
            bytes,
            most: self.task.max_bytes,
            free: free.or_else(|| self.shelf.free()),
            has: self.shelf.whole_size(),
        };
        let (mut went, mut busy) = (Vec::new(), Vec::new());
        let mut gained = 0;
        loop {
            let now = self.shelf.done(lock.time())?;
            let mut kept = self.shelf.kept(now, self.needed().as_deref())?;
            kept.retain(|model| model.name != self.hex);
            for model in kept.iter_mut().filter(|model| busy.contains(&model.name)) {
                model.needed = true;
            }
            let left = Wanted { free: wanted.free.map(|free| free + gained), ..wanted };
            let leaves = room::leaves(&kept, left)
                .map_err(|lack| CacheError::NoRoom { claim: self.task.claim.clone(), lack })?;
            if leaves.is_empty() {
                return Ok(went.len());
            }
            for model in leaves {
                if self.evict(&model.name, now)? {
                    say(&format!("{} ({}) went to make room", model.name, amount(model.size)));
                    gained += model.size;
                    went.push(model.name.clone());
                } else {
                    busy.push(model.name.clone());
                }
            }
        }
    }

    /// Takes a model out, unless somebody has it in hand, or has asked for it since that was decided.
    fn evict(&self, name: &str, now: SystemTime) -> Result<bool, FetchError> {
        let lock = self.shelf.lock(name)?;
        if !self.shelf.done(lock.try_exclusive())? {
            return Ok(false);
        }
        if !self.shelf.kept_as(name.to_owned(), now, self.needed().as_deref()).may_go() {
            return Ok(false);
        }
        self.shelf.done(self.shelf.take_out(name))?;
        Ok(true)
    }

    /// One pod at a time decides what goes.
    fn room(&self) -> Result<Lock, FetchError> {
        let lock = self.shelf.lock(shelf::ROOM)?;
        while !self.shelf.done(lock.try_exclusive())? {
            if (self.stop)() {
                return Err(CacheError::Stopped.into());
            }
            thread::sleep(LOOK);
        }
        Ok(lock)
    }

    /// What nobody has asked for in a long time goes although there is room, and what dead pods left. The model is there: nothing of this
    /// keeps its server from starting.
    fn tidy(&self) {
        let done = (|| {
            let lock = self.shelf.lock(shelf::ROOM)?;
            if !self.shelf.done(lock.try_exclusive())? {
                return Ok(());
            }
            let now = self.shelf.done(lock.time())?;
            let kept = self.shelf.kept(now, self.needed().as_deref())?;
            for model in room::expired(&kept, Duration::from_secs(self.task.keep_seconds)) {
                if model.name != self.hex && self.evict(&model.name, now)? {
                    say(&format!("{} ({}) went: nobody has asked for it", model.name, amount(model.size)));
                }
            }
            self.shelf.clear_left(now).map_err(FetchError::from)
        })();
        if let Err(error) = done {
            let error: FetchError = error;
            say(&format!("the cache is not tidy: {error}"));
        }
    }
}

fn is_full(error: &FetchError) -> bool {
    match error {
        FetchError::Remote(RemoteError::Disk { source, .. }) | FetchError::Cache(CacheError::Claim { source, .. }) => {
            is_no_room(source)
        }
        FetchError::Web(error) => error.full,
        _ => false,
    }
}
