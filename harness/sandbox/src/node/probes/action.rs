//! One question to a container: an HTTP request, a TCP connection, or a command in it.
//!
//! Start at [`Action::perform`]. The caller sets the time limit.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::launch::{LaunchError, Launcher};
use super::super::registry::ExecTarget;
use super::http;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A command, which must exit with 0.
    Exec(Vec<String>),
    /// A GET request, which must be answered with 200 to 399.
    Http(HttpGet),
    /// A connection, which must be accepted.
    Tcp { host: Option<String>, port: u16 },
    /// Waiting (lifecycle hooks only).
    Sleep(Duration),
    /// Nothing is asked for.
    Nothing,
    /// A port name that the container does not have.
    UnknownPort(String),
}

/// A GET request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpGet {
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) tls: bool,
    pub(crate) headers: Vec<(String, String)>,
}

/// Whom to ask.
pub(crate) struct Target<'a> {
    /// The pod's address.
    pub(crate) ip: Ipv4Addr,
    /// Starts commands.
    pub(crate) launcher: &'a Launcher,
    /// The container.
    pub(crate) container: &'a ExecTarget,
}

/// The answer was no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActionError {
    /// The command could not be started.
    #[error("command {0:?}: {1}")]
    Launch(Vec<String>, LaunchError),
    /// The command ended otherwise.
    #[error("command {0:?} exited with {1}, expected 0")]
    Exit(Vec<String>, i32),
    /// No connection.
    #[error("connection to {0}: {1}")]
    Connect(String, std::io::Error),
    /// The request failed.
    #[error("GET {0}: {1}")]
    Request(String, String),
    /// The answer was not a success.
    #[error("GET {0}: HTTP status {1}, expected 200 to 399")]
    Status(String, u16),
    /// A port name that the container does not have.
    #[error("the container has no port named {0:?}")]
    UnknownPort(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(command) => write!(f, "command {command:?}"),
            Self::Http(get) => write!(f, "GET port {} {}", get.port, get.path),
            Self::Tcp { port, .. } => write!(f, "connection to port {port}"),
            Self::Sleep(time) => write!(f, "sleep {} s", time.as_secs()),
            Self::Nothing => f.write_str("nothing"),
            Self::UnknownPort(name) => write!(f, "port {name:?}"),
        }
    }
}

impl Action {
    /// What a probe asks.
    pub(crate) fn of_probe(probe: &Probe, container: &Container) -> Self {
        if let Some(exec) = &probe.exec {
            Self::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &probe.http_get {
            Self::http(get, container)
        } else if let Some(tcp) = &probe.tcp_socket {
            Self::tcp(tcp.host.clone(), &tcp.port, container)
        } else {
            Self::Nothing
        }
    }

    /// What a lifecycle hook does.
    pub(crate) fn of_hook(hook: &LifecycleHandler, container: &Container) -> Self {
        if let Some(exec) = &hook.exec {
            Self::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &hook.http_get {
            Self::http(get, container)
        } else if let Some(tcp) = &hook.tcp_socket {
            Self::tcp(tcp.host.clone(), &tcp.port, container)
        } else if let Some(sleep) = &hook.sleep {
            Self::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
        } else {
            Self::Nothing
        }
    }

    fn http(get: &HTTPGetAction, container: &Container) -> Self {
        let port = match port(&get.port, container) {
            Ok(port) => port,
            Err(name) => return Self::UnknownPort(name),
        };
        let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
        let mut path = get.path.clone().unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        Self::Http(HttpGet {
            host: get.host.clone().filter(|h| !h.is_empty()),
            port,
            path,
            tls: get.scheme.as_deref() == Some("HTTPS"),
            headers: headers.collect(),
        })
    }

    fn tcp(host: Option<String>, named: &IntOrString, container: &Container) -> Self {
        match port(named, container) {
            Ok(port) => Self::Tcp { host: host.filter(|h| !h.is_empty()), port },
            Err(name) => Self::UnknownPort(name),
        }
    }

    /// Asks, and says why the answer was no.
    pub(crate) async fn perform(&self, target: &Target<'_>) -> Result<(), ActionError> {
        match self {
            Self::Exec(command) => exec(command, target).await,
            Self::Http(get) => http::get(get, target.ip).await,
            Self::Tcp { host, port } => connect(host.as_deref(), target.ip, *port).await.map(drop),
            Self::Sleep(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Self::Nothing => Ok(()),
            Self::UnknownPort(name) => Err(ActionError::UnknownPort(name.clone())),
        }
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).map_err(|_| number.to_string()),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            named.and_then(|p| u16::try_from(p.container_port).ok()).ok_or_else(|| name.clone())
        }
    }
}

/// Connects to the pod, or to `host` where one is given.
pub(super) async fn connect(host: Option<&str>, ip: Ipv4Addr, port: u16) -> Result<tokio::net::TcpStream, ActionError> {
    let address = match host {
        Some(host) => format!("{host}:{port}"),
        None => std::net::SocketAddr::new(IpAddr::V4(ip), port).to_string(),
    };
    tokio::net::TcpStream::connect(&address).await.map_err(|e| ActionError::Connect(address, e))
}

async fn exec(command: &[String], target: &Target<'_>) -> Result<(), ActionError> {
    let mut process = target.container.process.clone();
    process.argv = command.to_vec();
    let streams = [Stdio::null(), Stdio::null(), Stdio::null()];
    let running = target.launcher.exec(&target.container.pidfd, process, false, streams).await;
    let running = running.map_err(|e| ActionError::Launch(command.to_vec(), e))?;
    let mut running = KillOnDrop(running);
    match running.0.wait().await {
        0 => Ok(()),
        code => Err(ActionError::Exit(command.to_vec(), code)),
    }
}

/// A command whose time is up must not go on.
struct KillOnDrop(super::super::launch::Running);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill_session();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_may_be_named() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap();
        let action = |probe: serde_json::Value| Action::of_probe(&serde_json::from_value(probe).unwrap(), &container);
        assert_eq!(action(json!({"tcpSocket": {"port": "web"}})), Action::Tcp { host: None, port: 8080 });
        assert_eq!(action(json!({"tcpSocket": {"port": "x"}})), Action::UnknownPort("x".into()));
        let Action::Http(get) = action(json!({"httpGet": {"port": 15021, "path": "healthz", "scheme": "HTTPS"}}))
        else {
            panic!("expected an HTTP request")
        };
        assert_eq!((get.port, get.path.as_str(), get.tls), (15021, "/healthz", true));
        assert_eq!(action(json!({"exec": {"command": ["true"]}})), Action::Exec(vec!["true".into()]));
    }
}
