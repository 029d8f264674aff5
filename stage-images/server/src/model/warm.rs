//! Runs a model before its first request, so that the first answer is as fast as the others.
//!
//! ONNX Runtime plans memory and builds some kernels on the first run of each size.

use thiserror::Error;

use super::{Engine, EngineError, Signature, View};
use crate::tensor::Data;

/// A model that does not run on made-up values.
#[derive(Debug, Error)]
#[error("the model does not run on {rows} rows of made-up values: {source}")]
pub struct WarmUpError {
    rows: usize,
    source: EngineError,
    /// The made-up shape may be what is wrong: the model leaves a dimension open that is not the batch.
    pub guessed: bool,
}

/// Runs one row, then `max_rows`.
pub fn warm_up(engine: &mut Engine, signature: &Signature, max_rows: usize) -> Result<(), WarmUpError> {
    let guessed = signature.inputs.iter().any(|spec| {
        let fixed = usize::from(signature.batched);
        spec.shape.iter().skip(fixed).any(|size| *size < 0)
    });
    let sizes: &[usize] = if signature.batched && max_rows > 1 { &[1, max_rows] } else { &[1] };
    for &rows in sizes {
        run(engine, signature, rows).map_err(|source| WarmUpError { rows, source, guessed })?;
    }
    Ok(())
}

fn run(engine: &mut Engine, signature: &Signature, rows: usize) -> Result<(), EngineError> {
    let made_up: Vec<(Vec<i64>, Data)> = signature
        .inputs
        .iter()
        .map(|spec| {
            let mut shape: Vec<i64> = spec.shape.iter().map(|size| if *size < 0 { 1 } else { *size }).collect();
            if signature.batched {
                shape[0] = i64::try_from(rows).unwrap_or(1);
            }
            let count = shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).product();
            (shape, Data::blank(spec.datatype, count))
        })
        .collect();
    let views: Vec<View> =
        made_up.iter().map(|(shape, data)| View { shape: shape.clone(), data, values: 0..data.len() }).collect();
    engine.run(&views).map(drop)
}
