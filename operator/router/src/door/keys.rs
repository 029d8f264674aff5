//! API keys: each entry of a Secret is a caller's name and key. Only digests are kept, and they are compared in constant time.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::mounted::Files;
use super::part::{Readable, Reading};

/// Every request is compared with all of them.
const MOST: usize = 1000;
/// Shorter ones can be guessed; longer ones are no keys.
const SHORTEST: usize = 16;
const LONGEST: usize = 1024;
/// Problems that are told one by one.
const TOLD: usize = 5;

pub struct Keys(Vec<Key>);

struct Key {
    name: Box<str>,
    digest: [u8; 32],
}

impl Keys {
    /// The name of the caller with this key.
    pub fn find(&self, key: &[u8]) -> Option<&str> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        // To the end, wherever it is found.
        let found = self.0.iter().fold(None, |found, known| {
            let is_this = bool::from(known.digest.ct_eq(&digest));
            found.or(is_this.then_some(known))
        });
        found.map(|key| &*key.name)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Readable for Keys {
    /// An entry that is no key lets nobody in, and the others stay. What was there before is gone: it may have been taken back.
    fn read(files: &Files, object: &str, _: Option<&str>) -> Reading<Self> {
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for (name, content) in files {
            let key = content.trim_ascii();
            match fault(key) {
                None => keys.push(Key { name: name.as_str().into(), digest: Sha256::digest(key).into() }),
                Some(fault) => problems.push(format!("{object}: the entry {name} {fault}")),
            }
        }
        if problems.len() > TOLD {
            let more = problems.len() - TOLD;
            problems.truncate(TOLD);
            problems.push(format!("{object}: {more} more entries are no keys"));
        }
        if keys.len() > MOST {
            problems.push(format!("{object} has {} keys: the first {MOST} by name count", keys.len()));
            keys.truncate(MOST);
        }
        if !keys.is_empty() {
            return Reading::Use(Self(keys), problems);
        }
        if files.is_empty() {
            problems
                .push(format!("{object} is not there or has no entry: each entry is the name and the key of a caller"));
        }
        Reading::Close(problems)
    }
}

fn fault(key: &[u8]) -> Option<String> {
    let graphic = key.iter().all(u8::is_ascii_graphic);
    match key.len() {
        0 => Some("is empty".to_owned()),
        n if n < SHORTEST => Some(format!("is shorter than {SHORTEST} characters")),
        n if n > LONGEST => Some(format!("is longer than {LONGEST} characters")),
        _ if !graphic => Some("has a character that is not printable ASCII, or a space".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Reading<Keys> {
        let files = entries.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        Keys::read(&files, "Secret k", None)
    }

    #[test]
    fn a_key_finds_its_name_and_nothing_else_does() {
        let Reading::Use(keys, problems) = read(&[("a", "aaaaaaaaaaaaaaaa"), ("b", "bbbbbbbbbbbbbbbb\n")]) else {
            panic!("no keys");
        };
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(keys.find(b"aaaaaaaaaaaaaaaa"), Some("a"));
        assert_eq!(keys.find(b"bbbbbbbbbbbbbbbb"), Some("b"));
        for other in ["", "a", "aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb\n"] {
            assert_eq!(keys.find(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(format!("{keys:?}"), "2 keys");
    }

    #[test]
    fn what_is_no_key_is_named_without_its_content_and_lets_nobody_in() {
        let good = "gggggggggggggggg";
        for (bad, says) in
            [("", "is empty"), ("s3cret", "shorter than 16"), ("s3cret s3cret s3cret", "a space"), ("\n", "empty")]
        {
            let Reading::Use(keys, problems) = read(&[("bad", bad), ("good", good)]) else { panic!("{bad:?}") };
            assert_eq!((keys.find(good.as_bytes()), keys.find(bad.as_bytes())), (Some("good"), None));
            assert!(problems[0].starts_with("Secret k: the entry bad ") && problems[0].contains(says), "{problems:?}");
            assert!(!problems[0].contains("s3cret"), "{problems:?}");
            assert!(matches!(read(&[("bad", bad)]), Reading::Close(problems) if problems.len() == 1));
        }
        let Reading::Close(problems) = read(&[]) else { panic!("an empty Secret opens") };
        assert!(problems[0].contains("is not there"), "{problems:?}");
    }

    #[test]
    fn there_is_a_bound_on_keys_and_on_what_is_told() {
        let names: Vec<String> = (0..1100).map(|i| format!("k{i:04}")).collect();
        let keys: Vec<String> = names.iter().map(|name| format!("{name}-0123456789abcdef")).collect();
        let entries: Vec<(&str, &str)> = names.iter().zip(&keys).map(|(n, k)| (n.as_str(), k.as_str())).collect();
        let Reading::Use(found, problems) = read(&entries) else { panic!("no keys") };
        assert_eq!((found.find(keys[999].as_bytes()), found.find(keys[1000].as_bytes())), (Some("k0999"), None));
        assert_eq!(problems.len(), 1);
        let short: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "short")).collect();
        assert!(matches!(read(&short), Reading::Close(problems) if problems.len() == TOLD + 1));
    }
}
