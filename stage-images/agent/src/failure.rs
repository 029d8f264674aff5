//! Why an attempt is not complete: each module's error, and the reason it has in the report.

use millrace_contract::{REPORT_LIMIT, ReportReason};
use thiserror::Error;

use crate::code::CodeError;
use crate::collect::CollectError;
use crate::command::StartError;
use crate::ending::EndError;
use crate::facts::FactsError;
use crate::folders::{FolderError, StoreError};
use crate::inputs::InputError;
use crate::item::ItemsError;
use crate::manifest::{PublishError, Recovery};
use crate::outputs::OutputError;
use crate::remote::{Doing, RemoteError};
use crate::task::TaskError;

#[derive(Debug, Error)]
pub enum Failure {
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error("failed to prepare for signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Recovery(#[from] Recovery),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error(transparent)]
    Items(#[from] ItemsError),
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Before the command.
    #[error(transparent)]
    Remote(RemoteError),
    /// After it.
    #[error("{}", late_or(.0))]
    Upload(RemoteError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    End(#[from] EndError),
    #[error(transparent)]
    Facts(#[from] FactsError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(
        "{outputs} outputs with results and metrics need {size} bytes in the report, which has {REPORT_LIMIT}: declare fewer outputs"
    )]
    ReportTooLarge { outputs: usize, size: usize },
}

impl Failure {
    pub fn reason(&self) -> ReportReason {
        match self {
            Self::Task(_) | Self::Signals(_) | Self::Code(CodeError::Unpack { .. }) => ReportReason::CannotStart,
            Self::Items(error) | Self::Collect(CollectError::Items(error)) => of_items(error),
            Self::Code(CodeError::Remote(source))
            | Self::Input(InputError::Remote { source, .. })
            | Self::Remote(source)
            | Self::Collect(CollectError::Remote(source)) => of_remote(source),
            Self::Upload(source) => after(source),
            Self::Store(_)
            | Self::Collect(CollectError::Store(_))
            | Self::Recovery(Recovery::Store(_))
            | Self::Start(StartError::Store(_))
            | Self::Output(OutputError::Store(_))
            | Self::Publish(PublishError::Store(_)) => ReportReason::StoreNotWritable,
            Self::Start(StartError::Nothing | StartError::NoInterpreter(_) | StartError::Spawn { .. }) => {
                ReportReason::CannotStart
            }
            Self::End(EndError::Status(_) | EndError::Signal(_) | EndError::OwnSignal { .. }) => ReportReason::Error,
            Self::End(EndError::OutOfMemory { .. }) => ReportReason::OOMKilled,
            Self::End(EndError::Timeout { .. })
            | Self::Output(OutputError::Late { .. })
            | Self::Publish(PublishError::Late) => ReportReason::Timeout,
            Self::Recovery(Recovery::Stopped)
            | Self::Input(InputError::Stopped(_))
            | Self::Code(CodeError::Stopped)
            | Self::Collect(CollectError::Stopped)
            | Self::End(EndError::Terminated { .. }) => ReportReason::Terminated,
            Self::Input(InputError::Denied { .. }) | Self::Collect(CollectError::Denied { .. }) => {
                ReportReason::StoreNotReadable
            }
            Self::Code(_)
            | Self::Input(_)
            | Self::Collect(CollectError::Lost { .. } | CollectError::Changed { .. }) => ReportReason::InputLost,
            Self::Facts(FactsError::FileTooLarge { .. } | FactsError::TooLarge { .. })
            | Self::ReportTooLarge { .. } => ReportReason::ResultTooLarge,
            Self::Facts(FactsError::Bad { .. } | FactsError::Read { .. })
            | Self::Folder(FolderError::Removed(_) | FolderError::Replaced(_))
            | Self::Publish(PublishError::Taken(_)) => ReportReason::BadResult,
            Self::Output(
                OutputError::Missing { .. }
                | OutputError::Unusable { .. }
                | OutputError::NotAList { .. }
                | OutputError::NotAModel { .. },
            ) => ReportReason::OutputMissing,
        }
    }

    /// Whether the command ran. If not, the logs would be empty without a line of the agent's.
    pub fn command_ran(&self) -> bool {
        match self {
            Self::Task(_)
            | Self::Signals(_)
            | Self::Recovery(_)
            | Self::Input(_)
            | Self::Code(_)
            | Self::Items(_)
            | Self::Collect(_)
            | Self::Store(_)
            | Self::Remote(_)
            | Self::Start(_) => false,
            Self::End(_)
            | Self::Facts(_)
            | Self::Folder(_)
            | Self::Output(_)
            | Self::Publish(_)
            | Self::Upload(_)
            | Self::ReportTooLarge { .. } => true,
        }
    }

    /// An exit status for a command that never ran.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Task(_) => Some(crate::exit::USAGE.into()),
            Self::Start(error) => Some(error.exit_code()),
            _ => None,
        }
    }
}

fn of_remote(error: &RemoteError) -> ReportReason {
    match error {
        RemoteError::Settings { .. }
        | RemoteError::Exists { .. }
        | RemoteError::Disk { .. }
        | RemoteError::Refused { doing: Doing::Write, .. } => ReportReason::StoreNotWritable,
        RemoteError::Refused { doing: Doing::Read, .. } => ReportReason::StoreNotReadable,
        RemoteError::Unreachable { .. } => ReportReason::StoreUnreachable,
        RemoteError::NotFound { .. } | RemoteError::Bad { .. } => ReportReason::InputLost,
        RemoteError::Stopped => ReportReason::Terminated,
    }
}

/// Of what went wrong after the command.
fn after(error: &RemoteError) -> ReportReason {
    match error {
        RemoteError::Stopped => ReportReason::Timeout,
        RemoteError::NotFound { .. } | RemoteError::Bad { .. } => ReportReason::BadResult,
        other => of_remote(other),
    }
}

fn late_or(error: &RemoteError) -> String {
    match error {
        RemoteError::Stopped => "the stage's timeout was over while its outputs were brought into the store, though the command had ended: raise \
                                 `timeout`, or write less"
            .to_owned(),
        other => other.to_string(),
    }
}

fn of_items(error: &ItemsError) -> ReportReason {
    match error {
        ItemsError::Lost(InputError::Stopped(_)) => ReportReason::Terminated,
        ItemsError::Lost(InputError::Remote { source, .. }) => of_remote(source),
        ItemsError::Lost(InputError::Denied { .. }) => ReportReason::StoreNotReadable,
        ItemsError::Lost(_) | ItemsError::List(_) => ReportReason::InputLost,
        ItemsError::Index(_)
        | ItemsError::Order(_)
        | ItemsError::TooManyDisruptions(_)
        | ItemsError::NotText
        | ItemsError::Texts { .. } => ReportReason::CannotStart,
    }
}
