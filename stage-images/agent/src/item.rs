//! One item of a stage with `forEach`: which it is, and the stage's texts with it filled in.

use std::collections::BTreeMap;
use std::ffi::OsString;

use millrace_contract::{
    INPUTS_DIR, ITEM_ENV, ITEM_GIVEN_UP, ITEM_INDEX_ENV, ITEM_RETRIES_ENV, ITEMS_PATH, ItemSource, Report, Task,
    TaskInput, TaskItems, TaskSource, in_range, output_path,
};
use millrace_core::item::{Item, ItemError, Order, Texts};
use millrace_files::digest::Stop;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::inputs::{self, InputError};
use crate::list::{self, ListError};
use crate::place::Place;
use crate::remote::Budget;
use crate::{exit, folders};

#[derive(Debug, Error)]
pub enum ItemsError {
    #[error("{ITEM_INDEX_ENV} is {0:?}: this pod belongs to no Indexed Job, which would say which item it is for")]
    Index(String),
    #[error("the list of items: {0}")]
    Lost(#[from] InputError),
    #[error("the list of items: {0}")]
    List(#[from] ListError),
    #[error("the task cannot be read: {0}; agent and operator are of different versions?")]
    Order(#[source] serde_json::Error),
    #[error("the infrastructure ended this item {0} times")]
    TooManyDisruptions(u32),
    #[error("an argument is no UTF-8")]
    NotText,
    #[error("item {index}: {source}")]
    Texts { index: u64, source: ItemError },
}

const LONGEST_VARIABLE: usize = 31 * 4096;
/// So often may the infrastructure end an item, as it may end any other attempt: a node that kills whatever runs on it makes no run endless.
const MAX_DISRUPTIONS: u32 = 10;

/// The task as this item's pod has it: its attempts count on, because pods of one Job share the item's folder, and so do those of the next.
pub fn of_this_pod(task: &Task, place: &Place) -> Task {
    if task.items.as_ref().is_none_or(|items| items.order.is_none()) {
        return task.clone();
    }
    let before: u32 = ITEM_RETRIES_ENV.iter().map(|name| count(name)).sum();
    let attempt = task.attempt.saturating_add(before).max(folders::last_attempt(place).saturating_add(1));
    Task { attempt, ..task.clone() }
}

fn count(name: &str) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// What the program of an item gets.
#[derive(Debug)]
pub struct Filled {
    pub words: Vec<OsString>,
    pub script: Option<String>,
    pub env: BTreeMap<String, String>,
}

/// Finds the pod's item and fills in the texts. `items` is the task's.
pub fn fill(
    task: &Task,
    items: &TaskItems,
    order: &Value,
    arguments: &[OsString],
    place: &Place,
    stop: Stop<'_>,
) -> Result<Filled, ItemsError> {
    let index = index()?;
    let disruptions = count(ITEM_RETRIES_ENV[1]);
    if disruptions > MAX_DISRUPTIONS {
        return Err(ItemsError::TooManyDisruptions(disruptions));
    }
    let value = value(items, index, place, stop)?;
    let order: Order = serde_json::from_value(order.clone()).map_err(ItemsError::Order)?;
    let words = arguments.iter().map(|word| word.to_str().map(str::to_owned).ok_or(ItemsError::NotText));
    let words: Vec<String> = words.collect::<Result<_, _>>()?;
    let path = |path: String| Value::from(place.at(path).display().to_string());
    let mut inputs: Map<String, Value> =
        task.inputs.keys().map(|name| (name.clone(), path(format!("{INPUTS_DIR}/{name}")))).collect();
    inputs.extend(task.handed.iter().map(|(name, address)| (name.clone(), Value::from(address.as_str()))));
    let outputs: Map<String, Value> =
        task.outputs.keys().map(|name| (name.clone(), path(output_path(task.attempt, name)))).collect();
    let item = Item { value: &value, index, inputs: &inputs, outputs: &outputs };
    let Texts { words, script, mut env } =
        order.fill(item, &words, task.script.as_deref()).map_err(|source| ItemsError::Texts { index, source })?;
    let text = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    // Linux starts no program with a longer variable, nor with a zero in one: then the arguments have it.
    if text.len() < LONGEST_VARIABLE && !text.contains('\0') {
        env.insert(ITEM_ENV.to_owned(), text);
    }
    env.insert(ITEM_INDEX_ENV.to_owned(), index.to_string());
    Ok(Filled { words: words.into_iter().map(OsString::from).collect(), script, env })
}

/// How the pod of an item ends that failed: `status`, unless `retry.when` lets there be no other attempt, which the Job has to be told. A program's own
/// status must not say that, nor that memory ran out for all of the pod.
pub fn status(task: &Task, report: &Report, status: u8) -> u8 {
    let order = task.items.as_ref().and_then(|items| items.order.clone());
    let order = order.and_then(|order| serde_json::from_value::<Order>(order).ok());
    let Some(retry) = order.and_then(|order| order.retry) else { return status };
    match retry.refused(report.exit_code, &format!("{:?}", report.reason), task.attempt) {
        Some(_) => ITEM_GIVEN_UP,
        None if matches!(status, ITEM_GIVEN_UP | exit::OUT_OF_MEMORY) => 1,
        None => status,
    }
}

/// Which item this pod is for.
pub fn index() -> Result<u64, ItemsError> {
    let text = std::env::var(ITEM_INDEX_ENV).unwrap_or_default();
    text.parse().map_err(|_| ItemsError::Index(text))
}

fn value(items: &TaskItems, index: u64, place: &Place, stop: Stop<'_>) -> Result<Value, ItemsError> {
    match &items.source {
        ItemSource::Range { start, step } => Ok(in_range(*start, *step, index)),
        ItemSource::File { digest, size, from } => {
            verify(&listed(digest, *size, from.as_ref()), place, stop)?;
            Ok(list::item(&place.at(ITEMS_PATH), index)?)
        }
    }
}

/// The list is brought, if it lies in a store of objects.
pub fn bring(items: &TaskItems, place: &Place, budget: Budget, stop: Stop<'_>) -> Result<(), ItemsError> {
    let ItemSource::File { digest, size, from } = &items.source else { return Ok(()) };
    Ok(inputs::bring_one("items", &listed(digest, *size, from.as_ref()), place, budget, stop)?)
}

fn listed(digest: &str, size: u64, from: Option<&TaskSource>) -> TaskInput {
    TaskInput { path: ITEMS_PATH.to_owned(), digest: digest.to_owned(), size, source: from.cloned() }
}

/// The list is what the operator was told of, or wrote down.
fn verify(list: &TaskInput, place: &Place, stop: Stop<'_>) -> Result<(), InputError> {
    inputs::one("items", list, place, stop)
}

/// Every item, as JSON.
pub fn all(items: &TaskItems, place: &Place, stop: Stop<'_>) -> Result<Vec<String>, ItemsError> {
    match &items.source {
        ItemSource::Range { start, step } => {
            Ok((0..items.total).map(|index| in_range(*start, *step, index).to_string()).collect())
        }
        ItemSource::File { digest, size, from } => {
            verify(&listed(digest, *size, from.as_ref()), place, stop)?;
            Ok(list::each(&place.at(ITEMS_PATH))?)
        }
    }
}
