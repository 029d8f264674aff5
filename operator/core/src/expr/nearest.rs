//! What somebody may have meant: the nearest of the names that exist.

/// A longer name is no slip of one that exists, and to compare it costs memory.
const LONGEST: usize = 64;
/// At most this many names are listed in a message.
const LISTED: usize = 12;

/// The name nearest to `name` by edit distance, if it is near enough to be a slip.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let limit = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown name: what was meant, and what there is.
#[must_use]
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if known.is_empty() {
        return "there is none".to_owned();
    }
    let list = list(known.iter().copied());
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? There is {list}"),
        None => format!("there is {list}"),
    }
}

/// Some names in a message.
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().take(LISTED + 1).collect();
    if names.len() <= LISTED { names.join(", ") } else { format!("{}, …", names[..LISTED].join(", ")) }
}

/// Insertions, deletions, replacements and swaps of neighbours that make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognized_and_another_word_is_not() {
        let known = ["ingest", "train", "evaluate"];
        assert_eq!(nearest("tarin", known), Some("train"));
        assert_eq!(nearest("evalute", known), Some("evaluate"));
        assert_eq!(nearest("deploy", known), None);
        assert_eq!(did_you_mean("trian", known), "did you mean `train`? There is ingest, train, evaluate");
        assert_eq!(nearest(&"train".repeat(100_000), known), None);
        assert_eq!(did_you_mean("x", []), "there is none");
    }
}
