//! What is learned of numbers: what missing ones become, how they are scaled, and the edges of bins.

use serde_json::Value;

use super::sample::Figures;
use super::{FitError, Fitter};
use crate::features::op::{Flag, Kind, Op};
use crate::features::params::{Bin, BinEncoding, Binning, Impute, Imputing, Scale, Scaling};
use crate::params::kind;

/// `KBinsDiscretizer` takes bins that are narrower than this together with the next.
const NARROWEST: f64 = 1e-8;
const MOST_BINS: u32 = 1000;

impl Fitter<'_> {
    pub(super) async fn impute(&mut self, step: usize, given: &Impute) -> Result<(), FitError> {
        let wanted = fillable(step, given)?;
        let names = self.pick(step, "impute", given.columns.as_ref(), wanted)?;
        self.settle(&names).await?;
        let (numbers, texts): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| self.kind(name) == Kind::Number);
        if given.add_indicator.is_some() && numbers.is_empty() {
            let reason = "it is of numbers; of a text, encode: onehot makes a column of what is missing".into();
            return Err(FitError::Step { step, option: "addIndicator", reason });
        }
        let figures = self.sample().figures(&numbers).await?;
        let mut values = Vec::with_capacity(numbers.len());
        for (name, figures) in numbers.iter().zip(&figures) {
            let value = self.fill(given, name, figures).await?;
            // A column that an earlier step left without any value.
            values.push(if value.is_finite() { narrow(value) } else { 0.0 });
        }
        if given.add_indicator == Some(true) {
            let of = numbers.iter().zip(&figures).filter(|(_, figures)| figures.present < self.rows);
            let columns: Vec<String> = of.map(|(name, _)| name.clone()).collect();
            if !columns.is_empty() {
                let names = columns.iter().map(|name| format!("{name}_missing")).collect();
                self.push(step, Op::Indicate { columns, names })?;
            }
        }
        if !numbers.is_empty() {
            self.push(step, Op::Fill { columns: numbers, values })?;
        }
        for column in texts {
            if let Some(value) = self.fill_text(given, &column).await? {
                self.push(step, Op::FillText { column, value })?;
            }
        }
        Ok(())
    }

    async fn fill(&self, given: &Impute, name: &str, figures: &Figures) -> Result<f64, FitError> {
        Ok(match given.impute {
            Imputing::Mean => figures.mean,
            Imputing::Median => self.sample().quantiles(name, figures.present, &[0.5]).await?[0],
            Imputing::MostFrequent => {
                self.sample().numbers(name, 1).await?.values.first().map_or(f64::NAN, |(value, _)| *value)
            }
            Imputing::Constant => match &given.fill {
                Some(Value::Bool(fill)) => f64::from(u8::from(*fill)),
                fill => fill.as_ref().and_then(Value::as_f64).unwrap_or(f64::NAN),
            },
        })
    }

    /// None for a column that an earlier step left without any text.
    async fn fill_text(&self, given: &Impute, name: &str) -> Result<Option<String>, FitError> {
        if let Some(Value::String(fill)) = &given.fill {
            return Ok(Some(fill.clone()));
        }
        let counts = self.sample().words(name, 2).await?.values;
        Ok(counts.into_iter().map(|(text, _)| text).find(|text| !text.is_empty()))
    }

    pub(super) async fn scale(&mut self, step: usize, given: &Scale) -> Result<(), FitError> {
        if given.clip.is_some() && given.scale != Scaling::Minmax {
            let reason = "it goes with scale: minmax, whose values it keeps from 0 to 1; leave it out".into();
            return Err(FitError::Step { step, option: "clip", reason });
        }
        let names = self.pick(step, "scale", given.columns.as_ref(), Some(Kind::Number))?;
        self.settle(&names).await?;
        let figures = self.sample().figures(&names).await?;
        let (mut shifts, mut scales) = (Vec::new(), Vec::new());
        for (name, figures) in names.iter().zip(figures) {
            let (shift, scale) = match given.scale {
                Scaling::Standard => (figures.mean, figures.std),
                Scaling::Minmax => (figures.min, figures.max - figures.min),
                Scaling::Maxabs => (0.0, figures.min.abs().max(figures.max.abs())),
                Scaling::Robust => {
                    let quartiles = self.sample().quantiles(name, figures.present, &[0.25, 0.5, 0.75]).await?;
                    (quartiles[1], quartiles[2] - quartiles[0])
                }
            };
            // Narrowed first: a spread below what float32 can tell from zero would divide by zero.
            let (shift, scale) = (narrow(shift), narrow(scale));
            shifts.push(if shift.is_finite() { shift } else { 0.0 });
            scales.push(if scale.is_finite() && scale > 0.0 { scale } else { 1.0 });
        }
        let clip = (given.clip == Some(true)).then_some([0.0, 1.0]);
        self.push(step, Op::Scale { columns: names, shift: shifts, scale: scales, clip })
    }

    pub(super) async fn bin(&mut self, step: usize, given: &Bin) -> Result<(), FitError> {
        let wrong = |option: &'static str, reason: String| FitError::Step { step, option, reason };
        match (given.bin, &given.edges, given.bins) {
            (Binning::Edges, None, _) => {
                return Err(wrong("edges", "it is missing: bin: edges needs them, as in edges: [18, 65]".into()));
            }
            (Binning::Edges, _, Some(_)) => {
                return Err(wrong("bins", "the edges say how many bins there are; leave it out".into()));
            }
            (Binning::Quantile | Binning::Uniform, Some(_), _) => {
                return Err(wrong("edges", "they go with bin: edges; leave them out".into()));
            }
            _ => {}
        }
        if let Some(found) = given.bins.filter(|bins| !(2..=MOST_BINS).contains(bins)) {
            return Err(wrong("bins", format!("found {found}, expected a number from 2 to {MOST_BINS}")));
        }
        if let Some(edges) = &given.edges {
            let rise = edges.windows(2).all(|pair| pair[0] < pair[1]) && edges.iter().all(|edge| edge.is_finite());
            if edges.is_empty() || edges.len() >= MOST_BINS as usize || !rise {
                let reason = format!("expected 1 to {} numbers, each larger than the one before", MOST_BINS - 1);
                return Err(wrong("edges", reason));
            }
        }
        let names = self.pick(step, "bin", given.columns.as_ref(), Some(Kind::Number))?;
        self.settle(&names).await?;
        let figures = self.sample().figures(&names).await?;
        for (column, figures) in names.into_iter().zip(figures) {
            let bins = given.bins.unwrap_or(5);
            let ends: Vec<f64> = match given.bin {
                Binning::Edges => Vec::new(),
                Binning::Uniform => {
                    let width = (figures.max - figures.min) / f64::from(bins);
                    (0..=bins).map(|bin| figures.min + width * f64::from(bin)).collect()
                }
                Binning::Quantile => {
                    let shares: Vec<f64> = (0..=bins).map(|bin| f64::from(bin) / f64::from(bins)).collect();
                    self.sample().quantiles(&column, figures.present, &shares).await?
                }
            };
            let edges = given.edges.clone().unwrap_or_else(|| inner(&ends));
            if edges.is_empty() {
                let reason = format!("`{column}` has no two bins: its values are nearly all the same; leave it out");
                return Err(wrong("columns", reason));
            }
            let flags = match given.encode.unwrap_or(BinEncoding::Onehot) {
                BinEncoding::Ordinal => None,
                BinEncoding::Onehot => Some(
                    (0..)
                        .take(edges.len() + 1)
                        .map(|code| Flag { code, name: format!("{column}_bin_{code}") })
                        .collect(),
                ),
            };
            self.push(step, Op::Bin { column, edges, flags })?;
        }
        Ok(())
    }
}

/// What kind of columns can be filled so; none if any.
fn fillable(step: usize, given: &Impute) -> Result<Option<Kind>, FitError> {
    let wrong = |reason: String| Err(FitError::Step { step, option: "fill", reason });
    match (given.impute, &given.fill) {
        (Imputing::Constant, None) => wrong("it is missing: impute: constant needs the value to fill in".into()),
        (Imputing::Constant, Some(Value::Number(_) | Value::Bool(_))) | (Imputing::Mean | Imputing::Median, None) => {
            Ok(Some(Kind::Number))
        }
        (Imputing::Constant, Some(Value::String(text))) if !text.is_empty() => Ok(Some(Kind::Text)),
        (Imputing::Constant, Some(other)) => {
            let found = if other.is_string() { "an empty text" } else { kind(other) };
            wrong(format!("found {found}, expected a number or a text"))
        }
        (_, Some(_)) => wrong("it does nothing here: write impute: constant, or leave fill out".into()),
        (Imputing::MostFrequent, None) => Ok(None),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "narrowed on purpose: the graph computes in float32")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// The edges between the bins, without those that make a bin of no width.
fn inner(ends: &[f64]) -> Vec<f32> {
    let mut distinct: Vec<f64> = Vec::new();
    for end in ends {
        if distinct.last().is_none_or(|last| end - last > NARROWEST) {
            distinct.push(*end);
        }
    }
    let mut edges: Vec<f32> = match distinct.as_slice() {
        [_, middle @ .., _] => middle.iter().map(|edge| narrow(*edge)).collect(),
        _ => Vec::new(),
    };
    edges.dedup();
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_of_no_width_are_taken_together() {
        assert_eq!(inner(&[0.0, 0.0, 1.0, 2.0, 2.0, 3.0]), [1.0, 2.0]);
        assert_eq!(inner(&[5.0, 5.0, 5.0]), Vec::<f32>::new());
        assert_eq!(inner(&[0.0, 1.0]), Vec::<f32>::new());
    }
}
