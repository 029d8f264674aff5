//! Which words of a text are counted: those that most rows have. A word ends at a space and nowhere else, as ONNX Runtime has it.

use std::collections::{BTreeSet, HashMap};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::categories::least;
use super::sample::text;
use super::{FitError, Fitter};
use crate::features::op::{Flag, Kind, Op};
use crate::features::params::{Count, Counting};

const WORDS: u32 = 100;
const MOST_WORDS: u32 = 5000;
/// Different words that are counted at once. Beyond that those of the fewest rows are forgotten: what most rows have is not among them.
const COUNTED: usize = 1_000_000;

impl Fitter<'_> {
    pub(super) async fn count(&mut self, step: usize, given: &Count) -> Result<(), FitError> {
        let Counting::Words = given.count;
        let wrong = |option: &'static str, reason: String| FitError::Step { step, option, reason };
        let most = given.max_features.unwrap_or(WORDS);
        if !(1..=MOST_WORDS).contains(&most) {
            return Err(wrong("maxFeatures", format!("found {most}, expected a number from 1 to {MOST_WORDS}")));
        }
        if given.min_frequency.is_some_and(|least| !least.is_finite() || least <= 0.0) {
            return Err(wrong("minFrequency", "expected a fraction below 1, or a number of rows".into()));
        }
        let names = self.pick(step, "count", given.columns.as_ref(), Some(Kind::Text))?;
        self.settle(&names).await?;
        for column in names {
            let rows = self.rows_with(&column).await?;
            let least = least(given.min_frequency, self.rows);
            let mut found: Vec<(String, u64)> = rows.into_iter().filter(|(_, rows)| *rows as f64 >= least).collect();
            found.sort_by(|(one, more), (other, less)| less.cmp(more).then_with(|| one.cmp(other)));
            found.truncate(most as usize);
            if found.is_empty() {
                return Err(wrong(
                    "minFrequency",
                    format!("no word of `{column}` is in {least} rows or more; lower it"),
                ));
            }
            let mut words: Vec<String> = found.into_iter().map(|(word, _)| word).collect();
            words.sort();
            let flags = (0..).zip(&words).map(|(code, word)| Flag { code, name: format!("{column}_{word}") }).collect();
            self.push(step, Op::Words { column, words, flags })?;
        }
        Ok(())
    }

    /// How many rows have each word.
    async fn rows_with(&self, column: &str) -> Result<HashMap<String, u64>, FitError> {
        let mut rows: HashMap<String, u64> = HashMap::new();
        self.sample()
            .each(&format!("SELECT {} AS v FROM current", text(column)), |batch| {
                let Ok(texts) = cast(batch.column(0), &DataType::Utf8) else { return };
                for text in texts.as_string::<i32>().iter().flatten() {
                    let words: BTreeSet<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
                    for word in words {
                        match rows.get_mut(word) {
                            Some(rows) => *rows += 1,
                            None => {
                                rows.insert(word.to_owned(), 1);
                            }
                        }
                    }
                }
                forget(&mut rows, COUNTED);
            })
            .await?;
        Ok(rows)
    }
}

/// Forgets words of the fewest rows where there are more than `most`: no more than that are left.
fn forget(rows: &mut HashMap<String, u64>, most: usize) {
    if rows.len() <= most || most == 0 {
        return;
    }
    let mut counts: Vec<u64> = rows.values().copied().collect();
    let beyond = counts.len() - most;
    let (_, least, _) = counts.select_nth_unstable(beyond);
    let least = *least;
    rows.retain(|_, rows| *rows > least);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_fewest_rows_are_forgotten() {
        let rows = [("a", 9), ("b", 2), ("c", 2), ("d", 3), ("e", 2)];
        let mut rows: HashMap<String, u64> = rows.into_iter().map(|(word, rows)| (word.to_owned(), rows)).collect();
        forget(&mut rows, 5);
        assert_eq!(rows.len(), 5);
        forget(&mut rows, 3);
        assert_eq!(rows, HashMap::from([("a".to_owned(), 9), ("d".to_owned(), 3)]));
    }
}
