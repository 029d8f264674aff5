//! `profile.json` as far as drift needs it: the bins and categories of each column, and what the training rows have in them.

use std::collections::HashMap;
use std::path::Path;

use millrace_contract::{CountedKind, LONGEST_NAME, MILLIONTHS, MOST_CELLS, MOST_FEATURES};
use serde::Deserialize;
use serde_json::Value;

use super::cells::Cells;
use crate::tensor::Datatype;

#[derive(Debug, Deserialize)]
pub struct Profile {
    features: HashMap<String, Column>,
    #[serde(default)]
    pub predictions: Option<Column>,
}

/// One column, or the predictions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Column {
    count: u64,
    /// The share of the rows without a value.
    missing: f64,
    pub importance: f64,
    histogram: Option<Histogram>,
    categories: Option<Vec<Category>>,
    /// Rows of categories that are not named.
    other: u64,
}

#[derive(Debug, Deserialize)]
struct Histogram {
    edges: Vec<f64>,
    counts: Vec<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Category {
    value: Value,
    count: u64,
    mean_probability: Option<f64>,
}

/// A column in the form in which it is counted.
#[derive(Debug, PartialEq)]
pub struct Binned {
    pub kind: CountedKind,
    pub cells: Cells,
    /// One number for each cell.
    pub reference: Vec<u64>,
    /// Not every category is named.
    pub partial: bool,
    /// Of predictions: the mean probability of each class, in millionths.
    pub probabilities: Vec<u64>,
}

/// The profile next to a model, or why there is none.
pub fn read(dir: &Path) -> Result<Profile, String> {
    let path = dir.join("profile.json");
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "the model has no profile.json".to_owned(),
        _ => format!("profile.json cannot be read: {error}"),
    })?;
    serde_json::from_slice(&text).map_err(|error| format!("profile.json is no profile: {error}"))
}

impl Profile {
    /// The features that are counted, with their importance from 0 to 1: the most important ones.
    pub fn features(&self) -> Vec<(&str, &Column)> {
        let named = self.features.iter().filter(|(name, _)| !name.is_empty() && name.len() <= LONGEST_NAME);
        let mut all: Vec<(&str, &Column)> = named.map(|(name, column)| (name.as_str(), column)).collect();
        all.sort_by(|a, b| b.1.importance.total_cmp(&a.1.importance).then_with(|| a.0.cmp(b.0)));
        all.truncate(MOST_FEATURES);
        all
    }
}

impl Column {
    /// The column as it is counted in values of this type; `None` where the two do not go together.
    pub fn binned(&self, datatype: Datatype) -> Option<Binned> {
        match (&self.histogram, &self.categories) {
            (Some(histogram), _) if datatype != Datatype::Bytes => self.numbers(histogram),
            (_, Some(categories)) if !datatype.is_float() => self.categories(categories, datatype == Datatype::Bytes),
            _ => None,
        }
    }

    fn numbers(&self, Histogram { edges, counts }: &Histogram) -> Option<Binned> {
        let rises = edges.windows(2).all(|pair| pair[0] < pair[1]) && edges.iter().all(|edge| edge.is_finite());
        let fits = !edges.is_empty() && counts.len() == edges.len().saturating_sub(1).max(1);
        if !rises || !fits || counts.len() > MOST_CELLS {
            return None;
        }
        Some(Binned {
            kind: CountedKind::Numeric,
            cells: Cells::Numbers(edges.clone()),
            reference: [self.missing_rows()].iter().chain(counts).copied().collect(),
            partial: false,
            probabilities: Vec::new(),
        })
    }

    fn categories(&self, categories: &[Category], texts: bool) -> Option<Binned> {
        let (named, rest) = categories.split_at(categories.len().min(MOST_CELLS));
        let other = self.other + rest.iter().map(|category| category.count).sum::<u64>();
        let counts = named.iter().map(|category| category.count);
        let reference = std::iter::once(self.missing_rows()).chain(counts).chain([other]).collect();
        let cells = if texts {
            let names = named.iter().zip(1..).map(|(category, cell)| (text(&category.value), cell));
            Cells::Texts(names.collect())
        } else {
            let names = named.iter().zip(1..).map(|(category, cell)| Some((whole(&category.value)?, cell)));
            Cells::Wholes(names.collect::<Option<_>>()?)
        };
        // A category that stands there twice would leave a cell without a name.
        if cells.len() != named.len() + 2 {
            return None;
        }
        let means = categories.iter().map(|category| category.mean_probability.map(millionths));
        let probabilities = means.collect::<Option<Vec<_>>>().filter(|means| means.len() <= MOST_CELLS);
        Some(Binned {
            kind: CountedKind::Categorical,
            cells,
            reference,
            partial: other > 0,
            probabilities: probabilities.unwrap_or_default(),
        })
    }

    fn missing_rows(&self) -> u64 {
        if !(0.0..1.0).contains(&self.missing) {
            return 0;
        }
        whole_number(self.count as f64 * self.missing / (1.0 - self.missing))
    }
}

/// A probability in millionths; what is none counts as 0.
pub fn millionths(probability: f64) -> u64 {
    if (0.0..=1.0).contains(&probability) { whole_number(probability * MILLIONTHS) } else { 0 }
}

// Both are far below 2^53 and not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole_number(number: f64) -> u64 {
    number.round() as u64
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::Bool(is) => Some(i64::from(*is)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(text: &str) -> Column {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_column_is_counted_in_its_own_bins_after_those_without_a_value() {
        let mass = column(
            r#"{"type": "numeric", "count": 90, "missing": 0.1, "importance": 0.5, "mean": 3,
                "histogram": {"edges": [1, 2, 4], "counts": [40, 50]}}"#,
        );
        let binned = mass.binned(Datatype::Fp32).unwrap();
        assert_eq!((binned.reference, binned.cells), (vec![10, 40, 50], Cells::Numbers(vec![1.0, 2.0, 4.0])));
        assert_eq!(mass.binned(Datatype::Bytes), None);
        let sex = column(
            r#"{"type": "categorical", "count": 9, "missing": 0, "other": 2,
                "categories": [{"value": "f", "count": 4}, {"value": "m", "count": 3}]}"#,
        );
        let binned = sex.binned(Datatype::Bytes).unwrap();
        assert_eq!((binned.reference, binned.partial), (vec![0, 4, 3, 2], true));
        assert_eq!(sex.binned(Datatype::Fp32), None);
        assert_eq!(sex.binned(Datatype::Int64), None, "its categories are no numbers");
    }

    #[test]
    fn labels_bring_the_mean_probabilities_of_their_classes() {
        let labels = column(
            r#"{"type": "categorical", "count": 10, "categories": [
                {"value": 0, "count": 6, "meanProbability": 0.55}, {"value": 1, "count": 4, "meanProbability": 0.45}]}"#,
        );
        let binned = labels.binned(Datatype::Int64).unwrap();
        assert_eq!(binned.probabilities, [550_000, 450_000]);
        assert_eq!(binned.cells, Cells::Wholes(HashMap::from([(0, 1), (1, 2)])));
    }

    #[test]
    fn a_histogram_that_is_none_is_left_out() {
        for histogram in [
            r#"{"edges": [2, 1], "counts": [1]}"#,
            r#"{"edges": [1, 2], "counts": [1, 2]}"#,
            r#"{"edges": [], "counts": []}"#,
        ] {
            assert_eq!(column(&format!(r#"{{"histogram": {histogram}}}"#)).binned(Datatype::Fp32), None, "{histogram}");
        }
    }

    #[test]
    fn a_folder_without_a_profile_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap_err(), "the model has no profile.json");
        std::fs::write(dir.path().join("profile.json"), "{}").unwrap();
        assert!(read(dir.path()).unwrap_err().starts_with("profile.json is no profile: missing field `features`"));
    }
}
