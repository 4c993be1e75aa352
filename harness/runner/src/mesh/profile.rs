//! Mesh profiles: putting one in force, and reading from istiod and from pods whether it is.
//!
//! A profile is an IstioOperator file below `fixtures/mesh/`. Nothing here decides which one is wanted. Start at
//! [`install`] and [`in_force`].

use std::time::Duration;

use egress_core::access_log::Format;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::cluster::istio::{self, MeshFacts};
use crate::cluster::{EnvironmentError, Provider};
use crate::gate::Gate;
use crate::wait;

fn operator(profile: &str) -> Result<Value, EnvironmentError> {
    let text = crate::embedded::text(&format!("mesh/{profile}.yaml")).map_err(EnvironmentError::new)?;
    serde_saphyr::from_str(text).map_err(|e| EnvironmentError::new(format!("the profile {profile} is no YAML: {e}")))
}

/// Runs `istioctl install` with the profile and what this kind of cluster needs beside it.
///
/// # Errors
/// [`EnvironmentError`] with istioctl's own last lines.
pub async fn install(
    provider: &dyn Provider,
    istioctl: &std::path::Path,
    profile: &str,
    timeout: Duration,
) -> Result<(), EnvironmentError> {
    let dir = tempfile::tempdir().map_err(|e| EnvironmentError::new(format!("no temporary folder: {e}")))?;
    let mut files = Vec::new();
    let profile_file = format!("mesh/{profile}.yaml");
    for (n, name) in std::iter::once(profile_file.as_str()).chain(provider.overlays().iter().copied()).enumerate() {
        let path = dir.path().join(format!("{n}.yaml"));
        let text = crate::embedded::text(name).map_err(EnvironmentError::new)?;
        std::fs::write(&path, text)
            .map_err(|e| EnvironmentError::new(format!("{} cannot be written: {e}", path.display())))?;
        files.push(path);
    }
    istio::install(istioctl, provider.kubeconfig(), (&files, provider.settings()), timeout).await
}

/// Waits until istiod's own mesh configuration says what the profile asks for.
///
/// # Errors
/// [`EnvironmentError`] with what istiod said last.
pub async fn in_force(gate: &Gate, profile: &str, timeout: Duration) -> Result<MeshFacts, EnvironmentError> {
    let wanted = wanted(&operator(profile)?);
    wait::until(&format!("profile {profile} in istiod"), timeout, || async {
        let page = gate.istiod_page("/debug/mesh").await.map_err(|e| e.to_string())?;
        let facts = istio::mesh_facts(&page)?;
        if facts == wanted { Ok(facts) } else { Err(format!("{facts:?}, wanted {wanted:?}")) }
    })
    .await
    .map_err(|e| EnvironmentError::new(e.to_string()))
}

/// What istiod says of its mesh configuration once this profile is in force; Istio's defaults where it says nothing.
fn wanted(operator: &Value) -> MeshFacts {
    let text = |field: &str| operator.pointer(&format!("/spec/meshConfig/{field}")).and_then(Value::as_str);
    MeshFacts {
        outbound_policy: text("outboundTrafficPolicy/mode").unwrap_or("ALLOW_ANY").to_owned(),
        access_log_format: text("accessLogFormat").unwrap_or_default().to_owned(),
        access_log_json: text("accessLogEncoding") == Some("JSON"),
    }
}

/// The format of the mesh's access logs.
///
/// # Errors
/// [`EnvironmentError`] when it cannot be read.
pub fn access_log_format(facts: &MeshFacts, istio: &str) -> Result<Format, EnvironmentError> {
    let format = match (facts.access_log_format.as_str(), facts.access_log_json) {
        ("", false) => Format::istio_text(istio),
        ("", true) => Format::istio_json(istio),
        (text, false) => Format::text(text),
        (text, true) => Format::json(text),
    };
    format.map_err(|e| EnvironmentError::new(format!("the mesh's access-log format cannot be read: {e}")))
}

/// The mesh-wide `includeIPRanges` of a profile; `*` where it says nothing (Istio's default).
///
/// # Errors
/// [`EnvironmentError`] when there is no such profile.
pub fn include_ip_ranges(profile: &str) -> Result<String, EnvironmentError> {
    let operator = operator(profile)?;
    let ranges = operator.pointer("/spec/values/global/proxy/includeIPRanges").and_then(Value::as_str);
    Ok(ranges.unwrap_or("*").to_owned())
}

/// What a pod's `istio-init` was told to redirect (`-i`).
#[must_use]
pub fn redirected_ranges(pod: &Pod) -> String {
    let inits = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let arguments: Vec<String> =
        inits.filter(|c| c.name == "istio-init").flat_map(|c| c.args.clone()).flatten().collect();
    arguments.iter().position(|a| a == "-i").and_then(|at| arguments.get(at + 1)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_say_which_ranges_are_redirected() {
        assert_eq!(include_ip_ranges("registry-only").expect("profile"), "*");
        assert_eq!(include_ip_ranges("include-ip-ranges").expect("profile"), "10.96.0.0/12");
    }

    #[test]
    fn profiles_say_what_istiod_is_to_say() {
        let json = wanted(&operator("json-access-log").expect("profile"));
        assert!(json.access_log_json && json.access_log_format.is_empty());
        assert_eq!(json.outbound_policy, "REGISTRY_ONLY");
        let own = wanted(&operator("own-access-log").expect("profile"));
        assert!(own.access_log_format.ends_with("%REQ(X-REQUEST-ID)%\n"), "{own:?}");
        assert!(access_log_format(&own, "1.31.0").is_ok());
        assert_eq!(
            wanted(&operator("allow-any-dynamic-dns").expect("profile")).outbound_policy,
            "ALLOW_ANY_DYNAMIC_DNS"
        );
    }
}
