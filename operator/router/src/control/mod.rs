//! What comes from outside the way of a request: documents of routes, files, starts from zero.

pub mod apply;
pub mod configmap;
pub mod forbidden;
pub mod probe;
pub mod scale;
pub mod start;
pub mod watch_file;
