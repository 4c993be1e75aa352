//! When the output of containers arrived: marks of (length, time) per log, taken as the files grow.
//!
//! Containers write to their logs themselves, so that nothing stands in the way of a line; the times are kept beside
//! the log, and only `kubectl logs --timestamps` and `--since` look at them. Start at [`Watcher`] and [`Arrivals`].

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::os;

/// What arrives within this time after a mark counts as arrived with it; it bounds the number of marks.
const RESOLUTION: SignedDuration = SignedDuration::from_millis(1);

/// When the bytes of one log arrived.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<Vec<Mark>>);

/// Everything before `end` had arrived at `at`. Both grow from mark to mark.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u64,
    at: Timestamp,
}

impl Arrivals {
    /// The log has this length now. One that is shorter than before was emptied, and begins anew.
    pub(crate) fn is_long(&self, length: u64, now: Timestamp) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.last().is_some_and(|mark| length < mark.end) {
            marks.clear();
        }
        extend(&mut marks, length, now);
    }

    /// This much of the log, or more, is there now.
    pub(crate) fn has_reached(&self, length: u64, now: Timestamp) {
        extend(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), length, now);
    }

    /// When the byte at this position arrived. `None` if it is not known to have arrived.
    pub(crate) fn at(&self, position: u64) -> Option<Timestamp> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(marks.partition_point(|mark| mark.end <= position)).map(|mark| mark.at)
    }

    /// How much had arrived before a time.
    pub(crate) fn before(&self, time: Timestamp) -> u64 {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = marks.partition_point(|mark| mark.at < time);
        count.checked_sub(1).map_or(0, |last| marks[last].end)
    }
}

fn extend(marks: &mut Vec<Mark>, length: u64, now: Timestamp) {
    match marks.last_mut() {
        Some(last) if length <= last.end => {}
        // Also when the clock has been set back: times never decrease within a log.
        Some(last) if now.duration_since(last.at) < RESOLUTION => last.end = length,
        None if length == 0 => {}
        _ => marks.push(Mark { end: length, at: now }),
    }
}

/// Watches the logs of a node. One inotify instance for all, of which the kernel allows a user only 128.
#[derive(Debug)]
pub(crate) struct Watcher {
    events: AsyncFd<OwnedFd>,
    files: Mutex<HashMap<i32, (PathBuf, Arc<Arrivals>)>>,
}

impl Watcher {
    /// Makes a watcher of nothing. Needs a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { events: os::async_descriptor(descriptor)?, files: Mutex::default() })
    }

    /// Takes note of a log from now on, until the file is removed.
    pub(crate) fn watch(&self, log: &Path) -> io::Result<Arc<Arrivals>> {
        let arrivals = Arc::new(Arrivals::default());
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inotify::add_watch(self.events.get_ref(), log, WatchFlags::MODIFY)?;
        files.insert(number, (log.to_owned(), arrivals.clone()));
        Ok(arrivals)
    }

    /// Notes what arrives. Ends only with an error of inotify itself.
    pub(crate) async fn run(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        loop {
            let mut ready = self.events.readable().await?;
            let mut reader = inotify::Reader::new(self.events.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => self.happened(event.wd(), event.events()),
                    Err(rustix::io::Errno::WOULDBLOCK) => break ready.clear_ready(),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn happened(&self, file: i32, what: ReadFlags) {
        let now = Timestamp::now();
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            files.values().for_each(|(path, arrivals)| look(path, arrivals, now));
        } else if what.contains(ReadFlags::IGNORED) {
            files.remove(&file);
        } else if let Some((path, arrivals)) = files.get(&file) {
            look(path, arrivals, now);
        }
    }
}

fn look(path: &Path, arrivals: &Arrivals, now: Timestamp) {
    // One that is gone needs no mark.
    if let Ok(metadata) = std::fs::metadata(path) {
        arrivals.is_long(metadata.len(), now);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn bytes_have_the_time_of_the_mark_they_arrived_with() {
        let arrivals = Arrivals::default();
        arrivals.is_long(0, second(1));
        assert_eq!((arrivals.at(0), arrivals.before(second(9))), (None, 0));
        arrivals.is_long(10, second(2));
        arrivals.has_reached(10, second(3));
        arrivals.is_long(20, second(4));
        let seen: Vec<_> = [0, 9, 10, 19, 20].map(|position| arrivals.at(position)).into();
        assert_eq!(seen, [Some(second(2)), Some(second(2)), Some(second(4)), Some(second(4)), None]);
        assert_eq!([1, 2, 3, 4, 5].map(|time| arrivals.before(second(time))), [0, 0, 10, 10, 20]);
    }

    #[test]
    fn many_small_writes_make_few_marks_and_a_clock_set_back_none() {
        let arrivals = Arrivals::default();
        for length in 1..=10_000 {
            arrivals.is_long(length, second(5) + SignedDuration::from_micros(length.cast_signed()));
        }
        arrivals.is_long(10_001, second(1));
        assert_eq!(arrivals.0.lock().unwrap().len(), 10);
        assert!(arrivals.at(10_000) > Some(second(5)));
        arrivals.is_long(3, second(6));
        assert_eq!((arrivals.at(0), arrivals.at(3)), (Some(second(6)), None));
    }

    #[tokio::test]
    async fn a_growing_file_gets_marks_and_a_removed_one_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = super::super::logs::create(&path).unwrap();
        let watcher = Arc::new(Watcher::new().unwrap());
        let arrivals = watcher.watch(&path).unwrap();
        let running = tokio::spawn({
            let watcher = watcher.clone();
            async move { watcher.run().await }
        });
        let before = Timestamp::now();
        log.write_all(b"line\n").unwrap();
        let noted = async {
            while arrivals.at(4).is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), noted).await.expect("the write is noticed");
        let at = arrivals.at(4).unwrap();
        assert!(before <= at && at <= Timestamp::now());
        drop(log);
        std::fs::remove_file(&path).unwrap();
        let forgotten = async {
            while !watcher.files.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("the removal is noticed");
        running.abort();
    }
}
