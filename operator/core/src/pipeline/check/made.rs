//! Stages that are made for inputs: what they come after.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Stage;
use crate::expr;

/// All that the reader comes after, of these stages: whatever of it may be what writes that which is read. What `when` names is
/// taken over with `when`.
pub(super) fn comes_after(reader: &Stage, all: &BTreeMap<String, Stage>) -> Vec<String> {
    let inputs = reader.inputs.values();
    let froms = inputs.flat_map(|input| input.from.iter().chain(input.default.as_ref().map(|default| &default.from)));
    let each = reader.for_each.iter().filter_map(|each| each.from.as_ref());
    let sources =
        froms.chain(each).filter_map(|from| from.split_once('.')).map(|(stage, _)| expr::in_expression(stage));
    let texts = expr::references_in(&serde_json::to_value(reader).unwrap_or_default());
    let named = texts.into_iter().filter(|path| path.first().is_some_and(|first| first == "stages"));
    let named = named.filter_map(|path| path.into_iter().nth(1));
    let wanted: BTreeSet<String> = sources.chain(named).collect();
    let found = all.keys().filter(|name| wanted.contains(&expr::in_expression(name)));
    reader.needs.iter().chain(found).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
