//! The methods of `inference.GRPCInferenceService`.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::{Code, Status};

use super::messages::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use super::messages::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
};
use super::{request, response};
use crate::inference::{InferError, convert, run, slices, text_size};
use crate::serving::{LookupError, Serving};

/// Answers whole requests.
#[derive(Clone, Debug)]
pub struct Service(GrpcInferenceServiceServer<Methods>);

#[derive(Debug)]
struct Methods(Arc<Serving>);

impl Service {
    pub fn new(serving: Arc<Serving>) -> Self {
        let limit = serving.config.max_body;
        Self(GrpcInferenceServiceServer::new(Methods(serving)).max_decoding_message_size(limit))
    }

    /// Answers a request whose body has been read.
    pub async fn answer(mut self, request: Request<Full<Bytes>>) -> hyper::Response<Body> {
        match self.0.call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

/// gRPC's word for a status of HTTP.
pub fn status_of(status: u16, why: impl std::fmt::Display) -> Status {
    let code = match status {
        404 => Code::NotFound,
        413 => Code::ResourceExhausted,
        408 | 504 => Code::DeadlineExceeded,
        503 => Code::Unavailable,
        400..500 => Code::InvalidArgument,
        _ => Code::Internal,
    };
    Status::new(code, why.to_string())
}

impl From<InferError> for Status {
    fn from(error: InferError) -> Self {
        status_of(error.status(), &error)
    }
}

fn refuse(error: impl Into<InferError>) -> Status {
    error.into().into()
}

/// An empty version lets the server choose.
fn version(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

type Answer<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl GrpcInferenceService for Methods {
    async fn server_live(&self, _: tonic::Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(ServerLiveResponse { live: true }.into())
    }

    async fn server_ready(&self, _: tonic::Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(ServerReadyResponse { ready: self.0.ready() }.into())
    }

    async fn model_ready(&self, request: tonic::Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let asked = request.get_ref();
        match self.0.model(&asked.name, version(&asked.version)) {
            Ok(_) => Ok(ModelReadyResponse { ready: true }.into()),
            Err(LookupError::Loading { .. }) => Ok(ModelReadyResponse { ready: false }.into()),
            Err(error) => Err(refuse(error)),
        }
    }

    async fn server_metadata(&self, _: tonic::Request<ServerMetadataRequest>) -> Answer<ServerMetadataResponse> {
        Ok(response::server_metadata().into())
    }

    async fn model_metadata(&self, request: tonic::Request<ModelMetadataRequest>) -> Answer<ModelMetadataResponse> {
        let asked = request.get_ref();
        let model = self.0.model(&asked.name, version(&asked.version)).map_err(refuse)?;
        Ok(response::model_metadata(&model).into())
    }

    async fn model_infer(&self, request: tonic::Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let (serving, request) = (&*self.0, request.into_inner());
        let model = serving.model(&request.model_name, version(&request.model_version)).map_err(refuse)?;
        let size = prost::Message::encoded_len(&request);
        let parsed = convert(size, || request::parse(request, &model.signature)).map_err(refuse)?;
        let mut share = serving.buffer.share();
        share.hold(&parsed.inputs).map_err(refuse)?;
        let answer = run(serving, &model, parsed.inputs, parsed.rows).await?;
        let outputs = slices(&model, &parsed.outputs, &answer);
        let as_bytes = parsed.binary.contains(&true);
        let write = || response::inferred(&model, parsed.id, &outputs, as_bytes);
        Ok(convert(text_size(&outputs), write).into())
    }
}
