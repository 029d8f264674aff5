//! Which models go, so that another one fits.

use std::fmt;
use std::time::Duration;

use crate::fetch::progress::amount;

/// So long a model stays after a pod has asked for it, whatever else is said: its server is about to mount it, and pods of other nodes do not
/// hear at once that it is needed.
const GRACE: Duration = Duration::from_mins(10);

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub size: u64,
    /// Since a pod asked for it.
    pub idle: Duration,
    /// A revision serves it, or somebody has it in hand.
    pub needed: bool,
}

impl Kept {
    pub fn may_go(&self) -> bool {
        !self.needed && self.idle >= GRACE
    }
}

/// What is to fit.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub bytes: u64,
    /// All models together, at most.
    pub most: Option<u64>,
    /// What the claim has left, and what it has in all, where the file system says it.
    pub free: Option<u64>,
    pub has: Option<u64>,
}

/// Why it does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    bytes: u64,
    limit: Limit,
    /// What cannot go: how many, and their bytes.
    models: usize,
    held: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Limit {
    Most(u64),
    Disk { free: u64, has: Option<u64> },
}

impl fmt::Display for Lack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "it has {}, ", amount(self.bytes))?;
        match self.limit {
            Limit::Most(most) => write!(out, "spec.model.cache.maxSize is {}", amount(most))?,
            Limit::Disk { free, has: Some(has) } => write!(out, "{} of {} are free", amount(free), amount(has))?,
            Limit::Disk { free, has: None } => write!(out, "{} are free", amount(free))?,
        }
        let held = amount(self.held);
        match self.models {
            0 => {}
            1 => write!(
                out,
                ", and 1 model with {held} must stay: a revision serves it, or a pod has asked for it in the last ten minutes"
            )?,
            many => write!(
                out,
                ", and {many} models with {held} must stay: revisions serve them, or a pod has asked for them in the last ten minutes"
            )?,
        }
        let larger = match self.limit {
            Limit::Most(_) => "raise maxSize",
            Limit::Disk { .. } => "enlarge the claim",
        };
        write!(out, "; {larger}, or delete ModelDeployments that are not needed")
    }
}

/// Models that go so that the other one fits, those first that nobody has asked for the longest; none if it fits as it is.
pub fn leaves(kept: &[Kept], wanted: Wanted) -> Result<Vec<&Kept>, Lack> {
    let Wanted { bytes, most, free, has } = wanted;
    let all: u64 = kept.iter().map(|model| model.size).sum();
    let mut candidates: Vec<&Kept> = kept.iter().filter(|model| model.may_go()).collect();
    candidates.sort_by(|a, b| b.idle.cmp(&a.idle).then_with(|| a.name.cmp(&b.name)));
    let (mut gone, mut leaving) = (0, Vec::new());
    let too_many = |gone: u64| most.is_some_and(|most| all - gone + bytes > most);
    let too_full = |gone: u64| free.is_some_and(|free| free + gone < bytes);
    let mut candidates = candidates.into_iter();
    while too_many(gone) || too_full(gone) {
        let Some(model) = candidates.next() else {
            let limit = match most.filter(|_| too_many(gone)) {
                Some(most) => Limit::Most(most),
                None => Limit::Disk { free: free.unwrap_or_default() + gone, has },
            };
            let stay = kept.iter().filter(|model| !model.may_go());
            let (models, held) = stay.fold((0, 0), |(models, held), model| (models + 1, held + model.size));
            return Err(Lack { bytes, limit, models, held });
        };
        gone += model.size;
        leaving.push(model);
    }
    Ok(leaving)
}

/// Models that nothing needs and nobody has asked for in so long a time.
pub fn expired(kept: &[Kept], keep: Duration) -> impl Iterator<Item = &Kept> {
    kept.iter().filter(move |model| model.may_go() && model.idle >= keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, size: u64, minutes: u64, needed: bool) -> Kept {
        Kept { name: name.to_owned(), size, idle: Duration::from_mins(minutes), needed }
    }

    fn there() -> [Kept; 5] {
        [
            kept("served", 10, 9000, true),
            kept("new", 10, 9, false),
            kept("old", 10, 60, false),
            kept("older", 20, 120, false),
            kept("oldest", 5, 600, false),
        ]
    }

    fn names(wanted: Wanted) -> Result<Vec<String>, String> {
        let leaves = leaves(&there(), wanted).map(|all| all.into_iter().map(|model| model.name.clone()).collect());
        leaves.map_err(|lack| lack.to_string())
    }

    const WANTED: Wanted = Wanted { bytes: 10, most: None, free: None, has: None };

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first_and_no_more_than_it_takes() {
        for (most, free, gone) in [
            (None, None, &[][..]),
            (Some(65), Some(10), &[]),
            (Some(64), None, &["oldest"]),
            (None, Some(9), &["oldest"]),
            (Some(60), Some(0), &["oldest", "older"]),
            (Some(30), None, &["oldest", "older", "old"]),
        ] {
            assert_eq!(names(Wanted { most, free, ..WANTED }).unwrap(), gone, "{most:?} {free:?}");
        }
    }

    #[test]
    fn what_is_served_or_was_asked_for_a_moment_ago_stays_and_the_lack_is_told() {
        let told = names(Wanted { most: Some(29), ..WANTED }).unwrap_err();
        assert!(told.contains("maxSize is 29 bytes, and 2 models with 20 bytes must stay"), "{told}");
        let one = leaves(&there()[..1], Wanted { most: Some(15), ..WANTED }).unwrap_err().to_string();
        assert!(one.contains("and 1 model with 10 bytes must stay: a revision serves it"), "{one}");
        let told = names(Wanted { bytes: 100, free: Some(1), has: Some(60), ..WANTED }).unwrap_err();
        assert!(told.contains("it has 100 bytes, 36 bytes of 60 bytes are free"), "{told}");
        assert!(told.contains("enlarge the claim"), "{told}");
    }

    #[test]
    fn what_nobody_asks_for_goes_after_a_time() {
        let all = there();
        let names = |hours| -> Vec<&str> {
            expired(&all, Duration::from_hours(hours)).map(|model| model.name.as_str()).collect()
        };
        assert_eq!(names(2), ["older", "oldest"]);
        assert_eq!(names(0), ["old", "older", "oldest"], "one that was asked for a moment ago stays");
    }
}
