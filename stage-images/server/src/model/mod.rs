//! A model: its signature, the session that runs it, and how both are made from a folder.

mod device;
mod engine;
mod intact;
mod load;
mod signature;
mod signature_file;
mod warm;

pub use device::{Device, Provider, choose};
pub use engine::{Engine, EngineError, Fault, View};
pub use intact::{NotIntact, verify};
pub use load::{LoadError, Runtime, load, runtime};
pub use signature::{Signature, SignatureError};
pub use warm::{WarmUpError, warm_up};
