//! The crate's one polling wait.
//!
//! Used only where the kernel offers no event that can be awaited and cancelled (file locks). Never waits without a bound.

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
