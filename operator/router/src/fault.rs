//! What is wrong with a request body, for the one who waits for its answer.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::refuse::Why;

const TOO_LONG: u8 = 1;
const SILENT: u8 = 2;

#[derive(Debug, Default)]
pub struct Fault(AtomicU8);

impl Fault {
    pub fn is_too_long(&self) {
        self.0.store(TOO_LONG, Ordering::Release);
    }

    pub fn is_silent(&self) {
        self.0.store(SILENT, Ordering::Release);
    }

    pub fn why(&self) -> Option<Why> {
        match self.0.load(Ordering::Acquire) {
            TOO_LONG => Some(Why::TooLong),
            SILENT => Some(Why::Silent),
            _ => None,
        }
    }
}
