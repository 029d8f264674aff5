//! Which revision a request goes to: header rule, then sticky key, then a draw. Pure but for the draw.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use millrace_routes::{BUCKETS, Model};
use sha2::{Digest, Sha256};

/// The rules of one model. Revisions are meant by their place in the document.
#[derive(Debug)]
pub struct Chooser {
    rules: Vec<(HeaderName, HeaderValue, usize)>,
    sticky: Option<HeaderName>,
    /// The bucket after a revision's last one, in the order of the revisions.
    ends: Vec<u16>,
    /// Keeps one user from being in the same bucket of every model.
    salt: String,
}

impl Chooser {
    /// The document was checked: what cannot be a header or names no revision is not in it.
    pub fn new(model: &Model) -> Self {
        let place = |name: &str| model.revisions.iter().position(|r| r.name == name);
        let rules = model
            .headers
            .iter()
            .filter_map(|rule| Some((rule.header.parse().ok()?, rule.value.parse().ok()?, place(&rule.revision)?)));
        let weights: Vec<u32> = model.revisions.iter().map(|r| r.weight).collect();
        Self {
            rules: rules.collect(),
            sticky: model.sticky.as_ref().and_then(|s| s.header.parse().ok()),
            ends: ends(&weights),
            salt: model.name.clone(),
        }
    }

    /// `None` if no revision has a weight above 0.
    pub fn choose(&self, headers: &HeaderMap) -> Option<usize> {
        for (name, value, revision) in &self.rules {
            if headers.get_all(name).iter().any(|v| v == value) {
                return Some(*revision);
            }
        }
        if let [end] = self.ends[..] {
            return (end > 0).then_some(0);
        }
        let key = self.sticky.as_ref().and_then(|name| headers.get(name));
        let bucket = key.map_or_else(|| fastrand::u16(0..BUCKETS), |key| self.bucket(key.as_bytes()));
        self.ends.iter().position(|end| bucket < *end)
    }

    /// The same in every router and every build.
    fn bucket(&self, key: &[u8]) -> u16 {
        let digest = Sha256::new().chain_update(&self.salt).chain_update([0]).chain_update(key).finalize();
        let number = digest.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        u16::try_from(number % u64::from(BUCKETS)).unwrap_or_default()
    }
}

/// Shares all buckets out by weight. What is left after rounding down goes to the largest remainders.
fn ends(weights: &[u32]) -> Vec<u16> {
    let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum::<u64>().max(1);
    let scaled: Vec<u64> = weights.iter().map(|w| u64::from(*w) * u64::from(BUCKETS)).collect();
    let mut shares: Vec<u64> = scaled.iter().map(|s| s / sum).collect();
    let left = u64::from(BUCKETS).saturating_sub(shares.iter().sum());
    let mut order: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0).collect();
    order.sort_by_key(|i| std::cmp::Reverse(scaled[*i] % sum));
    for i in order.into_iter().take(usize::try_from(left).unwrap_or_default()) {
        shares[i] += 1;
    }
    let mut end = 0;
    shares
        .iter()
        .map(|share| {
            end += share;
            u16::try_from(end).unwrap_or(BUCKETS)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser(json: &str) -> Chooser {
        Chooser::new(&serde_json::from_str(json).unwrap())
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    const TWO: &str = r#"{"name": "m", "port": 1, "sticky": {"header": "x-user"},
        "headers": [{"header": "x-model", "value": "next", "revision": "b"}],
        "revisions": [{"name": "a", "service": "a", "port": 1, "weight": 90}, {"name": "b", "service": "b", "port": 1, "weight": 10}]}"#;

    #[test]
    fn all_buckets_are_shared_out_by_weight() {
        assert_eq!(ends(&[1, 1, 1]), [3334, 6667, 10_000]);
        assert_eq!(ends(&[95, 5]), [9500, 10_000]);
        assert_eq!(ends(&[0, 1, 0]), [0, 10_000, 10_000]);
        assert_eq!(ends(&[u32::MAX, u32::MAX]), [5000, 10_000]);
        assert_eq!(ends(&[1, 99_999]), [0, 10_000]);
    }

    #[test]
    fn a_header_rule_comes_first_and_one_revision_needs_no_draw() {
        let two = chooser(TWO);
        assert!((0..100).all(|_| two.choose(&headers("x-model", "next")) == Some(1)));
        let one = chooser(
            r#"{"name": "m", "port": 1, "revisions": [{"name": "a", "service": "a", "port": 1, "weight": 1}]}"#,
        );
        assert_eq!(one.choose(&HeaderMap::new()), Some(0));
        assert_eq!(chooser(r#"{"name": "m", "port": 1, "revisions": []}"#).choose(&HeaderMap::new()), None);
        for weights in [(0, 0), (0, 1)] {
            let text = TWO.replace("\"weight\": 90", &format!("\"weight\": {}", weights.0));
            let chosen = chooser(&text.replace("\"weight\": 10", &format!("\"weight\": {}", weights.1)))
                .choose(&HeaderMap::new());
            assert_eq!(chosen, (weights.1 > 0).then_some(1));
        }
        let coming = chooser(
            r#"{"name": "m", "port": 1, "revisions": [{"name": "a", "service": "a", "port": 1, "weight": 0}]}"#,
        );
        assert_eq!(coming.choose(&HeaderMap::new()), None, "a revision that comes gets nothing yet");
    }

    #[test]
    fn a_draw_follows_the_weights() {
        let two = chooser(TWO);
        let second = (0..20_000).filter(|_| two.choose(&HeaderMap::new()) == Some(1)).count();
        // 2000 expected; six standard deviations of a binomial are 255.
        assert!((1745..=2255).contains(&second), "{second}");
    }

    #[test]
    fn a_key_stays_where_it_is_and_stays_with_a_canary_that_grows() {
        let (small, large) = (chooser(TWO), chooser(&TWO.replace("\"weight\": 90", "\"weight\": 10")));
        let mut second = 0;
        for user in 0..2000 {
            let key = headers("x-user", &user.to_string());
            let first = small.choose(&key);
            assert_eq!(small.choose(&key), first);
            if first == Some(1) {
                second += 1;
                assert_eq!(large.choose(&key), Some(1));
            }
        }
        // 200 expected; six standard deviations are 80.
        assert!((120..=280).contains(&second), "{second}");
    }
}
