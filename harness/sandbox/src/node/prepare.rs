//! From a container of a pod to the spec its first process gets: image, identity, environment, mounts.
//!
//! Reads config maps and secrets, changes nothing. Start at [`prepare`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::container::spec::{ContainerSpec, Mount, Process};
use super::context::{PodContext, spec};
use super::images::Image;
use super::security::Identity;
use super::volumes::Volumes;
use super::{env, etc, objects};
use crate::authorities::BUNDLE;
use crate::options::Programs;

/// Where host programs of an image may be. `/usr/local/bin` is the image's own in a container.
const HOST_FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Why a container cannot be started yet; `reason` is the word users know from the kubelet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Problem {
    fn config(error: &impl std::fmt::Display) -> Self {
        Self { reason: "CreateContainerConfigError", message: error.to_string() }
    }

    fn image(message: String) -> Self {
        Self { reason: "ErrImagePull", message }
    }
}

/// Everything the container's first process needs, and what names its image.
pub(crate) async fn prepare(
    context: &PodContext,
    pod: &Pod,
    container: &Container,
    root: PathBuf,
) -> Result<(ContainerSpec, String), Problem> {
    let node = &context.node;
    let pod_spec = spec(pod);
    let reference = container.image.as_deref().unwrap_or_default();
    let (pattern, image) = node.images.find(reference).map_err(|e| Problem::image(e.to_string()))?;
    let identity = Identity::of(&pod_spec, container, image).map_err(|e| Problem::config(&e))?;
    let found = objects::fetch(&node.client, &context.namespace, env::references(container))
        .await
        .map_err(|e| Problem::config(&e))?;
    let hostname = etc::hostname(pod);
    let api_service = node.config.api_service;
    let environment = env::build(container, &image.env, &context.facts(pod), &found, &hostname, api_service)
        .map_err(|e| Problem::config(&e))?;
    let argv = env::command_line(container, &image.entrypoint, &image.command, &environment);
    let programs = named(&image.programs, &node.config.programs)?;
    let mut files = files(image, &node.config.programs)?;
    let authorities = node.config.authorities.clone();
    files.extend(authorities.map(|list| (PathBuf::from(BUNDLE), list)));
    check_host(&image.host)?;
    let mounts = mounts(context, pod, container, &environment)?;
    let process = Process {
        argv,
        working_dir: PathBuf::from(container.working_dir.as_deref().unwrap_or(&image.working_dir)),
        env: environment,
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        capabilities: identity.capabilities,
        no_new_privileges: identity.no_new_privileges,
    };
    let sysctls = pod_spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    let spec = ContainerSpec {
        netns: context.netns.clone(),
        root,
        etc: etc::files(pod, context.ip, node.config.cluster_dns, process.uid, process.gid),
        hostname,
        programs,
        files,
        mounts,
        read_only_root: identity.read_only_root,
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
        process,
    };
    Ok((spec, format!("host-programs://{pattern}")))
}

/// The file of a component, by the name images use.
pub(crate) fn component<'a>(programs: &'a Programs, name: &str) -> Option<&'a Path> {
    Some(match name {
        "pilot-agent" => &programs.pilot_agent,
        "pilot-discovery" => &programs.pilot_discovery,
        "envoy" => &programs.envoy,
        "envoy-bootstrap" => &programs.envoy_bootstrap,
        "kubectl" => &programs.kubectl,
        "istioctl" => &programs.istioctl,
        _ => return None,
    })
}

fn file(programs: &Programs, name: &str) -> Result<PathBuf, Problem> {
    let path = component(programs, name)
        .ok_or_else(|| Problem::image(format!("fixtures/images.yaml names component {name:?}, which is none")))?;
    match path.metadata() {
        Ok(_) => Ok(path.to_owned()),
        Err(error) => Err(Problem::image(format!("component {name}: {}: {error}", path.display()))),
    }
}

fn named(names: &[String], programs: &Programs) -> Result<BTreeMap<String, PathBuf>, Problem> {
    names.iter().map(|name| Ok((name.clone(), file(programs, name)?))).collect()
}

fn files(image: &Image, programs: &Programs) -> Result<BTreeMap<PathBuf, PathBuf>, Problem> {
    image.files.iter().map(|(path, name)| Ok((PathBuf::from(path), file(programs, name)?))).collect()
}

fn check_host(names: &[String]) -> Result<(), Problem> {
    for name in names {
        if !HOST_FOLDERS.iter().any(|folder| Path::new(folder).join(name).exists()) {
            let folders = HOST_FOLDERS.join(", ");
            let message =
                format!("the image needs {name:?} of this machine, which is in none of {folders}: install it");
            return Err(Problem::image(message));
        }
    }
    Ok(())
}

fn mounts(
    context: &PodContext,
    pod: &Pod,
    container: &Container,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, Problem> {
    let pod_spec = spec(pod);
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = pod_spec.volumes.iter().flatten().find(|v| v.name == mount.name);
        let volume = volume.ok_or_else(|| Problem::config(&format!("no volume named {:?}", mount.name)))?;
        let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(text), _) if !text.is_empty() => Some(env::expand(text, |name| environment.get(name).cloned())),
            (_, Some(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        mounts.push(Mount {
            source: context.volume(&mount.name),
            sub_path: sub_path.map(PathBuf::from),
            target: Path::new("/").join(&mount.mount_path),
            read_only: mount.read_only == Some(true) || !Volumes::writable(volume),
        });
    }
    // A volume inside another one's path comes after it.
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}
