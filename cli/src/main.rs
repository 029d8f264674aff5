//! `kubectl millrace`: what people do with Millrace that `kubectl` alone makes long. It reads and writes the same objects; it decides
//! nothing that the operator decides.
//!
//! It ends with 0 for yes, 1 where the answer is no (a run that failed, a rollout that was rolled back, a file with mistakes) and 2 where
//! there is no answer.

mod advise;
mod approve;
mod cancel;
mod code;
mod completion;
mod connect;
mod cp;
mod diff;
mod error;
mod given;
mod history;
mod lint;
mod local;
mod logs;
mod output;
mod patch;
mod plan;
mod reader;
mod reproduce;
mod retry;
mod rollout;
mod run;
mod show;
mod suspend;
mod tree;
mod yaml;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use connect::Target;
use error::Error;

/// Rollouts, runs and pipelines of Millrace.
#[derive(Parser)]
#[command(name = "kubectl-millrace", bin_name = "kubectl millrace", version)]
pub struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Rollout(rollout::Rollout),
    Run(run::Run),
    Logs(logs::Logs),
    Tree(tree::Tree),
    Cp(cp::Cp),
    History(history::History),
    Advise(advise::Advise),
    Retry(retry::Retry),
    Approve(approve::Approve),
    Reject(approve::Reject),
    Cancel(cancel::Cancel),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Lint(lint::Lint),
    Plan(plan::Plan),
    Diff(diff::Diff),
    Reproduce(reproduce::Reproduce),
    Completion(completion::Completion),
}

/// What was asked, answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if let Some((_, rest)) = arguments.split_first().filter(|(first, _)| *first == local::agent::WORD) {
        return local::agent::act(rest);
    }
    match answer() {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        // Whoever read it has read enough, as `head` does.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output::warn(&format!("error: {}", error::chain(&error)));
            ExitCode::from(2)
        }
    }
}

fn answer() -> Result<Answer, Error> {
    // Words of a line that is not written to its end: they are no command.
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some((completion::ASKED, words)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return completion::complete(words);
    }
    let Cli { target, command } = Cli::parse();
    if let Command::Run(run) = &command
        && run.local.local
    {
        return local::run(run);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(carry_out(&target, command)))
}

async fn carry_out(target: &Target, command: Command) -> Result<Answer, Error> {
    match command {
        Command::Lint(lint) => lint::lint(&lint),
        Command::Completion(completion) => completion::completion(&completion),
        Command::Rollout(command) => Box::pin(rollout::rollout(&target.connect().await?, command)).await,
        Command::Run(command) => Box::pin(run::run(&target.connect().await?, command)).await,
        Command::Logs(command) => Box::pin(logs::logs(&target.connect().await?, &command)).await,
        Command::Cp(command) => Box::pin(cp::cp(&target.connect().await?, &command)).await,
        Command::History(command) => Box::pin(history::history(&target.connect().await?, &command)).await,
        Command::Advise(command) => advise::advise(&target.connect().await?, &command).await,
        Command::Tree(command) => tree::tree(&target.connect().await?, &command).await,
        Command::Retry(command) => Box::pin(retry::retry(&target.connect().await?, &command)).await,
        Command::Approve(command) => approve::approve(&target.connect().await?, &command).await,
        Command::Reject(command) => approve::reject(&target.connect().await?, &command).await,
        Command::Cancel(command) => cancel::cancel(&target.connect().await?, &command).await,
        Command::Suspend(command) => suspend::suspend(&target.connect().await?, &command).await,
        Command::Resume(command) => suspend::resume(&target.connect().await?, &command).await,
        Command::Plan(command) => plan::plan(&target.connect().await?, &command).await,
        Command::Diff(command) => diff::diff(&target.connect().await?, &command).await,
        Command::Reproduce(command) => Box::pin(reproduce::reproduce(&target.connect().await?, &command)).await,
    }
}
