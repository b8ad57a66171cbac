//! One timer for all that a connection waits for, one thing after the other.
//!
//! Deadlines move with every request; the timer does not. It is set once, looked at again when it fires, and moved only to an
//! earlier deadline, because moving it each time would cost more than what it guards.

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep};

#[derive(Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Whether `deadline` has passed; if not, the task is woken no later than then.
    pub(super) fn passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    #[tokio::test]
    async fn later_and_earlier_deadlines_fire_and_never_too_early() {
        let mut timer = Timer::default();
        for millis in [5, 30, 10, 1, 20] {
            let deadline = Instant::now() + Duration::from_millis(millis);
            poll_fn(|cx| if timer.passed(cx, deadline) { Poll::Ready(()) } else { Poll::Pending }).await;
            assert!(Instant::now() >= deadline, "{millis} ms");
        }
    }
}
