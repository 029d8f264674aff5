//! Tensors as they travel from a protocol to a batch and back: a shape and one typed vector.
//!
//! Nothing here knows JSON, HTTP or ONNX Runtime.

mod data;
mod datatype;

pub use data::Data;
pub(crate) use data::each_data;
pub use datatype::Datatype;

/// A tensor in row-major order. `data` has as many values as the product of `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<i64>,
    pub data: Data,
}

/// What a model says about one of its inputs or outputs. -1 in `shape` is a size that may vary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<i64>,
}
