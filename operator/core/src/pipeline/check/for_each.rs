//! `forEach`: what a stage runs over, and what cannot go with it.

use std::collections::BTreeMap;

use millrace_contract::{ITEMS_OUTPUT, MOST_ITEMS};
use serde_json::Value;

use super::edges::{Edges, Tie};
use super::expression::References;
use super::resolve::{Kind, Resolved};
use super::{Problems, inputs, quoted};
use crate::api::{ArtifactType, ForEach, ItemRange};
use crate::expr::{self, Names, Type};
use crate::run::MOST_RUNS;

const REASON: &str = "InvalidForEach";

/// What the expressions of the stage may name besides.
pub(super) fn names(resolved: &Resolved<'_>, mut names: Names) -> Names {
    if resolved.stage.for_each.is_some() {
        names.insert("item".to_owned(), Type::Any);
        names.insert("index".to_owned(), Type::Number);
    }
    names
}

/// Checks a `forEach` and returns what it refers to.
pub(super) fn check(
    stage: &str,
    resolved: &Resolved<'_>,
    run: &Names,
    all: &BTreeMap<&str, Resolved<'_>>,
    edges: &mut Edges,
    problems: &mut Problems,
) -> References {
    let mut references = References::default();
    let Some(each) = &resolved.stage.for_each else { return references };
    let at = format!("{}.forEach", resolved.at(stage));
    let most = if resolved.kind == Kind::Pipeline { MOST_RUNS } else { MOST_ITEMS };
    let ForEach { items, range, from, parallelism, fail_fast: _ } = each;
    if [items.is_some(), range.is_some(), from.is_some()].into_iter().filter(|given| *given).count() != 1 {
        let message = "exactly one of items, range and from is required: write one of them";
        problems.add(&at, REASON, message);
    }
    if !(1..=1000).contains(parallelism) {
        let message = format!("{parallelism} is out of bounds: write a number from 1 to 1000");
        problems.add(format!("{at}.parallelism"), REASON, message);
    }
    if let Some(items) = items {
        list(items, &format!("{at}.items"), most, run, &mut references, problems);
    }
    if let Some(ItemRange { count, start, step }) = range {
        let path = format!("{at}.range");
        number(count, &format!("{path}.count"), run, &mut references, problems);
        let whole = |count: f64| count.fract() == 0.0 && (0.0..=most as f64).contains(&count);
        if count.as_f64().is_some_and(|count| !whole(count)) {
            let message = format!("{count} is no number of items: write a whole number from 0 to {most}");
            problems.add(format!("{path}.count"), REASON, message);
        }
        for (field, value) in [("start", start), ("step", step)] {
            if let Some(value) = value {
                number(value, &format!("{path}.{field}"), run, &mut references, problems);
            }
        }
    }
    if let Some(from) = from.as_ref().filter(|_| resolved.kind == Kind::Pipeline) {
        let message = format!(
            "items of a stage with pipeline become parameters, which the operator fills in, and it reads no file as `{from}`: write items: \
             \"$[[ stages.<stage>.results.<list> ]]\", a list that an earlier stage has as a result, or a range"
        );
        problems.add(format!("{at}.from"), REASON, message);
    } else if let Some(from) = from {
        let path = format!("{at}.from");
        if inputs::output(stage, from, &path, Tie::Uses, all, edges, problems) == Some(ArtifactType::Model) {
            let message = format!("`{from}` is a model: name an output that is a file with one item in each line");
            problems.add(&path, "WrongArtifactType", message);
        }
        file(from, &path, all, problems);
    }
    beside(stage, resolved, problems);
    references
}

/// What another stage makes is one file, and is always there.
fn file(from: &str, path: &str, all: &BTreeMap<&str, Resolved<'_>>, problems: &mut Problems) {
    let Some((producer, output)) = from.split_once('.') else { return };
    let Some(made) = all.get(producer).filter(|made| made.made().contains_key(output)) else { return };
    let optional = made.outputs().get(output).is_some_and(|declared| declared.optional);
    if made.stage.for_each.is_some() && output == ITEMS_OUTPUT {
        return;
    }
    if made.stage.for_each.is_some() {
        let message = format!(
            "`{from}` is a folder with an entry for each item of `{producer}`: name {producer}.{ITEMS_OUTPUT}, the list of its items"
        );
        problems.add(path, REASON, message);
    } else if made.stage.pipeline.is_some() {
        let message = format!(
            "nobody has counted the items of `{from}`, which another pipeline makes: let a stage of this one read it and write the list"
        );
        problems.add(path, REASON, message);
    } else if optional {
        let message = format!(
            "`{producer}` may leave out `{from}`, which is optional there: name an output that it always writes"
        );
        problems.add(path, REASON, message);
    }
}

fn list(items: &Value, path: &str, most: u64, run: &Names, references: &mut References, problems: &mut Problems) {
    if let Value::Array(list) = items
        && list.len() as u64 > most
    {
        let message = format!("it has {} items, and at most {most} are run: split the list", list.len());
        problems.add(path, REASON, message);
    }
    let checked = expr::check_value(items, run);
    if checked.faults.is_empty() && !checked.kind.fits(&Type::List) {
        let message =
            format!("{} is {}: write a list, or one expression that gives a list", quoted(items), checked.kind);
        problems.add(path, "WrongType", message);
    }
    references.take(checked, path, problems);
}

fn number(value: &Value, path: &str, run: &Names, references: &mut References, problems: &mut Problems) {
    let checked = expr::check_value(value, run);
    if checked.faults.is_empty() && !checked.kind.fits(&Type::Number) {
        let message =
            format!("{} is {}: write a number, or one expression that gives a number", quoted(value), checked.kind);
        problems.add(path, "WrongType", message);
    }
    references.take(checked, path, problems);
}

/// What has no meaning for a stage that runs many times.
fn beside(stage: &str, resolved: &Resolved<'_>, problems: &mut Problems) {
    let at = resolved.at(stage);
    if resolved.stage.gate.is_some() {
        let message = "each item has metrics of its own, and the stage has none: judge them in a later stage that reads the output `items`";
        problems.add(format!("{at}.gate"), REASON, message);
    }
    let nested = resolved.stage.pipeline.as_ref().map(|nested| nested.outputs.contains_key(ITEMS_OUTPUT));
    if nested.unwrap_or_else(|| resolved.outputs().contains_key(ITEMS_OUTPUT)) {
        let message = format!(
            "the output `{ITEMS_OUTPUT}` of a stage with forEach is the list of what became of its items: use another name"
        );
        let below = if nested.is_some() { "pipeline.outputs" } else { "outputs" };
        problems.add(format!("{at}.{below}.{ITEMS_OUTPUT}"), REASON, message);
    }
    let image = resolved.template.map(|template| &template.container.image).filter(|image| expr::has_template(image));
    if let Some(image) = image {
        let message = format!(
            "the StageTemplate's image is `{image}`, and all items have the same: use a StageTemplate whose image has no expression"
        );
        problems.add(format!("{at}.forEach"), REASON, message);
    }
}
