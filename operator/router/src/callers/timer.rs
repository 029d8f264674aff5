//! A deadline that is cheap to move: the timer itself is only touched when it fires or must fire sooner.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Request,
    Head,
    Body,
    Answer,
    Write,
}

#[derive(Debug, Default)]
pub struct Timer {
    wait: Option<(Wait, Instant)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `limit` has passed since the first call for this wait.
    pub fn poll(&mut self, wait: Wait, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match self.wait {
            Some((now, deadline)) if now == wait => deadline,
            _ => Instant::now() + limit,
        };
        self.wait = Some((wait, deadline));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// The wait is over.
    pub fn clear(&mut self) {
        self.wait = None;
    }
}
