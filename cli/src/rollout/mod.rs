//! `rollout`: how another revision of a ModelDeployment takes over, and what a person wants of it.

mod approve;
mod control;
mod history;
mod rollback;
mod standing;
mod status;
mod undo;

use clap::{Args, Subcommand};

use crate::Answer;
use crate::connect::Cluster;
use crate::error::Error;
pub use standing::{Standing, standing};
pub use status::tell;

/// See and steer how another version takes over
#[derive(Args)]
pub struct Rollout {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Status(status::Status),
    Approve(approve::Approve),
    Promote(control::Promote),
    Abort(control::Abort),
    Rollback(rollback::Rollback),
    Undo(undo::Undo),
    History(history::History),
}

pub async fn rollout(cluster: &Cluster, command: Rollout) -> Result<Answer, Error> {
    // In boxes: futures that hold a ModelDeployment are large.
    match command.command {
        Command::Status(command) => Box::pin(status::status(cluster, &command)).await,
        Command::Approve(command) => Box::pin(approve::approve(cluster, &command)).await,
        Command::Promote(command) => Box::pin(control::promote(cluster, &command)).await,
        Command::Abort(command) => control::abort(cluster, &command).await,
        Command::Rollback(command) => Box::pin(rollback::rollback(cluster, &command)).await,
        Command::Undo(command) => Box::pin(undo::undo(cluster, &command)).await,
        Command::History(command) => history::history(cluster, &command).await,
    }
}
