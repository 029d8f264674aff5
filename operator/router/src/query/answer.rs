//! What Prometheus' HTTP API answers to an instant query: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

/// An answer that is one.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// None where there is no sample, or no finite number.
    pub value: Option<f64>,
    /// Why there is none.
    pub problem: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Sample {
    value: (f64, String),
}

/// One number, or why there is none.
pub fn read(status: StatusCode, body: &[u8]) -> Result<Answer, String> {
    let read: Option<Body> = serde_json::from_slice(body).ok();
    let Some(Body { status: said, data, error }) = read else {
        let hint = if status.is_redirection() { ", and redirects are not followed" } else { "" };
        return Err(format!("the answer is {}, and none of Prometheus{hint}", status.as_u16()));
    };
    if said != "success" {
        let error = error.unwrap_or_default();
        return Err(format!("Prometheus answers {}: {error}", status.as_u16()));
    }
    let Some(Data { result_type, result }) = data else { return Err("the answer has no data".to_owned()) };
    let wrong = |_| "the answer cannot be read".to_owned();
    let number = match result_type.as_str() {
        "scalar" => serde_json::from_value::<(f64, String)>(result).map_err(wrong)?.1,
        "vector" => {
            let mut samples: Vec<Sample> = serde_json::from_value(result).map_err(wrong)?;
            match (samples.pop(), samples.len()) {
                (None, _) => return Ok(none("the answer has no sample")),
                (Some(Sample { value: (_, number) }), 0) => number,
                (Some(_), more) => {
                    return Err(format!(
                        "the answer has {} samples: write a query that gives one, such as sum(…)",
                        more + 1
                    ));
                }
            }
        }
        other => return Err(format!("the answer is a {other}: write a query that gives one number")),
    };
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Answer { value: Some(value), problem: None }),
        Ok(_) => Ok(none(&format!("the answer is {number}"))),
        Err(_) => Err("the answer cannot be read".to_owned()),
    }
}

fn none(problem: &str) -> Answer {
    Answer { value: None, problem: Some(problem.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: &str, result: &str) -> Result<Answer, String> {
        let body = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#);
        read(StatusCode::OK, body.as_bytes())
    }

    #[test]
    fn one_sample_or_a_scalar_is_a_number() {
        let number = |value| Ok(Answer { value: Some(value), problem: None });
        assert_eq!(said("vector", r#"[{"metric":{"pod":"a"},"value":[1435781451.781,"0.25"]}]"#), number(0.25));
        assert_eq!(said("scalar", r#"[1435781451,"-3e2"]"#), number(-300.0));
        assert_eq!(said("vector", r#"[{"metric":{},"value":[1,"5"],"histogram":[1,{}]}]"#), number(5.0));
    }

    #[test]
    fn no_sample_and_what_is_no_finite_number_are_answers_without_one() {
        for (result, problem) in [
            ("[]", "the answer has no sample"),
            (r#"[{"metric":{},"value":[1,"NaN"]}]"#, "the answer is NaN"),
            (r#"[{"metric":{},"value":[1,"+Inf"]}]"#, "the answer is +Inf"),
        ] {
            assert_eq!(said("vector", result), Ok(none(problem)));
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_that_says_why() {
        let two = r#"[{"metric":{},"value":[1,"1"]},{"metric":{},"value":[1,"2"]}]"#;
        assert!(said("vector", two).unwrap_err().contains("2 samples"));
        assert!(said("matrix", "[]").unwrap_err().contains("is a matrix"));
        assert!(said("vector", r#"[{"metric":{},"value":[1,"x"]}]"#).unwrap_err().contains("cannot be read"));
        let bad = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}"#;
        let error = read(StatusCode::BAD_REQUEST, bad.as_bytes()).unwrap_err();
        assert_eq!(error, "Prometheus answers 400: parse error: unexpected end");
        let error = read(StatusCode::UNAUTHORIZED, b"s3cret page").unwrap_err();
        assert_eq!(error, "the answer is 401, and none of Prometheus");
        assert!(read(StatusCode::FOUND, b"").unwrap_err().contains("redirects are not followed"));
    }
}
