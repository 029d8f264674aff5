//! What a person sees of a local run: lines of programs, a line for each step of a stage, and how it went.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use millrace_core::api::{MLPipelineRun, StageState, StageStatus};
use millrace_core::figure;
use millrace_core::pipeline::{Frozen, FrozenKind};

use super::home::{Home, RunFolder};
use crate::error::Error;
use crate::output::{self, Format};
use crate::show;
use crate::show::prefix::Prefixes;
use crate::show::style::{DIM, GOOD, STRONG, WAITS, paint};

/// So many figures of a stage are told; all of them are in the run's file.
const FIGURES: usize = 8;

pub struct Teller {
    format: Format,
    prefixes: Prefixes,
    began: Instant,
    told: BTreeMap<String, (StageState, Option<String>, u32)>,
}

impl Teller {
    pub fn new(format: Format) -> Self {
        Self { format, prefixes: Prefixes::new(true), began: Instant::now(), told: BTreeMap::new() }
    }

    pub fn shows(&self) -> bool {
        self.format == Format::Table
    }

    pub fn line(&mut self, stage: &str, attempt: u32, text: &str) -> Result<(), Error> {
        output::line(&format!("{}{text}", self.prefixes.of(stage, attempt)))
    }

    /// Something beside the programs' lines.
    pub fn say(&self, text: &str) -> Result<(), Error> {
        if self.shows() { output::line(text) } else { Ok(()) }
    }

    /// Tells of stages whose state, reason or attempt is another than the one told last.
    pub fn changes(&mut self, run: &MLPipelineRun) -> Result<(), Error> {
        for (name, stage) in run.status.iter().flat_map(|status| &status.stages) {
            let now = (stage.state, stage.reason.clone(), stage.attempts);
            if self.told.get(name) != Some(&now) && is_news(stage) {
                let gone = paint(&format!("{:>6.1}s", self.began.elapsed().as_secs_f64()), DIM);
                self.say(&format!("{gone} {}", show::stages::line(name, stage)))?;
            }
            self.told.insert(name.clone(), now);
        }
        Ok(())
    }

    pub fn ask(stage: &str, question: &str) -> Result<(), Error> {
        let question = question.lines().next().unwrap_or_default();
        output::print(&format!("{} {}: {question} [y/n] ", paint("?", WAITS), paint(stage, STRONG)))
    }

    /// How it went, and what is left of it.
    pub fn end(&self, run: &MLPipelineRun, frozen: &Frozen, home: &Home, folder: &RunFolder) -> Result<(), Error> {
        if !self.shows() {
            let mut document = show::document::run(run);
            document["folder"] = folder.path.display().to_string().into();
            return output::json(&document);
        }
        output::print(&show::stages::tree(run, Some(frozen), Timestamp::now(), ""))?;
        output::print(&left(run, frozen, home))?;
        output::line(&paint(
            &format!("{:.1} s; all of it: {}", self.began.elapsed().as_secs_f64(), folder.path.display()),
            DIM,
        ))
    }
}

/// A process starts at once: that it is about to is no news.
fn is_news(stage: &StageStatus) -> bool {
    match stage.state {
        StageState::Waiting => false,
        StageState::Pending => stage.reason.is_some() && stage.approval.is_none(),
        // A model is registered in no time.
        StageState::Running => stage.attempts > 0 || stage.reason.is_some(),
        StageState::BackingOff | StageState::Succeeded | StageState::Failed | StageState::Skipped => true,
    }
}

/// Figures, models, and what would be served.
fn left(run: &MLPipelineRun, frozen: &Frozen, home: &Home) -> String {
    let mut text = String::new();
    let Some(status) = &run.status else { return text };
    for (name, stage) in status.stages.iter().filter(|(_, stage)| !stage.metrics.is_empty()) {
        let figures = stage
            .metrics
            .iter()
            .take(FIGURES)
            .map(|(metric, value)| format!("{metric} {}", figure::rounded(*value, figure::FEWEST)));
        let more = stage.metrics.len().saturating_sub(FIGURES);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let _ = writeln!(text, "{name}: {}{more}", figures.collect::<Vec<_>>().join(", "));
    }
    for (name, stage) in status.stages.iter().filter(|(_, stage)| stage.state == StageState::Succeeded) {
        let (Some(kind), Some(version)) = (frozen.stages.get(name).map(|stage| &stage.kind), &stage.model_version)
        else {
            continue;
        };
        let line = match kind {
            FrozenKind::Register(_) => {
                format!("{} is registered: {}", paint(version, GOOD), home.version_file(version).display())
            }
            FrozenKind::Deploy(deploy) => {
                let target = &deploy.model_deployment;
                format!("{target} would serve {version} from now on; nothing is served here")
            }
            FrozenKind::Container(_) | FrozenKind::Pipeline(_) | FrozenKind::Approve(_) | FrozenKind::Report(_) => {
                continue;
            }
        };
        let _ = writeln!(text, "{line}");
    }
    text
}
