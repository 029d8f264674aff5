//! What the tests share: a server process, a caller, the protocol's schemas.

mod caller;
mod grpc;
mod requests;
mod schema;
mod server;

pub use caller::{Answer, Caller};
pub use grpc::{Called, GrpcCaller, framed, messages};
pub use requests::{every_type_raw, heavy, heavy_rows, infer_path, lookup, tabular, tabular_rows};
pub use schema::{assert_schema, matches_schema};
pub use server::{Server, eventually, model_dir};
