//! Brings what waits in the spool into the table: segment after segment, rows and position in one commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Mutex, Notify, watch};

use super::columns::{StageError, stage};
use super::health::Health;
use super::params::TableParams;
use super::spool::{Spool, SpoolError, Waiting};
use crate::say;
use crate::table::{Batch, Snapshot, Table, TableError};

/// After an attempt that failed. The pause doubles up to the second.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("failed to empty {}", path.display())]
    Work {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What was to be appended before the end, and was not.
#[derive(Debug)]
pub struct Left {
    pub bytes: u64,
    pub why: String,
}

pub struct Appender {
    pub params: TableParams,
    pub spool: Arc<Mutex<Spool>>,
    pub health: Arc<Health>,
    /// A segment has begun or is closed.
    pub changed: Arc<Notify>,
    /// Until when all is to be appended, once nothing comes any more.
    pub end: watch::Receiver<Option<Instant>>,
    /// Below the spool.
    pub work: PathBuf,
}

/// A table that was read.
struct Known {
    table: Table,
    /// The version that has the position. As long as no attempt fails nobody need look again.
    after: Option<i64>,
    /// As it was last: a commit reads what came after that.
    snapshot: Option<Snapshot>,
}

impl Appender {
    /// Until it is told to end.
    pub async fn run(mut self) -> Result<(), Left> {
        let mut known = None;
        let mut pause = PAUSE;
        let mut why = "there was no time for an attempt".to_owned();
        loop {
            let began = Instant::now();
            let ending = self.end.borrow_and_update().is_some();
            let mut end = self.end.clone();
            let done = tokio::select! {
                biased;
                () = passed(&mut end) => {
                    let bytes = self.spool.lock().await.bytes();
                    return Err(Left { bytes, why });
                }
                done = self.step(&mut known, ending) => done,
            };
            match done {
                Ok(true) => pause = PAUSE,
                Ok(false) if ending => return Ok(()),
                Ok(false) => self.wait().await,
                Err(error) => {
                    // Nobody knows whether a commit came through: the table is asked first.
                    known = None;
                    why = say::one_line(&error);
                    self.health.failed(began, &why);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                        () = passed(&mut end) => {}
                        _ = self.end.changed() => pause = PAUSE,
                    }
                }
            }
        }
    }

    /// Until there may be something to append.
    async fn wait(&mut self) {
        let due = self.spool.lock().await.due();
        let old = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = old => {}
            () = self.changed.notified() => {}
            _ = self.end.changed() => {}
        }
    }

    /// Appends what fits one commit. False if nothing waits.
    async fn step(&self, known: &mut Option<Known>, ending: bool) -> Result<bool, AppendError> {
        let known = match known {
            Some(known) => known,
            // At the end nobody needs a table for nothing.
            None if ending && self.spool.lock().await.bytes() == 0 => return Ok(false),
            none => none.insert(self.look().await?),
        };
        let (waiting, source) = {
            let mut spool = self.spool.lock().await;
            if ending {
                spool.close();
            }
            let Some(waiting) = spool.waiting() else {
                // The table was read since the last failure, and has all that was closed: a commit whose answer was lost came through.
                self.health.appended();
                return Ok(false);
            };
            (waiting, spool.source())
        };
        self.append(known, &waiting, &source).await?;
        self.spool.lock().await.reached(waiting.last);
        self.health.appended();
        Ok(true)
    }

    /// Asks the table how far it has the spool: what it has goes from there.
    async fn look(&self) -> Result<Known, AppendError> {
        let table = Table::at(&self.params.uri, &self.params.access())?;
        let last = table.last().await?;
        // Whoever brings events does not wait for what the store answers.
        let source = self.spool.lock().await.source();
        let marked = match &last {
            None => None,
            Some(snapshot) => match table.marked(snapshot, &source).await {
                // It is older than others keep the table's log. What waits is newer, so it can go on under another name.
                Err(TableError::PositionGone { .. }) => {
                    self.spool.lock().await.rename()?;
                    None
                }
                marked => marked?,
            },
        };
        let position = marked.as_ref().and_then(|marked| marked.mark.position.get("segment")?.as_u64());
        self.spool.lock().await.reached(position.unwrap_or(0));
        self.health.opened();
        Ok(Known { table, after: marked.map(|marked| marked.version), snapshot: last })
    }

    async fn append(&self, known: &mut Known, waiting: &Waiting, source: &str) -> Result<(), AppendError> {
        let empty = |source| AppendError::Work { path: self.work.clone(), source };
        for folder in ["events", "files"] {
            match std::fs::remove_dir_all(self.work.join(folder)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(empty(error)),
                _ => {}
            }
        }
        let events = self.work.join("events");
        let staged = stage(&waiting.files, &events)?;
        if staged.torn > 0 {
            say::line(format!(
                "{} events were cut as they came, and are left out: nobody was told that they are taken",
                staged.torn
            ));
        }
        if staged.rows == 0 {
            return Ok(());
        }
        let position = json!({ "segment": waiting.last });
        let batch = Batch {
            source,
            after: known.after,
            staged: &events,
            rows: staged.rows,
            run: None,
            rows_before: 0,
            position: &position,
        };
        let appended = known.table.append(known.snapshot.take(), &batch, &self.work.join("files")).await?;
        (known.after, known.snapshot) = (i64::try_from(appended.version).ok(), appended.snapshot);
        let made = if appended.created { "made the table, " } else { "" };
        say::line(format!("{made}version {} of {}: {} rows", appended.version, self.params.uri, staged.rows));
        Ok(())
    }
}

/// The end of the time that is left.
async fn passed(end: &mut watch::Receiver<Option<Instant>>) {
    // If nobody can say any more that it ends, it goes on.
    let until = end.wait_for(Option::is_some).await.ok().and_then(|until| *until);
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::payload_log::event::lines;

    const EVENT: &str = r#"{"id": "1", "type": "t", "time": "2026-11-01T12:00:00Z"}"#;

    fn appender(folder: &Path) -> Appender {
        let spool = Spool::open(&folder.join("spool"), 1 << 20, Duration::ZERO).unwrap();
        let params = serde_json::from_value(json!({ "uri": folder.join("table") })).unwrap();
        Appender {
            params,
            spool: Arc::new(Mutex::new(spool)),
            health: Arc::new(Health::new("t")),
            changed: Arc::default(),
            end: watch::channel(None).1,
            work: folder.join("work"),
        }
    }

    async fn push(appender: &Appender) {
        let mut text = Vec::new();
        lines(EVENT.as_bytes(), false, &mut text).unwrap();
        appender.spool.lock().await.push(&text).unwrap();
    }

    #[tokio::test]
    async fn a_commit_whose_answer_was_lost_is_found_and_events_are_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("work")).unwrap();
        let appender = appender(folder.path());
        let mut known = None;
        push(&appender).await;
        assert!(appender.step(&mut known, false).await.unwrap());
        push(&appender).await;
        let waiting = appender.spool.lock().await.waiting().unwrap();
        let source = appender.spool.lock().await.source();
        appender.append(known.as_mut().unwrap(), &waiting, &source).await.unwrap();
        // It came through, and nobody was told.
        let long_ago = Instant::now().checked_sub(Duration::from_secs(90)).unwrap();
        appender.health.failed(long_ago, "no answer");
        assert!(appender.health.unwell().is_some());
        assert!(!appender.step(&mut None, false).await.unwrap(), "it is in the table already");
        assert_eq!(appender.health.unwell(), None);
        assert_eq!(appender.spool.lock().await.bytes(), 0);
    }
}
