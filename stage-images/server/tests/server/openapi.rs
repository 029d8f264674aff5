//! The OpenAPI document of a model: it takes what the server takes and refuses what the server refuses.

use serde_json::{Value, json};

use crate::support::{Server, infer_path, lookup, matches_schema, tabular, tabular_rows};

fn document(server: &Server) -> Value {
    let answer = server.caller().get("/v2/models/m/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

/// Both say the same of each body.
fn assert_agree(server: &Server, bodies: &[(String, bool)]) {
    let schemas = document(server)["components"]["schemas"].clone();
    for (body, right) in bodies {
        let answer = server.caller().post(infer_path(), body);
        assert_eq!(answer.status == 200, *right, "{body}");
        let found = matches_schema(&schemas, "InferRequest", &serde_json::from_str(body).unwrap());
        assert_eq!(found.is_ok(), *right, "{found:?} for {body}");
        let (schema, answer) = (if *right { "InferResponse" } else { "Error" }, answer.json());
        assert_eq!(matches_schema(&schemas, schema, &answer), Ok(()), "{answer}");
    }
}

#[test]
fn a_table_is_described_by_its_columns() {
    let server = Server::ready("tabular", &[]);
    let document = document(&server);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"], json!({"title": "m", "version": "3"}));
    assert!(document["paths"]["/v2/models/m/infer"]["post"]["requestBody"].is_object());
    assert!(document["paths"]["/v1/models/m:predict"]["post"].is_object());
    let nested = tabular().replace("[4500.0]", "[[4500.0]]");
    assert_agree(
        &server,
        &[
            (tabular(), true),
            (nested, true),
            (tabular_rows(&[(None, "x"), (Some(1.0), "")]), true),
            (tabular().replacen('{', r#"{"id":"1","outputs":[{"name":"label"}],"#, 1), true),
            (tabular().replacen('{', r#"{"outputs":[{"name":"other"}],"#, 1), false),
            (tabular().replace("FP32", "INT64"), false),
            (tabular().replace("[1,1]", "[1,2]"), false),
            (tabular().replace("[1,1]", "[1]"), false),
            (tabular().replace("[1,1]", "[0,1]"), false),
            (tabular().replace("mass", "weight"), false),
            (tabular().replace("4500.0", "\"heavy\""), false),
            (r#"{"inputs":[]}"#.to_owned(), false),
            ("{}".to_owned(), false),
        ],
    );
}

#[test]
fn fixed_sizes_and_ranges_of_numbers_are_described() {
    let server = Server::ready("fixed", &[]);
    let body = |shape: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32","data":[1,2,3,4,5,6]}}]}}"#)
    };
    assert_agree(&server, &[(body("[2,3]"), true), (body("[3,2]"), false), (body("[2,3,1]"), false)]);
    let server = Server::ready("lookup", &[]);
    let wrong = |value: &str| lookup(&[1]).replace("[1]}", &format!("[{value}]}}"));
    assert_agree(
        &server,
        &[(lookup(&[1, 2]), true), (wrong("1.5"), false), (wrong("null"), false), (wrong("true"), false)],
    );
}

#[test]
fn rows_of_the_v1_form_are_described() {
    let server = Server::ready("tabular", &[]);
    let schemas = document(&server)["components"]["schemas"].clone();
    for (body, right) in [
        (json!({"instances": [{"mass": 1, "sex": "x"}, {"mass": null, "sex": "y"}]}), true),
        (json!({"instances": [{"mass": [1], "sex": ["x"]}]}), true),
        (json!({"instances": [[1, "x"]]}), true),
        (json!({"inputs": {"mass": [1], "sex": ["x"]}}), true),
        (json!({"instances": [{"mass": 1}]}), false),
        (json!({"instances": [{"mass": "x", "sex": "x"}]}), false),
        (json!({"instances": []}), false),
    ] {
        assert_eq!(server.caller().post("/v1/models/m:predict", &body.to_string()).status == 200, right, "{body}");
        let found = matches_schema(&schemas, "PredictRequest", &body);
        assert_eq!(found.is_ok(), right, "{found:?} for {body}");
    }
}
