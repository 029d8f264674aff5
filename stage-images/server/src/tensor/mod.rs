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

impl TensorSpec {
    /// How many values a row has, if that is fixed.
    pub fn width(&self) -> Option<usize> {
        self.shape.iter().skip(1).try_fold(1_usize, |width, size| width.checked_mul(usize::try_from(*size).ok()?))
    }

    /// The name of each feature of a row: the tensor's, with a place behind it where a row has several values.
    pub fn features(&self, width: usize) -> Vec<String> {
        if width == 1 {
            return vec![self.name.clone()];
        }
        (0..width).map(|place| format!("{}[{place}]", self.name)).collect()
    }
}
