//! Local explanations of tabular models: what each feature of a row adds to the model's output, against a reference row.
//!
//! `shapley` is the arithmetic, `reference` the row to compare with. The model is asked through the queue in small jobs, so
//! that other requests take their turns between them.

mod reference;
mod shapley;

use thiserror::Error;

pub use reference::Reference;
pub use shapley::Plan;

use crate::batch;
use crate::inference::{self, InferError};
use crate::protocol::InferRequest;
use crate::serving::{Model, Serving};
use crate::tensor::{Data, Tensor};

/// Rows of one request.
const MAX_ROWS: usize = 16;
/// Rows that the model is asked for at a time.
const JOB_ROWS: usize = 64;

/// What to explain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// An output by its name; by default the first of floating-point numbers.
    pub output: Option<String>,
    /// A column of the output; by default the largest of each row.
    pub class: Option<usize>,
}

/// The explanation of all rows of a request.
#[derive(Debug)]
pub struct Explanation {
    pub output: String,
    pub method: &'static str,
    /// How many rows the model was asked for, for each explained one.
    pub evaluations: usize,
    pub features: Vec<String>,
    pub rows: Vec<Row>,
}

/// The explanation of one row. The attributions and the base add up to the value.
#[derive(Debug)]
pub struct Row {
    pub class: usize,
    pub value: f64,
    pub base: f64,
    pub attributions: Vec<f64>,
}

/// Why there is no explanation.
#[derive(Debug, Error)]
pub enum ExplainError {
    #[error("model {0:?} is not tabular: its rows are not fixed numbers of values")]
    NotTabular(String),
    #[error("output {0:?} is not one floating-point number or one row of them for each row")]
    Output(String),
    #[error("the model has no output of floating-point numbers")]
    NoOutput,
    #[error("output {output:?} has {columns} columns, so class {class} is none of them")]
    Class { output: String, columns: usize, class: usize },
    #[error("{found} rows: {MAX_ROWS} are explained at a time")]
    Rows { found: usize },
    #[error(
        "{features} features are too many to explain with {budget} evaluations: raise --explain-budget, server.explainBudget of a ModelDeployment"
    )]
    Features { features: usize, budget: usize },
    #[error(
        "the model gives no number where features are those of the reference row: it needs a profile.json with all of them"
    )]
    NotFinite,
    #[error("this server makes another explanation: try again")]
    Busy,
    #[error(
        "no explanation within {0} s: send fewer rows, or lower --explain-budget, server.explainBudget of a ModelDeployment"
    )]
    TooLate(f64),
    #[error(transparent)]
    Infer(#[from] InferError),
}

impl ExplainError {
    /// The status in HTTP's words.
    pub fn status(&self) -> u16 {
        match self {
            Self::Busy => 503,
            Self::TooLate(_) => 504,
            Self::Infer(error) => error.status(),
            _ => 400,
        }
    }
}

/// Explains the rows of a request, one request at a time and within the time that a request has.
pub async fn explain(
    serving: &Serving,
    model: &Model,
    request: InferRequest,
    asked: &Asked,
) -> Result<Explanation, ExplainError> {
    let _turn = serving.explaining.try_acquire().map_err(|_| ExplainError::Busy)?;
    let limit = serving.config.request_timeout;
    let work = explain_rows(serving, model, request, asked);
    tokio::time::timeout(limit, work).await.map_err(|_| ExplainError::TooLate(limit.as_secs_f64()))?
}

async fn explain_rows(
    serving: &Serving,
    model: &Model,
    request: InferRequest,
    asked: &Asked,
) -> Result<Explanation, ExplainError> {
    let reference = model.reference.as_ref().ok_or_else(|| ExplainError::NotTabular(model.name.clone()))?;
    if request.rows > MAX_ROWS {
        return Err(ExplainError::Rows { found: request.rows });
    }
    let output = output(model, asked)?;
    let name = &model.signature.outputs[output].name;
    let features = features(model, reference);
    let budget = serving.config.explain_budget;
    let plan = Plan::new(features.len(), budget).ok_or(ExplainError::Features { features: features.len(), budget })?;
    let sets = plan.sets();
    let usual = inference::run_uncounted(serving, model, request.inputs.clone(), request.rows).await?;
    let (columns, usual) = numbers(&usual, output, request.rows).ok_or_else(|| ExplainError::Output(name.clone()))?;
    if let Some(class) = asked.class.filter(|class| *class >= columns) {
        return Err(ExplainError::Class { output: name.clone(), columns, class });
    }
    let mut rows = Vec::with_capacity(request.rows);
    for (row, outputs) in usual.chunks_exact(columns).enumerate() {
        let class = asked.class.unwrap_or_else(|| largest(outputs));
        let mut values: Vec<f64> = Vec::with_capacity(sets.len());
        for sets in sets.chunks(JOB_ROWS) {
            let inputs = mixed(&request.inputs, reference, row, sets);
            let answer = inference::run_uncounted(serving, model, inputs, sets.len()).await?;
            let (columns, outputs) =
                numbers(&answer, output, sets.len()).ok_or_else(|| ExplainError::Output(name.clone()))?;
            values.extend(outputs.chunks_exact(columns).filter_map(|row| row.get(class)));
        }
        if values.len() != sets.len() || !values.iter().all(|value| value.is_finite()) {
            return Err(ExplainError::NotFinite);
        }
        let base = sets.iter().position(|set| !set.contains(&true)).map_or(0.0, |index| values[index]);
        rows.push(Row { class, value: outputs[class], base, attributions: plan.attributions(&values) });
    }
    Ok(Explanation { output: name.clone(), method: plan.method(), evaluations: sets.len(), features, rows })
}

fn output(model: &Model, asked: &Asked) -> Result<usize, ExplainError> {
    let outputs = &model.signature.outputs;
    if let Some(name) = &asked.output {
        let found = crate::protocol::outputs(&model.signature, &[name]).map_err(InferError::from)?;
        return found.first().copied().ok_or(ExplainError::NoOutput);
    }
    outputs.iter().position(|spec| spec.datatype.is_float()).ok_or(ExplainError::NoOutput)
}

/// The names of the features, in the order of their values.
fn features(model: &Model, reference: &Reference) -> Vec<String> {
    let inputs = model.signature.inputs.iter().zip(&reference.inputs);
    inputs.flat_map(|(spec, values)| spec.features(values.len())).collect()
}

/// An output as numbers, and how many of them a row has.
fn numbers(answer: &batch::Answer, output: usize, rows: usize) -> Option<(usize, Vec<f64>)> {
    let tensor = answer.outputs.get(output)?;
    let all: Vec<f64> = match &tensor.data {
        Data::Fp16(values) => values.iter().map(|value| value.to_f64()).collect(),
        Data::Fp32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::Fp64(values) => values.clone(),
        _ => return None,
    };
    let total = usize::try_from(*tensor.shape.first()?).ok()?;
    let columns = all.len().checked_div(total)?;
    let mine = answer.rows.clone().unwrap_or(0..total);
    let values = all.get(mine.start * columns..mine.end * columns)?;
    (columns > 0 && mine.len() == rows).then(|| (columns, values.to_vec()))
}

fn largest(values: &[f64]) -> usize {
    let larger = |a: &usize, b: &usize| values[*a].total_cmp(&values[*b]).then(b.cmp(a));
    (0..values.len()).max_by(larger).unwrap_or(0)
}

/// A row for each set: the explained row's values where the set has the feature, else the reference's.
fn mixed(inputs: &[Tensor], reference: &Reference, row: usize, sets: &[shapley::Set]) -> Vec<Tensor> {
    let mut first = 0;
    let mix = |(tensor, usual): (&Tensor, &Data)| {
        let width = usual.len();
        let mut data = Data::blank(usual.datatype(), 0);
        for set in sets {
            for place in 0..width {
                let (from, at) = if set[first + place] { (&tensor.data, row * width + place) } else { (usual, place) };
                // Both were made for the same signature.
                let _same = data.push_from(from, at);
            }
        }
        first += width;
        let mut shape = tensor.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = i64::try_from(sets.len()).unwrap_or(*rows);
        }
        Tensor { shape, data }
    };
    inputs.iter().zip(&reference.inputs).map(mix).collect()
}
