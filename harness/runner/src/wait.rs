//! The one place where the runner waits: for a condition, with a bound, and with what was last seen in the error.
//!
//! Nothing here knows what is waited for, and nothing elsewhere sleeps. Start at [`until`].

use std::time::{Duration, Instant};

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not happen within {:.1} s; last seen: {last}", .waited.as_secs_f64())]
pub struct TimedOut {
    /// What was waited for, as a noun phrase.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// The last state that was seen, in the words of the condition.
    pub last: String,
}

/// Asks `condition` again and again until it gives a value, for at most `bound`.
///
/// The condition returns what it saw as an error as long as it does not hold. The pause between two questions starts
/// at 5 ms and doubles up to 100 ms.
///
/// # Errors
/// [`TimedOut`], with what the condition saw last.
pub async fn until<T, F, Fut>(what: &str, bound: Duration, condition: F) -> Result<T, TimedOut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    asking(what, bound, Duration::from_millis(100), condition).await
}

/// The same for a condition that comes true within a fraction of a second and costs little to ask: the pause doubles up
/// to 10 ms in the first half second, and is that of [`until`] from then on.
///
/// # Errors
/// [`TimedOut`], with what the condition saw last.
pub async fn until_soon<T, F, Fut>(what: &str, bound: Duration, mut condition: F) -> Result<T, TimedOut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let soon = Duration::from_millis(500).min(bound);
    match asking(what, soon, Duration::from_millis(10), &mut condition).await {
        Err(_) if soon < bound => until(what, bound - soon, condition).await,
        settled => settled,
    }
}

async fn asking<T, F, Fut>(what: &str, bound: Duration, longest: Duration, mut condition: F) -> Result<T, TimedOut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= bound => {
                return Err(TimedOut { what: what.to_owned(), waited: start.elapsed(), last });
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause.min(bound)).await;
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_never_holds_says_what_it_saw_last() {
        let mut asked = 0;
        let error = until("the third answer", Duration::from_millis(0), || {
            asked += 1;
            let seen = format!("answer {asked}");
            async move { Err::<(), _>(seen) }
        })
        .await
        .expect_err("the condition never holds");
        assert!(error.to_string().starts_with("the third answer did not happen within"), "{error}");
        assert!(error.to_string().ends_with("last seen: answer 1"), "{error}");
    }

    #[tokio::test]
    async fn a_condition_is_asked_until_it_holds() {
        let mut asked = 0;
        let value = until("the third answer", Duration::from_secs(5), || {
            asked += 1;
            let now = asked;
            async move { if now == 3 { Ok(now) } else { Err(format!("answer {now}")) } }
        })
        .await
        .expect("it holds at the third time");
        assert_eq!(value, 3);
    }
}
