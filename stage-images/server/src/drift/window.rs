//! Counts of the last time, in a ring of parts: memory does not grow with what is counted.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Whole parts of a window. The one that is being filled comes on top, so a window is exact within one part.
const PARTS: u32 = 12;

#[derive(Debug)]
pub struct Window {
    pub length: Duration,
    part: Duration,
    /// Beginning of the part that is being filled.
    began: Instant,
    /// The oldest first; as many as there are from the beginning on.
    parts: VecDeque<Box<[u64]>>,
}

impl Window {
    /// `counts` numbers are counted over `length`.
    pub fn new(length: Duration, counts: usize, now: Instant) -> Self {
        let parts = (0..=PARTS).map(|_| vec![0; counts].into_boxed_slice()).collect();
        Self { length, part: (length / PARTS).max(Duration::from_millis(1)), began: now, parts }
    }

    /// The part to count into.
    pub fn now(&mut self, now: Instant) -> &mut [u64] {
        self.turn(now);
        self.parts.back_mut().map_or(&mut [], |part| part)
    }

    /// The sums over the window.
    pub fn sums(&mut self, now: Instant) -> Vec<u64> {
        self.turn(now);
        let mut sums = vec![0; self.parts.front().map_or(0, |part| part.len())];
        for part in &self.parts {
            sums.iter_mut().zip(part).for_each(|(sum, count)| *sum += count);
        }
        sums
    }

    /// Empties the parts that the window has left behind.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_nanos() / self.part.as_nanos();
        let Ok(passed) = u32::try_from(passed) else {
            *self = Self::new(self.length, self.parts.front().map_or(0, |part| part.len()), now);
            return;
        };
        self.began += self.part * passed;
        for _ in 0..passed.min(PARTS + 1) {
            if let Some(mut oldest) = self.parts.pop_front() {
                oldest.fill(0);
                self.parts.push_back(oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn what_is_older_than_the_window_and_a_part_is_forgotten() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        let mut window = Window::new(HOUR, 2, start);
        window.now(at(0))[0] += 1;
        window.now(at(30))[0] += 10;
        window.now(at(30))[1] += 7;
        assert_eq!(window.sums(at(59)), [11, 7]);
        assert_eq!(window.sums(at(64)), [11, 7]);
        assert_eq!(window.sums(at(65)), [10, 7], "the first part is out");
        window.now(at(80))[0] += 100;
        assert_eq!(window.sums(at(95)), [100, 0]);
        assert_eq!(window.sums(at(1000)), [0, 0]);
        window.now(at(1000))[1] += 1;
        assert_eq!(window.sums(at(1001)), [0, 1]);
    }

    #[test]
    fn memory_is_the_same_however_long_it_counts() {
        let start = Instant::now();
        let mut window = Window::new(HOUR, 3, start);
        for minute in 0..10_000 {
            window.now(start + Duration::from_mins(minute))[0] += 1;
        }
        assert_eq!(window.parts.len(), 13);
        let sum = window.sums(start + Duration::from_mins(9_999))[0];
        assert!((60..=65).contains(&sum), "{sum}");
    }
}
