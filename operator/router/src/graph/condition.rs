//! Whether a step is taken: CEL over what is known of the request.

use hyper::HeaderMap;
use millrace_core::expr::{self, Scope};
use serde_json::{Map, Value};

use super::held::Held;

/// A longer body is not looked into: as values it takes some forty times as much memory, and the thread has other callers.
const LONGEST: usize = 256 << 10;
/// Characters of what is said of an expression that has no value.
const SAID: usize = 400;

/// What helps where an expression would cost too much.
const ADVICE: &str = "look at less of it, or put a header on the request";

/// What a condition may look at.
pub struct Known<'a> {
    pub request: &'a Held,
    /// Of the step before.
    pub answer: Option<&'a Held>,
    pub headers: &'a HeaderMap,
}

/// True or false, or why it is neither. Only what the expression names is read.
pub fn holds(when: &str, known: &Known<'_>) -> Result<bool, String> {
    let names = expr::references(when).map_err(|error| error.to_string())?;
    let named = |name: &str| names.iter().any(|path| path.first().is_some_and(|first| first == name));
    let mut scope = Scope::new();
    if named("request") {
        scope = scope.with("request", read(known.request, "request")?);
    }
    if let Some(answer) = known.answer.filter(|_| named("answer")) {
        scope = scope.with("answer", read(answer, "answer")?);
    }
    if named("headers") {
        scope = scope.with("headers", Value::Object(headers(known.headers)));
    }
    let says = |error: expr::ExprError| error.to_string().replace(expr::IN_A_STAGE, ADVICE);
    expr::eval_bool(when, &scope).map_err(|error| says(error).chars().take(SAID).collect())
}

fn read(held: &Held, what: &str) -> Result<Value, String> {
    if held.bytes.len() > LONGEST {
        return Err(format!("the {what} has {} bytes, and a condition looks into {LONGEST} at most", held.bytes.len()));
    }
    // What the body says itself is in no message.
    serde_json::from_slice(&held.bytes)
        .map_err(|error| format!("the {what} is not JSON (line {}, column {})", error.line(), error.column()))
}

/// The first of each name, where it is text.
fn headers(of: &HeaderMap) -> Map<String, Value> {
    let text = of.keys().filter_map(|name| Some((name, of.get(name)?.to_str().ok()?)));
    text.map(|(name, value)| (name.as_str().to_owned(), Value::from(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::held::Budget;
    use super::*;

    fn held(text: &str) -> Held {
        Held::made(text.as_bytes().to_vec(), &Arc::new(Budget::default())).unwrap()
    }

    fn says(when: &str, request: &str) -> Result<bool, String> {
        let headers = HeaderMap::from_iter([("x-tier".parse().unwrap(), "gold".parse().unwrap())]);
        let (request, answer) = (held(request), held(r#"{"outputs": [{"data": [0.9]}]}"#));
        holds(when, &Known { request: &request, answer: Some(&answer), headers: &headers })
    }

    #[test]
    fn conditions_look_at_bodies_and_headers() {
        let request = r#"{"parameters": {"age": 3}}"#;
        assert_eq!(says("request.parameters.age < 5", request), Ok(true));
        assert_eq!(says("answer.outputs[0].data[0] > 0.95", request), Ok(false));
        assert_eq!(says("headers.x_tier == 'gold' && !has(headers.x_other)", "no JSON"), Ok(true));
        assert!(says("has(request.parameters.age)", "{}").is_err());
        assert_eq!(says("has(request.parameters)", "{}"), Ok(false));
    }

    #[test]
    fn what_has_no_value_is_told_without_the_body() {
        assert!(says("request.age > 1", "{}").unwrap_err().contains("has no `age`"));
        let error = says("request.age > 1", "{secret").unwrap_err();
        assert!(error.contains("the request is not JSON") && !error.contains("secret"), "{error}");
        let long = format!("[{}0]", "0,".repeat(LONGEST));
        assert!(says("size(request) > 1", &long).unwrap_err().contains("at most"));
        let many = format!("[{}0]", "0,".repeat(5000));
        let error = says("request.all(a, a < 1)", &many).unwrap_err();
        assert!(error.contains("more than") && error.ends_with(ADVICE) && !error.contains("stage"), "{error}");
        assert!(says("request", "1").unwrap_err().contains("true or false is needed"));
    }
}
