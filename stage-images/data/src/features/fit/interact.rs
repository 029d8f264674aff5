//! Products of columns. There is nothing to learn of the rows: which columns there are is enough.

use super::{FitError, Fitter};
use crate::features::op::{Kind, Op};
use crate::features::params::{Columns, Interact, Interaction};

impl Fitter<'_> {
    pub(super) fn interact(&mut self, step: usize, given: &Interact) -> Result<(), FitError> {
        let Interaction::Product = given.interact;
        let wrong = |option: &'static str, reason: &str| FitError::Step { step, option, reason: reason.into() };
        let mut pairs: Vec<(String, String)> = Vec::new();
        match (&given.columns, &given.pairs) {
            (Some(_), Some(_)) => return Err(wrong("pairs", "columns is given too; leave one of them out")),
            (None, None) => {
                return Err(wrong(
                    "columns",
                    "it is missing; name the columns whose products are features, or write pairs",
                ));
            }
            (None, Some(named)) => {
                if given.squares.is_some() {
                    return Err(wrong("squares", "it goes with columns; write a pair of a column with itself instead"));
                }
                for [left, right] in named {
                    for name in [left, right] {
                        self.pick(step, "interact", Some(&Columns::Names(vec![name.clone()])), Some(Kind::Number))?;
                    }
                    pairs.push((left.clone(), right.clone()));
                }
            }
            (Some(columns), None) => {
                let names = self.pick(step, "interact", Some(columns), Some(Kind::Number))?;
                let squares = given.squares.unwrap_or(false);
                for (index, left) in names.iter().enumerate() {
                    let from = if squares { index } else { index + 1 };
                    pairs.extend(names[from..].iter().map(|right| (left.clone(), right.clone())));
                }
            }
        }
        if pairs.is_empty() {
            return Err(wrong("columns", "one column has no product with another; name two, or write squares: true"));
        }
        let names = pairs.iter().map(|(left, right)| format!("{left}_x_{right}")).collect();
        let (left, right) = pairs.into_iter().unzip();
        self.push(step, Op::Product { left, right, names })
    }
}
