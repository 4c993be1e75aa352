//! `kubectl exec`: a program in a container, with its streams.
//!
//! They come as channels of a [`websocket`], or [`multiplexed`] by SPDY from clients and API servers that do not use
//! WebSocket. What happens is the same: [`program`]. Start at [`serve`].

mod multiplexed;
mod program;
mod websocket;

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::super::context::Node;
use super::spdy;
use super::streams::Stream;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    command: Vec<String>,
    input: bool,
    output: bool,
    error: bool,
    tty: bool,
}

impl Wanted {
    fn parse(query: Vec<(String, String)>) -> Self {
        let mut wanted = Self::default();
        for (name, value) in query {
            let truth = matches!(value.as_str(), "1" | "true");
            match name.as_str() {
                "command" => wanted.command.push(value),
                "input" | "stdin" => wanted.input = truth,
                "output" | "stdout" => wanted.output = truth,
                "error" | "stderr" => wanted.error = truth,
                "tty" => wanted.tty = truth,
                _ => {}
            }
        }
        wanted
    }
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;
type Pairs = Query<Vec<(String, String)>>;

/// Answers one request for an exec.
pub(super) async fn serve(
    State(node): State<Arc<Node>>,
    UrlPath((namespace, pod, container)): UrlPath<(String, String, String)>,
    Query(query): Pairs,
    upgrade: Upgrade,
    request: Request,
) -> Response {
    begin(node, &namespace, &pod, &container, query, upgrade, request)
}

/// The same, where the path also has the pod's uid.
pub(super) async fn serve_with_uid(
    State(node): State<Arc<Node>>,
    UrlPath((namespace, pod, _uid, container)): UrlPath<(String, String, String, String)>,
    Query(query): Pairs,
    upgrade: Upgrade,
    request: Request,
) -> Response {
    begin(node, &namespace, &pod, &container, query, upgrade, request)
}

fn begin(
    node: Arc<Node>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: Vec<(String, String)>,
    upgrade: Upgrade,
    request: Request,
) -> Response {
    let refuse = |status: StatusCode, message: String| (status, message).into_response();
    let wanted = Wanted::parse(query);
    if wanted.command.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "you must specify at least 1 command for the container".into());
    }
    let instance = node.registry.pod(namespace, pod).and_then(|entry| entry.container(container).current);
    let Some(instance) = instance.filter(|instance| !*instance.ended.borrow()) else {
        return refuse(StatusCode::NOT_FOUND, format!("container not found ({container:?}), or it does not run"));
    };
    let target = instance.target;
    match upgrade {
        Ok(upgrade) => {
            let session = move |socket| websocket::session(node, target, wanted, socket);
            upgrade.protocols(websocket::PROTOCOLS).on_upgrade(session)
        }
        Err(_) if spdy::upgrade::wanted(&request) => {
            let session = move |io| multiplexed::session(node, target, wanted, io);
            spdy::upgrade::accept(request, multiplexed::PROTOCOL, session)
        }
        Err(rejection) => rejection.into_response(),
    }
}

/// Gives a terminal the size that a client's JSON says.
fn resize(terminal: Option<&Stream>, json: &[u8]) {
    if let (Some(terminal), Ok(size)) = (terminal, serde_json::from_slice::<Size>(json)) {
        terminal.resize(size.width, size.height);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_names_command_and_streams() {
        let pairs = [
            ("command", "sh"),
            ("command", "-c"),
            ("command", "a b"),
            ("input", "1"),
            ("output", "true"),
            ("tty", "0"),
        ];
        let wanted = Wanted::parse(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(wanted.command, ["sh", "-c", "a b"]);
        assert!(wanted.input && wanted.output && !wanted.error && !wanted.tty);
    }
}
