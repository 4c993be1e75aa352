//! Objects of a page as manifests of a scenario: cleaned of what a cluster adds, with variables for what differs from run to
//! run. Start at `Writer::manifest`.

use serde_json::{Value, json};

use super::{Key, Writer, slug};

/// Kinds that decide about egress and need nothing else in the cluster.
const KINDS: [&str; 13] = [
    "Service",
    "Endpoints",
    "ServiceEntry",
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "Sidecar",
    "WorkloadEntry",
    "EnvoyFilter",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "ProxyConfig",
    "Telemetry",
];

impl Writer<'_> {
    /// Writes an object as a manifest; `None` where a scenario cannot have it.
    pub(super) fn manifest(&mut self, object: &Value) -> Option<(Key, String)> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        let selects = kind == "Service" && object.pointer("/spec/selector").is_some();
        let managed = !object["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"].is_null()
            || !object["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"].is_null();
        if !KINDS.contains(&kind.as_str()) || selects || managed {
            return None;
        }
        if !["default", "istio-system"].contains(&namespace.as_str()) {
            self.left_out.insert(format!("{kind} {namespace}/{name}, which is in another namespace"));
            return None;
        }
        if let Some(address) = object.pointer("/spec/clusterIP").and_then(Value::as_str).filter(|a| *a != "None") {
            self.clusters.insert(address.to_owned(), format!("${{object.Service.{name} $.spec.clusterIP}}"));
        }
        let mut clean = json!({"apiVersion": object["apiVersion"], "kind": kind, "metadata": {"name": name}});
        if namespace == "istio-system" {
            clean["metadata"]["namespace"] = "${gateway.namespace}".into();
        }
        for (key, value) in object.as_object().into_iter().flatten() {
            if !["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()) {
                clean[key] = value.clone();
            }
        }
        if let Some(spec) = clean.get_mut("spec").and_then(Value::as_object_mut).filter(|_| kind == "Service") {
            for key in
                ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "sessionAffinity"]
            {
                spec.remove(key);
            }
        }
        if kind == "DestinationRule" && self.unverified(&mut clean["spec"]) {
            self.unverified.insert(name.clone());
        }
        self.replace(&mut clean);
        let key = (kind.clone(), namespace, name.clone());
        if self.live.get(&key).is_some_and(|file| self.files.get(file) == Some(&clean)) {
            return None;
        }
        // A page may go back to what it had before.
        let known = self.files.iter().find(|(_, other)| **other == clean).map(|(file, _)| file.clone());
        let file = known.unwrap_or_else(|| {
            let first = format!("{}-{}", kind.to_lowercase(), slug(&name));
            let numbered = (2..).map(|n| format!("{first}-{n}.yaml"));
            let mut names = std::iter::once(format!("{first}.yaml")).chain(numbered);
            names.find(|name| !self.files.contains_key(name)).unwrap_or_default()
        });
        self.files.insert(file.clone(), clean);
        self.live.insert(key.clone(), file.clone());
        Some((key, file))
    }

    /// Scenarios have no servers that proxies trust: TLS by the system's authorities is made without a check. Returns
    /// whether there was any.
    fn unverified(&self, value: &mut Value) -> bool {
        let mut any = false;
        if value["tls"]["mode"] == "SIMPLE" && value["tls"]["caCertificates"].is_null() {
            value["tls"]["insecureSkipVerify"] = true.into();
            any = true;
        }
        let inner: Vec<&mut Value> = match value {
            Value::Object(map) => map.values_mut().collect(),
            Value::Array(list) => list.iter_mut().collect(),
            _ => Vec::new(),
        };
        for value in inner.into_iter().filter(|v| v.is_object() || v.is_array()) {
            any |= self.unverified(value);
        }
        any
    }

    /// Puts variables where the page has what differs from run to run.
    fn replace(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.with_variables(text),
            Value::Array(list) => {
                list.iter_mut().for_each(|v| self.replace(v));
                // Several addresses of the page may be one server's.
                let mut kept: Vec<Value> = Vec::new();
                list.retain(|v| {
                    !kept.contains(v) && {
                        kept.push(v.clone());
                        true
                    }
                });
            }
            Value::Object(map) => map.values_mut().for_each(|v| self.replace(v)),
            _ => {}
        }
    }

    pub(super) fn with_variables(&self, text: &str) -> String {
        let mut text = text.replace("istio-egressgateway.istio-system.svc.cluster.local", "${gateway.host}");
        text = text.replace(".default.svc.cluster.local", ".${namespace}.svc.cluster.local");
        for (address, variable) in &self.clusters {
            text = replace_address(&text, address, variable);
        }
        for (name, destination) in &self.source.world.destinations {
            let addresses = self.source.addresses.get(name).into_iter().flatten();
            if destination.spec.beside.is_none() {
                for address in addresses {
                    text = replace_address(&text, &address.to_string(), &format!("${{{name}.address}}"));
                }
            }
        }
        text
    }
}

/// Replaces an address where it is not part of a longer one.
fn replace_address(text: &str, address: &str, variable: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(address) {
        let (before, after) = (&rest[..at], &rest[at + address.len()..]);
        let inside = before.ends_with(|c: char| c.is_ascii_digit() || c == '.')
            || after.starts_with(|c: char| c.is_ascii_digit());
        out.push_str(before);
        out.push_str(if inside { address } else { variable });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_whole() {
        assert_eq!(
            replace_address("http://192.168.0.7:80/ 192.168.0.78", "192.168.0.7", "${a.address}"),
            "http://${a.address}:80/ 192.168.0.78"
        );
        assert_eq!(replace_address("192.168.0.7/32", "192.168.0.7", "X"), "X/32");
    }
}
