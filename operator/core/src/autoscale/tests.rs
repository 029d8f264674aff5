//! What is decided in each situation, what is remembered, and both together beside a load that changes.

mod beside;
mod decisions;
mod remembered;
mod simulated;
