//! Waiting for a condition, with a bound, or until it is time to try again: the only place that lets time pass but for the
//! times that Kubernetes objects ask for themselves.
//!
//! A condition says what it last saw, and a timeout repeats it. Start at [`until`].

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

/// What one look at a condition gave.
pub(crate) enum Seen<T> {
    /// It holds.
    Done(T),
    /// Not yet; this is what it looks like.
    NotYet(String),
}

/// A condition that did not come to hold in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not happen within {:.1} s; last seen: {last_seen}", .bound.as_secs_f64())]
pub(crate) struct TimedOut {
    what: String,
    bound: Duration,
    last_seen: String,
}

/// Looks at a condition every `interval` until it holds, at most for `bound`.
pub(crate) async fn until<T>(
    what: impl Display,
    interval: Duration,
    bound: Duration,
    mut look: impl AsyncFnMut() -> Seen<T>,
) -> Result<T, TimedOut> {
    let deadline = Instant::now() + bound;
    let mut last_seen = "nothing yet".to_owned();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            ticks.tick().await;
            match look().await {
                Seen::Done(value) => return value,
                Seen::NotYet(state) => last_seen = state,
            }
        }
    };
    match tokio::time::timeout_at(deadline, looking).await {
        Ok(value) => Ok(value),
        Err(_) => Err(TimedOut { what: what.to_string(), bound, last_seen }),
    }
}

/// Until something is tried again that no condition announces; it is one branch of a `select!` whose others are what would
/// make trying worth while, or needless, sooner.
pub(crate) async fn before_another_try(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timeout_says_what_was_seen_last() {
        let mut looks = 0;
        let never = until("the kettle boils", Duration::from_millis(10), Duration::from_secs(1), async || {
            looks += 1;
            Seen::<()>::NotYet(format!("{looks} bubbles"))
        });
        let error = never.await.unwrap_err().to_string();
        assert!(error.starts_with("the kettle boils did not happen within 1.0 s; last seen: "), "{error}");
        assert!(error.ends_with("bubbles"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_bounded_too() {
        let hangs = until("an answer", Duration::from_millis(10), Duration::from_secs(1), async || {
            std::future::pending::<Seen<()>>().await
        });
        assert!(hangs.await.is_err());
    }
}
