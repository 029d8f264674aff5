//! Files where a program may have put anything, and the digests that reports and manifests speak of. A crate of its own: the
//! operator knows the contract and has no files.

pub mod digest;
pub mod regular;
mod words;

pub use words::short;
