use super::*;

fn headers(kind: &'static str, json: Option<usize>) -> HeaderMap {
    let length = json.map(|length| (JSON_LENGTH, length.to_string().parse().unwrap()));
    [(CONTENT_TYPE, kind.parse().unwrap())].into_iter().chain(length).collect()
}

fn agreed(kind: &'static str, a: (u16, &'static str), b: (u16, &'static str)) -> bool {
    let headers = headers(kind, None);
    let (x, y) = ([Bytes::from_static(a.1.as_bytes())], [Bytes::from_static(b.1.as_bytes())]);
    agree(
        "/",
        &Answer { status: StatusCode::from_u16(a.0).unwrap(), headers: &headers, trailers: None, body: &x },
        &Answer { status: StatusCode::from_u16(b.0).unwrap(), headers: &headers, trailers: None, body: &y },
    )
}

#[test]
fn outputs_decide_and_what_names_the_version_does_not() {
    let json = "application/json";
    let a = (200, r#"{"model_version": "1", "outputs": [{"name": "p", "data": [0.1, 2]}]}"#);
    assert!(agreed(json, a, (200, r#"{"model_version": "2", "outputs": [{"data": [0.1000001, 2], "name": "p"}]}"#)));
    assert!(!agreed(json, a, (200, r#"{"model_version": "1", "outputs": [{"name": "p", "data": [0.2, 2]}]}"#)));
    assert!(!agreed(json, a, (200, r#"{"outputs": [{"name": "p", "data": [0.1]}]}"#)));
    assert!(!agreed(json, a, (500, a.1)));
    assert!(agreed(json, (400, "a"), (400, "b")));
    assert!(agreed(json, (200, r#"{"predictions": ["x"], "id": 1}"#), (200, r#"{"predictions": ["x"]}"#)));
    assert!(!agreed("text/plain", (200, "[1.0]"), (200, "[1.00]")));
}

#[test]
fn a_label_is_another_one_and_a_measure_may_be_almost_the_same() {
    let json = "application/json";
    let a = (200, r#"{"outputs": [{"datatype": "INT64", "data": [1000000]}]}"#);
    assert!(!agreed(json, a, (200, r#"{"outputs": [{"datatype": "INT64", "data": [1000001]}]}"#)));
    let a = (200, r#"{"outputs": [{"datatype": "FP32", "data": [1000000]}]}"#);
    assert!(agreed(json, a, (200, r#"{"outputs": [{"datatype": "FP32", "data": [1000001]}]}"#)));
}

/// As the model server writes it: JSON, then bytes.
fn binary(json: &str, raw: &[u8]) -> (HeaderMap, Bytes) {
    (headers("application/octet-stream", Some(json.len())), [json.as_bytes(), raw].concat().into())
}

fn same_binary((a_head, a): &(HeaderMap, Bytes), (b_head, b): &(HeaderMap, Bytes)) -> bool {
    let of =
        |headers, body| Answer { status: StatusCode::OK, headers, trailers: None, body: std::slice::from_ref(body) };
    agree("/v2/models/m/infer", &of(a_head, a), &of(b_head, b))
}

fn singles(version: &str, id: &str, a: f32, b: f32) -> (HeaderMap, Bytes) {
    let json = format!(
        r#"{{"model_name":"m","model_version":"{version}","id":"{id}","outputs":[{{"name":"p","datatype":"FP32","shape":[1,2],"parameters":{{"binary_data_size":8}}}},{{"name":"q","datatype":"INT64","shape":[1],"data":[7]}}]}}"#
    );
    binary(&json, &[a.to_le_bytes(), b.to_le_bytes()].concat())
}

#[test]
fn bytes_behind_json_are_compared_as_the_numbers_that_they_are() {
    let a = singles("1", "x", 0.1, 2.0);
    assert!(same_binary(&a, &singles("2", "longer", 0.100_000_1, 2.0)), "another version, and JSON of another length");
    assert!(!same_binary(&a, &singles("1", "x", 0.2, 2.0)));
    let of = |json: &str, raw: &[u8]| binary(json, raw);
    let p = r#"{"name":"p","datatype":"INT32","shape":[1],"parameters":{"binary_data_size":4}}"#;
    let q = r#"{"name":"q","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}"#;
    let one = of(&format!(r#"{{"outputs":[{p},{q}]}}"#), b"\x07\0\0\0\x01\0\0\0x");
    assert!(same_binary(&one, &of(&format!(r#"{{"outputs":[{q},{p}]}}"#), b"\x01\0\0\0x\x07\0\0\0")), "by their names");
    assert!(!same_binary(&one, &of(&format!(r#"{{"outputs":[{p},{q}]}}"#), b"\x08\0\0\0\x01\0\0\0x")));
    assert!(!same_binary(&one, &of(&format!(r#"{{"outputs":[{p}]}}"#), b"\x07\0\0\0")));
    let shape = one.1.len() - 9;
    let other = String::from_utf8(one.1[..shape].to_vec()).unwrap().replacen("[1]", "[1,1]", 1);
    assert!(!same_binary(&one, &of(&other, b"\x07\0\0\0\x01\0\0\0x")));
}

#[test]
fn what_is_not_what_it_says_agrees_only_with_itself() {
    let good = singles("1", "x", 0.1, 2.0);
    let mut longer = good.clone();
    longer.0.insert(JSON_LENGTH, "99999".parse().unwrap());
    let mut none = good.clone();
    none.0.insert(JSON_LENGTH, "many".parse().unwrap());
    let mut more = good.clone();
    more.1 = [&good.1[..], b"!"].concat().into();
    let less = (good.0.clone(), good.1.slice(..good.1.len() - 1));
    let huge = binary(
        r#"{"outputs":[{"name":"p","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":18446744073709551615}}]}"#,
        b"",
    );
    let text = binary("{", b"");
    for broken in [&longer, &none, &more, &less, &huge, &text] {
        assert!(same_binary(broken, broken));
        let others = singles("2", "x", 0.1, 2.0);
        assert!(!same_binary(broken, &others) && !same_binary(&others, broken), "{broken:?}");
    }
}

fn grpc(status: Option<&'static str>, in_head: bool, version: &str) -> (HeaderMap, HeaderMap, Bytes) {
    let status: HeaderMap = status.map(|status| (GRPC_STATUS, HeaderValue::from_static(status))).into_iter().collect();
    let mut head = headers("application/grpc", None);
    let mut trailers = HeaderMap::new();
    if in_head {
        head.extend(status);
    } else {
        trailers.extend(status);
    }
    let message = [b"\x12\x01", version.as_bytes()].concat();
    (head, trailers, [b"\0\0\0\0\x03", &message[..]].concat().into())
}

#[test]
fn the_status_of_grpc_decides_and_then_the_outputs() {
    let same = |a: &(HeaderMap, HeaderMap, Bytes), b: &(HeaderMap, HeaderMap, Bytes)| {
        let body = std::slice::from_ref;
        let one = Answer { status: StatusCode::OK, headers: &a.0, trailers: Some(&a.1), body: body(&a.2) };
        let other = Answer { status: StatusCode::OK, headers: &b.0, trailers: Some(&b.1), body: body(&b.2) };
        agree("/inference.GRPCInferenceService/ModelInfer", &one, &other)
    };
    assert!(same(&grpc(Some("0"), false, "1"), &grpc(Some("0"), false, "2")));
    assert!(!same(&grpc(Some("0"), false, "1"), &grpc(Some("13"), false, "1")));
    assert!(same(&grpc(Some("3"), true, "1"), &grpc(Some("3"), false, "2")), "where it stands says nothing");
    assert!(!same(&grpc(Some("0"), false, "1"), &grpc(None, false, "1")), "it broke off");
}
