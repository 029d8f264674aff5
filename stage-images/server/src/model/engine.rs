//! One ONNX Runtime session. It runs on one thread at a time, a dedicated one: never on the threads that serve sockets.

use std::ops::Range;

use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};
use thiserror::Error;

use crate::tensor::{Data, Tensor};

/// A session that is ready to run.
pub struct Engine {
    session: Session,
}

/// Some rows of a tensor, borrowed.
#[derive(Debug)]
pub struct View<'a> {
    pub shape: Vec<i64>,
    pub data: &'a Data,
    /// Which values of `data`.
    pub values: Range<usize>,
}

/// Who has to mend a failed inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// ONNX Runtime says that an argument is wrong: values or shapes that the signature cannot rule out.
    Input,
    /// Anything else: the model or the server.
    Model,
}

/// A failed inference.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the model failed: {message}")]
pub struct EngineError {
    pub fault: Fault,
    pub message: String,
}

impl EngineError {
    pub fn model(message: impl Into<String>) -> Self {
        Self { fault: Fault::Model, message: message.into() }
    }
}

impl From<ort::Error> for EngineError {
    fn from(error: ort::Error) -> Self {
        let fault = if error.code() == ort::ErrorCode::InvalidArgument { Fault::Input } else { Fault::Model };
        Self { fault, message: error.message().to_owned() }
    }
}

impl Engine {
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// Runs the model once. `inputs` are in the order of the graph, and so are the outputs.
    pub fn run(&mut self, inputs: &[View]) -> Result<Vec<Tensor>, EngineError> {
        let inputs = inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?;
        let outputs = self.session.run(inputs.as_slice())?;
        outputs.values().map(|value| output(&value)).collect()
    }
}

/// Lends the values to ONNX Runtime; only text is copied.
fn input<'a>(view: &View<'a>) -> Result<SessionInputValue<'a>, EngineError> {
    macro_rules! lend {
        ($values:expr) => {
            Ok(TensorRef::from_array_view((view.shape.clone(), slice($values, &view.values)?))?.into())
        };
    }
    match view.data {
        Data::Bool(values) => lend!(values),
        Data::Uint8(values) => lend!(values),
        Data::Uint16(values) => lend!(values),
        Data::Uint32(values) => lend!(values),
        Data::Uint64(values) => lend!(values),
        Data::Int8(values) => lend!(values),
        Data::Int16(values) => lend!(values),
        Data::Int32(values) => lend!(values),
        Data::Int64(values) => lend!(values),
        Data::Fp16(values) => lend!(values),
        Data::Fp32(values) => lend!(values),
        Data::Fp64(values) => lend!(values),
        Data::Bytes(values) => {
            let values = slice(values, &view.values)?;
            Ok(OrtTensor::from_string_array((view.shape.clone(), values))?.into())
        }
    }
}

fn slice<'a, T>(values: &'a [T], range: &Range<usize>) -> Result<&'a [T], EngineError> {
    values.get(range.clone()).ok_or_else(|| EngineError::model("rows outside the batch"))
}

fn output(value: &DynValue) -> Result<Tensor, EngineError> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(EngineError::model("an output is not a tensor"));
    };
    macro_rules! copy {
        ($variant:ident, $type:ty) => {{
            let (shape, values) = value.try_extract_tensor::<$type>()?;
            Ok(Tensor { shape: shape.to_vec(), data: Data::$variant(values.to_vec()) })
        }};
    }
    match ty {
        TensorElementType::Bool => copy!(Bool, bool),
        TensorElementType::Uint8 => copy!(Uint8, u8),
        TensorElementType::Uint16 => copy!(Uint16, u16),
        TensorElementType::Uint32 => copy!(Uint32, u32),
        TensorElementType::Uint64 => copy!(Uint64, u64),
        TensorElementType::Int8 => copy!(Int8, i8),
        TensorElementType::Int16 => copy!(Int16, i16),
        TensorElementType::Int32 => copy!(Int32, i32),
        TensorElementType::Int64 => copy!(Int64, i64),
        TensorElementType::Float16 => copy!(Fp16, half::f16),
        TensorElementType::Float32 => copy!(Fp32, f32),
        TensorElementType::Float64 => copy!(Fp64, f64),
        TensorElementType::String => {
            let (shape, values) = value.try_extract_strings()?;
            Ok(Tensor { shape: shape.to_vec(), data: Data::Bytes(values) })
        }
        other => Err(EngineError::model(format!("an output has element type {other}"))),
    }
}
