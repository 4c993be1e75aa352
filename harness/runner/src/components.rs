//! The component store of this program: its embedded pins, the user's cache and overrides.
//!
//! Start at [`store`].

use std::path::PathBuf;
use std::sync::Arc;

use egress_component::{Cache, Host, PinFiles, Pins, ProgramName, Store};
use egress_image::{Images, OwnPrograms};

use crate::cluster::EnvironmentError;
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

/// Opens the store in the user's cache folder.
///
/// # Errors
/// [`EnvironmentError`] when the cache folder cannot be used.
pub fn store() -> Result<Store, EnvironmentError> {
    let pins = Pins::from_files(&PinFiles::from_iter(crate::embedded::components()))
        .map_err(|e| EnvironmentError::new(format!("the embedded pins are wrong: {e}")))?;
    let host = Host::current();
    let failed = |e: egress_component::Error| EnvironmentError::of(&e);
    let dir = Cache::default_dir(&host).map_err(failed)?;
    let read_only = host.get(READ_ONLY_CACHE).map(PathBuf::from);
    let cache = Cache::open(dir, read_only).map_err(failed)?;
    Ok(Store::new(pins, cache, host))
}

/// The version of Istio that this program's pins build.
///
/// # Errors
/// [`EnvironmentError`] when the store cannot be opened.
pub fn pinned_istio() -> Result<String, EnvironmentError> {
    let store = store()?;
    let pin = store.pins().get(&ProgramName::PILOT_DISCOVERY);
    pin.map(|p| p.version().to_owned()).ok_or_else(|| EnvironmentError::new("no pin for pilot-discovery"))
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
