//! What a model takes and gives: read from its graph, completed by what its maker wrote down.

use std::collections::BTreeMap;

use ort::value::{Outlet, TensorElementType, ValueType};
use thiserror::Error;

use super::signature_file::{SignatureFile, SignatureTensor};
use crate::tensor::{Datatype, TensorSpec};

/// A model's inputs and outputs, in the order of its graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// The first dimension of every input and output varies, so rows of several requests may run together.
    pub batched: bool,
    /// For people and clients, in the model's metadata: task and classes.
    pub properties: BTreeMap<String, String>,
}

/// Why a graph and its signature cannot be served.
#[derive(Debug, Error)]
pub enum SignatureError {
    #[error("{side} {name:?} of the model is {found}, not a tensor; for scikit-learn convert with zipmap=False")]
    NotTensor { side: &'static str, name: String, found: String },
    #[error("{side} {name:?} of the model has element type {found}, which the protocol has no datatype for")]
    NoDatatype { side: &'static str, name: String, found: String },
    #[error("signature.json has the {side} {name:?}, which the model does not have; its {side}s are {have}")]
    Unknown { side: &'static str, name: String, have: String },
    #[error("signature.json does not have the {side} {name:?} of the model")]
    Missing { side: &'static str, name: String },
    #[error("signature.json says {field} {stated} for the {side} {name:?}, but the model says {found}")]
    Contradiction { side: &'static str, name: String, field: &'static str, stated: String, found: String },
}

impl Signature {
    /// Reads the graph's own words; `stated`, if there is one, must agree with them and fills in the shapes that a graph
    /// leaves open.
    pub fn new(inputs: &[Outlet], outputs: &[Outlet], stated: Option<&SignatureFile>) -> Result<Self, SignatureError> {
        let mut inputs = specs("input", inputs)?;
        let mut outputs = specs("output", outputs)?;
        let mut properties = BTreeMap::new();
        if let Some(stated) = stated {
            agree("input", &mut inputs, &stated.inputs)?;
            agree("output", &mut outputs, &stated.outputs)?;
            properties = stated.properties();
        }
        let varies = |spec: &TensorSpec| spec.shape.first() == Some(&-1);
        let batched = !inputs.is_empty() && inputs.iter().all(varies) && outputs.iter().all(varies);
        Ok(Self { inputs, outputs, batched, properties })
    }
}

fn specs(side: &'static str, outlets: &[Outlet]) -> Result<Vec<TensorSpec>, SignatureError> {
    outlets.iter().map(|outlet| spec(side, outlet)).collect()
}

fn spec(side: &'static str, outlet: &Outlet) -> Result<TensorSpec, SignatureError> {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(SignatureError::NotTensor { side, name, found: outlet.dtype().to_string() });
    };
    let Some(datatype) = datatype(*ty) else {
        return Err(SignatureError::NoDatatype { side, name, found: ty.to_string() });
    };
    Ok(TensorSpec { name, datatype, shape: shape.to_vec() })
}

fn datatype(element: TensorElementType) -> Option<Datatype> {
    match element {
        TensorElementType::Bool => Some(Datatype::Bool),
        TensorElementType::Uint8 => Some(Datatype::Uint8),
        TensorElementType::Uint16 => Some(Datatype::Uint16),
        TensorElementType::Uint32 => Some(Datatype::Uint32),
        TensorElementType::Uint64 => Some(Datatype::Uint64),
        TensorElementType::Int8 => Some(Datatype::Int8),
        TensorElementType::Int16 => Some(Datatype::Int16),
        TensorElementType::Int32 => Some(Datatype::Int32),
        TensorElementType::Int64 => Some(Datatype::Int64),
        TensorElementType::Float16 => Some(Datatype::Fp16),
        TensorElementType::Float32 => Some(Datatype::Fp32),
        TensorElementType::Float64 => Some(Datatype::Fp64),
        TensorElementType::String => Some(Datatype::Bytes),
        _ => None,
    }
}

fn agree(side: &'static str, specs: &mut [TensorSpec], stated: &[SignatureTensor]) -> Result<(), SignatureError> {
    for tensor in stated {
        if !specs.iter().any(|spec| spec.name == tensor.name) {
            let have = specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(SignatureError::Unknown { side, name: tensor.name.clone(), have });
        }
    }
    for spec in specs {
        let Some(tensor) = stated.iter().find(|tensor| tensor.name == spec.name) else {
            return Err(SignatureError::Missing { side, name: spec.name.clone() });
        };
        let differs = |field, stated, found| {
            Err(SignatureError::Contradiction { side, name: spec.name.clone(), field, stated, found })
        };
        if tensor.datatype != spec.datatype.name() {
            return differs("datatype", tensor.datatype.clone(), spec.datatype.to_string());
        }
        // A graph that says nothing about a shape looks like one that says "scalar".
        let open = spec.shape.is_empty();
        let fits = |(stated, found): (&i64, &i64)| *found == -1 || *stated == *found;
        let same = spec.shape.len() == tensor.shape.len() && tensor.shape.iter().zip(&spec.shape).all(fits);
        if !open && !same {
            return differs("shape", format!("{:?}", tensor.shape), format!("{:?}", spec.shape));
        }
        spec.shape.clone_from(&tensor.shape);
    }
    Ok(())
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
