//! A model's OpenAPI document, from its signature: which inputs a request needs, of which types and shapes.

use serde_json::{Map, Value, json};

use crate::model::Signature;
use crate::tensor::{Datatype, TensorSpec};

/// The document for one model.
pub fn openapi(name: &str, version: &str, signature: &Signature) -> Value {
    let path = escape(name);
    let body = |schema: &str| json!({"required": true, "content": content(schema)});
    let answer = |words: &str, schema: &str| json!({"description": words, "content": content(schema)});
    let error = |words: &str| answer(words, "Error");
    let infer = json!({
        "operationId": "infer",
        "summary": "Runs the model",
        "requestBody": body("InferRequest"),
        "responses": {
            "200": answer("The outputs", "InferResponse"),
            "400": error("The request does not fit the model"),
            "503": error("The queue is full"),
        },
    });
    let predict = json!({
        "operationId": "predict",
        "summary": "Runs the model, in the v1 form",
        "requestBody": body("PredictRequest"),
        "responses": {
            "200": {"description": "The predictions", "content": {"application/json": {"schema": {"type": "object"}}}},
            "400": error("The request does not fit the model"),
        },
    });
    let metadata = json!({
        "operationId": "metadata",
        "summary": "The inputs and outputs",
        "responses": {"200": {"description": "The metadata", "content": {"application/json": {"schema": {"type": "object"}}}}},
    });
    json!({
        "openapi": "3.1.0",
        "info": {"title": name, "version": version},
        "paths": {
            format!("/v2/models/{path}"): {"get": metadata},
            format!("/v2/models/{path}/infer"): {"post": infer},
            format!("/v1/models/{path}:predict"): {"post": predict},
        },
        "components": {"schemas": schemas(signature)},
    })
}

/// The name as it stands in a path.
fn escape(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn content(schema: &str) -> Value {
    json!({"application/json": {"schema": reference(schema)}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn schemas(signature: &Signature) -> Map<String, Value> {
    let tensors = |specs: &[TensorSpec]| {
        let one_of: Vec<Value> = specs.iter().map(tensor).collect();
        json!({"type": "array", "minItems": specs.len(), "maxItems": specs.len(), "items": {"oneOf": one_of}})
    };
    let outputs: Vec<&str> = signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
    let asked = json!({"type": "object", "required": ["name"], "properties": {"name": {"enum": outputs}}});
    let one_of: Vec<Value> = signature.outputs.iter().map(tensor).collect();
    let named = [
        (
            "InferRequest",
            json!({
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "inputs": tensors(&signature.inputs),
                    "outputs": {"type": "array", "items": asked},
                },
            }),
        ),
        (
            "InferResponse",
            json!({
                "type": "object",
                "required": ["model_name", "outputs"],
                "properties": {
                    "model_name": {"type": "string"},
                    "model_version": {"type": "string"},
                    "id": {"type": "string"},
                    "outputs": {"type": "array", "items": {"oneOf": one_of}},
                },
            }),
        ),
        ("PredictRequest", predict(&signature.inputs)),
        ("Error", json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}})),
    ];
    let named = named.into_iter().map(|(name, schema)| (name.to_owned(), schema));
    let datatypes = signature.inputs.iter().chain(&signature.outputs).map(|spec| spec.datatype);
    named.chain(datatypes.map(|datatype| (values_name(datatype), values(datatype)))).collect()
}

/// One input or output by its name.
fn tensor(spec: &TensorSpec) -> Value {
    let size = |size: &i64| if *size < 0 { json!({"type": "integer", "minimum": 1}) } else { json!({"const": size}) };
    let sizes: Vec<Value> = spec.shape.iter().map(size).collect();
    let rank = sizes.len();
    json!({
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "shape": {"type": "array", "minItems": rank, "maxItems": rank, "prefixItems": sizes},
            "datatype": {"const": spec.datatype.name()},
            "data": reference(&values_name(spec.datatype)),
        },
    })
}

/// The v1 form: rows as objects, or columns.
fn predict(inputs: &[TensorSpec]) -> Value {
    let names: Vec<&str> = inputs.iter().map(|spec| spec.name.as_str()).collect();
    let properties: Map<String, Value> = inputs
        .iter()
        .map(|spec| {
            let either = json!({"anyOf": [scalar(spec.datatype), reference(&values_name(spec.datatype))]});
            (spec.name.clone(), either)
        })
        .collect();
    let named = json!({"type": "object", "required": names, "properties": properties});
    let mut row = vec![named.clone(), json!({"type": "array"})];
    if let [only] = inputs {
        row.push(scalar(only.datatype));
    }
    json!({
        "type": "object",
        "properties": {
            "instances": {"type": "array", "minItems": 1, "items": {"anyOf": row}},
            "inputs": {"anyOf": [named, {"type": "array"}]},
        },
    })
}

fn values_name(datatype: Datatype) -> String {
    format!("Values{datatype}")
}

/// Values, flat or nested.
fn values(datatype: Datatype) -> Value {
    json!({"type": "array", "items": {"anyOf": [scalar(datatype), reference(&values_name(datatype))]}})
}

fn scalar(datatype: Datatype) -> Value {
    let whole = |minimum: i64, maximum: u64| json!({"type": "integer", "minimum": minimum, "maximum": maximum});
    match datatype {
        Datatype::Bool => json!({"type": "boolean"}),
        Datatype::Uint8 => whole(0, u8::MAX.into()),
        Datatype::Uint16 => whole(0, u16::MAX.into()),
        Datatype::Uint32 => whole(0, u32::MAX.into()),
        Datatype::Uint64 => whole(0, u64::MAX),
        Datatype::Int8 => whole(i8::MIN.into(), i8::MAX.unsigned_abs().into()),
        Datatype::Int16 => whole(i16::MIN.into(), i16::MAX.unsigned_abs().into()),
        Datatype::Int32 => whole(i32::MIN.into(), i32::MAX.unsigned_abs().into()),
        Datatype::Int64 => whole(i64::MIN, i64::MAX.unsigned_abs()),
        Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => json!({"type": ["number", "null"]}),
        Datatype::Bytes => json!({"type": ["string", "null"]}),
    }
}
