//! `kubectl port-forward`: connections to ports of a pod.
//!
//! Many over one SPDY connection ([`session`]), which comes as an upgrade of its own or inside a WebSocket, as the client
//! prefers; or over the channels of a WebSocket ([`channels`]). An API server of 1.36 passes each on as it is. Start at
//! [`serve`].

mod channels;
mod session;

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use self::session::Target;
use super::super::context::Node;
use super::{spdy, tunnel};

/// The only version there is.
const PROTOCOL: &str = "portforward.k8s.io";
/// The same inside a WebSocket.
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";

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

fn begin(node: &Node, namespace: &str, pod: &str, uid: Option<&str>, upgrade: Upgrade, request: Request) -> Response {
    let entry = node.registry.pod(namespace, pod).filter(|entry| uid.is_none_or(|uid| uid == entry.uid));
    let Some(entry) = entry else {
        let message = format!("pod \"{namespace}/{pod}\" does not run on this node");
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let target = Target { netns: entry.netns.clone(), pod: format!("{namespace}/{pod}") };
    if let Ok(upgrade) = upgrade {
        if spdy::upgrade::offers(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL, channels::PROTOCOL) {
            return match channels::ports(request.uri().query().unwrap_or_default()) {
                Ok(ports) => upgrade
                    .protocols([channels::PROTOCOL])
                    .on_upgrade(move |socket| channels::run(socket, target, ports)),
                Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
            };
        }
        if !spdy::upgrade::offers(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL, TUNNELLED) {
            let message =
                format!("expected a WebSocket that offers the protocol {TUNNELLED:?} or {:?}", channels::PROTOCOL);
            return (StatusCode::BAD_REQUEST, message).into_response();
        }
        return upgrade.protocols([TUNNELLED]).on_upgrade(move |socket| async move {
            let (bytes, carrying) = tunnel::bytes(socket);
            tokio::join!(session::run(bytes, target), carrying);
        });
    }
    spdy::upgrade::accept(request, PROTOCOL, |io| session::run(io, target))
}
