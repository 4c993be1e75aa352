//! Istio's installation, by the real `istioctl install -f`, and what the mesh says about itself.
//!
//! The same profile files serve every kind of cluster. Nothing here edits an object that istioctl made. Start at
//! [`install`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::process::Command;

use super::EnvironmentError;

/// The namespace of istiod and the egress gateway.
pub const ISTIO_NAMESPACE: &str = "istio-system";
/// The name of the egress gateway's Service and Deployment, and the value of its label `istio` without the dash part.
pub const GATEWAY_SERVICE: &str = "istio-egressgateway";
/// Name and value of the label of istiod's pods.
pub const ISTIOD_LABEL: [&str; 2] = ["app", "istiod"];
/// Selects the egress gateway's pods.
pub const GATEWAY_SELECTOR: &str = "istio=egressgateway";

/// Runs `istioctl install` with a profile and overlays and further settings, and waits as istioctl does until it is ready.
///
/// # Errors
/// [`EnvironmentError`] with istioctl's own last lines.
pub async fn install(
    istioctl: &Path,
    kubeconfig: &Path,
    (files, settings): (&[PathBuf], &[String]),
    bound: Duration,
) -> Result<(), EnvironmentError> {
    let mut command = Command::new(istioctl);
    command.arg("install").arg("--skip-confirmation").arg("--kubeconfig").arg(kubeconfig);
    command.arg("--readiness-timeout").arg(format!("{}s", bound.as_secs()));
    for file in files {
        command.arg("-f").arg(file);
    }
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    let output = run(command, "istioctl install", bound + Duration::from_secs(10)).await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    let tail = last[last.len().saturating_sub(12)..].join("\n  ");
    Err(EnvironmentError::new(format!("istioctl install ended with {}:\n  {tail}", output.status)))
}

async fn run(mut command: Command, name: &str, bound: Duration) -> Result<std::process::Output, EnvironmentError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    match tokio::time::timeout(bound, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(EnvironmentError::new(format!("{name} could not be started: {error}"))),
        Err(_) => Err(EnvironmentError::new(format!("{name} was still running after {} s", bound.as_secs()))),
    }
}

/// What the mesh's own configuration says (istiod's page `mesh`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MeshFacts {
    /// `REGISTRY_ONLY`, `ALLOW_ANY` or `ALLOW_ANY_DYNAMIC_DNS`.
    pub outbound_policy: String,
    /// The access log's format string; empty: Istio's default.
    pub access_log_format: String,
    /// Whether access logs are JSON.
    pub access_log_json: bool,
}

/// Reads istiod's page `mesh`.
///
/// # Errors
/// The parser's message when it is not JSON.
pub fn mesh_facts(page: &str) -> Result<MeshFacts, String> {
    let mesh: Value = serde_json::from_str(page).map_err(|e| format!("istiod's page mesh is no JSON: {e}"))?;
    let field = |camel: &str, snake: &str| match &mesh[camel] {
        Value::Null => mesh[snake].clone(),
        value => value.clone(),
    };
    let policy = field("outboundTrafficPolicy", "outbound_traffic_policy");
    // Enumerations come as names or, from Go's plain JSON encoder, as numbers; a zero value is left out.
    let outbound_policy = match &policy["mode"] {
        Value::String(name) => name.clone(),
        Value::Number(n) if n.as_i64() == Some(1) => "ALLOW_ANY".into(),
        Value::Number(n) if n.as_i64() == Some(3) => "ALLOW_ANY_DYNAMIC_DNS".into(),
        _ => "REGISTRY_ONLY".into(),
    };
    let encoding = field("accessLogEncoding", "access_log_encoding");
    Ok(MeshFacts {
        outbound_policy,
        access_log_format: field("accessLogFormat", "access_log_format").as_str().unwrap_or_default().to_owned(),
        access_log_json: encoding == "JSON" || encoding == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_page_is_read_with_names_or_numbers() {
        let named = mesh_facts(r#"{"outboundTrafficPolicy":{"mode":"ALLOW_ANY"},"accessLogEncoding":"JSON"}"#);
        assert_eq!(
            named,
            Ok(MeshFacts {
                outbound_policy: "ALLOW_ANY".into(),
                access_log_format: String::new(),
                access_log_json: true
            })
        );
        let numbered = mesh_facts(r#"{"outbound_traffic_policy":{"mode":1},"access_log_format":"%START_TIME%"}"#);
        assert_eq!(
            numbered.map(|m| (m.outbound_policy, m.access_log_format)),
            Ok(("ALLOW_ANY".into(), "%START_TIME%".into()))
        );
        assert_eq!(mesh_facts("{}").map(|m| m.outbound_policy), Ok("REGISTRY_ONLY".into()));
        assert!(mesh_facts("404").map(|m| m.outbound_policy).is_ok());
        assert!(mesh_facts("not json").is_err());
    }
}
