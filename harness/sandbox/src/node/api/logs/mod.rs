//! `kubectl logs`: the file a container writes, from where it is asked for, and on as it grows.
//!
//! Access logs are read through this, so a new line leaves at once: the file is watched, not polled. Times of lines
//! come from [`super::super::arrivals`], and only when they are asked for. Start at [`serve`].

mod stamp;
mod start;

use std::collections::HashMap;
use std::io::{self, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};

use self::stamp::Stamper;
use super::super::context::Node;
use super::super::registry::Instance;
use crate::os;

const CHUNK: usize = 64 << 10;

/// What part of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    follow: bool,
    previous: bool,
    timestamps: bool,
    since: Option<Timestamp>,
    tail_lines: Option<u64>,
    limit_bytes: Option<u64>,
}

fn bad(message: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message.into())
}

impl Wanted {
    fn parse(query: &HashMap<String, String>, now: Timestamp) -> Result<Self, (StatusCode, String)> {
        let truth = |name: &str| match query.get(name).map(String::as_str) {
            None | Some("false" | "0" | "") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(bad(format!("{name}={other}: expected true or false"))),
        };
        let number = |name: &str| match query.get(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(bad(format!("{name}={text}: expected a number of 0 or more"))),
            },
        };
        let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
            (None, None) => None,
            (Some(seconds), None) => {
                let ago = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                // Longer ago than time goes back is everything.
                Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
            }
            (None, Some(text)) => match text.parse() {
                Ok(time) => Some(time),
                Err(error) => return Err(bad(format!("sinceTime={text}: expected a time as in RFC 3339: {error}"))),
            },
            (Some(_), Some(_)) => return Err(bad("sinceSeconds, sinceTime: at most one of them may be given")),
        };
        if let Some(stream) = query.get("stream").filter(|s| !s.is_empty() && *s != "All") {
            return Err(bad(format!("stream={stream}: the sandbox's node keeps both streams in one file")));
        }
        Ok(Self {
            follow: truth("follow")?,
            previous: truth("previous")?,
            timestamps: truth("timestamps")?,
            since,
            tail_lines: number("tailLines")?,
            limit_bytes: number("limitBytes")?,
        })
    }
}

/// Answers one request for a log.
pub(super) async fn serve(
    State(node): State<Arc<Node>>,
    UrlPath((namespace, pod, container)): UrlPath<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match open(&node, &namespace, &pod, &container, &query).await {
        Ok(body) => ([("content-type", "text/plain")], body).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn open(
    node: &Node,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &HashMap<String, String>,
) -> Result<Body, (StatusCode, String)> {
    let wanted = Wanted::parse(query, Timestamp::now())?;
    let entry = node
        .registry
        .pod(namespace, pod)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod \"{namespace}/{pod}\" does not run on this node")))?;
    let instances = entry.container(container);
    let instance = if wanted.previous { instances.previous } else { instances.current };
    let instance = instance.ok_or_else(|| {
        bad(if wanted.previous {
            format!("previous terminated container {container:?} in pod {pod:?} not found")
        } else {
            format!("container {container:?} in pod {pod:?} is waiting to start")
        })
    })?;
    let internal = |error: io::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("the log: {error}"));
    let mut file = File::open(&instance.log).await.map_err(internal)?;
    let mut start = match wanted.tail_lines {
        Some(lines) => start::tail(&mut file, lines).await.map_err(internal)?,
        None => 0,
    };
    if let Some(time) = wanted.since {
        start = start.max(start::since(&mut file, &instance.arrivals, time).await.map_err(internal)?);
    }
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        if let Err(error) = copy(file, start, &instance, wanted, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver)))
}

async fn copy(
    mut file: File,
    start: u64,
    instance: &Instance,
    wanted: Wanted,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    // Before the first read, so that no write falls between the two.
    let watcher = if wanted.follow { Some(Watcher::new(&instance.log)?) } else { None };
    let mut ended = instance.ended.clone();
    let mut position = file.seek(SeekFrom::Start(start)).await?;
    let mut left = wanted.limit_bytes.unwrap_or(u64::MAX);
    let mut buffer = vec![0; CHUNK];
    let mut stamper = wanted.timestamps.then(Stamper::new);
    loop {
        let over = *ended.borrow();
        loop {
            let size = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            let count = file.read(&mut buffer[..size]).await?;
            if count == 0 {
                break;
            }
            let mut piece = match &mut stamper {
                None => Bytes::copy_from_slice(&buffer[..count]),
                Some(stamper) => stamper.stamp(&buffer[..count], position, &instance.arrivals).into(),
            };
            position += count as u64;
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= piece.len() as u64;
            if sender.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
        let Some(watcher) = &watcher else { return Ok(()) };
        if over || left == 0 {
            return Ok(());
        }
        if file.metadata().await?.len() < position {
            // The container emptied its own output.
            position = file.seek(SeekFrom::Start(0)).await?;
            stamper = wanted.timestamps.then(Stamper::new);
            continue;
        }
        tokio::select! {
            changed = watcher.changed() => changed?,
            () = until_true(&mut ended) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}

async fn until_true(ended: &mut watch::Receiver<bool>) {
    // A sender that is gone has ended too.
    let _ = ended.wait_for(|ended| *ended).await;
}

/// Tells when a file has been written to.
struct Watcher(AsyncFd<OwnedFd>);

impl Watcher {
    fn new(path: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&descriptor, path, WatchFlags::MODIFY)?;
        Ok(Self(os::async_descriptor(descriptor)?))
    }

    /// Takes all events there are, and waits for one if there is none.
    async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut buffer = [0; 4096];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
                Ok(result) => return result.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        let now = Timestamp::from_second(100).unwrap();
        for pair in
            [("sinceTime", "soon"), ("sinceSeconds", "x"), ("stream", "Stderr"), ("tailLines", "-1"), ("follow", "x")]
        {
            let (status, message) = Wanted::parse(&query(&[pair]), now).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(message.contains(pair.0), "{message}");
        }
        let both = [("sinceSeconds", "5"), ("sinceTime", "1970-01-01T00:00:00Z")];
        assert!(Wanted::parse(&query(&both), now).unwrap_err().1.contains("at most one"));
        let wanted = Wanted::parse(&query(&[("follow", "true"), ("tailLines", "3"), ("timestamps", "false")]), now);
        assert_eq!(wanted.unwrap(), Wanted { follow: true, tail_lines: Some(3), ..Wanted::default() });
        for (pair, since) in [
            (("sinceSeconds", "40"), Timestamp::from_second(60).unwrap()),
            (("sinceSeconds", "18446744073709551615"), Timestamp::MIN),
            (("sinceTime", "1970-01-01T01:00:07+01:00"), Timestamp::from_second(7).unwrap()),
        ] {
            assert_eq!(Wanted::parse(&query(&[pair]), now).unwrap().since, Some(since), "{pair:?}");
        }
    }

    #[tokio::test]
    async fn following_gives_new_lines_and_ends_with_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut writer = crate::node::logs::create(&path).unwrap();
        writer.write_all(b"old\n").unwrap();
        let (end, ended) = watch::channel(false);
        let target = crate::node::registry::ExecTarget {
            pidfd: Arc::new(std::fs::File::open("/dev/null").unwrap().into()),
            process: serde_json::from_value(
                serde_json::json!({"argv": [], "env": {}, "working_dir": "/", "uid": 0, "gid": 0,
                "groups": [], "capabilities": [], "no_new_privileges": false}),
            )
            .unwrap(),
        };
        let instance = Instance { log: path.clone(), arrivals: Arc::default(), ended, target };
        let (sender, mut receiver) = mpsc::channel(4);
        let wanted = Wanted { follow: true, ..Wanted::default() };
        let file = File::open(&path).await.unwrap();
        let task = tokio::spawn(async move { copy(file, 0, &instance, wanted, &sender).await });
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "old\n");
        writer.write_all(b"new\n").unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "new\n");
        writer.write_all(b"last\n").unwrap();
        end.send(true).unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "last\n");
        assert!(receiver.recv().await.is_none());
        task.await.unwrap().unwrap();
    }
}
