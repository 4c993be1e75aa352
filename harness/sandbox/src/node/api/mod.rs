//! The kubelet's API: what the API server asks a node for on behalf of `kubectl logs`, `exec` and `port-forward`.
//!
//! TLS, and only for clients with a certificate of the cluster. Attach is answered with 501.
//! Start at [`Server::bind`].

mod exec;
mod logs;
mod port_forward;
mod spdy;
mod streams;
mod tunnel;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::context::Node;
use super::register::KUBELET_PORT;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The port is taken, or the address is not there.
    #[error("listening on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// A certificate or key cannot be read.
    #[error("{0}: {1}")]
    File(String, rustls::pki_types::pem::Error),
    /// The certificates do not fit together.
    #[error("certificates: {0}")]
    Tls(#[from] rustls::Error),
    /// The authority for clients is not usable.
    #[error("client certificates: {0}")]
    Clients(#[from] rustls::server::VerifierBuilderError),
}

/// The API, listening.
pub(crate) struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
}

impl Server {
    /// Listens on the node's address.
    pub(crate) async fn bind(node: Arc<Node>) -> Result<Self, ApiError> {
        let address = std::net::SocketAddr::from((node.config.address, KUBELET_PORT));
        let listener = TcpListener::bind(address).await.map_err(|e| ApiError::Listen(address, e))?;
        let config = &node.config;
        let tls = TlsAcceptor::from(Arc::new(tls(&config.kubelet_cert, &config.kubelet_key, &config.client_ca)?));
        let router = Router::new()
            .route("/healthz", get(|| async { "ok" }))
            .route("/pods", get(pods))
            .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
            .route("/exec/{namespace}/{pod}/{container}", any(exec::serve))
            .route("/exec/{namespace}/{pod}/{uid}/{container}", any(exec::serve_with_uid))
            .route("/portForward/{namespace}/{pod}", any(port_forward::serve))
            .route("/portForward/{namespace}/{pod}/{uid}", any(port_forward::serve_with_uid))
            .fallback(not_served)
            .with_state(node);
        Ok(Self { listener, tls, router })
    }

    /// Serves until `shutdown`. Open connections end with their containers.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, self.tls.clone(), self.router.clone());
                    let shutdown = shutdown.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            () = shutdown.cancelled() => {}
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "kubelet API: accept"),
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, router: Router) {
    let _ = stream.set_nodelay(true);
    let stream = match tls.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "kubelet API: TLS"),
    };
    let service = TowerToHyperService::new(router);
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "kubelet API: connection");
    }
}

fn tls(certificate: &Path, key: &Path, client_ca: &Path) -> Result<ServerConfig, ApiError> {
    let file = |path: &Path| {
        let path = path.display().to_string();
        move |error| ApiError::File(path, error)
    };
    let read = |path: &Path| -> Result<Vec<CertificateDer<'static>>, ApiError> {
        let certificates = CertificateDer::pem_file_iter(path).map_err(file(path))?;
        certificates.collect::<Result<_, _>>().map_err(file(path))
    };
    let mut roots = RootCertStore::empty();
    for root in read(client_ca)? {
        roots.add(root)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(read(certificate)?, key)?)
}

async fn pods(State(node): State<Arc<Node>>) -> Response {
    let items: Vec<serde_json::Value> =
        node.registry.objects().iter().filter_map(|pod| serde_json::to_value(&**pod).ok()).collect();
    let list = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    axum::Json(list).into_response()
}

async fn not_served(uri: axum::http::Uri) -> Response {
    let what = uri.path().split('/').nth(1).unwrap_or_default().to_owned();
    match what.as_str() {
        "attach" | "run" => {
            let message =
                format!("{what} is not implemented by the sandbox's node; it serves logs, exec and port-forward");
            (StatusCode::NOT_IMPLEMENTED, message).into_response()
        }
        _ => (StatusCode::NOT_FOUND, format!("no such path: {}", uri.path())).into_response(),
    }
}
