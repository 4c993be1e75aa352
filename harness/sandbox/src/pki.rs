//! Keys, certificates and kubeconfigs of one sandbox: made at its start, gone with its folder.
//!
//! One certificate authority signs everything; keys are ECDSA P-256, files have mode 0600. Times
//! are wide on the past side, so that a clock that is set back a little does no harm. Start at
//! [`Pki::create`].

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::json;

use crate::enter::NODE_NAME;
use crate::network::{API_SERVICE, NODE_ADDRESS};

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("cannot make the certificate of {name}: {source}")]
    Certificate { name: String, source: rcgen::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot use the kubeconfig {path}: {message}")]
    Read { path: PathBuf, message: String },
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Everything that was made, as files.
#[derive(Debug)]
pub(crate) struct Pki {
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// The API server's serving certificate.
    pub(crate) api_server: Pair,
    /// With which the API server calls the node agent.
    pub(crate) api_server_to_kubelet: Pair,
    /// The node agent's serving certificate.
    pub(crate) kubelet: Pair,
    /// Private key that service account tokens are signed with.
    pub(crate) service_account_key: PathBuf,
    /// Its public half.
    pub(crate) service_account_public_key: PathBuf,
    /// For use inside: the sandbox itself, as administrator.
    pub(crate) inside: PathBuf,
    /// For use inside: kube-controller-manager.
    pub(crate) controller_manager: PathBuf,
    /// For use inside: kube-proxy.
    pub(crate) proxy: PathBuf,
}

/// How a certificate is used.
enum Use<'a> {
    Server(&'a [SanType]),
    Client,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Pki {
    /// Makes everything in `folder`, and the host's administrator kubeconfig at `outside`, for a
    /// door at `door_port` of the host's loopback.
    pub(crate) fn create(folder: &Path, outside: &Path, door_port: u16) -> Result<Pki, PkiError> {
        let pki = Pki::files(folder);
        let authority = Authority::new()?;
        write_private(&pki.ca, &authority.pem)?;
        let key = KeyPair::generate().map_err(failed("service accounts"))?;
        write_private(&pki.service_account_key, &key.serialize_pem())?;
        write_private(&pki.service_account_public_key, &key.public_key_pem())?;

        let here = format!("https://{NODE_ADDRESS}:{}", crate::control_plane::API_PORT);
        // The API server's roles for components exist only a second after it answers: nobody waits.
        let admins = Some("system:masters");
        authority.kubeconfig(&pki.inside, &here, "egress-sandbox", admins)?;
        authority.kubeconfig(&pki.controller_manager, &here, "system:kube-controller-manager", admins)?;
        authority.kubeconfig(&pki.proxy, &here, "system:kube-proxy", admins)?;
        authority.kubeconfig(outside, &door_url(door_port), "kubernetes-admin", admins)?;

        authority.pair(&pki.api_server, API_SERVER, None, Use::Server(&api_server_names()))?;
        authority.pair(&pki.api_server_to_kubelet, API_SERVER_TO_KUBELET, admins, Use::Client)?;
        let kubelet_names = [dns(NODE_NAME), address(NODE_ADDRESS)];
        authority.pair(&pki.kubelet, &kubelet_name(), Some("system:nodes"), Use::Server(&kubelet_names))?;
        Ok(pki)
    }
}

impl Pki {
    /// Finds in `folder` what [`Pki::create`] once made there, and lets the administrator's kubeconfig at `outside` lead
    /// to another door.
    pub(crate) fn reopen(folder: &Path, outside: &Path, door_port: u16) -> Result<Pki, PkiError> {
        let read = |source| PkiError::Read { path: outside.to_owned(), message: source };
        let text = std::fs::read(outside).map_err(|e| read(e.to_string()))?;
        let mut config: serde_json::Value = serde_json::from_slice(&text).map_err(|e| read(e.to_string()))?;
        match config.pointer_mut("/clusters/0/cluster/server") {
            Some(server) => *server = door_url(door_port).into(),
            None => return Err(read("it names no server".to_owned())),
        }
        // It is private already, and stays so.
        std::fs::write(outside, format!("{config:#}\n"))
            .map_err(|source| PkiError::Write { path: outside.to_owned(), source })?;
        Ok(Pki::files(folder))
    }

    fn files(folder: &Path) -> Pki {
        Pki {
            ca: folder.join("ca.crt"),
            api_server: Pair::files(folder, API_SERVER),
            api_server_to_kubelet: Pair::files(folder, API_SERVER_TO_KUBELET),
            kubelet: Pair::files(folder, &kubelet_name()),
            service_account_key: folder.join("service-account.key"),
            service_account_public_key: folder.join("service-account.pub"),
            inside: folder.join("inside.kubeconfig"),
            controller_manager: folder.join("controller-manager.kubeconfig"),
            proxy: folder.join("proxy.kubeconfig"),
        }
    }
}

impl Pair {
    fn files(folder: &Path, name: &str) -> Pair {
        let stem = name.replace(':', "-");
        Pair { certificate: folder.join(format!("{stem}.crt")), key: folder.join(format!("{stem}.key")) }
    }
}

const API_SERVER: &str = "kube-apiserver";
const API_SERVER_TO_KUBELET: &str = "kube-apiserver-kubelet-client";

fn kubelet_name() -> String {
    format!("system:node:{NODE_NAME}")
}

fn door_url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// When the certificates in a PEM file or a kubeconfig expire; a file without any has none.
pub(crate) fn expiries(file: &[u8]) -> Result<Vec<Timestamp>, String> {
    let mut pems = vec![file.to_vec()];
    if let Ok(config) = serde_json::from_slice::<serde_json::Value>(file) {
        use base64::Engine;
        let fields = ["/clusters/0/cluster/certificate-authority-data", "/users/0/user/client-certificate-data"];
        let texts = fields.iter().filter_map(|field| config.pointer(field)?.as_str());
        let decoded = texts.map(|text| base64::engine::general_purpose::STANDARD.decode(text));
        pems = decoded.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    }
    let mut all = Vec::new();
    for pem in &pems {
        for pem in x509_parser::pem::Pem::iter_from_buffer(pem) {
            let pem = pem.map_err(|e| e.to_string())?;
            if pem.label != "CERTIFICATE" {
                continue;
            }
            let certificate = pem.parse_x509().map_err(|e| e.to_string())?;
            let seconds = certificate.validity().not_after.timestamp();
            all.push(Timestamp::from_second(seconds).map_err(|e| e.to_string())?);
        }
    }
    Ok(all)
}

/// All names and addresses the API server is called by: through the door, on the node, as the
/// Service `kubernetes`.
fn api_server_names() -> Vec<SanType> {
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut all: Vec<SanType> = names.into_iter().map(dns).collect();
    all.push(dns("kubernetes.default.svc.cluster.local"));
    all.extend([Ipv4Addr::LOCALHOST, NODE_ADDRESS, API_SERVICE].map(address));
    all
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("the names above are ASCII"))
}

fn address(address: Ipv4Addr) -> SanType {
    SanType::IpAddress(IpAddr::V4(address))
}

impl Authority {
    fn new() -> Result<Self, PkiError> {
        let name = "egress-sandbox-ca";
        let mut params = params(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed(name))?;
        let pem = params.self_signed(&key).map_err(failed(name))?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    fn sign(&self, name: &str, group: Option<&str>, purpose: Use<'_>) -> Result<(String, String), PkiError> {
        let mut params = params(name, group);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match purpose {
            Use::Server(names) => {
                params.subject_alt_names = names.to_vec();
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Use::Client => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
        let key = KeyPair::generate().map_err(failed(name))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed(name))?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn pair(&self, files: &Pair, name: &str, group: Option<&str>, purpose: Use<'_>) -> Result<(), PkiError> {
        let (certificate, key) = self.sign(name, group, purpose)?;
        write_private(&files.certificate, &certificate)?;
        write_private(&files.key, &key)
    }

    fn kubeconfig(&self, path: &Path, server: &str, name: &str, group: Option<&str>) -> Result<(), PkiError> {
        let (certificate, key) = self.sign(name, group, Use::Client)?;
        let base64 = |pem: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(pem)
        };
        // JSON is YAML, and every reader of kubeconfigs takes it.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "egress-sandbox", "cluster": {
                "server": server, "certificate-authority-data": base64(&self.pem)}}],
            "users": [{"name": name, "user": {
                "client-certificate-data": base64(&certificate), "client-key-data": base64(&key)}}],
            "contexts": [{"name": "egress-sandbox", "context": {"cluster": "egress-sandbox", "user": name}}],
            "current-context": "egress-sandbox",
        });
        write_private(path, &format!("{config:#}\n"))
    }
}

fn params(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params
}

fn failed(name: &str) -> impl Fn(rcgen::Error) -> PkiError + '_ {
    move |source| PkiError::Certificate { name: name.to_owned(), source }
}

fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn made() -> (tempfile::TempDir, PathBuf, Pki) {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("kubeconfig");
        let pki = Pki::create(folder.path(), &outside, 4321).unwrap();
        (folder, outside, pki)
    }

    fn names(path: &Path) -> Vec<String> {
        let text = std::fs::read(path).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = certificate.subject_alternative_name().unwrap().expect("a server has names");
        names.value.general_names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_api_server_is_called_by_all_its_names() {
        let (_folder, _, pki) = made();
        let names = names(&pki.api_server.certificate);
        // Addresses are shown as bytes: 127.0.0.1, 10.20.0.1, 10.96.0.1.
        for name in ["(7f:00:00:01)", "(0a:14:00:01)", "(0a:60:00:01)", "(kubernetes.default.svc)"] {
            assert!(names.iter().any(|seen| seen.contains(name)), "{name} not in {names:?}");
        }
    }

    #[test]
    fn every_file_is_private() {
        let (folder, ..) = made();
        let entries: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert!(entries.len() > 10);
        for entry in entries {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn the_outer_kubeconfig_leads_to_the_door() {
        let (_folder, outside, _) = made();
        let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(outside).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:4321");
        assert_eq!(config["current-context"], config["contexts"][0]["name"]);
    }
}
