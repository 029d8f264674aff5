//! What of a model server's answer is believed. Its pods are a tenant's, so anything may come.

use std::collections::BTreeSet;

use millrace_contract::{Counted, DriftCounts, LONGEST_NAME, MOST_CELLS, MOST_FEATURES};
use thiserror::Error;

use crate::clip::clip;

/// More rows than a window has: sums of many pods stay far below the end of the numbers.
const MOST_ROWS: u64 = 1 << 48;
/// In millionths. One of floats may be a little above 1.
const MOST_PROBABILITY: u64 = 1_001_000;
/// Bytes of the reason why nothing is counted.
const LONGEST_REASON: usize = 512;

/// Why an answer is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unbelievable {
    #[error("the pod serves version {version:?} of model {model:?}")]
    Other { model: String, version: String },
    #[error("{0} features: at most {MOST_FEATURES} are counted")]
    Features(usize),
    #[error("two features are named {0:?}")]
    Twice(String),
    #[error("feature {name:?}: {what}")]
    Feature { name: String, what: &'static str },
    #[error("{0} rows in a window")]
    Rows(u64),
}

/// The answer, if it is one about this version of this model and its numbers can be.
pub fn checked(mut said: DriftCounts, model: &str, version: &str) -> Result<DriftCounts, Unbelievable> {
    if said.model != model || said.version != version {
        return Err(Unbelievable::Other {
            model: clip(&said.model, LONGEST_NAME),
            version: clip(&said.version, LONGEST_NAME),
        });
    }
    said.nothing = said.nothing.map(|why| clip(&why, LONGEST_REASON));
    if said.rows > MOST_ROWS || said.outliers > said.rows {
        return Err(Unbelievable::Rows(said.rows));
    }
    if said.features.len() > MOST_FEATURES {
        return Err(Unbelievable::Features(said.features.len()));
    }
    let mut names = BTreeSet::new();
    for counted in said.features.iter().chain(&said.predictions) {
        if let Some(what) = flaw(counted, said.rows) {
            return Err(Unbelievable::Feature { name: clip(&counted.name, LONGEST_NAME), what });
        }
    }
    if let Some(twice) = said.features.iter().find(|counted| !names.insert(counted.name.as_str())) {
        return Err(Unbelievable::Twice(twice.name.clone()));
    }
    Ok(said)
}

fn flaw(counted: &Counted, rows: u64) -> Option<&'static str> {
    let Counted { name, kind: _, importance, reference, counts, strange, partial: _, .. } = counted;
    let Counted { reference_probabilities, probabilities, .. } = counted;
    let within = |all: &[u64], most: u64| {
        all.iter().try_fold(0_u64, |sum, n| sum.checked_add(*n)).is_some_and(|sum| sum <= most)
    };
    let most = u128::from(rows) * u128::from(MOST_PROBABILITY);
    let flaws = [
        (name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control), "its name is none"),
        (!(0.0..=1.0).contains(importance), "its importance is not from 0 to 1"),
        (reference.len() < 2 || reference.len() > MOST_CELLS + 2, "it has too few or too many bins"),
        (counts.len() != reference.len(), "it has not one count for each bin"),
        (!within(reference, MOST_ROWS), "its reference has too many rows"),
        (!within(counts, rows) || *strange > rows, "it has more values than there are rows"),
        (
            probabilities.len() != reference_probabilities.len() || probabilities.len() > MOST_CELLS,
            "it has not one sum for each probability",
        ),
        (
            reference_probabilities.iter().any(|mean| *mean > MOST_PROBABILITY)
                || probabilities.iter().any(|sum| u128::from(*sum) > most),
            "a probability is above 1",
        ),
    ];
    flaws.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
}
