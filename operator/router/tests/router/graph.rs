//! Graphs: requests that several models answer together.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use millrace_routes::{Outcome, Stats};
use serde_json::{Value, json};

use crate::client::{Answer, Client, open_http2, request};
use crate::mount::mount;
use crate::pod::Pod;
use crate::sink::{Does, Sink};
use crate::site::{Site, endpoint, free_port, revision, until};

/// The document with the graph `m` and a model for each pod.
fn routes(site: &Site, graph: &Value, models: &[(&str, &Pod, Value)]) -> Value {
    let mut all = vec![json!({"name": "m", "port": site.port, "generation": 1, "revisions": [], "graph": graph})];
    for (name, pod, with) in models {
        let revisions = [revision(name, pod.address.port(), 1)];
        let mut model = json!({"name": name, "port": free_port(), "revisions": revisions});
        model.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        all.push(model);
    }
    json!({"models": all})
}

/// A router with the graph `m` over these models.
async fn site(graph: &Value, pods: &[(&str, &Pod)]) -> Site {
    let plain: Vec<(&str, &Pod, Value)> = pods.iter().map(|(name, pod)| (*name, *pod, json!({}))).collect();
    site_with(graph, &plain).await
}

async fn site_with(graph: &Value, models: &[(&str, &Pod, Value)]) -> Site {
    let endpoints: serde_json::Map<String, Value> =
        models.iter().map(|(name, pod, _)| ((*name).to_owned(), json!([endpoint(pod.address, true)]))).collect();
    let site = Site::start(&[], &Value::Object(endpoints), &json!({}), None).await;
    site.routes(&routes(&site, graph, models)).await;
    site
}

/// A graph with these nodes that begins at `main`.
fn graph(nodes: &Value) -> Value {
    json!({"root": "main", "timeoutMs": 10_000, "bodyBytes": 1000, "nodes": nodes})
}

fn step(model: &str, path: &str, with: &Value) -> Value {
    let mut step = json!({"name": model, "to": {"model": {"name": model, "path": path}}});
    step.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    step
}

async fn ask(site: &Site, text: &str) -> Answer {
    Client::open(site.port).await.post("/", text).await
}

fn read(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text).unwrap_or_else(|_| panic!("{answer:?}"))
}

fn failed_at(answer: &Answer) -> &str {
    answer.headers["x-millrace-graph-step"].to_str().unwrap()
}

fn outcome(stats: &Stats, model: &str, outcome: Outcome) -> u64 {
    stats.models[model].revisions[model].outcomes.get(&outcome).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_sequence_the_outputs_of_a_step_are_the_inputs_of_the_next() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let main = json!({"sequence": [
        step("a", "/json", &json!({})),
        step("b", "/json", &json!({"input": "Answer", "rename": {"p": "x"}})),
    ]});
    let site = site(&graph(&json!({"main": main})), &[("a", &a), ("b", &b)]).await;
    // The pod answers with what it was asked as its outputs.
    let answer = ask(&site, r#"[{"name": "p", "data": [9007199254740993]}, {"name": "q", "data": [1.50]}]"#).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text.contains("9007199254740993") && answer.text.contains("1.50"),
        "every digit stays: {}",
        answer.text
    );
    let found = read(&answer);
    assert_eq!(found["model_version"], "b");
    let names: Vec<&Value> = found["outputs"]["inputs"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert_eq!(names, ["x", "q"]);
    // Every model's own counts have it, and so does the graph.
    let stats = site.all_stats().await;
    assert_eq!((outcome(&stats, "a", Outcome::Success), outcome(&stats, "b", Outcome::Success)), (1, 1));
    assert_eq!(stats.models["m"].generation, 1);
    let text = site.metrics().await;
    for line in [
        r#"millrace_router_graph_requests_total{graph="m",outcome="Success"} 1"#,
        r#"millrace_router_graph_steps_total{graph="m",node="main",step="b",result="Succeeded"} 1"#,
        r#"millrace_router_graph_duration_seconds_count{graph="m"} 1"#,
        "millrace_router_graph_held_bytes 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_go_to_every_step_and_what_belongs_to_the_connection_does_not() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let main =
        json!({"sequence": [step("a", "/headers", &json!({})), step("b", "/headers", &json!({"input": "Request"}))]});
    let site = site(&graph(&json!({"main": main})), &[("a", &a), ("b", &b)]).await;
    let headers = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("content-type", "application/json"),
        ("accept-encoding", "gzip"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ];
    let answer = Client::open(site.port).await.ask(request("POST", "/", &headers, "{}")).await.unwrap();
    assert_eq!(answer.status, 200);
    let seen = read(&answer);
    assert_eq!(seen["traceparent"], headers[0].1);
    assert_eq!(
        (&seen["content-type"], &seen["content-length"], &seen[":target"]),
        (&json!("application/json"), &json!("2"), &json!("/headers"))
    );
    assert_eq!((&seen["host"], &seen["x-forwarded-for"]), (&json!("model.example"), &json!("127.0.0.1")));
    assert!(seen.get("accept-encoding").is_none() && seen.get("upgrade").is_none(), "{seen}");
    let mut client = open_http2(site.port).await;
    let over = client.send_request(request("POST", "http://model.example/v2/models/m/infer", &[], "{}")).await.unwrap();
    assert_eq!(over.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_json_of_a_binary_body_ends_is_said_of_that_body_alone() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let of = |first: &str, to: &Value, input: &str| {
        let next = json!({"name": "next", "to": to, "input": input});
        graph(&json!({
            "main": {"sequence": [step("a", first, &json!({})), next]},
            "below": {"switch": [step("b", "/headers", &json!({}))]},
        }))
    };
    let (below, model) = (json!({"node": "below"}), json!({"model": {"name": "b", "path": "/headers"}}));
    let site = site(&of("/json", &below, "Answer"), &[("a", &a), ("b", &b)]).await;
    for (first, input, expected) in [
        ("/json", "Answer", json!([null, "application/json"])),
        ("/binary", "Answer", json!(["2", "application/octet-stream"])),
        ("/binary", "Request", json!(["7", "text/of-caller"])),
    ] {
        for to in [&below, &model] {
            let models = [("a", &a, json!({})), ("b", &b, json!({}))];
            site.routes(&routes(&site, &of(first, to, input), &models)).await;
            let headers = [("inference-header-content-length", "7"), ("content-type", "text/of-caller")];
            let answer = Client::open(site.port).await.ask(request("POST", "/", &headers, "[{}]")).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text);
            let seen = read(&answer);
            let found = json!([seen.get("inference-header-content-length"), seen["content-type"]]);
            assert_eq!(found, expected, "{first} {to} {input}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_condition_does_not_hold_is_left_out() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let when = json!({"input": "Both", "when": "answer.outputs.exists(o, o.name == 'p') && headers.x_more == 'yes'"});
    let main = json!({"sequence": [step("a", "/json", &json!({})), step("b", "/json", &when)]});
    let site = site(&graph(&json!({"main": main})), &[("a", &a), ("b", &b)]).await;
    let mut client = Client::open(site.port).await;
    let body = r#"[{"name": "p", "data": [1]}]"#;
    let mut ask = async |more: &str| client.ask(request("POST", "/", &[("x-more", more)], body)).await.unwrap();
    assert_eq!(read(&ask("no").await)["model_version"], "a");
    let refused = ask("yes").await;
    assert_eq!(
        (refused.status.as_u16(), failed_at(&refused)),
        (422, "main/b"),
        "the request has no inputs to be joined"
    );
    assert!(refused.text.contains("not of the Open Inference Protocol"), "{}", refused.text);
    assert_eq!(b.requests(), 0);
    let text = site.metrics().await;
    assert!(
        text.contains(r#"step="b",result="Skipped"} 1"#) && text.contains(r#"step="b",result="Failed"} 1"#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_takes_the_first_step_that_fits_and_says_when_none_does() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let switch = |last: &Value| {
        let steps = [step("a", "/json", &json!({"when": "request.age < 3"})), step("b", "/json", last)];
        graph(&json!({"main": {"switch": steps}}))
    };
    let site = site(&switch(&json!({})), &[("a", &a), ("b", &b)]).await;
    assert_eq!(read(&ask(&site, r#"{"age": 2}"#).await)["model_version"], "a");
    assert_eq!(read(&ask(&site, r#"{"age": 3}"#).await)["model_version"], "b");
    // What a condition cannot be asked of is no "no".
    for (body, says) in [("{}", "has no `age`"), ("{\"age\": \"s3cret\"", "not JSON"), ("[]", "has no `age`")] {
        let answer = ask(&site, body).await;
        assert_eq!((answer.status.as_u16(), failed_at(&answer)), (422, "main/a"), "{}", answer.text);
        assert!(answer.text.contains(says) && !answer.text.contains("s3cret"), "{}", answer.text);
    }
    let models = [("a", &a, json!({})), ("b", &b, json!({}))];
    site.routes(&routes(&site, &switch(&json!({"when": "request.age > 8"})), &models)).await;
    let answer = ask(&site, r#"{"age": 5}"#).await;
    assert_eq!((answer.status.as_u16(), failed_at(&answer)), (422, "main"));
    assert!(answer.text.contains("none of their conditions holds"), "{}", answer.text);
    assert_eq!((a.requests(), b.requests()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_asks_all_at_once_and_puts_their_answers_together() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let of = |path: &str, tensors: bool| {
        let steps = [step("a", path, &json!({})), step("b", path, &json!({}))];
        graph(&json!({"main": {"ensemble": {"steps": steps, "tensors": tensors}}}))
    };
    let site = site(&of("/json", false), &[("a", &a), ("b", &b)]).await;
    let answer = ask(&site, r#"[{"name": "p", "data": [1]}]"#).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["content-length"], answer.text.len().to_string());
    let found = read(&answer);
    assert_eq!((&found["a"]["model_version"], &found["b"]["outputs"][0]["data"]), (&json!("a"), &json!([1])));
    let models = [("a", &a, json!({})), ("b", &b, json!({}))];
    site.routes(&routes(&site, &of("/json", true), &models)).await;
    let found = read(&ask(&site, r#"[{"name": "p", "data": [1]}]"#).await);
    let names: Vec<&Value> = found["outputs"].as_array().unwrap().iter().map(|tensor| &tensor["name"]).collect();
    assert_eq!((names, &found["model_name"]), (vec![&json!("a.p"), &json!("b.p")], &json!("m")));
    // Neither answers before both were asked.
    site.routes(&routes(&site, &of("/hang", false), &models)).await;
    let port = site.port;
    let asked = tokio::spawn(async move { Client::open(port).await.post("/", "{}").await });
    until("both are asked", || async { [&a, &b].iter().all(|pod| pod.seen.now.load(Ordering::SeqCst) == 1) }).await;
    a.seen.go.notify_one();
    b.seen.go.notify_one();
    // The pods say no JSON here.
    let answer = asked.await.unwrap();
    assert_eq!((answer.status.as_u16(), failed_at(&answer)), (502, "main/a"), "{}", answer.text);
    assert!(answer.text.contains("its answer is not JSON"), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_step_that_fails_is_named_and_a_hard_one_ends_it_with_its_status() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let of = |soft: bool, first: &str| {
        let steps = [step("a", first, &json!({"soft": soft})), step("b", "/picky", &json!({"soft": soft}))];
        graph(&json!({"main": {"ensemble": {"steps": steps}}}))
    };
    let site = site(&of(true, "/json"), &[("a", &a), ("b", &b)]).await;
    let answer = ask(&site, r#"["bad"]"#).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["x-millrace-graph-left-out"]),
        (200, &"main/b".parse().unwrap())
    );
    assert_eq!(read(&answer)["a"]["model_version"], "a");
    assert!(read(&answer).get("b").is_none());
    let models = [("a", &a, json!({})), ("b", &b, json!({}))];
    site.routes(&routes(&site, &of(true, "/status/503"), &models)).await;
    let answer = ask(&site, r#"["bad"]"#).await;
    assert_eq!((answer.status.as_u16(), failed_at(&answer)), (503, "main/a"), "all failed: as the first of them");
    site.routes(&routes(&site, &of(false, "/json"), &models)).await;
    for (body, status, says) in [(r#"["bad"]"#, 400, "this one is bad"), (r#"["worse"]"#, 500, "this one is worse")] {
        let answer = ask(&site, body).await;
        assert_eq!((answer.status.as_u16(), failed_at(&answer)), (status, "main/b"));
        assert_eq!(read(&answer)["error"], format!("step main/b, model b: {says}"));
    }
    let text = site.metrics().await;
    assert!(text.contains(r#"graph="m",outcome="ClientError"} 1"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_step_of_a_sequence_leaves_the_answer_before_it() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let main = json!({"sequence": [step("a", "/json", &json!({})), step("b", "/status/500", &json!({"input": "Answer", "soft": true}))]});
    let site = site(&graph(&json!({"main": main})), &[("a", &a), ("b", &b)]).await;
    let answer = ask(&site, "[1]").await;
    assert_eq!(
        (read(&answer)["model_version"].as_str(), &answer.headers["x-millrace-graph-left-out"]),
        (Some("a"), &"main/b".parse().unwrap())
    );
    assert_eq!(answer.headers["content-length"], answer.text.len().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_splitter_follows_its_weights_through_nodes_below() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let nodes = json!({
        "main": {"splitter": [step("a", "/", &json!({"weight": 80})), {"name": "rest", "to": {"node": "rest"}, "weight": 20}]},
        "rest": {"switch": [step("b", "/", &json!({}))]},
    });
    let site = site(&graph(&nodes), &[("a", &a), ("b", &b)]).await;
    let mut client = Client::open(site.port).await;
    for _ in 0..500 {
        assert_eq!(client.post("/", "not even JSON").await.status, 200);
    }
    // 100 expected; six standard deviations of a binomial are 54.
    assert!((46..=154).contains(&b.requests()) && a.requests() + b.requests() == 500, "{}", b.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_the_innermost_step_and_keeps_when_to_come_again() {
    let a = Pod::any("a").await;
    let nodes = json!({
        "main": {"sequence": [{"name": "below", "to": {"node": "below"}}]},
        "below": {"switch": [step("gone", "/", &json!({"when": "headers.x_to == 'gone'"})), step("a", "/status/429", &json!({}))]},
    });
    let site = site(&graph(&nodes), &[("a", &a)]).await;
    let mut client = Client::open(site.port).await;
    let gone = client.ask(request("POST", "/", &[("x-to", "gone")], "{}")).await.unwrap();
    assert_eq!((gone.status.as_u16(), failed_at(&gone)), (503, "below/gone"));
    assert!(
        read(&gone)["error"].as_str().unwrap().starts_with("step below/gone, model gone: it is not served here"),
        "{}",
        gone.text
    );
    let many = client.ask(request("POST", "/", &[("x-to", "a")], "{}")).await.unwrap();
    assert_eq!((many.status.as_u16(), failed_at(&many)), (429, "below/a"));
    // A model without pods: the queue's own answer.
    let models = [("a", &a, json!({"queue": {"max": 0, "timeoutMs": 1000}}))];
    site.routes(&routes(&site, &graph(&nodes), &models)).await;
    site.endpoints(&json!({}));
    until("it has no pod", || async { site.all_stats().await.models["a"].revisions["a"].pods == 0 }).await;
    let full = client.ask(request("POST", "/", &[("x-to", "a")], "{}")).await.unwrap();
    assert_eq!((full.status.as_u16(), &full.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(full.text.contains("too many requests wait for this model"), "{}", full.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_given_up_and_said() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let of = |timeout: u64, step_timeout: &Value| {
        let steps = [
            step("a", "/json", &json!({})),
            step("b", "/hang", &json!({"input": "Request", "timeoutMs": step_timeout})),
        ];
        json!({"root": "main", "timeoutMs": timeout, "bodyBytes": 1000, "nodes": {"main": {"sequence": steps}}})
    };
    let site = site(&of(60_000, &json!(100)), &[("a", &a), ("b", &b)]).await;
    let began = Instant::now();
    let answer = ask(&site, "{}").await;
    assert_eq!((answer.status.as_u16(), failed_at(&answer)), (504, "main/b"));
    assert!(answer.text.contains("no answer in time") && began.elapsed() < Duration::from_secs(30));
    until("the pod hears of it", || async { b.seen.broken_off.load(Ordering::SeqCst) == 1 }).await;
    let models = [("a", &a, json!({})), ("b", &b, json!({}))];
    site.routes(&routes(&site, &of(100, &Value::Null), &models)).await;
    assert_eq!(ask(&site, "{}").await.status, 504);
    let text = site.metrics().await;
    assert!(
        text.contains(r#"graph="m",outcome="Timeout"} 2"#) && text.contains(r#"step="b",result="Abandoned"} 1"#),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_takes_its_questions_along() {
    let a = Pod::any("a").await;
    let site = site(&graph(&json!({"main": {"switch": [step("a", "/hang", &json!({}))]}})), &[("a", &a)]).await;
    let mut client = Client::open(site.port).await;
    let asked = tokio::spawn(async move { client.post("/", "{}").await });
    until("it is asked", || async { a.seen.now.load(Ordering::SeqCst) == 1 }).await;
    asked.abort();
    until("the pod hears of it", || async { a.seen.broken_off.load(Ordering::SeqCst) == 1 }).await;
    until("it is counted", || async { site.metrics().await.contains(r#"graph="m",outcome="ClientLeft"} 1"#) }).await;
    assert_eq!(outcome(&site.all_stats().await, "a", Outcome::ClientLeft), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_bounds_but_the_last_answer_passes() {
    let (a, b) = (Pod::any("a").await, Pod::any("b").await);
    let main =
        json!({"sequence": [step("a", "/json", &json!({})), step("b", "/events", &json!({"input": "Request"}))]});
    let site = site(&graph(&json!({"main": main})), &[("a", &a), ("b", &b)]).await;
    assert_eq!(ask(&site, &"1".repeat(1001)).await.status, 413);
    assert_eq!(a.requests(), 0);
    // The answer of the first step is longer than the request.
    let answer = ask(&site, &"1".repeat(990)).await;
    assert_eq!((answer.status.as_u16(), failed_at(&answer)), (502, "main/a"));
    assert!(answer.text.contains("longer than the graph's maxBodyBytes"), "{}", answer.text);
    let mut client = Client::open(site.port).await;
    let mut passing = client.send(request("POST", "/", &[], "1")).await.unwrap();
    let first = passing.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: 0\n\n", "it comes before the pod has said the rest");
    b.seen.go.notify_one();
    let second = passing.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(second, "data: 1\n\n");
    let packed = Client::open(site.port).await.ask(request("POST", "/", &[("content-encoding", "gzip")], "x")).await;
    assert_eq!(packed.unwrap().status, 415);
    let mut client = Client::open(site.port).await;
    let grpc = client.ask(request("POST", "/", &[("content-type", "application/grpc")], "x")).await.unwrap();
    assert_eq!(grpc.headers["grpc-status"], "12");
    assert_eq!(site.get("/v2/health/ready").await.status, 200);
    assert_eq!((site.get("/").await.status.as_u16(), site.get("/other").await.status.as_u16()), (405, 404));
    let limited = [("a", &a, json!({"limits": {"bodyBytes": 2}})), ("b", &b, json!({}))];
    site.routes(&routes(&site, &graph(&json!({"main": {"switch": [step("a", "/json", &json!({}))]}})), &limited)).await;
    let answer = ask(&site, "123").await;
    assert_eq!((answer.status.as_u16(), failed_at(&answer)), (413, "main/a"), "the model's own limit holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_has_a_door_of_its_own_and_is_one_caller_of_a_model() {
    let a = Pod::any("a").await;
    let only = graph(&json!({"main": {"switch": [step("a", "/headers", &json!({}))]}}));
    let site = site(&only, &[("a", &a)]).await;
    mount(
        site.folder.path(),
        "secrets/keys/keys",
        &[("alice", "alice-0123456789abcdef"), ("bob", "bob-0123456789abcdef")],
    );
    let keys = json!({"id": "1", "auth": {"apiKeys": {"secret": "keys"}}});
    let mut rated = keys.clone();
    rated["rate"] = json!({"perSecond": 0.001, "burst": 2, "per": "Caller"});
    let mut document = routes(&site, &only, &[("a", &a, json!({"security": rated}))]);
    document["models"][0]["security"] = keys;
    site.routes(&document).await;
    let mut client = Client::open(site.port).await;
    assert_eq!(client.post("/", "{}").await.status, 401);
    assert_eq!(a.requests(), 0);
    let mut ask = async |key: &str| client.ask(request("POST", "/", &[("x-api-key", key)], "{}")).await.unwrap();
    let answer = ask("alice-0123456789abcdef").await;
    assert_eq!(answer.status, 200);
    assert!(read(&answer).get("x-api-key").is_none(), "a key goes no further");
    assert_eq!(ask("bob-0123456789abcdef").await.status, 200);
    let fast = ask("alice-0123456789abcdef").await;
    assert_eq!((fast.status.as_u16(), failed_at(&fast)), (429, "main/a"), "both come as the graph");
    assert!(fast.headers.contains_key("retry-after"));
    assert_eq!(a.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_is_no_model_of_another_and_may_become_one() {
    let a = Pod::any("a").await;
    let other = graph(&json!({"main": {"switch": [step("a", "/", &json!({}))]}}));
    let site = site(&other, &[("a", &a)]).await;
    let asks_itself = graph(&json!({"main": {"switch": [step("m", "/", &json!({}))]}}));
    site.routes(&routes(&site, &asks_itself, &[("a", &a, json!({}))])).await;
    assert_eq!(ask(&site, "{}").await.status, 503);
    let mut model = routes(&site, &other, &[("a", &a, json!({}))]);
    model["models"][0].as_object_mut().unwrap().remove("graph");
    model["models"][0]["revisions"] = json!([revision("a", a.address.port(), 1)]);
    site.routes(&model).await;
    assert_eq!(site.get("/").await.text, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payload_log_of_a_model_has_what_a_graph_asks_it() {
    let (a, sink) = (Pod::any("a").await, Sink::start(&[Does::Answer(202)], None).await);
    let only = graph(&json!({"main": {"switch": [step("a", "/json", &json!({}))]}}));
    let address = format!("http://{}/in", sink.address);
    let log = json!({"log": {"namespace": "team", "model": "penguins", "versions": {"a": 7}, "sampling": 1.0, "bodyBytes": 1000, "sink": {"address": address}}});
    let site = site_with(&only, &[("a", &a, log)]).await;
    assert_eq!(ask(&site, "[1.10]").await.status, 200);
    let delivered = async || site.all_stats().await.models["a"].log.as_ref().unwrap().delivered;
    until("both events are there", || async { delivered().await == 2 }).await;
    let bodies = sink.posts().iter().map(|post| post.body.to_string()).collect::<String>();
    // What was not said to be JSON is logged in base64.
    assert!(bodies.contains("model_version") && bodies.contains("WzEuMTBd"), "{bodies}");
}
