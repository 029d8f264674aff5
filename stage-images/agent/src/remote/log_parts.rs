//! What of a log is in memory on its way to a store of objects, and what of it goes up next. Pure.
//!
//! An object cannot be written on: the part that grows is written anew, and one that is full once and for all. Of what is in the store only
//! the length is remembered.

use std::collections::VecDeque;

use crate::archive::Bounds;

/// A stretch of what was printed: an object.
#[derive(Debug)]
struct Part {
    begins: u64,
    /// Empty again once all of a full part is in the store.
    bytes: Vec<u8>,
    length: usize,
    /// So much of it is in the store.
    stored: Option<usize>,
}

/// The first part, and the last ones.
#[derive(Debug)]
pub struct Parts {
    /// Bytes of a part.
    size: usize,
    /// Parts after the first.
    later: usize,
    held: VecDeque<Part>,
    /// Parts in the store that are not kept any more.
    gone: Vec<u64>,
}

/// Which parts are to go up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those that do not change any more.
    Full,
    /// Those too that still grow.
    Grown,
    /// All of them, and an empty one of a log without a byte.
    Last,
}

impl Parts {
    pub fn new(bounds: Bounds) -> Self {
        let Bounds { file, later } = bounds;
        let first = Part { begins: 0, bytes: Vec::new(), length: 0, stored: None };
        let size = usize::try_from(file).unwrap_or(usize::MAX).max(1);
        Self { size, later, held: [first].into(), gone: Vec::new() }
    }

    /// What was printed next.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (last, size) = (self.held.back_mut(), self.size);
            let Some(last) = last.filter(|last| last.length < size) else {
                self.begin();
                continue;
            };
            let length = bytes.len().min(size - last.length);
            last.bytes.extend_from_slice(&bytes[..length]);
            last.length += length;
            bytes = &bytes[length..];
        }
    }

    fn begin(&mut self) {
        let begins = self.held.back().map_or(0, |last| last.begins + last.length as u64);
        self.held.push_back(Part { begins, bytes: Vec::new(), length: 0, stored: None });
        while self.held.len() > self.later + 1 {
            let oldest = self.held.remove(1);
            self.gone.extend(oldest.filter(|part| part.stored.is_some()).map(|part| part.begins));
        }
    }

    /// There is something of this kind to go up.
    pub fn waits(&self, wanted: Wanted) -> bool {
        self.held.iter().any(|part| self.goes(part, wanted))
    }

    /// The oldest part that is to go up, with all that it has.
    pub fn next(&self, wanted: Wanted) -> Option<(u64, Vec<u8>)> {
        let part = self.held.iter().find(|part| self.goes(part, wanted))?;
        Some((part.begins, part.bytes.clone()))
    }

    fn goes(&self, part: &Part, wanted: Wanted) -> bool {
        let more = part.stored != Some(part.length);
        match wanted {
            Wanted::Full => more && part.length == self.size,
            Wanted::Grown => more && part.length > 0,
            Wanted::Last => more,
        }
    }

    /// So much of a part is in the store now.
    pub fn stored(&mut self, begins: u64, length: usize) {
        let size = self.size;
        match self.held.iter_mut().find(|part| part.begins == begins) {
            Some(part) => {
                part.stored = Some(length);
                if length == size {
                    part.bytes = Vec::new();
                }
            }
            // More was printed while it went up.
            None => self.gone.push(begins),
        }
    }

    /// Parts to be taken out of the store.
    pub fn take_gone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts::new(Bounds { file: 10, later: 2 })
    }

    /// Everything that waits goes up.
    fn up(parts: &mut Parts, wanted: Wanted) -> Vec<(u64, usize)> {
        let mut all = Vec::new();
        while let Some((begins, bytes)) = parts.next(wanted) {
            all.push((begins, bytes.len()));
            parts.stored(begins, bytes.len());
        }
        all
    }

    #[test]
    fn a_part_goes_up_as_it_grows_and_once_more_when_it_is_full() {
        let mut parts = parts();
        assert!(!parts.waits(Wanted::Grown) && parts.waits(Wanted::Last), "an empty log is one too");
        parts.push(b"abc");
        assert_eq!(up(&mut parts, Wanted::Full), []);
        assert_eq!(up(&mut parts, Wanted::Grown), [(0, 3)]);
        assert!(!parts.waits(Wanted::Last));
        parts.push(b"defghijkl");
        assert_eq!(up(&mut parts, Wanted::Full), [(0, 10)]);
        assert_eq!(up(&mut parts, Wanted::Last), [(10, 2)]);
        assert!(parts.held[0].bytes.is_empty(), "what does not change any more is not kept in memory");
    }

    #[test]
    fn the_first_part_and_the_last_ones_are_kept_and_others_go_from_the_store() {
        let mut parts = parts();
        parts.push(&[b'x'; 25]);
        assert_eq!(up(&mut parts, Wanted::Grown), [(0, 10), (10, 10), (20, 5)]);
        parts.push(&[b'y'; 30]);
        // 30 was never in the store.
        assert_eq!(parts.take_gone(), [10, 20]);
        assert_eq!(up(&mut parts, Wanted::Last), [(40, 10), (50, 5)]);
        assert_eq!(parts.take_gone(), Vec::<u64>::new());
    }

    #[test]
    fn a_part_that_went_up_while_it_was_left_out_is_taken_out_again() {
        let mut parts = parts();
        parts.push(&[b'x'; 15]);
        let (begins, bytes) = parts.next(Wanted::Grown).unwrap();
        parts.stored(begins, bytes.len());
        let (begins, bytes) = parts.next(Wanted::Grown).unwrap();
        parts.push(&[b'y'; 30]);
        parts.stored(begins, bytes.len());
        assert_eq!(parts.take_gone(), [10]);
    }

    #[test]
    fn what_grew_while_it_went_up_goes_up_again() {
        let mut parts = parts();
        parts.push(b"ab");
        let (begins, bytes) = parts.next(Wanted::Grown).unwrap();
        parts.push(b"cd");
        parts.stored(begins, bytes.len());
        assert_eq!(parts.next(Wanted::Grown), Some((0, b"abcd".to_vec())));
    }
}
