//! Which messages are read: from which offset to which, by partition. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ingest::params::Deleted;

/// The next offset to read, by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Value")]
pub struct Offsets(pub BTreeMap<i32, i64>);

/// How far a topic was read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub topic: String,
    pub offsets: Offsets,
}

impl TryFrom<Value> for Offsets {
    type Error = String;

    /// An object, or the text of one, because a parameter of a pipeline may be either. An empty text is none: a first run has no offsets.
    fn try_from(value: Value) -> Result<Self, String> {
        let wanted = "expected offsets by partition, as {\"0\": 41, \"1\": 7}";
        let object = match value {
            Value::Object(object) => object,
            Value::String(text) if text.trim().is_empty() => return Ok(Self::default()),
            Value::String(text) => serde_json::from_str(&text)
                .map_err(|_| format!("found '{}', {wanted}", crate::say::excerpt(&text, 60)))?,
            other => return Err(format!("found {}, {wanted}", crate::params::kind(&other))),
        };
        let entry = |(partition, offset): (String, Value)| {
            let found = format!("found {partition}: {offset}, {wanted}");
            let partition = partition.parse().ok().filter(|partition: &i32| *partition >= 0);
            partition.zip(offset.as_i64().filter(|offset| *offset >= 0)).ok_or(found)
        };
        object.into_iter().map(entry).collect::<Result<_, _>>().map(Self)
    }
}

/// What the brokers have of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The oldest message that is not deleted.
    pub first: i64,
    /// Where the next message would be, of those that can be read.
    pub end: i64,
    /// The first message that is not older than the time that was asked for; `first` if none was.
    pub since: i64,
}

/// Messages of one partition: from `from` on, before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// Why the messages that are wanted cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Those from `from` on were deleted before `first`.
    Deleted { partition: i32, from: i64, first: i64 },
    /// The partition ends before `from`: the topic was made anew.
    Anew { partition: i32, from: i64, end: i64 },
    /// There is no such partition.
    Partition { partition: i32 },
}

/// A stretch for each partition that there is.
pub fn plan(kept: &BTreeMap<i32, Kept>, from: &Offsets, deleted: Deleted) -> Result<Vec<Stretch>, Lost> {
    if let Some(partition) = from.0.keys().find(|partition| !kept.contains_key(partition))
        && deleted == Deleted::Fail
    {
        return Err(Lost::Partition { partition: *partition });
    }
    kept.iter()
        .map(|(&partition, &Kept { first, end, since })| {
            let from = match (from.0.get(&partition).copied(), deleted) {
                (None, _) => since,
                (Some(from), _) if (first..=end).contains(&from) => from,
                (Some(_), Deleted::Skip) => first,
                (Some(from), Deleted::Fail) if from < first => return Err(Lost::Deleted { partition, from, first }),
                (Some(from), Deleted::Fail) => return Err(Lost::Anew { partition, from, end }),
            };
            Ok(Stretch { partition, from, to: end })
        })
        .collect()
}

/// Shortens stretches so that all of them together have at most `most` offsets: each its share, and what a short one leaves goes to the others, so that
/// no partition waits for another to be empty.
pub fn share(stretches: &mut [Stretch], most: u64) {
    let length = |stretch: &Stretch| stretch.to.abs_diff(stretch.from);
    let mut order: Vec<usize> = (0..stretches.len()).collect();
    order.sort_by_key(|index| length(&stretches[*index]));
    let mut left = most;
    for (place, index) in order.iter().enumerate() {
        let waiting = (order.len() - place) as u64;
        let stretch = &mut stretches[*index];
        // Rounded up: of very little one partition gets all.
        let taken = length(stretch).min(left.div_ceil(waiting));
        stretch.to = stretch.from.saturating_add_unsigned(taken);
        left -= taken;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offsets(value: Value) -> Result<Offsets, String> {
        Offsets::try_from(value)
    }

    #[test]
    fn offsets_are_an_object_or_its_text() {
        let both = Offsets([(0, 41), (10, 7)].into());
        assert_eq!(offsets(json!({"0": 41, "10": 7})), Ok(both.clone()));
        assert_eq!(offsets(json!(r#"{"10": 7, "0": 41}"#)), Ok(both.clone()));
        assert_eq!(offsets(json!(both)), Ok(both));
        assert_eq!(offsets(json!(" ")), Ok(Offsets::default()));
        for wrong in [json!(3), json!("x"), json!("[1]"), json!({"a": 1}), json!({"0": -1}), json!({"0": "1"})] {
            let message = offsets(wrong.clone()).unwrap_err();
            assert!(message.contains("expected offsets by partition"), "{wrong}: {message}");
        }
    }

    fn kept() -> BTreeMap<i32, Kept> {
        [(0, Kept { first: 10, end: 50, since: 10 }), (1, Kept { first: 0, end: 0, since: 0 })].into()
    }

    fn planned(from: &[(i32, i64)], deleted: Deleted) -> Result<Vec<(i64, i64)>, Lost> {
        let from = Offsets(from.iter().copied().collect());
        plan(&kept(), &from, deleted).map(|all| all.iter().map(|one| (one.from, one.to)).collect())
    }

    #[test]
    fn each_partition_is_read_from_where_the_last_run_ended_or_from_its_beginning() {
        assert_eq!(planned(&[], Deleted::Fail), Ok(vec![(10, 50), (0, 0)]));
        assert_eq!(planned(&[(0, 50)], Deleted::Fail), Ok(vec![(50, 50), (0, 0)]));
        assert_eq!(planned(&[(0, 10), (1, 0)], Deleted::Fail), Ok(vec![(10, 50), (0, 0)]));
        let late = [(0, Kept { first: 10, end: 50, since: 30 })].into();
        let from = |offsets: &[(i32, i64)]| Offsets(offsets.iter().copied().collect());
        assert_eq!(plan(&late, &from(&[]), Deleted::Fail).unwrap()[0].from, 30);
        assert_eq!(plan(&late, &from(&[(0, 12)]), Deleted::Fail).unwrap()[0].from, 12);
    }

    #[test]
    fn what_is_lost_is_told_or_skipped() {
        assert_eq!(planned(&[(0, 9)], Deleted::Fail), Err(Lost::Deleted { partition: 0, from: 9, first: 10 }));
        assert_eq!(planned(&[(0, 51)], Deleted::Fail), Err(Lost::Anew { partition: 0, from: 51, end: 50 }));
        assert_eq!(planned(&[(2, 0)], Deleted::Fail), Err(Lost::Partition { partition: 2 }));
        for from in [(0, 9), (0, 51), (2, 0)] {
            assert_eq!(planned(&[from], Deleted::Skip), Ok(vec![(10, 50), (0, 0)]));
        }
    }

    #[test]
    fn few_messages_are_shared_out_so_that_no_partition_starves() {
        let shared = |lengths: &[i64], most| {
            let stretch = |(partition, length): (i32, &i64)| Stretch { partition, from: 5, to: 5 + length };
            let mut all: Vec<Stretch> = (0..).zip(lengths).map(stretch).collect();
            share(&mut all, most);
            all.iter().map(|one| one.to - one.from).collect::<Vec<_>>()
        };
        assert_eq!(shared(&[100, 2, 100], 1000), [100, 2, 100]);
        assert_eq!(shared(&[100, 2, 100], 52), [25, 2, 25]);
        assert_eq!(shared(&[100, 100, 100], 1), [1, 0, 0]);
        assert_eq!(shared(&[0, 7], 3), [0, 3]);
        assert_eq!(shared(&[], 3), [0; 0]);
        let total: i64 = shared(&[9, 8, 7, 6], 17).iter().sum();
        assert_eq!(total, 17);
    }
}
