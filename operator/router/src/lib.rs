//! The data plane: one proxy for all models of a namespace. `state` is what is known of models, revisions and pods; `proxy` takes a
//! request through it; `callers` bounds what they may take; `door` says who is let in; `get` asks one thing over HTTP; `query` asks Prometheus; `log` sends copies to a sink; `stream` answers messages of Kafka; `graph` makes answers of those of models; `places` shares the places at pods with the other routers; `control` brings routes, endpoints and starts from zero; `count` is what
//! is counted.

mod admin;
mod body;
mod callers;
mod choose;
mod control;
mod count;
mod dial;
mod door;
mod endpoints;
mod fault;
mod flight;
mod get;
mod graph;
mod headers;
mod listen;
mod log;
mod places;
mod proxy;
mod query;
mod refuse;
mod router;
pub mod settings;
mod shadow;
mod state;
mod stream;
mod upgrade;
mod upstream;
mod worker;

pub use callers::Limits;
pub use control::scale::{ScaleError, Scaler};
pub use door::Pace;
pub use router::{EndpointsFrom, Options, Router, RouterError, RoutesFrom};
