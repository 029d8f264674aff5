//! `lint`: what the apiserver and the operator would refuse, without either of them, with the line and column of the field.

mod check;
pub mod files;
mod foreign;
mod rules;
mod schema;
mod stock;

use clap::Args;
use millrace_core::problem::Problem;

use crate::Answer;
use crate::error::Error;
use crate::output::{self, Format};
use crate::show;
use crate::yaml::{Fault, Place};
pub use check::{Known, config};
use files::{File, Object};

/// Check files without a cluster. Ends with 1 where there are mistakes
#[derive(Args)]
pub struct Lint {
    /// Files and folders; - is standard input
    #[arg(short, long, required = true, num_args = 1.., value_name = "PATH")]
    filename: Vec<String>,
    /// StageTemplates that the pipelines use, beside those in the files and the stock ones
    #[arg(long, num_args = 1.., value_name = "PATH")]
    templates: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A mistake, or what may be one, with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub file: String,
    pub place: Place,
    /// Kind and name; none for a file that cannot be read.
    pub object: Option<String>,
    pub problem: Problem,
    pub is_error: bool,
}

pub fn lint(command: &Lint) -> Result<Answer, Error> {
    let files = files::find(&command.filename)?;
    let Found { findings, objects, halted } = findings(&files, &files::find(&command.templates)?);
    match command.output {
        Format::Json => output::json(&findings.iter().map(show::problems::document).collect::<Vec<_>>())?,
        Format::Table => output::print(&show::problems::list(&findings, objects, files.len(), halted))?,
    }
    Ok((!findings.iter().any(|finding| finding.is_error)).into())
}

/// What is found.
struct Found {
    findings: Vec<Finding>,
    /// How many were looked at.
    objects: usize,
    /// Some of them have not the shape, so what the operator checks was not looked at.
    halted: bool,
}

fn findings(files: &[File], beside: &[File]) -> Found {
    let known = Known::of(files, beside);
    let mut findings = Vec::new();
    let (mut objects, mut halted) = (0, false);
    for file in files {
        match &file.objects {
            Ok(found) => {
                objects += found.len();
                halted |= found.iter().any(|object| !shape(object).is_empty());
                findings.extend(found.iter().flat_map(|object| of_object(&file.path, object, &known)));
            }
            Err(fault) => findings.push(unread(&file.path, fault)),
        }
    }
    Found { findings, objects, halted }
}

/// What is wrong with an object, in the order of its lines.
pub fn of_object(path: &str, object: &Object, known: &Known) -> Vec<Finding> {
    let finding = |problem: Problem, is_error: bool| Finding {
        file: path.to_owned(),
        place: object.node.locate(&problem.path),
        object: Some(object.to_string()),
        problem,
        is_error,
    };
    let mut errors = shape(object);
    let mut unlikely = Vec::new();
    // What has not the shape cannot be read as what it should be.
    if errors.is_empty() {
        (errors, unlikely) = check::object(object, known);
    }
    let mut findings: Vec<Finding> = errors.into_iter().map(|problem| finding(problem, true)).collect();
    findings.extend(unlikely.into_iter().map(|problem| finding(problem, false)));
    findings.sort_by_key(|finding| finding.place);
    findings
}

/// What the apiserver would refuse: by the schema, and by its rules.
pub fn shape(object: &Object) -> Vec<Problem> {
    let mut found = schema::object(object);
    // A rule over a field that is wrong itself, or has wrong ones, would say the same once more.
    let wrong: Vec<String> = found.iter().map(|problem| problem.path.clone()).collect();
    let mut broken = rules::object(object);
    broken.retain(|problem| !wrong.iter().any(|path| path.starts_with(&problem.path)));
    found.extend(broken);
    found
}

fn unread(path: &str, fault: &Fault) -> Finding {
    let problem = Problem::new("", "NotYaml", fault.message.clone());
    Finding { file: path.to_owned(), place: fault.place, object: None, problem, is_error: true }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
