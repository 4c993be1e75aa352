//! Tries against the control plane, from a pod's network: the kubelet's API, the API server, etcd.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::scene::{HOSTILE, Scene};

const KUBELET: &str = "https://10.20.0.1:10250/pods";

/// Puts a file into a pod.
fn put(scene: &Scene, pod: &str, path: &str, content: &str) {
    let script = format!("cat > {path}");
    let (_, error) = scene.feed(&["exec", "-i", pod, "-c", "c", "--", "sh", "-c", &script], content.as_bytes());
    assert_eq!(error, "");
}

/// The body and, on its own last line, the status (000 without an answer) of a request from a pod.
fn curl(scene: &Scene, pod: &str, arguments: &str) -> (String, String) {
    let script = format!("curl -sk --max-time 10 -w '\\n%{{http_code}}' {arguments} || :");
    let answer = scene.sh(pod, &script).unwrap();
    let (body, status) = answer.rsplit_once('\n').expect("the status has a line of its own");
    (body.to_owned(), status.to_owned())
}

/// A certificate that claims to be the API server's client, and its key.
fn stranger(issuer: Option<&Issuer<'_, KeyPair>>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver-kubelet-client");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (certificate.pem(), key.serialize_pem())
}

/// An authority with the same name as the sandbox's and another key.
fn false_authority() -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "egress-sandbox");
    Issuer::new(params, key)
}

/// Without a certificate, with one of another authority, with one that signed itself, and with the right one.
pub(crate) fn the_node_answers_its_api_server_alone(scene: &Scene) {
    let right = |end: &str| {
        let path = scene.state().join("pki").join(format!("kube-apiserver-kubelet-client.{end}"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let authority = false_authority();
    for pod in HOSTILE {
        let pairs =
            [("other", stranger(Some(&authority))), ("self", stranger(None)), ("right", (right("crt"), right("key")))];
        for (name, (certificate, key)) in pairs {
            put(scene, pod, &format!("/tmp/{name}.crt"), &certificate);
            put(scene, pod, &format!("/tmp/{name}.key"), &key);
            let (body, status) = curl(scene, pod, &format!("--cert /tmp/{name}.crt --key /tmp/{name}.key {KUBELET}"));
            if name == "right" {
                assert!(status == "200" && body.contains("PodList"), "the control: {status} {body}");
            } else {
                assert_eq!((body.as_str(), status.as_str()), ("", "000"), "{pod} with {name}");
            }
        }
        let token = "-H \"Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)\"";
        for arguments in [KUBELET.to_owned(), format!("{token} {KUBELET}"), KUBELET.replace("https", "http")] {
            assert_eq!(curl(scene, pod, &arguments), (String::new(), "000".to_owned()), "{pod}: {arguments}");
        }
        scene.sh(pod, "rm /tmp/right.*").unwrap();
    }
}

/// Anonymous, with a token that is none, and with the pod's own token, which has no rights.
pub(crate) fn the_api_server_wants_credentials(scene: &Scene) {
    assert!(scene.kubectl(&["get", "secrets", "treasure"]).is_ok(), "an administrator may");
    let token = "\"Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)\"";
    for pod in HOSTILE {
        let (_, version) = curl(scene, pod, "https://10.96.0.1/version");
        assert_eq!(version, "200", "the way there works");
        for what in
            ["api/v1/secrets", "api/v1/namespaces/default/secrets/treasure", "api/v1/nodes/sandbox-node/proxy/pods"]
        {
            for server in ["10.96.0.1", "10.20.0.1:6443"] {
                let url = format!("https://{server}/{what}");
                assert_eq!(curl(scene, pod, &url).1, "403", "{pod}: {url}");
                assert_eq!(
                    curl(scene, pod, &format!("-H 'Authorization: Bearer none' {url}")).1,
                    "401",
                    "{pod}: {url}"
                );
                let (body, status) = curl(scene, pod, &format!("-H {token} {url}"));
                assert_eq!(status, "403", "{pod}: {url}");
                assert!(body.contains("system:serviceaccount:default:default"), "the token was taken: {body}");
            }
        }
    }
}

/// Its health, which everybody may ask who reaches it.
pub(crate) fn etcd_is_out_of_reach(scene: &Scene) {
    for pod in HOSTILE {
        for server in ["127.0.0.1", "10.20.0.1", "10.96.0.1", "localhost"] {
            for more in ["", "--connect-timeout 2 --interface eth0"] {
                let (body, status) = curl(scene, pod, &format!("{more} http://{server}:2379/health"));
                assert_eq!((body.as_str(), status.as_str()), ("", "000"), "{pod}: {more} {server}");
            }
        }
        assert_eq!(curl(scene, pod, "--interface eth0 http://10.20.0.1:2379/health").1, "000");
        let (body, _) = curl(scene, pod, "--interface eth0 https://10.20.0.1:6443/readyz/etcd");
        assert!(body.contains("etcd") || body.contains("ok"), "the API server, on the same node, answers: {body}");
    }
}
