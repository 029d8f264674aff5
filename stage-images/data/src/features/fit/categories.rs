//! What is learned of categories, texts or numbers: which there are.

use serde_json::Value;

use super::{FitError, Fitter};
use crate::features::op::{Flag, Keys, Kind, Op};
use crate::features::params::{Encode, Encoding, HandleUnknown};
use crate::params::kind;

/// Above this a text is rather an identifier or free text than a category.
pub(super) const MOST_CATEGORIES: usize = 1000;
/// Rows from which on a column that is different in more than half of them is told as free text.
const ENOUGH_ROWS: u64 = 50;

/// A category: what missing text is, too.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Category {
    Text(String),
    Number(f64),
}

impl Category {
    /// The end of a feature's name.
    fn word(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "missing".into(),
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The categories of a column that are kept, in order, and whether there are others.
struct Found {
    kept: Vec<Category>,
    rare: bool,
}

impl Fitter<'_> {
    pub(super) async fn encode(&mut self, step: usize, given: &Encode) -> Result<(), FitError> {
        check(step, given)?;
        let names = match &given.columns {
            None => self.pick(step, "encode", None, Some(Kind::Text))?,
            Some(columns) => self.pick(step, "encode", Some(columns), None)?,
        };
        self.settle(&names).await?;
        for column in names {
            let op = match given.encode {
                Encoding::Target => self.target_means(step, given, column).await?,
                Encoding::Onehot => self.one_hot(step, given, column).await?,
                Encoding::Ordinal => {
                    let found = self.categories(step, given, &column).await?;
                    let values = (0_u16..).take(found.kept.len()).map(f32::from).collect();
                    Op::Replace {
                        column,
                        keys: keys(&found.kept),
                        values,
                        unknown: given.unknown_value.unwrap_or(-1.0),
                    }
                }
            };
            self.push(step, op)?;
        }
        Ok(())
    }

    async fn one_hot(&self, step: usize, given: &Encode, column: String) -> Result<Op, FitError> {
        let found = self.categories(step, given, &column).await?;
        let mut flags: Vec<Flag> = (0..)
            .zip(&found.kept)
            .map(|(code, category)| Flag { code, name: format!("{column}_{}", category.word()) })
            .collect();
        let codes: Vec<i64> = flags.iter().map(|flag| flag.code).collect();
        let mut unknown = -1;
        if given.handle_unknown == Some(HandleUnknown::InfrequentIfExist) && found.rare {
            unknown = i64::try_from(flags.len()).unwrap_or(i64::MAX);
            flags.push(Flag { code: unknown, name: format!("{column}_infrequent") });
        }
        if given.drop.is_some() {
            flags.remove(0);
            if flags.is_empty() {
                let reason =
                    format!("`{column}` has one category, and without its first there is none; leave the column out");
                return Err(FitError::Step { step, option: "drop", reason });
            }
        }
        Ok(Op::OneHot { column, keys: keys(&found.kept), codes, unknown, flags })
    }

    /// The categories to keep: those that are listed, or those of the rows.
    async fn categories(&self, step: usize, given: &Encode, column: &str) -> Result<Found, FitError> {
        let wrong = |option: &'static str, reason: String| FitError::Step { step, option, reason };
        let of = self.kind(column);
        if let Some(listed) = &given.categories {
            let kept = listed.iter().map(|value| match (value, of) {
                (Value::String(text), Kind::Text) => Ok(Category::Text(text.clone())),
                (Value::Number(number), Kind::Number) => Ok(Category::Number(number.as_f64().unwrap_or(f64::NAN))),
                (other, of) => {
                    let found = kind(other);
                    Err(wrong("categories", format!("found {found}, but `{column}` is {}", of.word())))
                }
            });
            return Ok(Found { kept: kept.collect::<Result<_, _>>()?, rare: true });
        }
        let most = given.max_categories.map_or(MOST_CATEGORIES, |most| most as usize);
        let (mut counts, different) = match of {
            Kind::Text => {
                let counts = self.sample().words(column, most + 1).await?;
                (texts(counts.values), counts.different)
            }
            Kind::Number => {
                let counts = self.sample().numbers(column, most + 1).await?;
                let (fetched, distinct) = (counts.values.len(), numbers(counts.values));
                let different = counts.different - (fetched - distinct.len()) as u64;
                (distinct, different)
            }
        };
        let bounded = given.max_categories.is_some() || given.min_frequency.is_some();
        let least = least(given.min_frequency, self.rows);
        counts.retain(|(_, count)| *count as f64 >= least);
        let free = of == Kind::Text && self.rows >= ENOUGH_ROWS && different > self.rows / 2;
        if !bounded && (different > MOST_CATEGORIES as u64 || free)
            || given.max_categories.is_none() && counts.len() > most
        {
            return Err(wrong(
                "columns",
                format!(
                    "`{column}` has {different} different values in {} rows, which is no category; leave it out, or keep the frequent ones with maxCategories: 50",
                    self.rows
                ),
            ));
        }
        counts.truncate(most);
        if counts.is_empty() {
            let reason =
                format!("none of the {different} categories of `{column}` is in {least} rows or more; lower it");
            return Err(wrong("minFrequency", reason));
        }
        let rare = different > counts.len() as u64;
        let mut kept: Vec<Category> = counts.into_iter().map(|(category, _)| category).collect();
        kept.sort_by(|one, other| match (one, other) {
            (Category::Text(one), Category::Text(other)) => one.cmp(other),
            (Category::Number(one), Category::Number(other)) => one.total_cmp(other),
            (Category::Text(_), Category::Number(_)) | (Category::Number(_), Category::Text(_)) => {
                std::cmp::Ordering::Equal
            }
        });
        Ok(Found { kept, rare })
    }
}

fn texts(counts: Vec<(String, u64)>) -> Vec<(Category, u64)> {
    counts.into_iter().map(|(text, count)| (Category::Text(text), count)).collect()
}

/// The engine tells zero and minus zero apart, and a lookup does not.
fn numbers(counts: Vec<(f64, u64)>) -> Vec<(Category, u64)> {
    let mut found: Vec<(Category, u64)> = Vec::with_capacity(counts.len());
    for (number, count) in counts {
        let category = Category::Number(number + 0.0);
        match found.iter_mut().find(|(known, _)| number == 0.0 && *known == category) {
            Some((_, known)) => *known += count,
            None => found.push((category, count)),
        }
    }
    found
}

pub(super) fn keys(categories: &[Category]) -> Keys {
    let texts: Vec<String> = categories
        .iter()
        .filter_map(|category| match category {
            Category::Text(text) => Some(text.clone()),
            Category::Number(_) => None,
        })
        .collect();
    if texts.len() == categories.len() {
        return Keys::Texts(texts);
    }
    #[allow(clippy::cast_possible_truncation, reason = "they were narrowed before they were counted")]
    let number = |category: &Category| match category {
        Category::Number(number) => Some(*number as f32),
        Category::Text(_) => None,
    };
    Keys::Numbers(categories.iter().filter_map(number).collect())
}

/// The rows that a category needs: below 1 a share of them.
pub(super) fn least(given: Option<f64>, rows: u64) -> f64 {
    match given {
        Some(share) if share < 1.0 => share * rows as f64,
        Some(count) => count,
        None => 0.0,
    }
}

/// Options that do not go together.
fn check(step: usize, given: &Encode) -> Result<(), FitError> {
    let wrong = |option: &'static str, reason: &str| Err(FitError::Step { step, option, reason: reason.into() });
    let (onehot, ordinal) = (given.encode == Encoding::Onehot, given.encode == Encoding::Ordinal);
    if given.handle_unknown == Some(HandleUnknown::Error) {
        return wrong(
            "handleUnknown",
            "a served model cannot refuse one row of a batch; write ignore (zeros) or infrequent_if_exist, and catch strange values with the stage validate",
        );
    }
    if given.handle_unknown.is_some() && !onehot {
        return wrong("handleUnknown", "it goes with encode: onehot; with ordinal write unknownValue");
    }
    if given.unknown_value.is_some() && !ordinal {
        return wrong("unknownValue", "it goes with encode: ordinal; leave it out");
    }
    if given.drop.is_some() && !onehot {
        return wrong("drop", "it goes with encode: onehot; leave it out");
    }
    if given.smooth.is_some_and(|smooth| !smooth.is_finite() || smooth < 0.0) {
        return wrong("smooth", "expected a number of rows, 0 or more");
    }
    let target = given.encode == Encoding::Target;
    if given.smooth.is_some() && !target {
        return wrong("smooth", "it goes with encode: target; leave it out");
    }
    if target && (given.categories.is_some() || given.max_categories.is_some() || given.min_frequency.is_some()) {
        return wrong(
            "encode",
            "with encode: target, categories, maxCategories and minFrequency do nothing: leave them out",
        );
    }
    if given.min_frequency.is_some_and(|least| !least.is_finite() || least <= 0.0) {
        return wrong("minFrequency", "expected a fraction below 1, or a number of rows");
    }
    if given.max_categories.is_some_and(|most| most == 0 || most > 10_000) {
        return wrong("maxCategories", "expected a number from 1 to 10000");
    }
    if let Some(listed) = &given.categories {
        if given.min_frequency.is_some() || given.max_categories.is_some() {
            return wrong("categories", "the list says which are kept; leave minFrequency and maxCategories out");
        }
        let twice = listed.iter().enumerate().any(|(index, value)| listed[..index].contains(value));
        if listed.is_empty() || listed.len() > 10_000 || twice {
            return wrong("categories", "expected 1 to 10000 values, each once");
        }
    }
    Ok(())
}
