//! The volumes of one pod: made before its containers, kept up to date, removed after them.
//!
//! It holds folders on the node; mounting them is the container's own work. Start at [`Volumes::sync`].

mod files;
mod nested;
mod payload;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, ServiceAccount, Volume};
use kube::api::{Api, PostParams};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::time::Instant;

use self::payload::PayloadError;
use super::env::Reference;
use super::facts::Facts;
use super::{objects, quantity};

/// Why volumes are not ready. Most of these pass, once somebody makes the missing object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// A source has no value.
    #[error("volume {volume:?}: {source}")]
    Payload {
        /// The volume.
        volume: String,
        /// Why.
        source: PayloadError,
    },
    /// The API server refused or did not answer.
    #[error("volumes: {0}")]
    Api(#[from] Box<kube::Error>),
    /// Files could not be written.
    #[error("volume {volume:?}: {source}")]
    Io {
        /// The volume.
        volume: String,
        /// Why.
        source: io::Error,
    },
}

struct Token {
    text: String,
    renew_at: Instant,
}

/// The volumes of one pod.
pub(crate) struct Volumes {
    folder: PathBuf,
    client: kube::Client,
    tokens: BTreeMap<(String, String), Token>,
    mounted: Vec<PathBuf>,
}

impl Volumes {
    /// Volumes under `folder`, which nobody else uses.
    pub(crate) fn new(folder: PathBuf, client: kube::Client) -> Self {
        Self { folder, client, tokens: BTreeMap::new(), mounted: vec![] }
    }

    /// Where a volume is on the node.
    pub(crate) fn path(&self, volume: &str) -> PathBuf {
        self.folder.join(volume)
    }

    /// Every object whose change matters to the pod's volumes.
    pub(crate) fn references(pod: &Pod) -> BTreeSet<Reference> {
        volumes(pod).flat_map(payload::references).collect()
    }

    /// Whether containers may write to a volume, whatever their mount says.
    pub(crate) fn writable(volume: &Volume) -> bool {
        volume.empty_dir.is_some()
    }

    /// Makes every volume what it should be now. Returns when the next token must be renewed.
    ///
    /// # Errors
    /// When a source is missing; what could be made is made.
    pub(crate) async fn sync(&mut self, facts: &Facts<'_>) -> Result<Option<Instant>, VolumeError> {
        let pod = facts.pod;
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let group = pod
            .spec
            .as_ref()
            .and_then(|s| s.security_context.as_ref()?.fs_group)
            .and_then(|group| u32::try_from(group).ok());
        let objects = objects::fetch(&self.client, &namespace, Self::references(pod)).await.map_err(Box::new)?;
        for volume in volumes(pod) {
            let io = |source| VolumeError::Io { volume: volume.name.clone(), source };
            if let Some(source) = &volume.empty_dir {
                self.empty_dir(&volume.name, source, group).map_err(io)?;
                continue;
            }
            let tokens = self.tokens(pod, &namespace, volume).await?;
            let container = pod.spec.as_ref().and_then(|s| s.containers.first()).map_or("", |c| c.name.as_str());
            let files = payload::of_volume(volume, facts, container, &objects, &tokens)
                .map_err(|source| VolumeError::Payload { volume: volume.name.clone(), source })?;
            let folder = self.path(&volume.name);
            files::write(&folder, &files, group).map_err(io)?;
            for point in nested::mount_points(pod, &volume.name) {
                std::fs::create_dir_all(folder.join(point)).map_err(io)?;
            }
        }
        Ok(self.tokens.values().map(|t| t.renew_at).min())
    }

    fn empty_dir(&mut self, name: &str, source: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
        let path = self.path(name);
        if path.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&path)?;
        if source.medium.as_deref() == Some("Memory") {
            let bytes = source.size_limit.as_ref().and_then(|q| quantity::parse(&q.0)).map(|n| n / 1_000_000_000);
            let size = bytes.map_or_else(String::new, |bytes| format!(",size={bytes}"));
            let options = std::ffi::CString::new(format!("mode=0777{size}"))?;
            let flags = MountFlags::NODEV | MountFlags::NOSUID;
            rustix::mount::mount("tmpfs", &path, "tmpfs", flags, Some(options.as_c_str()))?;
            self.mounted.push(path.clone());
        }
        chown(&path, None, group)?;
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
    }

    /// The tokens of one volume by path, new ones where they are missing or near their end.
    async fn tokens(
        &mut self,
        pod: &Pod,
        namespace: &str,
        volume: &Volume,
    ) -> Result<BTreeMap<String, String>, VolumeError> {
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
        let mut found = BTreeMap::new();
        for source in payload::tokens(volume) {
            let key = (volume.name.clone(), source.path.clone());
            let fresh = self.tokens.get(&key).filter(|token| token.renew_at > Instant::now());
            if let Some(token) = fresh {
                found.insert(source.path.clone(), token.text.clone());
                continue;
            }
            let lifetime = source.expiration_seconds.unwrap_or(3600);
            let request = TokenRequest {
                spec: Some(TokenRequestSpec {
                    audiences: source.audience.clone().map(|audience| vec![audience]),
                    expiration_seconds: Some(lifetime),
                    bound_object_ref: Some(BoundObjectReference {
                        api_version: Some("v1".into()),
                        kind: Some("Pod".into()),
                        name: pod.metadata.name.clone(),
                        uid: pod.metadata.uid.clone(),
                    }),
                    ..TokenRequestSpec::default()
                }),
                ..TokenRequest::default()
            };
            let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
            let answer = api.create_token_request(account, &PostParams::default(), &request).await.map_err(Box::new)?;
            let text = answer.status.and_then(|s| s.token).unwrap_or_default();
            // The kubelet renews after four fifths of the lifetime too.
            let renew_in = Duration::from_secs(u64::try_from(lifetime).unwrap_or(3600) * 4 / 5);
            self.tokens.insert(key, Token { text: text.clone(), renew_at: Instant::now() + renew_in });
            found.insert(source.path.clone(), text);
        }
        Ok(found)
    }

    /// Removes every volume. No container may run any more.
    pub(crate) fn remove(&mut self) {
        for path in self.mounted.drain(..) {
            let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        }
        remove_folder(&self.folder);
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten())
}

/// Removes a folder; one that cannot be removed is reported, and goes with the sandbox's state.
pub(crate) fn remove_folder(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove");
    }
}
