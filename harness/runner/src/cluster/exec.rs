//! Commands inside containers, through the API server's exec.
//!
//! A command's exit status and its outputs come back as values; a transport that failed is told apart from a command
//! that failed. Never retries. Start at [`exec`].

use futures::TryFutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code.
    pub exit: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// The exec itself failed: nothing is known about the command.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The API server or the node refused, or the connection broke.
    #[error("exec in {pod} ({container}) failed: {source}")]
    Transport {
        /// `namespace/name`.
        pod: String,
        /// The container.
        container: String,
        /// What kube says.
        source: Box<kube::Error>,
    },
    /// The stream ended without a status: the container or the node went away in the middle.
    #[error("exec in {pod} ({container}) ended without a status ({seen})")]
    NoStatus {
        /// `namespace/name`.
        pod: String,
        /// The container.
        container: String,
        /// How far it came.
        seen: String,
    },
}

/// Runs a command in a container and waits for its end.
///
/// # Errors
/// [`ExecError`] where it is unknown what the command did; a command that failed is an [`Output`].
pub async fn exec(
    client: &Client,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[&str],
) -> Result<Output, ExecError> {
    let name = format!("{namespace}/{pod}");
    let transport =
        |source| ExecError::Transport { pod: name.clone(), container: container.to_owned(), source: Box::new(source) };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = AttachParams::default().container(container).stdout(true).stderr(true).stdin(false);
    let mut process = api.exec(pod, command.iter().copied(), &params).map_err(transport).await?;
    let status = process.take_status();
    let (stdout, stderr) = tokio::join!(read_all(process.stdout()), read_all(process.stderr()));
    let status = match status {
        Some(future) => future.await,
        None => None,
    };
    let no_status = |seen: String| ExecError::NoStatus { pod: name.clone(), container: container.to_owned(), seen };
    if let Err(error) = process.join().await {
        return Err(no_status(error.to_string()));
    }
    let status = status.ok_or_else(|| no_status(format!("{} bytes of output", stdout.len())))?;
    let exit = if status.status.as_deref() == Some("Success") {
        0
    } else {
        status
            .details
            .iter()
            .flat_map(|d| d.causes.iter().flatten())
            .find(|c| c.reason.as_deref() == Some("ExitCode"))
            .and_then(|c| c.message.as_deref()?.parse().ok())
            .ok_or_else(|| no_status(status.message.clone().unwrap_or_default()))?
    };
    Ok(Output { exit, stdout, stderr })
}

async fn read_all(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // A broken stream shows in the missing status; what arrived until then is kept.
        let _ = stream.read_to_end(&mut bytes).await;
    }
    bytes
}
