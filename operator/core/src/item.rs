//! What is filled in for one item of a `forEach`. The operator writes an [`Order`] that is the same for every pod of the stage; the agent of
//! each pod fills it in for its item.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::ParamSpec;
use crate::expr::{self, ExprError, Scope};
use crate::pipeline::{FrozenContainer, REASONS, bind_params};
use crate::{problem, run};

/// What an item's texts are filled in with, but for the item itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// `run`, and those of `params` and `stages` that the texts name.
    pub names: Map<String, Value>,
    /// Of a stage with `uses`: its texts see the template's own parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateOrder>,
    /// Optional inputs that are not there: null in an expression.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// Variables of the environment that hold templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryOrder>,
}

/// `retry.when`: which failures of an item are worth another attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryOrder {
    pub when: String,
    /// `run`, and the `params` that it names.
    pub names: Map<String, Value>,
}

impl RetryOrder {
    /// Of the names of a run only those are kept that it names.
    #[must_use]
    pub fn new(when: &str, names: Map<String, Value>) -> Self {
        let named = expr::references_in(&Value::String(format!("$[[ {when} ]]")));
        let mut names = only(names, &named);
        names.remove("stages");
        Self { when: when.to_owned(), names }
    }

    /// Why there is no other attempt after this failure, if there is none. `reason` is as in a status; what the infrastructure ends is not asked about.
    #[must_use]
    pub fn refused(&self, exit_code: Option<i32>, reason: &str, attempt: u32) -> Option<String> {
        if !REASONS.contains(&reason) {
            return None;
        }
        let scope = self.names.iter().fold(Scope::new(), |scope, (name, value)| scope.with(name, value.clone()));
        run::no_other_attempt(Some(&self.when), exit_code, reason, attempt, scope)
    }
}

/// The parameters of a StageTemplate, not bound yet: a value may name the item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateOrder {
    pub params: BTreeMap<String, ParamSpec>,
    pub with: BTreeMap<String, Value>,
}

/// One item, and what its pod has.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    pub value: &'a Value,
    pub index: u64,
    /// `inputs` and `outputs` of the expressions: paths.
    pub inputs: &'a Map<String, Value>,
    pub outputs: &'a Map<String, Value>,
}

/// The texts of a stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    /// The command with its arguments, or the arguments of the script.
    pub words: Vec<String>,
    pub script: Option<String>,
    pub env: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    #[error(transparent)]
    Expression(#[from] ExprError),
    #[error("{0}")]
    Parameter(String),
}

impl Order {
    /// What the items of a stage have in common. `names` are the run's, of which only those that are named are kept.
    #[must_use]
    pub fn new(
        stage: &FrozenContainer,
        names: Map<String, Value>,
        env: BTreeMap<String, String>,
        is_there: impl Fn(&str) -> bool,
    ) -> Self {
        let container = &stage.container;
        let texts = container.command.iter().flatten().chain(&container.args).chain(&container.script);
        let named: BTreeSet<Vec<String>> = if stage.template.is_some() {
            stage.with.values().flat_map(expr::references_in).collect()
        } else {
            texts.chain(env.values()).flat_map(|text| expr::references_in(&Value::String(text.clone()))).collect()
        };
        let template = stage
            .template
            .as_ref()
            .map(|_| TemplateOrder { params: stage.template_params.clone(), with: stage.with.clone() });
        let absent = stage.inputs.keys().filter(|name| !is_there(name)).cloned().collect();
        let retry = stage.retry.when.as_ref().map(|when| RetryOrder::new(when, names.clone()));
        Self { names: only(names, &named), template, absent, env, retry }
    }

    /// All that the texts of a stage depend on, but for the item: of `run`, `params` and `stages` the values that they name.
    #[must_use]
    pub fn said(&self, stage: &FrozenContainer) -> Value {
        let container = &stage.container;
        let texts = container.command.iter().flatten().chain(&container.args).chain(&container.script);
        let texts = texts.chain(self.env.values()).flat_map(|text| expr::references_in(&Value::String(text.clone())));
        // The texts of a StageTemplate see its own parameters.
        let of_texts = texts.filter(|path| self.template.is_none() || path.first().is_some_and(|root| root == "run"));
        let named: BTreeSet<Vec<String>> = of_texts.chain(stage.with.values().flat_map(expr::references_in)).collect();
        let values = named.iter().map(|path| json!([path, self.value(path)])).collect();
        // Which failures are tried again changes no result.
        json!([Self { names: Map::new(), retry: None, ..self.clone() }, Value::Array(values)])
    }

    /// What a path leads to; where it goes on into what is no object, that.
    fn value(&self, path: &[String]) -> Option<&Value> {
        let (root, rest) = path.split_first()?;
        let mut found = self.names.get(root)?;
        for name in rest {
            let Value::Object(members) = found else { break };
            found = members.iter().find(|(member, _)| *member == name || expr::in_expression(member) == *name)?.1;
        }
        Some(found)
    }

    /// The texts with all templates filled in.
    pub fn fill(&self, item: Item<'_>, words: &[String], script: Option<&str>) -> Result<Texts, ItemError> {
        let run = self.names.iter().fold(Scope::new(), |scope, (name, value)| scope.with(name, value.clone()));
        let with_item = run.with("item", item.value.clone()).with("index", Value::from(item.index));
        let scope = match &self.template {
            None => with_item,
            Some(TemplateOrder { params, with }) => {
                let mut given = BTreeMap::new();
                for (name, value) in with {
                    given.insert(name.clone(), expr::render_value(value, &with_item)?);
                }
                let bound = bind_params(params, &given, "with")
                    .map_err(|problems| ItemError::Parameter(problem::every(&problems)))?;
                let run = self.names.get("run").cloned().unwrap_or_default();
                Scope::new().with("run", run).with("params", Value::Object(bound.into_iter().collect()))
            }
        };
        let mut inputs = item.inputs.clone();
        inputs.extend(self.absent.iter().map(|name| (name.clone(), Value::Null)));
        let scope = scope.with("inputs", Value::Object(inputs)).with("outputs", Value::Object(item.outputs.clone()));
        let filled = |text: &str| expr::render(text, &scope);
        Ok(Texts {
            words: words.iter().map(|word| filled(word)).collect::<Result<_, _>>()?,
            script: script.map(filled).transpose()?,
            env: self
                .env
                .iter()
                .map(|(name, text)| Ok((name.clone(), filled(text)?)))
                .collect::<Result<_, ExprError>>()?,
        })
    }
}

/// Of `params` and `stages` what is named; `run` as it is.
fn only(mut names: Map<String, Value>, named: &BTreeSet<Vec<String>>) -> Map<String, Value> {
    for root in ["params", "stages"] {
        let of_root = || named.iter().filter(|path| path.first().is_some_and(|first| first == root));
        // Named as a whole.
        if of_root().any(|path| path.len() == 1) {
            continue;
        }
        if let Some(members) = names.get_mut(root).and_then(Value::as_object_mut) {
            members.retain(|name, _| of_root().any(|path| path.get(1) == Some(&expr::in_expression(name))));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stage(stage: &Value) -> FrozenContainer {
        let mut whole = json!({ "container": { "image": "i" }, "inputs": {}, "outputs": {}, "retry": {}, "pendingTimeoutSeconds": 1 });
        whole.as_object_mut().unwrap().extend(stage.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn names() -> Map<String, Value> {
        let names = json!({ "run": { "name": "r" }, "params": { "lr-max": 2, "secret": "s" }, "stages": { "a": { "results": { "n": 1 } }, "b": {} } });
        names.as_object().unwrap().clone()
    }

    fn filled(order: &Order, value: &Value, words: &[&str]) -> Result<Texts, ItemError> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let paths = json!({ "data-set": "/d" }).as_object().unwrap().clone();
        order.fill(Item { value, index: 3, inputs: &paths, outputs: &Map::new() }, &words, None)
    }

    #[test]
    fn texts_see_the_item_and_what_they_name_of_the_run() {
        let words = ["$[[ item.lr * params.lr_max ]]", "$[[ index ]]/$[[ inputs.data_set ]]/$[[ run.name ]]"];
        let order = Order::new(
            &stage(&json!({ "container": { "image": "i", "command": words } })),
            names(),
            [("N".to_owned(), "$[[ stages.a.results.n ]]".to_owned())].into(),
            |_| true,
        );
        assert_eq!(
            json!(order.names),
            json!({ "run": { "name": "r" }, "params": { "lr-max": 2 }, "stages": { "a": { "results": { "n": 1 } } } })
        );
        let texts = filled(&order, &json!({ "lr": 0.5 }), &words).unwrap();
        assert_eq!(texts.words, ["1", "3//d/r"]);
        assert_eq!(texts.env, [("N".to_owned(), "1".to_owned())].into());
        assert!(filled(&order, &json!("text"), &words).is_err());
    }

    #[test]
    fn which_failures_are_tried_again_is_said_with_what_it_names() {
        let retry = json!({ "limit": 2, "when": "exitCode != params.lr_max && attempt < 3" });
        let order = Order::new(
            &stage(&json!({ "container": { "image": "i" }, "retry": retry })),
            names(),
            BTreeMap::new(),
            |_| true,
        );
        assert_eq!(json!(order.names["params"]), json!({}), "the texts name none");
        let retry = order.retry.clone().unwrap();
        assert_eq!(json!(retry.names), json!({ "run": { "name": "r" }, "params": { "lr-max": 2 } }));
        assert_eq!(retry.refused(Some(1), "Error", 1), None);
        let no = retry.refused(Some(2), "Error", 1).unwrap();
        assert_eq!(no, "no other attempt: retry.when is false (exitCode 2, reason Error, attempt 1)");
        assert!(retry.refused(Some(1), "Error", 3).is_some());
        assert_eq!(retry.refused(Some(2), "Terminated", 1), None, "the infrastructure's failures are not asked about");
        // The result is the same one.
        let whole = |retry: Value| stage(&json!({ "container": { "image": "i" }, "retry": retry }));
        assert_eq!(order.said(&whole(json!({}))), Order { retry: None, ..order.clone() }.said(&whole(json!({}))));
    }

    #[test]
    fn an_optional_input_that_is_not_there_is_null() {
        let stage = stage(&json!({ "inputs": { "old": { "deployed": "m", "optional": true } } }));
        let order = Order::new(&stage, names(), BTreeMap::new(), |_| false);
        assert_eq!(filled(&order, &json!(1), &["$[[ inputs.old == null ]]"]).unwrap().words, ["true"]);
    }

    #[test]
    fn what_an_item_holds_is_never_filled_in_again() {
        let order = Order::new(&stage(&json!({ "container": { "image": "i" } })), names(), BTreeMap::new(), |_| true);
        let texts = filled(&order, &json!("$[[ params.secret ]]"), &["$[[ item ]]"]).unwrap();
        assert_eq!(texts.words, ["$[[ params.secret ]]"]);
    }

    #[test]
    fn a_templates_texts_see_its_own_parameters_which_may_name_the_item() {
        let stage = stage(&json!({
            "template": "t", "templateParams": { "rows": { "type": "integer" } }, "with": { "rows": "$[[ item + 1 ]]" },
        }));
        let order = Order::new(&stage, names(), BTreeMap::new(), |_| true);
        assert_eq!(json!(order.names["params"]), json!({}));
        assert_eq!(filled(&order, &json!(1), &["$[[ params.rows ]]"]).unwrap().words, ["2"]);
        assert!(filled(&order, &json!(1), &["$[[ item ]]"]).is_err(), "a template knows no item");
        let error = filled(&order, &json!(1.5), &["x"]).unwrap_err().to_string();
        assert!(error.contains("with.rows") && error.contains("integer"), "{error}");
    }
}
