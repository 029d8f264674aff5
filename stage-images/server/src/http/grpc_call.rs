//! One call of gRPC: the body is read within the same limits as REST's, then `grpc` answers it.

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};

use super::body;
use crate::grpc::{Service, status_of};
use crate::serving::Serving;

/// The method that counts as a request to infer.
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// The prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Answers a call, whatever comes.
pub async fn answer(serving: &Serving, grpc: Service, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != INFER {
        return call(serving, grpc, request).await;
    }
    let mut counted = serving.metrics.request();
    let answer = call(serving, grpc, request).await;
    // The status of a failed call stands in the head; a call that went well has its own at the end.
    let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
    counted.answered(match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::NotFound | Code::ResourceExhausted | Code::Unimplemented => 400,
        _ => 500,
    });
    answer
}

async fn call(serving: &Serving, grpc: Service, request: Request<Incoming>) -> Response<Body> {
    let config = &serving.config;
    let (head, body) = request.into_parts();
    match body::read(body, config.max_body.saturating_add(PREFIX), config.body_timeout, &serving.buffer).await {
        Ok(body::Buffered { bytes, share: _share }) => grpc.answer(Request::from_parts(head, Full::new(bytes))).await,
        Err(error) => status_of(error.status().as_u16(), error).into_http(),
    }
}
