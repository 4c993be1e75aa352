//! Where in a log to begin: searches backwards from its end, so that a long log costs no more than a short one.

use std::io::{self, SeekFrom};

use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::super::super::arrivals::Arrivals;
use super::CHUNK;

/// Where the last `lines` lines begin. A line that has no end yet counts.
pub(super) async fn tail(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    match lines {
        0 => Ok(length),
        // A newline at the very end begins no line.
        _ => after_newline(file, length.saturating_sub(1), lines).await,
    }
}

/// Where the lines begin that arrived at `time` or later, as a whole or in part.
pub(super) async fn since(file: &mut File, arrivals: &Arrivals, time: Timestamp) -> io::Result<u64> {
    arrivals.has_reached(file.metadata().await?.len(), Timestamp::now());
    after_newline(file, arrivals.before(time), 1).await
}

/// The position after the `nth` newline before `end`, counted backwards; the file's begin if there are fewer.
async fn after_newline(file: &mut File, mut end: u64, nth: u64) -> io::Result<u64> {
    let mut found = 0;
    let mut buffer = vec![0; CHUNK];
    while end > 0 {
        let size = CHUNK.min(usize::try_from(end).unwrap_or(CHUNK));
        let begin = end - size as u64;
        file.seek(SeekFrom::Start(begin)).await?;
        file.read_exact(&mut buffer[..size]).await?;
        for index in (0..size).rev() {
            if buffer[index] == b'\n' {
                found += 1;
                if found == nth {
                    return Ok(begin + index as u64 + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tail_finds_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let long = "x".repeat(CHUNK);
        for (content, lines, expected) in [
            ("a\nb\nc\n", 2, 2_usize),
            ("a\nb\nc", 2, 2),
            ("a\nb\nc\n", 9, 0),
            ("a\nb\n", 0, 4),
            ("", 3, 0),
            (&format!("{long}\n{long}\nend\n"), 2, CHUNK + 1),
        ] {
            std::fs::write(&path, content).unwrap();
            let mut file = File::open(&path).await.unwrap();
            assert_eq!(tail(&mut file, lines).await.unwrap(), expected as u64, "{lines} of {}", content.len());
        }
    }

    #[tokio::test]
    async fn since_finds_the_first_line_that_is_young_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let second = |second| Timestamp::from_second(second).unwrap();
        let arrivals = Arrivals::default();
        // The second line came in two parts.
        for (length, time) in [(4, 10), (6, 20), (8, 30), (14, 40)] {
            arrivals.is_long(length, second(time));
        }
        let mut file = File::open(&path).await.unwrap();
        for (time, expected) in [(1, 0), (10, 0), (11, 4), (20, 4), (30, 4), (31, 8), (40, 8), (41, 14)] {
            assert_eq!(since(&mut file, &arrivals, second(time)).await.unwrap(), expected, "since {time}");
        }
    }
}
