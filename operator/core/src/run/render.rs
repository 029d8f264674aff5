//! A stage's program with its templates filled in, within what a kernel hands to a program.

use millrace_contract::TASK_ENV;

use super::inputs::Hindrance;
use crate::api::Container;
use crate::expr::{self, ExprError, Scope};
use crate::pipeline::FrozenContainer;

/// What a program is told, in all: an apiserver takes about 1.5 MB, and a kernel less.
const RENDERED_LIMIT: usize = 512 * 1024;
/// The longest argument or environment variable that Linux takes, without the NUL at its end (`MAX_ARG_STRLEN` is 32 pages). With
/// a longer one no program starts, however often it is tried.
pub(super) const LONGEST_STRING: usize = 32 * 4096 - 1;

/// The container of a stage with its templates rendered. `at` is the path of the stage.
pub(super) fn container(
    stage: &str,
    at: &str,
    frozen: &FrozenContainer,
    scope: &Scope,
) -> Result<Container, Hindrance> {
    let mut rendered = frozen.container.clone();
    let Container { image, command, args, script, settings, agent: _ } = &mut rendered;
    let fill = |text: &mut String| -> Result<(), Hindrance> {
        *text = expr::render(text, scope).map_err(|error| no_value(stage, &error))?;
        Ok(())
    };
    fill(image)?;
    let mut bytes = 0;
    let mut told = |text: &mut String, field: &str, name: usize| {
        fill(text)?;
        bytes += text.len();
        if text.len() + name > LONGEST_STRING {
            let found = format!("it is {} bytes long with its templates filled in", text.len() + name);
            return Err(too_long(&path(stage, at, frozen, field), &found));
        }
        if bytes > RENDERED_LIMIT {
            let message = format!(
                "stage `{stage}`: command, args, script and env are longer than {RENDERED_LIMIT} bytes with their \
                 templates filled in: hand it over as a file"
            );
            return Err(Hindrance::fail("StageTooLarge", message));
        }
        Ok(())
    };
    for (i, text) in command.iter_mut().flatten().enumerate() {
        told(text, &format!("command[{i}]"), 0)?;
    }
    for (i, text) in args.iter_mut().enumerate() {
        told(text, &format!("args[{i}]"), 0)?;
    }
    if let Some(text) = script {
        told(text, "script", 0)?;
    }
    for (name, value) in &mut settings.env {
        if let Some(text) = &mut value.value {
            // The kernel sees `NAME=value`.
            told(text, &format!("env.{name}.value"), name.len() + 1)?;
        }
    }
    Ok(rendered)
}

/// The task is one variable of the agent's. The only part of it that a person can make long is the script, as JSON.
pub(super) fn task_fits(stage: &str, at: &str, frozen: &FrozenContainer, task: &str) -> Result<(), Hindrance> {
    if fits(task) {
        return Ok(());
    }
    let found = format!("the task of the agent, which holds it as JSON, is {} bytes long", task.len());
    Err(too_long(&path(stage, at, frozen, "script"), &found))
}

/// Whether the task is short enough for a variable.
pub(super) fn fits(task: &str) -> bool {
    TASK_ENV.len() + 1 + task.len() <= LONGEST_STRING
}

/// An expression of the stage has no value.
pub(super) fn no_value(stage: &str, error: &ExprError) -> Hindrance {
    Hindrance::fail("InvalidExpression", format!("stage `{stage}`: {error}"))
}

fn too_long(path: &str, found: &str) -> Hindrance {
    let message =
        format!("{path}: {found}, and Linux starts no program with more than {LONGEST_STRING}: hand it over as a file");
    Hindrance::fail("StageTooLarge", message)
}

/// Where a person wrote the field.
fn path(stage: &str, at: &str, frozen: &FrozenContainer, field: &str) -> String {
    match &frozen.template {
        None => format!("{at}.container.{field}"),
        // Overrides lay variables over the template's: which of them it was is not kept.
        Some(template) if field.starts_with("env.") => {
            format!("{at}.overrides.{field}, or the StageTemplate {template}'s spec.container.{field}")
        }
        Some(template) => format!("stage `{stage}`: the StageTemplate {template}'s spec.container.{field}"),
    }
}
