//! A registry on loopback, with what can go wrong: <https://github.com/opencontainers/distribution-spec>.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What goes wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Everything needs a token, which `/token` gives to anybody.
    pub(crate) token: bool,
    /// So many requests for manifests and layers are too many.
    pub(crate) too_many: usize,
    /// So many times a layer's answer breaks off in the middle.
    pub(crate) truncate: usize,
    /// Ranges are not served.
    pub(crate) whole_only: bool,
    /// Layers are something else than their digests say.
    pub(crate) wrong_layer: bool,
    /// The manifest of a platform is something else than the index says.
    pub(crate) wrong_manifest: bool,
}

#[derive(Default)]
struct Content {
    /// By repository and tag or digest.
    manifests: BTreeMap<(String, String), (&'static str, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    faults: Faults,
    heard: Vec<String>,
}

/// A running registry; it ends with the test.
#[derive(Clone)]
pub(crate) struct LoopbackRegistry {
    content: Arc<Mutex<Content>>,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// A gzipped layer of these files, each with path and content.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        // The name as it is: what is not allowed has to be seen.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

impl LoopbackRegistry {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let registry = Self { content: Arc::default(), host };
        let app = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        registry
    }

    pub(crate) fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.content.lock().unwrap().faults);
    }

    /// What was asked for so far, as `METHOD PATH [RANGE]`.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.content.lock().unwrap().heard.clone()
    }

    /// Puts an image for this platform there. Gives the digest of its manifest.
    pub(crate) fn put(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
        let mut content = self.content.lock().unwrap();
        let mut add = |media_type: &str, bytes: &[u8]| {
            content.blobs.insert(digest(bytes), bytes.to_vec());
            json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
        };
        let config = add("application/vnd.oci.image.config.v1+json", b"{}");
        let layers: Vec<Value> =
            layers.iter().map(|layer| add("application/vnd.oci.image.layer.v1.tar+gzip", layer)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let named = digest(&bytes);
        for reference in [tag.to_owned(), named.clone()] {
            content.manifests.insert((repository.to_owned(), reference), (MANIFEST, bytes.clone()));
        }
        named
    }

    /// Puts an image for several platforms there, of which only one is this one's. Gives the digest of the index.
    pub(crate) fn put_index(&self, repository: &str, tag: &str, platforms: &[(&str, &[Vec<u8>])]) -> String {
        let entries: Vec<_> = platforms
            .iter()
            .map(|(architecture, layers)| {
                let named = self.put(repository, &format!("{tag}-{architecture}"), layers);
                let size = self.content.lock().unwrap().manifests[&(repository.to_owned(), named.clone())].1.len();
                let platform = json!({"os": "linux", "architecture": architecture});
                json!({"mediaType": MANIFEST, "digest": named, "size": size, "platform": platform})
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        let bytes = serde_json::to_vec(&index).unwrap();
        let named = digest(&bytes);
        let mut content = self.content.lock().unwrap();
        content.manifests.insert((repository.to_owned(), tag.to_owned()), (INDEX, bytes));
        named
    }
}

fn refuse(status: StatusCode, code: &str) -> Response {
    (status, json!({"errors": [{"code": code, "message": code}]}).to_string()).into_response()
}

async fn answer(State(registry): State<LoopbackRegistry>, request: Request) -> Response {
    let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
    let mut content = registry.content.lock().unwrap();
    let range = headers.get(header::RANGE).map(|r| format!(" {}", r.to_str().unwrap())).unwrap_or_default();
    content.heard.push(format!("{} {path}{range}", request.method()));
    if path == "/token" {
        return axum::Json(json!({"token": "let-me-in"})).into_response();
    }
    let bearer = headers.get(header::AUTHORIZATION).is_some_and(|value| value == "Bearer let-me-in");
    if content.faults.token && !bearer {
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"loopback\"", registry.host);
        let mut refused = refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        return refused;
    }
    let Some(rest) = path.strip_prefix("/v2/").filter(|rest| !rest.is_empty()) else {
        return StatusCode::OK.into_response();
    };
    if content.faults.too_many > 0 {
        content.faults.too_many -= 1;
        return refuse(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS");
    }
    if let Some((repository, reference)) = rest.split_once("/manifests/") {
        let Some((kind, bytes)) = content.manifests.get(&(repository.to_owned(), reference.to_owned())) else {
            return refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        };
        let mut bytes = bytes.clone();
        if content.faults.wrong_manifest && reference.starts_with("sha256:") {
            bytes.push(b' ');
        }
        return ([(header::CONTENT_TYPE, *kind)], bytes).into_response();
    }
    let Some((_, named)) = rest.split_once("/blobs/") else { return StatusCode::NOT_FOUND.into_response() };
    match content.blobs.get(named).cloned() {
        Some(bytes) => blob(bytes, &headers, &mut content.faults),
        None => refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
    }
}

fn blob(mut bytes: Vec<u8>, headers: &HeaderMap, faults: &mut Faults) -> Response {
    if faults.wrong_layer {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    let range =
        headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let from = range.and_then(|(from, _)| from.parse::<usize>().ok()).filter(|_| !faults.whole_only).unwrap_or(0);
    let total = bytes.len();
    let left = Bytes::from(bytes.split_off(from));
    let mut response = Response::builder().header(header::CONTENT_LENGTH, left.len());
    if from > 0 {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1));
    }
    if faults.truncate == 0 {
        return response.body(Body::from(left)).unwrap();
    }
    faults.truncate -= 1;
    let half = left.slice(..left.len() / 2);
    let end = futures::stream::once(async {
        // The server sends what it has when the body has nothing more for it.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("broken off"))
    });
    let broken = futures::stream::iter([Ok(half)]).chain(end);
    response.body(Body::from_stream(broken)).unwrap()
}

/// A file whose gzip is long enough to break off in the middle.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let (mut state, mut noise) = (1_u64, Vec::with_capacity(length));
    while noise.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.write_all(&state.to_be_bytes()[..4]).unwrap();
    }
    noise
}
