//! The crate's one polling wait. Never waits without a bound.

use std::time::{Duration, Instant};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` gives `Ok`, or `limit` is over: then the last `Err`, which says what was seen.
pub(crate) async fn until<T, S>(limit: Duration, mut look: impl AsyncFnMut() -> Result<T, S>) -> Result<T, S> {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() >= limit => return Err(seen),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_the_value_or_the_last_thing_seen() {
        let mut looks = 0;
        let got = until(Duration::from_secs(5), async || {
            looks += 1;
            if looks == 2 { Ok(looks) } else { Err(()) }
        });
        assert_eq!(got.await, Ok(2));
        assert_eq!(until(Duration::ZERO, async || Err::<(), _>("empty")).await, Err("empty"));
    }
}
