//! `completion`: what a shell reads to complete `kubectl-millrace`. `__complete` is what kubectl's own completion asks of a plugin, by a program
//! called `kubectl_complete-millrace`.

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::error::Error;
use crate::{Answer, Cli, output};

/// The word before those of kubectl's question.
pub const ASKED: &str = "__complete";

/// Print a completion script
#[derive(Args)]
pub struct Completion {
    #[arg(value_enum)]
    shell: For,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

pub fn completion(command: &Completion) -> Result<Answer, Error> {
    let shell = match command.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    output::print(&script(shell))?;
    Ok(Answer::Yes)
}

/// What may stand after these words, as cobra's programs say it.
pub fn complete(words: &[String]) -> Result<Answer, Error> {
    output::print(&candidates(&Cli::command(), words))?;
    Ok(Answer::Yes)
}

fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kubectl-millrace", &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    // clap_complete 4.6 writes the hyphen of a program's name in two ways, and bash would find nothing below a command.
    text.replace("kubectl__subcmd__millrace", "kubectl__millrace")
}

/// Commands or options that begin with the last word, each with what it does, and what the shell is to do then: with no
/// candidates it looks for files (`:0`), else it does not (`:4`).
fn candidates(root: &Command, words: &[String]) -> String {
    let (last, before) = words.split_last().map_or(("", &[] as &[String]), |(last, before)| (last.as_str(), before));
    let mut command = root;
    for word in before {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let about = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let found: Vec<String> = if last.starts_with('-') {
        let options = command.get_arguments().chain(root.get_arguments().filter(|option| option.is_global_set()));
        let named = options.filter_map(|option| Some((format!("--{}", option.get_long()?), about(option.get_help()))));
        named.filter(|(name, _)| name.starts_with(last)).map(|(name, about)| format!("{name}\t{about}\n")).collect()
    } else {
        let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
        let named = commands.filter(|command| command.get_name().starts_with(last));
        named.map(|command| format!("{}\t{}\n", command.get_name(), about(command.get_about()))).collect()
    };
    format!("{}:{}\n", found.concat(), if found.is_empty() { 0 } else { 4 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell);
            for word in ["rollout", "approve", "lint", "namespace", "follow"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn bash_finds_the_options_of_every_command() {
        let text = script(Shell::Bash);
        let set = text.lines().filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"'));
        let set: Vec<&str> = set.filter(|name| !name.is_empty()).collect();
        assert!(set.len() > 18, "{set:?}");
        for name in set {
            assert!(text.lines().any(|line| line.trim() == format!("{name})")), "{name}");
        }
    }

    #[test]
    fn kubectl_is_told_what_may_follow() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let text = candidates(&Cli::command(), &words);
            text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(&["ro"]), ["rollout", ":4"]);
        assert_eq!(of(&["-n", "team", "rollout", "a"]), ["approve", "abort", ":4"]);
        assert_eq!(of(&["rollout", "status", "--wa"]), ["--watch", ":4"]);
        assert_eq!(of(&["rollout", "status", "--names"]), ["--namespace", ":4"]);
        assert_eq!(of(&["lint", "-f", ""]), [":0"]);
        assert_eq!(
            of(&["rollout", ""]),
            ["status", "approve", "promote", "abort", "rollback", "undo", "history", ":4"]
        );
    }

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }
}
