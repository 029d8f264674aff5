//! What is decided in each situation, what is remembered, and both together beside a load that changes.

mod answers;
mod beside;
mod decisions;
mod latency;
mod remembered;
mod simulated;
