//! The stages, run as a pod runs them: the real program, real files, a real HTTP server, a real S3 server, real models.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]
#![allow(clippy::float_cmp, reason = "the same figure is meant, to the bit")]
#![allow(clippy::needless_pass_by_value, reason = "parameters are written where they are used")]

mod clouds;
mod csv_errors;
mod database;
mod evaluate;
mod features;
mod http;
mod ingest;
mod kafka;
mod look;
mod memory;
mod mysql;
mod payload_log;
mod postgres;
mod predict;
mod profile;
mod s3;
mod support;
mod tables;
mod tables_others;
mod templates;
mod transform;
mod validate;
