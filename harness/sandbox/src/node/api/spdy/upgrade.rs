//! From an HTTP request to SPDY: the upgrade, and the choice of what is spoken over it.
//!
//! Start at [`accept`].

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

/// The name of the protocol in an upgrade.
const SPDY: &str = "SPDY/3.1";
/// Names what is spoken over it.
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Whether a request wants SPDY.
pub(in super::super) fn wanted(request: &Request) -> bool {
    offers(request.headers(), &header::UPGRADE, SPDY)
}

/// Answers a request for SPDY. If it offers `protocol`, `session` gets the connection and runs on its own.
pub(in super::super) fn accept<Session>(
    mut request: Request,
    protocol: &'static str,
    session: impl FnOnce(TokioIo<Upgraded>) -> Session + Send + 'static,
) -> Response
where
    Session: Future<Output = ()> + Send,
{
    if !wanted(&request) {
        return refuse(format!("expected an upgrade to {SPDY} or WebSocket"));
    }
    if !offers(request.headers(), &PROTOCOL_VERSION, protocol) {
        return refuse(format!("expected a client that speaks {protocol:?}"));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => session(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "SPDY: the client did not go on"),
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static(SPDY)),
        (PROTOCOL_VERSION, HeaderValue::from_static(protocol)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

fn refuse(why: String) -> Response {
    (StatusCode::BAD_REQUEST, why).into_response()
}

/// Whether one of the comma-separated values of a header is this one.
pub(in super::super) fn offers(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|offered| offered.trim().eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(PROTOCOL_VERSION, "v9.example, portforward.k8s.io".parse().unwrap());
        headers.append(PROTOCOL_VERSION, "v4.channel.k8s.io".parse().unwrap());
        headers.append(header::UPGRADE, "spdy/3.1".parse().unwrap());
        assert!(offers(&headers, &PROTOCOL_VERSION, "portforward.k8s.io"));
        assert!(offers(&headers, &PROTOCOL_VERSION, "v4.channel.k8s.io"));
        assert!(offers(&headers, &header::UPGRADE, SPDY));
        assert!(!offers(&headers, &PROTOCOL_VERSION, "v9"));
        assert!(!offers(&headers, &header::SEC_WEBSOCKET_PROTOCOL, SPDY));
    }
}
