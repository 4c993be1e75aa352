//! Whether an Envoy is Istio's own build: its extensions are in it, or istiod must not ask for them.
//!
//! Asks the program itself, by a configuration that it only has to check. Start at [`has_istio_extensions`].

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::EnvironmentError;

/// A listener with Istio's ALPN filter (<https://github.com/istio/proxy>, `source/extensions/filters/http/alpn`), which
/// istiod puts into every sidecar unless it is told not to.
const CONFIGURATION: &str = r#"{"static_resources": {"listeners": [{
  "name": "probe",
  "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
  "filter_chains": [{"filters": [{"name": "http", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "probe",
    "route_config": {"name": "none"},
    "http_filters": [
      {"name": "istio.alpn", "typed_config":
        {"@type": "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"}},
      {"name": "router", "typed_config":
        {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    ]}}]}]}]}}"#;

/// What an Envoy says of a type that it was built without.
const UNKNOWN: &str = "could not find @type";
const BOUND: Duration = Duration::from_secs(30);

/// Whether this Envoy has Istio's own extensions.
///
/// # Errors
/// [`EnvironmentError`] when it can be asked neither this nor anything.
pub async fn has_istio_extensions(envoy: &Path) -> Result<bool, EnvironmentError> {
    let failed = |why: String| EnvironmentError::new(format!("{} cannot be used: {why}", envoy.display()));
    let mut command = Command::new(envoy);
    command.args(["--mode", "validate", "--log-level", "error", "--config-yaml", CONFIGURATION]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(BOUND, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("it was still checking a configuration after {} s", BOUND.as_secs()))),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(true),
        false if said.contains(UNKNOWN) => Ok(false),
        false => Err(failed(format!("{}: {}", output.status, said.trim_end().lines().last().unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn an_envoy_is_asked_and_only_an_unknown_type_is_a_no() {
        let dir = tempfile::tempdir().expect("a folder");
        for (script, expected) in [
            ("exit 0", Ok(true)),
            ("echo \"critical: could not find @type 'type.googleapis.com/istio'\" >&2; exit 1", Ok(false)),
            ("echo no such library >&2; exit 127", Err("no such library")),
        ] {
            let envoy = dir.path().join("envoy");
            std::fs::write(&envoy, format!("#!/bin/sh\n{script}\n")).expect("a file");
            std::fs::set_permissions(&envoy, std::fs::Permissions::from_mode(0o755)).expect("a mode");
            let seen = has_istio_extensions(&envoy).await;
            match expected {
                Ok(expected) => assert_eq!(seen.ok(), Some(expected), "{script}"),
                Err(expected) => assert!(seen.unwrap_err().message.contains(expected), "{script}"),
            }
        }
    }
}
