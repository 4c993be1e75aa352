//! Variables: `${…}` in manifests, arguments of curl and expectations.
//!
//! Replaces text by text and reads nothing else: which values there are is the caller's business, and so is reading
//! objects for `${object.…}` (see [`object_references`]). `$${` is a literal `${`. Start at [`expand`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::Position;
use super::variable::{CaField, GatewayField, ObjectRef, Piece, Variable, pieces, position_of, variables};

/// What variables stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// `${namespace}`: where the scenario's objects go and its clients run.
    pub namespace: String,
    /// `${namespace.NAME}`: the scenario's further namespaces.
    pub namespaces: BTreeMap<String, String>,
    /// `${NAME.address}`, `${NAME.address.2}`: addresses of the external servers, by destination.
    pub destinations: BTreeMap<String, Vec<IpAddr>>,
    /// `${gateway.…}`.
    pub gateway: GatewayValues,
    /// `${unused.address}`: an address that is routed, where nobody answers.
    pub unused: IpAddr,
    /// `${ca.…}`.
    pub ca: CaValues,
    /// `${object.KIND.NAME JSONPATH}`: values that the caller has read.
    pub objects: BTreeMap<ObjectRef, String>,
}

/// What `${gateway.…}` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayValues {
    /// `${gateway.host}`: the DNS name of its Service.
    pub host: String,
    /// `${gateway.namespace}`: the namespace it runs in.
    pub namespace: String,
    /// `${gateway.address}`: the cluster address of its Service.
    pub address: String,
    /// `${gateway.selector}`: the label selector of its pods, such as `istio=egressgateway`.
    pub selector: String,
}

/// What `${ca.…}` stands for, each in PEM (the variables give it in base64).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CaValues {
    /// `${ca.certificate}`: the certificate of the CA that signs every external server's certificate.
    pub certificate: String,
    /// `${ca.client.certificate}`: a client's certificate that external servers with `mutual: true` accept.
    pub client_certificate: String,
    /// `${ca.client.key}`: its private key.
    pub client_key: String,
}

/// A variable that cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{message}{}", .position.map(|p| format!(" (line {}, column {})", p.line, p.column)).unwrap_or_default())]
pub struct ExpandError {
    /// What is wrong, in words.
    pub message: String,
    /// A near name that exists.
    #[help]
    pub help: Option<String>,
    /// The text of the variable, with its `${`.
    pub variable: String,
    /// Where it begins in the expanded text. `None`: the text was a value without a place of its own.
    pub position: Option<Position>,
}

impl ExpandError {
    /// The same error with the position of the variable's first occurrence in a text.
    #[must_use]
    pub fn located_in(mut self, text: &str) -> Self {
        self.position = text.find(&self.variable).map(|offset| position_of(text, offset));
        self
    }
}

/// Replaces every variable of a text.
///
/// # Errors
/// The first variable that has no value, with its position.
pub fn expand(text: &str, values: &Values) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(part) => out.push_str(part),
            Piece::Variable(seen) => {
                let value = match &seen.variable {
                    Ok(variable) => values.get(variable),
                    Err(message) => Err((message.clone(), None)),
                };
                out.push_str(&value.map_err(|(message, help)| ExpandError {
                    message,
                    help,
                    variable: seen.text.to_owned(),
                    position: Some(position_of(text, seen.offset)),
                })?);
            }
        }
    }
    Ok(out)
}

impl Values {
    fn get(&self, variable: &Variable) -> Result<String, (String, Option<String>)> {
        match variable {
            Variable::Namespace => Ok(self.namespace.clone()),
            Variable::OtherNamespace(name) => self.namespaces.get(name).cloned().ok_or_else(|| {
                let help = super::load::did_you_mean(name, self.namespaces.keys().map(String::as_str));
                (format!("no namespace `{name}`"), help)
            }),
            Variable::Unused => Ok(self.unused.to_string()),
            Variable::Gateway(GatewayField::Host) => Ok(self.gateway.host.clone()),
            Variable::Gateway(GatewayField::Namespace) => Ok(self.gateway.namespace.clone()),
            Variable::Gateway(GatewayField::Address) => Ok(self.gateway.address.clone()),
            Variable::Gateway(GatewayField::Selector) => Ok(self.gateway.selector.clone()),
            Variable::Ca(field) => {
                let pem = match field {
                    CaField::Certificate => &self.ca.certificate,
                    CaField::ClientCertificate => &self.ca.client_certificate,
                    CaField::ClientKey => &self.ca.client_key,
                };
                Ok(BASE64_STANDARD.encode(pem))
            }
            Variable::Object(reference) => self
                .objects
                .get(reference)
                .cloned()
                .ok_or_else(|| (format!("`${{{reference}}}` has no value yet"), None)),
            Variable::Address(name, n) => {
                let Some(addresses) = self.destinations.get(name) else {
                    let help = super::load::did_you_mean(name, self.destinations.keys().map(String::as_str));
                    return Err((format!("no destination `{name}`"), help));
                };
                let address = addresses.get(n - 1).ok_or_else(|| {
                    (format!("destination `{name}` has {} address(es), not {n}", addresses.len()), None)
                })?;
                Ok(address.to_string())
            }
        }
    }
}

/// Replaces the variables in every text of a value, keys included.
///
/// # Errors
/// The first variable that has no value; without a position.
pub fn expand_value(value: &Value, values: &Values) -> Result<Value, ExpandError> {
    let expand = |text: &str| expand(text, values).map_err(|e| ExpandError { position: None, ..e });
    Ok(match value {
        Value::String(text) => Value::String(expand(text)?),
        Value::Array(items) => Value::Array(items.iter().map(|v| expand_value(v, values)).collect::<Result<_, _>>()?),
        Value::Object(map) => Value::Object(
            map.iter().map(|(key, v)| Ok((expand(key)?, expand_value(v, values)?))).collect::<Result<_, _>>()?,
        ),
        other => other.clone(),
    })
}

/// Replaces the variables in a part of a scenario: a step, a probe, an expectation.
///
/// # Errors
/// The first variable that has no value; without a position.
pub fn expand_in<T: Serialize + DeserializeOwned>(part: &T, values: &Values) -> Result<T, ExpandError> {
    let failed = |e: &dyn fmt::Display| ExpandError {
        message: format!("after its variables are replaced it is no longer what it was: {e}"),
        help: None,
        variable: String::new(),
        position: None,
    };
    let json = serde_json::to_value(part).map_err(|e| failed(&e))?;
    serde_json::from_value(expand_value(&json, values)?).map_err(|e| failed(&e))
}

/// The objects whose values a text asks for, each once.
#[must_use]
pub fn object_references(text: &str) -> Vec<ObjectRef> {
    let mut found = Vec::new();
    for seen in variables(text) {
        if let Ok(Variable::Object(reference)) = seen.variable
            && !found.contains(&reference)
        {
            found.push(reference);
        }
    }
    found
}

/// The objects whose values a part of a scenario asks for, each once.
#[must_use]
pub fn references_in<T: Serialize>(part: &T) -> Vec<ObjectRef> {
    let mut found = Vec::new();
    if let Ok(json) = serde_json::to_value(part) {
        texts(&json, &mut |text| {
            for reference in object_references(text) {
                if !found.contains(&reference) {
                    found.push(reference);
                }
            }
        });
    }
    found
}

/// Every text of a value, keys included.
pub(super) fn texts(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().for_each(|v| texts(v, each)),
        Value::Object(map) => map.iter().for_each(|(key, v)| {
            each(key);
            texts(v, each);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::schema::Probe;

    fn values() -> Values {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let reference = ObjectRef { kind: "Service".into(), name: "my.x".into(), path: "$.spec.clusterIP".into() };
        Values {
            namespace: "ec-1".into(),
            namespaces: BTreeMap::from([("other".into(), "ec-1-other".into())]),
            destinations: BTreeMap::from([("my-server".into(), vec![address("192.0.2.1"), address("192.0.2.2")])]),
            gateway: GatewayValues {
                host: "gw.svc".into(),
                namespace: "istio-system".into(),
                address: "10.96.0.9".into(),
                selector: "istio=egressgateway".into(),
            },
            unused: address("192.0.2.9"),
            ca: CaValues { certificate: "PEM".into(), ..CaValues::default() },
            objects: BTreeMap::from([(reference, "10.96.7.7".into())]),
        }
    }

    #[test]
    fn every_variable_is_replaced() {
        for (text, wanted) in [
            ("http://${my-server.address}:1234/", "http://192.0.2.1:1234/"),
            ("${my-server.address.2}${unused.address}", "192.0.2.2192.0.2.9"),
            ("a.${namespace}.svc", "a.ec-1.svc"),
            ("a.${namespace.other}.svc", "a.ec-1-other.svc"),
            (
                "${gateway.host} ${gateway.namespace} ${gateway.address} ${gateway.selector}",
                "gw.svc istio-system 10.96.0.9 istio=egressgateway",
            ),
            ("x:${object.Service.my.x $.spec.clusterIP}:443", "x:10.96.7.7:443"),
            ("ca.crt: ${ca.certificate}", "ca.crt: UEVN"),
            ("nothing, $5, $, {}", "nothing, $5, $, {}"),
            ("$${namespace} is ${namespace}", "${namespace} is ec-1"),
        ] {
            assert_eq!(expand(text, &values()).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn what_has_no_value_is_told_with_its_place() {
        let error = |text: &str| expand(text, &values()).unwrap_err();
        let unknown = error("a\n b ${my-servr.address}");
        assert_eq!(unknown.position, Some(Position { line: 2, column: 4 }));
        assert_eq!(unknown.to_string(), "no destination `my-servr` (line 2, column 4)");
        assert_eq!(unknown.help.as_deref(), Some("did you mean `my-server`?"));
        assert_eq!(error("${namespace.othr}").message, "no namespace `othr`");
        assert_eq!(error("${namespace.othr}").help.as_deref(), Some("did you mean `other`?"));
        assert!(error("${my-server.address.3}").message.contains("has 2 address(es), not 3"));
        assert!(error("${my-server.address.0}").message.contains("counted from 1"));
        assert!(error("${nonsense}").message.contains("unknown variable"));
        assert!(error("${gateway.nonsense}").message.contains("unknown variable"));
        assert!(error("${namespace").message.contains("not closed"));
        assert!(error("${object.Service.y $.a}").message.contains("has no value yet"));
        assert!(error("${object.Service.y}").message.contains("expected object.KIND.NAME JSONPATH"));
        assert!(error("${object.Service.y $.[}").message.contains("no JSON path"));
    }

    #[test]
    fn parts_of_a_scenario_are_expanded_with_their_keys() {
        let json = serde_json::json!({"${namespace}": ["${unused.address}", 1, null]});
        assert_eq!(expand_value(&json, &values()).unwrap(), serde_json::json!({"ec-1": ["192.0.2.9", 1, null]}));
        let probe =
            Probe { from: "meshed".into(), curl: vec!["-k".into(), "${gateway.host}".into()], ..Probe::default() };
        assert_eq!(expand_in(&probe, &values()).unwrap().curl, ["-k", "gw.svc"]);
    }

    #[test]
    fn object_references_are_found_once_each() {
        let probe = Probe {
            from: "meshed".into(),
            curl: vec!["${object.Pod.a $.x} ${object.Pod.a $.x}".into(), "${object.Pod.b $.y} ${namespace}".into()],
            ..Probe::default()
        };
        let names: Vec<String> = references_in(&probe).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["object.Pod.a $.x", "object.Pod.b $.y"]);
        assert_eq!(object_references("${object.Pod.a $.x}").len(), 1);
    }
}
