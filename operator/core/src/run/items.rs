//! The items of a stage with `forEach`: how many there are, and where a pod finds its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millrace_contract::{ItemSource, MOST_ITEMS, in_range};
use serde_json::{Value, json};

use super::inputs::{Hindrance, Mounted};
use super::pass::{Pass, Stages};
use super::{inputs, render, scope};
use crate::api::{ForEach, Input, ItemRange, Store};
use crate::expr::{self, Scope};
use crate::names;
use crate::store::Place;

/// A ConfigMap has room for 1 MiB.
pub(super) const LONGEST_LIST: usize = 900 * 1024;
/// Whole numbers of a range are below this, as `in_range` writes them.
const EXACT: f64 = 9.0e15;
/// The key of the list in its ConfigMap.
pub(super) const LIST: &str = "list";

/// What a stage runs over.
pub(super) struct Items {
    pub total: u32,
    pub source: ItemSource,
    pub list: List,
}

impl Items {
    /// Which they are, for who asks whether they are the same.
    pub fn told(&self) -> Value {
        let list = match &self.list {
            List::Computed => Value::Null,
            List::Written(map) => json!(map.data.iter().flatten().collect::<Vec<_>>()),
            List::Made(made) => json!([made.digest, made.size]),
        };
        let range = match &self.source {
            ItemSource::Range { start, step } => json!([start, step]),
            ItemSource::File { .. } => Value::Null,
        };
        json!([self.total, range, list])
    }
}

/// What a pod mounts to read its item.
pub(super) enum List {
    /// Nothing: it is computed.
    Computed,
    /// A list that was written down, in a ConfigMap named by its content.
    Written(Box<ConfigMap>),
    /// An earlier stage's output.
    Made(Mounted),
}

pub(super) fn of(pass: &Pass<'_>, stage: &str, each: &ForEach, stages: &Stages) -> Result<Items, Hindrance> {
    let scope = scope::of_run(pass, stages);
    let at = format!("{}.forEach", pass.at(stage));
    if let Some(from) = &each.from {
        return made(&at, from, stages, pass.frozen.store.as_ref());
    }
    match values_of(stage, &at, each, &scope, MOST_ITEMS)? {
        Values::Range { total, start, step } => {
            Ok(Items { total, source: ItemSource::Range { start, step }, list: List::Computed })
        }
        Values::List(items) => {
            let mut text = String::new();
            for item in &items {
                text.push_str(&item.to_string());
                text.push('\n');
            }
            if text.len() > LONGEST_LIST {
                let message = format!(
                    "{at}.items: the list is {} bytes long, and at most {LONGEST_LIST} are kept: let a stage write it to a file, and name that in forEach.from",
                    text.len()
                );
                return Err(Hindrance::fail("TooManyItems", message));
            }
            Ok(written(pass, stage, number(items.len()), text))
        }
    }
}

/// What a stage runs over, where the operator fills it in.
pub(super) enum Values {
    List(Vec<Value>),
    Range { total: u32, start: f64, step: f64 },
}

impl Values {
    pub fn total(&self) -> u32 {
        match self {
            Self::List(items) => number(items.len()),
            Self::Range { total, .. } => *total,
        }
    }

    pub fn item(&self, index: u32) -> Value {
        match self {
            Self::List(items) => items.get(index as usize).cloned().unwrap_or_default(),
            Self::Range { start, step, .. } => in_range(*start, *step, index.into()),
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The values of a list or a range of at most `most` items.
pub(super) fn values(
    pass: &Pass<'_>,
    stage: &str,
    each: &ForEach,
    stages: &Stages,
    most: u64,
) -> Result<Values, Hindrance> {
    values_of(stage, &format!("{}.forEach", pass.at(stage)), each, &scope::of_run(pass, stages), most)
}

fn values_of(stage: &str, at: &str, each: &ForEach, scope: &Scope, most: u64) -> Result<Values, Hindrance> {
    if let Some(range) = &each.range {
        return computed(stage, &format!("{at}.range"), range, scope, most);
    }
    let items = each.items.as_ref().unwrap_or(&Value::Null);
    let items = expr::render_value(items, scope).map_err(|error| render::no_value(stage, &error))?;
    let Value::Array(items) = items else {
        let message = format!("{at}.items: {} is no list: write an expression that gives a list", shown(&items));
        return Err(Hindrance::fail("InvalidForEach", message));
    };
    bounded(&format!("{at}.items"), items.len() as u64, most)?;
    Ok(Values::List(items))
}

fn made(at: &str, from: &str, stages: &Stages, store: Option<&Store>) -> Result<Items, Hindrance> {
    let input = Input { from: Some(from.to_owned()), ..Input::default() };
    let mut mounts = inputs::mounted(&BTreeMap::from([("items".to_owned(), input)]), &BTreeMap::new(), stages, store)?;
    let counted = from.split_once('.').and_then(|(stage, output)| stages.get(stage)?.outputs.get(output)?.items);
    let (Some(mounted), Some(count)) = (mounts.remove("items"), counted) else {
        let message =
            format!("{at}.from: the stage that made `{from}` did not say how many items it lists: run it again");
        return Err(Hindrance::fail("InvalidForEach", message));
    };
    let total = bounded(&format!("{at}.from"), count, MOST_ITEMS)?;
    let from = match &mounted.place {
        Place::Claim { .. } => None,
        Place::Objects(objects) => Some(objects.source()),
    };
    let source = ItemSource::File { digest: mounted.digest.clone(), size: mounted.size, from };
    Ok(Items { total, source, list: List::Made(mounted) })
}

fn computed(stage: &str, at: &str, range: &ItemRange, scope: &Scope, most: u64) -> Result<Values, Hindrance> {
    let ItemRange { count, start, step } = range;
    let number = |field: &str, value: &Value| {
        let value = expr::render_value(value, scope).map_err(|error| render::no_value(stage, &error))?;
        value.as_f64().ok_or_else(|| {
            let message = format!("{at}.{field}: {} is no number: write an expression that gives one", shown(&value));
            Hindrance::fail("InvalidForEach", message)
        })
    };
    let count = number("count", count)?;
    if count.fract() != 0.0 || count < 0.0 {
        let message = format!("{at}.count: {count} is no number of items: let it be a whole number from 0 to {most}");
        return Err(Hindrance::fail("InvalidForEach", message));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let total = bounded(&format!("{at}.count"), count as u64, most)?;
    let start = start.as_ref().map_or(Ok(0.0), |start| number("start", start))?;
    let step = step.as_ref().map_or(Ok(1.0), |step| number("step", step))?;
    let last = start + step * f64::from(total.saturating_sub(1));
    if let Some(far) = [start, last].into_iter().find(|number| !number.is_finite() || number.abs() >= EXACT) {
        let message = format!("{at}: {far} is too far from 0 to be exact: write such numbers as items");
        return Err(Hindrance::fail("InvalidForEach", message));
    }
    Ok(Values::Range { total, start, step })
}

/// A list of `total` lines, of at most [`LONGEST_LIST`] bytes.
pub(super) fn written(pass: &Pass<'_>, stage: &str, total: u32, text: String) -> Items {
    let hex = names::sha256_hex(text.as_bytes());
    let source = ItemSource::File { digest: format!("sha256:{hex}"), size: text.len() as u64, from: None };
    let labels = [
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
        (names::RUN_UID_LABEL.to_owned(), pass.run_uid().to_owned()),
        (names::STAGE_LABEL.to_owned(), stage.to_owned()),
    ];
    let map = ConfigMap {
        metadata: ObjectMeta {
            // Named by the run's uid and the content: what has the name is this list, or nobody reads it, because the digest differs.
            name: Some(names::joined(&[
                pass.run_name(),
                "items",
                &names::sha256_hex(format!("{}/{hex}", pass.run_uid()).as_bytes())[..10],
            ])),
            namespace: Some(pass.namespace().to_owned()),
            labels: Some(labels.into()),
            owner_references: Some(vec![pass.owner()]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some([(LIST.to_owned(), text)].into()),
        ..ConfigMap::default()
    };
    Items { total, source, list: List::Written(Box::new(map)) }
}

fn bounded(path: &str, count: u64, most: u64) -> Result<u32, Hindrance> {
    u32::try_from(count).ok().filter(|_| count <= most).ok_or_else(|| {
        let runs = if most < MOST_ITEMS { ", or run a container over them" } else { "" };
        let message = format!(
            "{path}: there are {count} items, and at most {most} are run: let an item stand for more work{runs}"
        );
        Hindrance::fail("TooManyItems", message)
    })
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
