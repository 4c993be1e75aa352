//! The component store of this program: its embedded pins, the user's cache and overrides.
//!
//! Start at [`store`].

use std::path::PathBuf;
use std::sync::Arc;

use egress_component::{Cache, Family, Host, Hub, PinFiles, Pins, ProgramName, Store, Versions};
use egress_core::scenario::{Circumstances, ClusterKind, envoy_of_istio};
use egress_image::{Images, OwnPrograms};

use crate::cluster::{EnvironmentError, capabilities};
use crate::progress::Console;

/// Names a second cache that is only read, such as one that another user filled.
pub const READ_ONLY_CACHE: &str = "EGRESS_CONFORMANCE_READ_ONLY_CACHE";

/// Every program that a sandbox runs, or that its `shell` offers.
pub static SANDBOX_PROGRAMS: [ProgramName; 10] = [
    ProgramName::ETCD,
    ProgramName::KUBE_APISERVER,
    ProgramName::KUBE_CONTROLLER_MANAGER,
    ProgramName::KUBE_PROXY,
    ProgramName::KUBECTL,
    ProgramName::PILOT_DISCOVERY,
    ProgramName::PILOT_AGENT,
    ProgramName::ISTIOCTL,
    ProgramName::ENVOY,
    ProgramName::ENVOY_BOOTSTRAP,
];

/// Opens the store in the user's cache folder, with everything as pinned.
///
/// # Errors
/// [`EnvironmentError`] when the cache folder cannot be used.
pub fn store() -> Result<Store, EnvironmentError> {
    store_at(&Versions::default())
}

/// Opens the store in the user's cache folder, with these versions in place of the pinned ones.
///
/// # Errors
/// [`EnvironmentError`] when the cache folder cannot be used, or a version is not to be had.
pub fn store_at(versions: &Versions) -> Result<Store, EnvironmentError> {
    let failed = |e: egress_component::Error| EnvironmentError::of(&e);
    let pins = pins()?.at(versions).map_err(failed)?;
    let host = Host::current();
    let dir = Cache::default_dir(&host).map_err(failed)?;
    let read_only = host.get(READ_ONLY_CACHE).map(PathBuf::from);
    let cache = Cache::open(dir, read_only).map_err(failed)?;
    Ok(Store::new(pins, cache, host))
}

/// Whether these versions are to be had.
///
/// # Errors
/// [`EnvironmentError`] with those that are.
pub fn check(versions: &Versions) -> Result<(), EnvironmentError> {
    pins()?.at(versions).map(drop).map_err(|e| EnvironmentError::of(&e))
}

fn pins() -> Result<Pins, EnvironmentError> {
    Pins::from_files(&PinFiles::from_iter(crate::embedded::components()))
        .map_err(|e| EnvironmentError::new(format!("the embedded pins are wrong: {e}")))
}

/// What scenarios find on a cluster that is made of these versions.
///
/// # Errors
/// [`EnvironmentError`] when a version is not to be had.
pub fn circumstances(cluster: ClusterKind, versions: &Versions) -> Result<Circumstances, EnvironmentError> {
    let pins = pins()?.at(versions).map_err(|e| EnvironmentError::of(&e))?;
    let istio = pins.get(&ProgramName::PILOT_DISCOVERY).map(|p| p.version().to_owned());
    let extensions = match cluster {
        ClusterKind::Sandbox => has_istio_extensions(versions)?,
        ClusterKind::Kind | ClusterKind::Existing => false,
    };
    let envoy = if extensions {
        istio.as_deref().and_then(envoy_of_istio)
    } else {
        pins.get(&ProgramName::ENVOY).map(|p| p.version().to_owned())
    };
    let capabilities = capabilities(extensions).into_iter().collect();
    Ok(Circumstances { capabilities, istio, envoy, cluster: Some(cluster) })
}

/// Whether the proxies are to be those of Istio's own images.
///
/// # Errors
/// [`EnvironmentError`] when the pins are wrong.
pub fn has_istio_extensions(versions: &Versions) -> Result<bool, EnvironmentError> {
    Ok(versions.envoy.is_none() && pins()?.is_from_images(Family::Istio, versions))
}

/// The variables of the environment that say what a cluster is made of.
pub const VARIABLES: [&str; 5] =
    ["EGRESS_CLUSTER", "EGRESS_ISTIO_VERSION", "EGRESS_ENVOY_VERSION", "EGRESS_KUBERNETES_VERSION", "EGRESS_REGISTRY"];

/// The versions and hubs that the environment asks for.
///
/// # Errors
/// What is wrong with the registry.
pub fn versions_of_environment() -> Result<Versions, String> {
    let host = Host::current();
    let given = |name: &str| host.get(name).map(|value| value.to_string_lossy().into_owned());
    let hubs = given("EGRESS_REGISTRY").unwrap_or_default();
    let hubs = hubs.split(',').filter(|hub| !hub.is_empty()).map(str::parse::<Hub>).collect::<Result<Vec<_>, _>>()?;
    Ok(Versions {
        istio: given("EGRESS_ISTIO_VERSION"),
        envoy: given("EGRESS_ENVOY_VERSION"),
        kubernetes: given("EGRESS_KUBERNETES_VERSION"),
        hubs: hubs.into_iter().map(|hub| (hub.family, hub.place)).collect(),
    })
}

/// Opens the store for images: these programs, this project's own static ones, and the cache. What is missing is built.
///
/// # Errors
/// [`EnvironmentError`] when a component or one of the own programs cannot be had.
pub async fn images(wanted: &[ProgramName], console: &Console) -> Result<Images, EnvironmentError> {
    let store = store()?;
    let programs = store.ensure(wanted, console).await.map_err(|e| EnvironmentError::of(&e))?;
    let host = store.host().clone();
    let own = OwnPrograms::ensure(&host, console).await.map_err(|e| EnvironmentError::of(&e))?;
    Ok(Images { cache: store.cache().clone(), host, programs, own, progress: Arc::new(console.clone()) })
}
