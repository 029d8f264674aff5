//! The stages, run as a pod runs them: the real program, real files, a real HTTP server, a real S3 server, real models.

mod csv_errors;
mod evaluate;
mod http;
mod ingest;
mod memory;
mod s3;
mod support;
mod transform;
mod validate;
