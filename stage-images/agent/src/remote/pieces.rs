//! How much is moved at a time: files in pieces, so that memory does not grow with them.

use std::ops::Range;

/// S3 takes no smaller part of an upload than 5 MiB, but for the last one.
const PIECE: u64 = 5 * 1024 * 1024;
/// S3 takes at most 10,000 parts of an upload.
const MOST_PIECES: u64 = 9_000;
/// More requests at a time do not make small files faster.
const MOST_AT_ONCE: u64 = 8;

/// What of the memory may be used to move files.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    bytes: u64,
}

impl Budget {
    /// At most a quarter of the container's memory, where it has a limit. The command does not run meanwhile.
    pub fn of(memory_limit: Option<u64>) -> Self {
        let most = MOST_AT_ONCE * PIECE;
        Self { bytes: memory_limit.map_or(most, |limit| (limit / 4).clamp(PIECE, most)) }
    }

    /// As little as goes, for what is moved while the command runs.
    pub fn least() -> Self {
        Self { bytes: PIECE }
    }

    /// Pieces of this size that are moved at a time.
    pub fn at_once(self, piece: u64) -> usize {
        usize::try_from((self.bytes / piece).max(1)).unwrap_or(1)
    }
}

/// The size of the pieces of a file.
pub fn size(file: u64) -> u64 {
    PIECE.max(file.div_ceil(MOST_PIECES))
}

/// Where the pieces of a file begin and end; none for an empty one.
pub fn of(file: u64) -> impl Iterator<Item = Range<u64>> {
    let piece = size(file);
    (0..file.div_ceil(piece)).map(move |at| at * piece..((at + 1) * piece).min(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_file_and_are_few_enough() {
        for file in [0, 1, PIECE, PIECE + 1, 2 << 30, 4 << 40] {
            let pieces: Vec<Range<u64>> = of(file).collect();
            let mut end = 0;
            for piece in &pieces {
                assert_eq!(piece.start, end);
                end = piece.end;
            }
            assert_eq!(end, file);
            assert!(pieces.len() <= 10_000, "{}", pieces.len());
        }
    }

    #[test]
    fn what_is_moved_at_a_time_stays_within_a_quarter_of_the_memory() {
        let at_once = |limit| Budget::of(limit).at_once(PIECE);
        assert_eq!(
            [at_once(None), at_once(Some(256 << 20)), at_once(Some(64 << 20)), at_once(Some(1 << 20))],
            [8, 8, 3, 1]
        );
        assert_eq!(Budget::of(None).at_once(1 << 30), 1);
    }
}
