//! The parameters of `predict`.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::params::ParamsError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Params {
    /// The columns of the data that stay beside the predictions, in this order; all of them otherwise.
    #[serde(default)]
    pub keep: Option<Vec<String>>,
    /// Whether a classifier's probabilities are written; they are if nothing is said.
    #[serde(default)]
    pub probabilities: Option<bool>,
    #[serde(default)]
    pub batch_size: Option<NonZeroU32>,
    /// Only one part of the data is scored, counted from 0, of so many.
    #[serde(default)]
    pub part: Option<u32>,
    #[serde(default)]
    pub parts: Option<NonZeroU32>,
}

/// One of so many parts of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub number: u32,
    pub of: NonZeroU32,
}

impl Params {
    /// What is scored.
    pub fn part(&self) -> Result<Part, ParamsError> {
        let unfit = |reason: String| ParamsError::Unfit { stage: "predict", path: "part".into(), reason };
        match (self.part, self.parts) {
            (None, None) => Ok(Part { number: 0, of: NonZeroU32::MIN }),
            (Some(number), Some(of)) if number < of.get() => Ok(Part { number, of }),
            (Some(number), Some(of)) => {
                Err(unfit(format!("{number} is none of {of} parts: write a number from 0 to {}", of.get() - 1)))
            }
            (Some(_), None) => Err(unfit("of how many is not said: write parts, too".into())),
            (None, Some(_)) => Err(unfit(
                "which of the parts is not said: write a number from 0, as $[[ index ]] of a forEach is".into(),
            )),
        }
    }
}
