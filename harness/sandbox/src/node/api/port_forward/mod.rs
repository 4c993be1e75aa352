//! `kubectl port-forward`: connections to ports of a pod, many over one SPDY connection.
//!
//! The SPDY comes as an upgrade of its own, or inside a WebSocket when the client prefers that: an API server of 1.36
//! passes either on as it is. What a connection does is [`session`]'s. Start at [`serve`].

mod session;

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;

use self::session::Target;
use super::super::context::Node;
use super::{spdy, tunnel};

/// The only version there is.
const PROTOCOL: &str = "portforward.k8s.io";
/// The same inside a WebSocket.
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// Names versions in an upgrade to SPDY.
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Answers one request to forward ports.
pub(super) async fn serve(
    State(node): State<Arc<Node>>,
    UrlPath((namespace, pod)): UrlPath<(String, String)>,
    upgrade: Upgrade,
    request: Request,
) -> Response {
    begin(&node, &namespace, &pod, None, upgrade, request)
}

/// The same, where the path also has the pod's uid.
pub(super) async fn serve_with_uid(
    State(node): State<Arc<Node>>,
    UrlPath((namespace, pod, uid)): UrlPath<(String, String, String)>,
    upgrade: Upgrade,
    request: Request,
) -> Response {
    begin(&node, &namespace, &pod, Some(&uid), upgrade, request)
}

fn begin(
    node: &Node,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    upgrade: Upgrade,
    mut request: Request,
) -> Response {
    let entry = node.registry.pod(namespace, pod).filter(|entry| uid.is_none_or(|uid| uid == entry.uid));
    let Some(entry) = entry else {
        let message = format!("pod \"{namespace}/{pod}\" does not run on this node");
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let target = Target { netns: entry.netns.clone(), pod: format!("{namespace}/{pod}") };
    if let Ok(upgrade) = upgrade {
        if !offers(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL, TUNNELLED) {
            return refuse(&format!("the WebSocket offers no protocol {TUNNELLED:?}"));
        }
        return upgrade.protocols([TUNNELLED]).on_upgrade(move |socket| async move {
            let (bytes, carrying) = tunnel::bytes(socket);
            tokio::join!(session::run(bytes, target), carrying);
        });
    }
    if !offers(request.headers(), &header::UPGRADE, spdy::UPGRADE) {
        return refuse("expected an upgrade to SPDY/3.1 or WebSocket");
    }
    if !offers(request.headers(), &PROTOCOL_VERSION, PROTOCOL) {
        return refuse(&format!("the client offers no protocol {PROTOCOL:?}"));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => session::run(TokioIo::new(upgraded), target).await,
            Err(error) => tracing::debug!(%error, "port-forward: the client did not go on"),
        }
    });
    let headers = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, spdy::UPGRADE), (PROTOCOL_VERSION, PROTOCOL)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

fn refuse(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("port-forward: {why}")).into_response()
}

/// Whether one of the comma-separated values of a header is this one.
fn offers(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(PROTOCOL_VERSION, "v9.example, portforward.k8s.io".parse().unwrap());
        headers.append(header::UPGRADE, "spdy/3.1".parse().unwrap());
        assert!(offers(&headers, &PROTOCOL_VERSION, PROTOCOL));
        assert!(offers(&headers, &header::UPGRADE, spdy::UPGRADE));
        assert!(!offers(&headers, &PROTOCOL_VERSION, "v9"));
        assert!(!offers(&headers, &header::SEC_WEBSOCKET_PROTOCOL, TUNNELLED));
    }
}
