//! Pages of HTTP servers on a pod's own localhost, through the API server's port-forward.
//!
//! Connections are kept and used again, since each costs a port-forward. It only reads, and knows nothing of what the
//! pages mean. Start at [`Forward::get`].

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;

/// How long one page may take.
const BOUND: Duration = Duration::from_secs(10);

/// A page could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The API server or the node refused, or the port is closed.
    #[error("no port-forward to {server}: {why}")]
    Refused {
        /// `namespace/pod:port`.
        server: String,
        /// What was said.
        why: String,
    },
    /// The exchange broke.
    #[error("{server}{path}: the exchange broke: {source}")]
    Broken {
        /// `namespace/pod:port`.
        server: String,
        /// The page.
        path: String,
        /// What the HTTP library said.
        source: hyper::Error,
    },
    /// The answer is not a page.
    #[error("{server}{path}: {status}: {body}")]
    Status {
        /// `namespace/pod:port`.
        server: String,
        /// The page.
        path: String,
        /// The HTTP status.
        status: StatusCode,
        /// The beginning of the answer.
        body: String,
    },
    /// No answer in time.
    #[error("{server}{path}: no answer within {} s", BOUND.as_secs())]
    Timeout {
        /// `namespace/pod:port`.
        server: String,
        /// The page.
        path: String,
    },
}

/// One HTTP server in a pod.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// Its port on the pod's localhost.
    pub port: u16,
}

impl std::fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.pod, self.port)
    }
}

type Connection = SendRequest<Empty<Bytes>>;

/// Reads pages, over connections that it keeps.
pub struct Forward {
    client: Client,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
}

impl Forward {
    /// Through this client's API server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, idle: Mutex::default() }
    }

    /// The page at `path`, which begins with `/`.
    ///
    /// # Errors
    /// [`ForwardError`]; a connection that has ended since its last use is replaced, once.
    pub async fn get(&self, server: Server<'_>, path: &str) -> Result<String, ForwardError> {
        let timeout = || ForwardError::Timeout { server: server.to_string(), path: path.to_owned() };
        tokio::time::timeout(BOUND, self.fetch(server, path)).await.map_err(|_| timeout())?
    }

    async fn fetch(&self, server: Server<'_>, path: &str) -> Result<String, ForwardError> {
        let kept = self.idle().get_mut(&server.to_string()).and_then(Vec::pop);
        if let Some(connection) = kept.filter(|connection| !connection.is_closed())
            && let Ok(page) = self.exchange(server, path, connection).await
        {
            return Ok(page);
        }
        let connection = self.connect(server).await?;
        self.exchange(server, path, connection).await
    }

    async fn connect(&self, server: Server<'_>) -> Result<Connection, ForwardError> {
        let refused = |why: String| ForwardError::Refused { server: server.to_string(), why };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), server.namespace);
        let mut forwarder = api.portforward(server.pod, &[server.port]).await.map_err(|e| refused(e.to_string()))?;
        let stream = forwarder.take_stream(server.port).ok_or_else(|| refused("the port has no stream".into()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| refused(e.to_string()))?;
        tokio::spawn(async move {
            // The forwarder ends with the connection, and the connection with the last who holds its sender.
            if let Err(error) = connection.await {
                tracing::debug!("a forwarded connection ended: {error}");
            }
            drop(forwarder);
        });
        Ok(sender)
    }

    async fn exchange(
        &self,
        server: Server<'_>,
        path: &str,
        mut connection: Connection,
    ) -> Result<String, ForwardError> {
        let broken = |source| ForwardError::Broken { server: server.to_string(), path: path.to_owned(), source };
        let request = Request::get(path).header(header::HOST, "localhost").body(Empty::new());
        let request = request.map_err(|e| ForwardError::Refused { server: server.to_string(), why: e.to_string() })?;
        let response = connection.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        self.idle().entry(server.to_string()).or_default().push(connection);
        if status.is_success() {
            return Ok(text);
        }
        let body = text.chars().take(200).collect();
        Err(ForwardError::Status { server: server.to_string(), path: path.to_owned(), status, body })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
