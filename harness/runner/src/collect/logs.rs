//! Following a container's log through the API server, line by line, with bookmarks.
//!
//! One follower lives as long as its pod is used; a bookmark is a position in what it has read. It never parses, and
//! forgets nothing but what is many probes old. Start at [`Follower::start`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, LogParams};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How many lines are remembered: far more than come in while one probe is looked at.
const REMEMBERED: usize = 20_000;

#[derive(Debug, Default)]
struct Shared {
    lines: VecDeque<String>,
    /// How many lines came before the first one remembered.
    forgotten: usize,
    ended: Option<String>,
}

impl Shared {
    fn push(&mut self, line: String) {
        self.lines.push_back(line);
        if self.lines.len() > REMEMBERED {
            self.lines.pop_front();
            self.forgotten += 1;
        }
    }
}

/// Reads the log of one container from its beginning until the follower is dropped.
#[derive(Debug)]
pub struct Follower {
    /// `namespace/pod`.
    pub name: String,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts to follow; `news` is notified at each new line and at the end.
    ///
    /// # Errors
    /// What kube says if the log cannot be opened.
    pub async fn start(
        client: &Client,
        namespace: &str,
        pod: &str,
        container: &str,
        news: Arc<Notify>,
    ) -> Result<Self, kube::Error> {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let params = LogParams { follow: true, container: Some(container.to_owned()), ..LogParams::default() };
        let mut stream = api.log_stream(pod, &params).await?.lines();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let name = format!("{namespace}/{pod}");
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let ended = loop {
                    match stream.try_next().await {
                        Ok(Some(line)) => lock(&shared).push(line),
                        Ok(None) => break "the log ended".to_owned(),
                        Err(error) => break format!("the log broke off: {error}"),
                    }
                    news.notify_waiters();
                };
                lock(&shared).ended = Some(ended);
                news.notify_waiters();
            }
        });
        Ok(Self { name, shared, task })
    }

    /// The present end of what was read.
    #[must_use]
    pub fn bookmark(&self) -> usize {
        let shared = lock(&self.shared);
        shared.forgotten + shared.lines.len()
    }

    /// The lines after a bookmark.
    #[must_use]
    pub fn since(&self, bookmark: usize) -> Vec<String> {
        let shared = lock(&self.shared);
        shared.lines.iter().skip(bookmark.saturating_sub(shared.forgotten)).cloned().collect()
    }

    /// Why the log ended, if it did: nothing more will come.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        lock(&self.shared).ended.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
