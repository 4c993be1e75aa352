//! The GET request of a probe. Certificates are not verified, as with the kubelet.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::body::Body;
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};

use super::action::{ActionError, HttpGet, connect};

/// Asks, and accepts 200 to 399.
pub(super) async fn get(get: &HttpGet, ip: Ipv4Addr) -> Result<(), ActionError> {
    let host = get.host.clone().unwrap_or_else(|| ip.to_string());
    let url = format!("{}://{host}:{}{}", if get.tls { "https" } else { "http" }, get.port, get.path);
    let failed = |error: &dyn std::fmt::Display| ActionError::Request(url.clone(), error.to_string());
    let stream = connect(get.host.as_deref(), ip, get.port).await?;
    let mut request = Request::get(&get.path)
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*")
        .header("connection", "close");
    let own_host = get.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !own_host {
        request = request.header("host", format!("{host}:{}", get.port));
    }
    for (name, value) in &get.headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::empty()).map_err(|e| failed(&e))?;
    let status = if get.tls {
        let name = ServerName::try_from(host.clone()).map_err(|e| failed(&e))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client()?));
        let stream = connector.connect(name, stream).await.map_err(|e| failed(&e))?;
        send(stream, request).await
    } else {
        send(stream, request).await
    };
    match status.map_err(|e| failed(&e))? {
        200..=399 => Ok(()),
        status => Err(ActionError::Status(url, status)),
    }
}

async fn send<S>(stream: S, request: Request<Body>) -> hyper::Result<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::select! {
        biased;
        answer = answer => answer.map(|a| a.status().as_u16()),
        // The connection does the work; if it ends first it says why.
        Err(error) = connection => Err(error),
    }
}

fn client() -> Result<ClientConfig, ActionError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ActionError::Request("https".to_owned(), e.to_string()))?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer)).with_no_client_auth())
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
