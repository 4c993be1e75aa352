//! The registry's side: manifests and layers, verified, continued where they broke off.
//!
//! One of these serves one `ensure`: a tag is looked up once, a layer is pulled once and kept until the end. Start at
//! [`Registry`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::io::AsyncWriteExt;

use crate::cache::Cache;
use crate::component::Image;
use crate::error::Error;
use crate::hash;
use crate::lock::Attempt;
use crate::progress::Reporter;
use crate::wait;

/// Within this time a registry that is in reach says something.
const PROBE: Duration = Duration::from_secs(3);
/// A registry may be silent for so long in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// For so long a registry that says "too many requests" is asked again, each time after twice the pause.
const PATIENCE: Duration = Duration::from_secs(60);

/// Registries, asked anonymously.
pub(crate) struct Registry {
    client: Client,
    pulled: Mutex<BTreeMap<String, Pulled>>,
    used: Mutex<BTreeSet<String>>,
}

/// What a tag stands for on this platform.
#[derive(Clone)]
pub(super) struct Pulled {
    /// Of what the tag names: the index of an image for several platforms, else its manifest.
    pub(super) digest: String,
    pub(super) layers: Vec<OciDescriptor>,
}

impl Registry {
    /// For the registries of these images. Those on this machine are asked without TLS.
    pub(crate) fn new<'i>(images: impl Iterator<Item = &'i Image>) -> Result<Self, Error> {
        // Whoever was first has chosen the same: there is only one in this program.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut plain = Vec::new();
        for image in images {
            let reference = parse(image)?;
            if is_loopback(reference.resolve_registry()) {
                plain.push(reference.resolve_registry().to_owned());
            }
        }
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain),
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(SILENCE),
            user_agent: concat!("egress-conformance/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|e| Error::Registry {
            reference: "any image".to_owned(),
            reason: format!("no client could be made: {e}"),
            help: "this is unexpected: does this machine have root certificates (package ca-certificates)?".to_owned(),
        })?;
        Ok(Self { client, pulled: Mutex::default(), used: Mutex::default() })
    }

    /// Whether the image's registry answers at all, asked once and quickly.
    pub(crate) async fn in_reach(&self, image: &Image) -> bool {
        let Ok(reference) = parse(image) else { return false };
        let asked = self.client.auth(&reference, &RegistryAuth::Anonymous, RegistryOperation::Pull);
        match tokio::time::timeout(PROBE, asked).await {
            Ok(Ok(_)) => true,
            Ok(Err(OciDistributionError::RequestError(error))) => !(error.is_connect() || error.is_timeout()),
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// What the image's tag stands for.
    pub(super) async fn manifest(&self, image: &Image, reporter: Reporter<'_>) -> Result<Pulled, Error> {
        if let Some(known) = self.pulled.lock().unwrap_or_else(PoisonError::into_inner).get(&image.reference) {
            return Ok(known.clone());
        }
        reporter.step(&format!("looking up {}", image.reference));
        let reference = parse(image)?;
        let asked = self
            .patiently(reporter, async || {
                self.client.pull_image_manifest_and_list_digest(&reference, &RegistryAuth::Anonymous).await
            })
            .await;
        let (manifest, digest, index) = asked.map_err(|error| explain(image, error))?;
        let pulled = Pulled { digest: index.unwrap_or(digest), layers: manifest.layers };
        let mut known = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(image.reference.clone()).or_insert(pulled).clone())
    }

    /// The verified file of a layer. The caller holds the layer's lock.
    pub(super) async fn layer(
        &self,
        image: &Image,
        layer: &OciDescriptor,
        cache: &Cache,
        reporter: Reporter<'_>,
    ) -> Result<PathBuf, Error> {
        let failed = |reason: String| registry_error(image, reason);
        let sha256 = layer.digest.strip_prefix("sha256:").filter(|hex| is_sha256(hex));
        let sha256 = sha256.ok_or_else(|| failed(format!("a layer's digest {:?} is no SHA-256", layer.digest)))?;
        let size = u64::try_from(layer.size).map_err(|_| failed(format!("a layer's size is {}", layer.size)))?;
        let path = cache.download(sha256);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256.to_owned());
        if path.exists() && hash_of(&path).await? == sha256 {
            return Ok(path);
        }
        let part = path.with_extension("part");
        let mut had = len(&part);
        if had > size {
            remove(&part)?;
            had = 0;
        }
        while had < size {
            reporter.step(&format!("pulling {:.19}, {} of {} MB", layer.digest, had / 1_000_000, size / 1_000_000));
            let broke = self.continue_layer(image, layer, &part, (had, size), reporter).await?;
            let has = len(&part);
            // It may break off as often as it likes, as long as it gets further each time.
            if has <= had {
                let why = broke.unwrap_or_else(|| "the answer ended early".to_owned());
                return Err(failed(format!(
                    "layer {} came to an end after {has} of {size} bytes: {why}",
                    layer.digest
                )));
            }
            had = has;
        }
        let seen = hash_of(&part).await?;
        if seen != sha256 {
            remove(&part)?;
            return Err(Error::Hash {
                what: format!("layer {} of {}", layer.digest, image.reference),
                expected: sha256.to_owned(),
                seen,
                help: "the registry served something else than its manifest says; it was thrown away".to_owned(),
            });
        }
        std::fs::rename(&part, &path).map_err(Error::io("put in place", &part))?;
        Ok(path)
    }

    /// Appends what comes to the part. Gives why it broke off, if it did.
    async fn continue_layer(
        &self,
        image: &Image,
        layer: &OciDescriptor,
        part: &Path,
        (had, size): (u64, u64),
        reporter: Reporter<'_>,
    ) -> Result<Option<String>, Error> {
        let reference = parse(image)?;
        let asked = self
            .patiently(reporter, async || self.client.pull_blob_stream_partial(&reference, layer, had, None).await)
            .await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(OciDistributionError::RequestError(error)) if had > 0 => return Ok(Some(error.to_string())),
            Err(error) => return Err(explain(image, error)),
        };
        let io = |what| Error::io(what, part);
        let mut options = tokio::fs::OpenOptions::new();
        let (mut stream, mut has) = match answer {
            BlobResponse::Partial(stream) => {
                options.create(true).append(true);
                (stream, had)
            }
            // It does not do parts.
            BlobResponse::Full(stream) => {
                options.create(true).write(true).truncate(true);
                (stream, 0)
            }
        };
        let mut file = options.open(part).await.map_err(io("write"))?;
        let mut broke = None;
        let mut told = has;
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    broke = Some(error.to_string());
                    break;
                }
            };
            has += chunk.len() as u64;
            if has > size {
                broke = Some(format!("more than the {size} bytes of its manifest came"));
                file.set_len(0).await.map_err(io("write"))?;
                break;
            }
            file.write_all(&chunk).await.map_err(io("write"))?;
            if has - told > 10_000_000 {
                told = has;
                reporter.step(&format!("pulling {:.19}, {} of {} MB", layer.digest, has / 1_000_000, size / 1_000_000));
            }
        }
        file.flush().await.map_err(io("write"))?;
        Ok(broke)
    }

    /// Asks again for as long as the only answer is "too many requests".
    async fn patiently<T>(
        &self,
        reporter: Reporter<'_>,
        mut ask: impl AsyncFnMut() -> Result<T, OciDistributionError>,
    ) -> Result<T, OciDistributionError> {
        let mut last = None;
        let answer = wait::ever_slower(PATIENCE, async |_| match ask().await {
            Err(error) if is_too_many(&error) => {
                reporter.step("the registry says that these are too many requests: waiting");
                last = Some(error);
                None
            }
            other => Some(other),
        });
        match answer.await {
            Some(answer) => answer,
            None => Err(last.expect("it was asked at least once")),
        }
    }

    /// Removes the layers that nobody else is reading.
    pub(crate) fn finish(self, cache: &Cache) {
        let note = format!("process {}, removing it", std::process::id());
        for sha256 in self.used.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if let Ok(Attempt::Held(_lock)) = cache.try_lock(&format!("sha256-{sha256}"), &note) {
                let _ = std::fs::remove_file(cache.download(&sha256));
            }
        }
    }
}

fn parse(image: &Image) -> Result<Reference, Error> {
    image.reference.parse().map_err(|e| registry_error(image, format!("it is no name of an image: {e}")))
}

/// Whether that registry (`HOST` or `HOST:PORT`) is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_too_many(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ServerError { code, .. } => *code == 429,
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|e| e.code == OciErrorCode::Toomanyrequests)
        }
        _ => false,
    }
}

fn is_unknown(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ServerError { code, .. } => *code == 404,
        OciDistributionError::RegistryError { envelope, .. } => {
            let unknown = |code: &OciErrorCode| {
                matches!(code, OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound)
            };
            envelope.errors.iter().any(|e| unknown(&e.code))
        }
        _ => false,
    }
}

fn registry_error(image: &Image, reason: String) -> Error {
    Error::Registry { reference: image.reference.clone(), reason, help: image.help() }
}

fn explain(image: &Image, error: OciDistributionError) -> Error {
    if is_unknown(&error) {
        return Error::NoImage { reference: image.reference.clone(), help: image.help() };
    }
    let mut reason = match &error {
        OciDistributionError::ImageManifestNotFoundError(_) => {
            return registry_error(image, format!("it is not for this platform ({})", crate::component::platform()));
        }
        error if is_too_many(error) => format!("the registry says that these are too many requests: {error}"),
        error => error.to_string(),
    };
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    registry_error(image, reason)
}

fn len(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}

fn remove(path: &Path) -> Result<(), Error> {
    std::fs::remove_file(path).map_err(Error::io("remove", path))
}

async fn hash_of(path: &Path) -> Result<String, Error> {
    let owned = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash::file(&owned)).await.map_err(std::io::Error::other);
    hashed.and_then(|hash| hash).map_err(Error::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for here in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["docker.io", "localhost.example.com", "10.0.0.1:5000", "127.0.0.1.example.com:80", "[::2]:1"] {
            assert!(!is_loopback(there), "{there}");
        }
    }
}
