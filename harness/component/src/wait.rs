//! The crate's polling waits.
//!
//! Used only where nobody offers an event that can be awaited and cancelled (file locks, a registry's patience). Never waits without a bound.

use std::time::{Duration, Instant};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// Looks until `probe` gives a value, an error, or `limit` is over; `Ok(None)` is the timeout.
/// `probe` gets the time waited so far.
pub(crate) async fn until<T, E>(
    limit: Duration,
    mut probe: impl FnMut(Duration) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let waited = start.elapsed();
        if let Some(value) = probe(waited)? {
            return Ok(Some(value));
        }
        if waited >= limit {
            return Ok(None);
        }
    }
}

/// Asks until `ask` gives a value, first at once, then after pauses of 1 s, 2 s, 4 s, …, as long as the pauses together
/// stay below `limit`; `None` is the timeout. For those who ask not to be asked so often.
pub(crate) async fn ever_slower<T>(limit: Duration, mut ask: impl AsyncFnMut(Duration) -> Option<T>) -> Option<T> {
    let (mut pause, mut waited) = (Duration::from_secs(1), Duration::ZERO);
    loop {
        if let Some(value) = ask(waited).await {
            return Some(value);
        }
        if waited + pause > limit {
            return None;
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_the_value_when_it_is_there() {
        let mut looks = 0;
        let got = until(Duration::from_secs(5), |_| {
            looks += 1;
            Ok::<_, ()>((looks == 2).then_some(looks))
        })
        .await;
        assert_eq!(got, Ok(Some(2)));
    }

    #[tokio::test]
    async fn ends_at_the_limit() {
        let got = until(Duration::ZERO, |_| Ok::<Option<()>, ()>(None)).await;
        assert_eq!(got, Ok(None));
    }
}
