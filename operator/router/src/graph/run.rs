//! The walk through the nodes for one request.

use std::sync::Mutex;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use hyper::body::Body;
use hyper::header::{CONTENT_ENCODING, RETRY_AFTER};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use millrace_routes::{Ensemble, GraphInput, GraphNode, GraphStep, GraphTarget};
use tokio::time::{Duration, timeout};

use super::answer::Failure;
use super::condition::{self, Known};
use super::counts::{Asked, Ended};
use super::held::{Held, Unheld};
use super::{Graph, tensors};
use crate::body::ResponseBody;
use crate::proxy::Caller;
use crate::state::lock;

/// Bytes of a failure's body that are read.
const ERROR_BYTES: usize = 64 << 10;

/// An answer, held or on its way.
pub enum Payload {
    Held(Held),
    Passing(ResponseBody),
}

type Answered = Result<Response<Payload>, Failure>;

/// One request.
pub struct Run<'a> {
    pub caller: &'a Caller,
    pub graph: &'a Graph,
    /// For every step, without what belongs to the caller's own body.
    pub headers: HeaderMap,
    /// Of the caller, for the host.
    pub uri: Uri,
    pub left_out: Mutex<Vec<String>>,
}

impl Run<'_> {
    /// `last`: nobody looks at its answer, which may pass through.
    pub fn node<'r>(&'r self, name: &'r str, request: Held, last: bool) -> BoxFuture<'r, Answered> {
        async move {
            match self.graph.document.nodes.get(name) {
                Some(GraphNode::Sequence(steps)) => self.sequence(name, steps, request, last).await,
                Some(GraphNode::Switch(steps)) => self.switch(name, steps, request, last).await,
                Some(GraphNode::Ensemble(ensemble)) => self.ensemble(name, ensemble, &request).await,
                Some(GraphNode::Splitter(steps)) => self.splitter(name, steps, request, last).await,
                // The document was checked.
                None => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("there is no node {name}"))),
            }
        }
        .boxed()
    }

    async fn sequence(&self, node: &str, steps: &[GraphStep], request: Held, last: bool) -> Answered {
        let mut so_far: Option<Response<Held>> = None;
        for (i, step) in steps.iter().enumerate() {
            let answer = so_far.as_ref().map(Response::body);
            if !self.is_taken(node, step, &request, answer)? {
                continue;
            }
            let given = self.given(step, &request, answer).map_err(|failure| failure.within(node, &step.name, None));
            let is_end = last && i + 1 == steps.len();
            let answered = match given {
                Ok(given) => self.step(node, step, given, is_end).await,
                Err(failure) => {
                    self.count(node, step, Ended::Failed);
                    Err(failure)
                }
            };
            match answered {
                Ok(response) if is_end => return Ok(response),
                Ok(response) => {
                    so_far = Some(self.held(response).await.map_err(|of| of.within(node, &step.name, None))?);
                }
                Err(_) if step.soft => self.leave_out(node, step),
                Err(failure) => return Err(failure),
            }
        }
        let none = || Failure::new(StatusCode::UNPROCESSABLE_ENTITY, format!("no step of {node} was taken"));
        so_far.map(|response| response.map(Payload::Held)).ok_or_else(none)
    }

    async fn switch(&self, node: &str, steps: &[GraphStep], request: Held, last: bool) -> Answered {
        for step in steps {
            if self.is_taken(node, step, &request, None)? {
                return self.step(node, step, request, last).await;
            }
        }
        let says = format!("no step of the switch {node} takes this request: none of their conditions holds");
        Err(Failure { at: Some(node.to_owned()), ..Failure::new(StatusCode::UNPROCESSABLE_ENTITY, says) })
    }

    async fn splitter(&self, node: &str, steps: &[GraphStep], request: Held, last: bool) -> Answered {
        let sum: u32 = steps.iter().map(|step| step.weight).sum();
        let mut drawn = fastrand::u32(0..sum.max(1));
        for step in steps {
            match drawn.checked_sub(step.weight) {
                None => return self.step(node, step, request, last).await,
                Some(left) => drawn = left,
            }
        }
        // The document was checked: some weight is above 0.
        Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no step of {node} has a weight")))
    }

    async fn ensemble(&self, node: &str, ensemble: &Ensemble, request: &Held) -> Answered {
        let steps = &ensemble.steps;
        let ask = |(i, step): (usize, &'_ GraphStep)| {
            let (request, step) = (request.clone(), step.clone());
            async move {
                let answer = match self.step(node, &step, request, false).await {
                    Ok(response) => self.held(response).await.map_err(|of| of.within(node, &step.name, None)),
                    Err(failure) => Err(failure),
                };
                (i, answer)
            }
        };
        let mut asked: FuturesUnordered<_> = steps.iter().enumerate().map(ask).collect();
        let mut answers: Vec<Option<Held>> = steps.iter().map(|_| None).collect();
        let mut failed: Option<(usize, Failure)> = None;
        while let Some((i, answer)) = asked.next().await {
            match answer {
                Ok(response) => answers[i] = Some(response.into_body()),
                Err(failure) if !steps[i].soft => return Err(failure),
                Err(failure) => {
                    if failed.as_ref().is_none_or(|(first, _)| i < *first) {
                        failed = Some((i, failure));
                    }
                }
            }
        }
        drop(asked);
        if let Some((_, failure)) = failed.filter(|_| answers.iter().all(Option::is_none)) {
            return Err(failure);
        }
        for (step, _) in steps.iter().zip(&answers).filter(|(_, answer)| answer.is_none()) {
            self.leave_out(node, step);
        }
        self.together(node, ensemble, &answers).map(|held| Response::new(Payload::Held(held)))
    }

    /// One answer of those that there are.
    fn together(&self, node: &str, ensemble: &Ensemble, answers: &[Option<Held>]) -> Result<Held, Failure> {
        let there = ensemble.steps.iter().zip(answers);
        let there = there.filter_map(|(step, answer)| Some((step.name.as_str(), answer.as_ref()?.bytes.as_ref())));
        let there: Vec<(&str, &[u8])> = there.collect();
        let (made, kind) = if ensemble.tensors {
            (
                tensors::together(&self.caller.model.name, &there),
                "of the Open Inference Protocol, with at most 256 outputs",
            )
        } else {
            (tensors::by_step(&there), "JSON")
        };
        let unfit = |step: &str| {
            Failure::new(StatusCode::BAD_GATEWAY, format!("its answer is not {kind}")).within(node, step, None)
        };
        Held::made(made.map_err(unfit)?, &self.caller.state.graphs).ok_or_else(Failure::no_room)
    }

    /// Asks whoever the step asks.
    async fn step(&self, node: &str, step: &GraphStep, given: Held, last: bool) -> Answered {
        let asked = Asked::begin(self.graph.steps.get(&(node.to_owned(), step.name.clone())));
        let answer = async {
            match &step.to {
                GraphTarget::Model { name, path } => self.model(name, path, given, last).await,
                GraphTarget::Node(next) => self.node(next, given, last).await,
            }
        };
        let answered = match step.timeout_ms {
            None => answer.await,
            Some(ms) => timeout(Duration::from_millis(ms), answer).await.unwrap_or_else(|_| Err(Failure::late())),
        };
        asked.ends(answered.is_ok());
        let model = match &step.to {
            GraphTarget::Model { name, .. } => Some(name.as_str()),
            GraphTarget::Node(_) => None,
        };
        answered.map_err(|failure| failure.within(node, &step.name, model))
    }

    async fn model(&self, name: &str, path: &str, given: Held, last: bool) -> Answered {
        // A graph has no models that are graphs: there is no way back.
        let model = self.caller.state.model(name).filter(|model| model.policy().graph.is_none());
        let Some(model) = model else {
            let says = "it is not served here: there is no such ModelDeployment, or it was not accepted";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, says));
        };
        let request = self.request(path, &given)?;
        // What is sent takes its room until it is answered.
        let Held { bytes, room, .. } = given;
        let answered = self.caller.ask(model, request.map(|()| bytes)).await;
        drop(room);
        let response = answered.map_err(Failure::of)?;
        let status = response.status();
        if !status.is_success() {
            let (parts, body) = response.into_parts();
            let retry = parts.headers.get(RETRY_AFTER).cloned();
            let read = Held::read(body, &parts.headers, ERROR_BYTES, &self.caller.state.graphs).await;
            let said = read.map(|held| held.bytes).unwrap_or_default();
            return Err(Failure::answered(status, &said, retry));
        }
        let response = response.map(Payload::Passing);
        if last { Ok(response) } else { self.held(response).await.map(|response| response.map(Payload::Held)) }
    }

    /// What the model gets: the caller's headers, but for those of the body.
    fn request(&self, path: &str, given: &Held) -> Result<Request<()>, Failure> {
        let broken = |_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{path} is no path"));
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(broken)?);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{path} is no path")))?;
        *request.headers_mut() = self.headers.clone();
        given.tell(request.headers_mut());
        Ok(request)
    }

    /// An answer that somebody here looks at.
    async fn held(&self, response: Response<Payload>) -> Result<Response<Held>, Failure> {
        let (parts, body) = response.into_parts();
        let body = match body {
            Payload::Held(held) => held,
            Payload::Passing(body) => {
                if parts.headers.contains_key(CONTENT_ENCODING) {
                    return Err(Failure::new(
                        StatusCode::BAD_GATEWAY,
                        "its answer is compressed, which nobody asked for",
                    ));
                }
                let longest = self.graph.body_bytes;
                if body.size_hint().lower() > longest as u64 {
                    return Err(too_long(longest));
                }
                let read = Held::read(body, &parts.headers, longest, &self.caller.state.graphs).await;
                read.map_err(|unheld| match unheld {
                    Unheld::TooLong => too_long(longest),
                    Unheld::NoRoom => Failure::no_room(),
                    Unheld::Broken(_) => Failure::new(StatusCode::BAD_GATEWAY, "its answer broke off"),
                })?
            }
        };
        Ok(Response::from_parts(parts, body))
    }

    /// Whether the step's condition holds.
    fn is_taken(&self, node: &str, step: &GraphStep, request: &Held, answer: Option<&Held>) -> Result<bool, Failure> {
        let Some(when) = &step.when else { return Ok(true) };
        let holds = condition::holds(when, &Known { request, answer, headers: &self.headers });
        let taken = holds.map_err(|says| {
            self.count(node, step, Ended::Failed);
            Failure::new(StatusCode::UNPROCESSABLE_ENTITY, format!("its condition: {says}"))
                .within(node, &step.name, None)
        })?;
        if !taken {
            self.count(node, step, Ended::Skipped);
        }
        Ok(taken)
    }

    /// What a step of a sequence is given.
    fn given(&self, step: &GraphStep, request: &Held, answer: Option<&Held>) -> Result<Held, Failure> {
        let rename = &step.rename;
        let unfit = |what: &str| {
            let most = tensors::MOST_TENSORS;
            let says = format!(
                "{what} is not of the Open Inference Protocol, with at most {most} tensors to be named or joined"
            );
            Failure::new(StatusCode::UNPROCESSABLE_ENTITY, says)
        };
        let made = match (step.input, answer) {
            (GraphInput::Request, _) | (_, None) if rename.is_empty() => return Ok(request.clone()),
            (GraphInput::Request, _) | (_, None) => {
                tensors::renamed(&request.bytes, rename).ok_or_else(|| unfit("the request"))?
            }
            (GraphInput::Answer, Some(answer)) => match tensors::asked(&answer.bytes, rename) {
                Some(made) => made,
                // Whatever it is: the next model may take it as it is.
                None if rename.is_empty() => return Ok(answer.clone()),
                None => return Err(unfit("the answer before")),
            },
            (GraphInput::Both, Some(answer)) => tensors::both(&request.bytes, &answer.bytes, rename)
                .ok_or_else(|| unfit("the request, or the answer before,"))?,
        };
        Held::made(made, &self.caller.state.graphs).ok_or_else(Failure::no_room)
    }

    fn leave_out(&self, node: &str, step: &GraphStep) {
        lock(&self.left_out).push(format!("{node}/{}", step.name));
    }

    fn count(&self, node: &str, step: &GraphStep, how: Ended) {
        if let Some(counts) = self.graph.steps.get(&(node.to_owned(), step.name.clone())) {
            counts.count(how);
        }
    }
}

fn too_long(longest: usize) -> Failure {
    let says = format!(
        "its answer is longer than the graph's maxBodyBytes, {longest}, and a later step or an ensemble takes it"
    );
    Failure::new(StatusCode::BAD_GATEWAY, says)
}
