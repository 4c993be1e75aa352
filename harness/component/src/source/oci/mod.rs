//! Components out of official container images, by digest, without a container runtime.
//!
//! A tag says which manifest, the manifest's digests say what else is used: nothing whose SHA-256 is not the expected one is
//! unpacked. Only the one file that a pin names leaves an image, to a place that the image has no say in. Asks
//! anonymously, and in plain text only on loopback. Start at [`fetch`].

mod layers;
mod registry;

use std::collections::BTreeSet;

pub(crate) use registry::Registry;

use super::{Made, TOOL_LIMIT, seal};
use crate::cache::{Cache, Work};
use crate::component::{Component, Image, Kind};
use crate::error::Error;
use crate::lock::{Attempt, KeyLock};
use crate::progress::Reporter;
use crate::wait;

/// Pulls the layers of an image that are not here yet, and copies the pinned file into the work's object folder.
pub(crate) async fn fetch(
    component: &Component,
    image: &Image,
    registry: &Registry,
    cache: &Cache,
    work: &Work,
    reporter: Reporter<'_>,
) -> Result<Made, Error> {
    let pulled = registry.manifest(image, reporter).await?;
    let digests: BTreeSet<_> = pulled.layers.iter().map(|layer| layer.digest.as_str()).collect();
    let mut locks = Vec::new();
    // In order, so that two who want the same layers never wait for each other.
    for digest in digests {
        locks.push(lock(component, digest, cache, reporter).await?);
    }
    let mut paths = Vec::new();
    for layer in &pulled.layers {
        paths.push(registry.layer(image, layer, cache, reporter).await?);
    }
    reporter.step(&format!("unpacking {} of {}", image.path, image.reference));
    let (wanted, to) = (image.path.clone(), work.object().join(&component.entry));
    let sealed = to.clone();
    tokio::task::spawn_blocking(move || layers::take(&paths, &wanted, &to))
        .await
        .map_err(std::io::Error::other)
        .map_err(Error::io("unpack", &sealed))?
        .map_err(|reason| Error::Layer { reference: image.reference.clone(), reason: reason.to_string() })?;
    seal(&sealed, component.kind != Kind::File)?;
    drop(locks);
    Ok(Made::from([("image".to_owned(), image.reference.clone()), ("digest".to_owned(), pulled.digest)]))
}

async fn lock(component: &Component, digest: &str, cache: &Cache, reporter: Reporter<'_>) -> Result<KeyLock, Error> {
    let key = digest.replace(':', "-");
    let note = format!("process {}, pulling {digest}", std::process::id());
    let mut holder = String::new();
    let held = wait::until(TOOL_LIMIT, |_| match cache.try_lock(&key, &note)? {
        Attempt::Held(lock) => Ok::<_, Error>(Some(lock)),
        Attempt::Busy(other) => {
            if other != holder {
                reporter.waiting(&other);
                holder = other;
            }
            Ok(None)
        }
    })
    .await?;
    held.ok_or_else(|| Error::Locked { name: component.name.to_string(), waited_s: TOOL_LIMIT.as_secs(), holder })
}
