//! What etcd holds, as a file: written from a running etcd and put into a new one.
//!
//! All keys are read at one revision, so the file is the cluster at one moment, whatever happens meanwhile. What belongs
//! to the machine that it ran on is left out ([`belongs`]). It speaks etcd's own JSON gateway and knows nothing of objects
//! but their keys. Start at [`Store::dump`] and [`Store::load`].

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncWriteExt, BufWriter};

/// Where the API server keeps its objects.
const FIRST: &str = "/registry/";
/// The first key behind all of them.
const END: &str = "/registry0";
/// How many keys are asked for at once.
const PAGE: usize = 200;
/// How many keys one transaction may set (etcd's `--max-txn-ops`).
const MOST_KEYS: usize = 128;
/// How much one transaction may carry, in bytes of base64 (etcd's `--max-request-bytes` is 1.5 MiB, decoded).
const MOST_BYTES: usize = 1 << 20;

/// Objects that say something about the machine or the moment: events, who leads, where the API server listens, and which
/// addresses stand behind Services. Whoever wrote them writes them anew.
const LEFT_OUT: [&str; 5] = [
    "/registry/events/",
    "/registry/leases/",
    "/registry/masterleases/",
    "/registry/endpointslices/",
    "/registry/services/endpoints/",
];

/// Why objects could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("etcd: {0}")]
    Etcd(#[from] kube::Error),
    #[error("etcd's answer is not understood: {0}")]
    Answer(String),
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("{path}, line {line}: {message}")]
    Line { path: String, line: usize, message: String },
}

/// A running etcd.
pub(crate) struct Store {
    client: kube::Client,
}

/// One object; both parts in base64, as etcd's gateway has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(default)]
    value: String,
    /// Ends with this lease, if it is not 0.
    #[serde(default, skip_serializing)]
    lease: String,
}

#[derive(Deserialize)]
struct Page {
    header: Header,
    #[serde(default)]
    kvs: Vec<Entry>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

impl Store {
    /// The etcd that listens at this URL.
    pub(crate) fn at(url: &str) -> Result<Self, StoreError> {
        let url = url.parse().map_err(|e| StoreError::Answer(format!("{url} is no URL: {e}")))?;
        Ok(Self { client: kube::Client::try_from(kube::Config::new(url))? })
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T, StoreError> {
        let body = serde_json::to_vec(body).expect("a question is plain data");
        let request = http::Request::post(path).header("content-type", "application/json").body(body);
        Ok(self.client.request(request.expect("constant paths are well formed")).await?)
    }

    /// Whether it answers.
    pub(crate) async fn answers(&self) -> Result<(), StoreError> {
        self.page(FIRST.as_bytes(), None, 1).await.map(drop)
    }

    async fn page(&self, from: &[u8], revision: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let question = json!({
            "key": BASE64.encode(from), "range_end": BASE64.encode(END), "limit": limit.to_string(),
            "revision": revision.unwrap_or("0"),
        });
        self.ask("/v3/kv/range", &question).await
    }

    /// Writes all objects that belong to the cluster into a new file. Returns how many.
    pub(crate) async fn dump(&self, path: &Path) -> Result<usize, StoreError> {
        let failed = |source| StoreError::File { path: path.display().to_string(), source };
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path).await.map_err(failed)?;
        let mut file = BufWriter::new(file);
        let mut from = FIRST.as_bytes().to_vec();
        let mut revision = None;
        let mut count = 0;
        loop {
            let page = self.page(&from, revision.as_deref(), PAGE).await?;
            revision.get_or_insert(page.header.revision);
            for entry in &page.kvs {
                from = BASE64.decode(&entry.key).map_err(|e| StoreError::Answer(e.to_string()))?;
                if !belongs(&from, &entry.lease) {
                    continue;
                }
                count += 1;
                let mut line = serde_json::to_vec(entry).expect("an entry is plain data");
                line.push(b'\n');
                file.write_all(&line).await.map_err(failed)?;
            }
            if !page.more || page.kvs.is_empty() {
                break;
            }
            from.push(0);
        }
        file.flush().await.map_err(failed)?;
        Ok(count)
    }

    /// Puts the objects of a file into an etcd that has none. Returns how many.
    pub(crate) async fn load(&self, path: &Path) -> Result<usize, StoreError> {
        let place = path.display().to_string();
        let text =
            tokio::fs::read_to_string(path).await.map_err(|source| StoreError::File { path: place.clone(), source })?;
        let entries = text.lines().enumerate().map(|(n, line)| {
            serde_json::from_str::<Entry>(line).map_err(|e| StoreError::Line {
                path: place.clone(),
                line: n + 1,
                message: e.to_string(),
            })
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        for batch in batches(&entries) {
            let puts: Vec<_> = batch.iter().map(|e| json!({"requestPut": {"key": e.key, "value": e.value}})).collect();
            let _: serde_json::Value = self.ask("/v3/kv/txn", &json!({"success": puts})).await?;
        }
        Ok(entries.len())
    }
}

/// Whether an object is part of the cluster wherever it runs.
fn belongs(key: &[u8], lease: &str) -> bool {
    let ends = !matches!(lease, "" | "0");
    !ends && !LEFT_OUT.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
}

/// Neighbours that fit into one transaction.
fn batches(entries: &[Entry]) -> Vec<&[Entry]> {
    let mut all = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (n, entry) in entries.iter().enumerate() {
        let size = entry.key.len() + entry.value.len();
        if n > first && (n - first == MOST_KEYS || bytes + size > MOST_BYTES) {
            all.push(&entries[first..n]);
            (first, bytes) = (n, 0);
        }
        bytes += size;
    }
    if first < entries.len() {
        all.push(&entries[first..]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size: usize) -> Entry {
        Entry { key: String::new(), value: "x".repeat(size), lease: String::new() }
    }

    #[test]
    fn what_belongs_to_the_machine_stays_there() {
        assert!(belongs(b"/registry/pods/default/a", "0"));
        assert!(belongs(b"/registry/services/specs/default/a", ""));
        assert!(!belongs(b"/registry/services/endpoints/default/a", "0"));
        assert!(!belongs(b"/registry/leases/kube-system/a", "0"));
        assert!(!belongs(b"/registry/pods/default/a", "4711"));
    }

    #[test]
    fn a_batch_has_neither_too_many_keys_nor_too_many_bytes() {
        let lengths = |entries: &[Entry]| batches(entries).iter().map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&vec![entry(1); 300]), [128, 128, 44]);
        assert_eq!(lengths(&[entry(MOST_BYTES), entry(1), entry(MOST_BYTES - 1), entry(1)]), [1, 2, 1]);
        assert_eq!(lengths(&[entry(2 * MOST_BYTES), entry(1)]), [1, 1]);
    }

    #[test]
    fn a_line_keeps_key_and_value_only() {
        let page = r#"{"header":{"revision":"7"},"kvs":[{"key":"a2V5","create_revision":"2","value":"dmFsdWU=","lease":"9"}]}"#;
        let page: Page = serde_json::from_str(page).unwrap();
        assert_eq!(page.kvs[0].lease, "9");
        assert_eq!(serde_json::to_string(&page.kvs[0]).unwrap(), r#"{"key":"a2V5","value":"dmFsdWU="}"#);
    }
}
