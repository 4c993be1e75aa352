//! Looking at objects and at proxies' configuration, for a step's expectations and variables.
//!
//! What is expected is waited for, with a bound; what was seen last goes into the finding. Start at [`objects`].

use std::time::Duration;

use egress_core::check::{Fault, Finding};
use egress_core::scenario::ObjectRef;
use egress_core::scenario::matcher::Seen;
use egress_core::scenario::schema::{ObjectExpect, ProxyExpect};
use kube::core::GroupVersionKind;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::step::{Running, StepError};
use crate::schedule::stage::Stage;
use crate::wait;

/// How long an expected state may take to come about.
const BOUND: Duration = Duration::from_secs(10);

/// Findings of the step's `objects`.
pub(super) async fn objects(stage: &Stage, expected: &[ObjectExpect]) -> Result<Vec<Finding>, StepError> {
    let mut findings = Vec::new();
    for (n, expect) in expected.iter().enumerate() {
        let gvk = kind(&expect.kind);
        let namespace = expect.namespace.as_deref().unwrap_or(&stage.namespace);
        let path = JsonPath::parse(&expect.at).map_err(|e| StepError(format!("objects[{n}].at: {e}")))?;
        let seen = wait::until(&format!("objects[{n}]"), BOUND, || async {
            let found = stage
                .objects
                .read(&gvk, namespace, expect.name.as_deref(), expect.selector.as_deref())
                .await
                .map_err(|e| e.to_string())?;
            let values: Vec<String> = found.iter().flat_map(|o| path.query(o).all()).map(text).collect();
            let fits = if values.is_empty() {
                expect.is.accepts(&Seen::Absent)
            } else {
                values.iter().any(|v| expect.is.accepts(&Seen::Text(v.as_str().into())))
            };
            match (fits, values.is_empty()) {
                (true, _) => Ok(()),
                (false, true) => Err(format!("absent ({} objects)", found.len())),
                (false, false) => Err(values.join(", ")),
            }
        })
        .await;
        if let Err(error) = seen {
            // A Secret's value is nobody's business, not even where it is the wrong one.
            let secret = gvk.kind == "Secret" && gvk.group.is_empty();
            let shown = |text: String| if secret { "[redacted]".to_owned() } else { text };
            let object = expect.name.as_deref().or(expect.selector.as_deref()).unwrap_or("*");
            findings.push(Finding {
                what: format!("objects[{n}] {} {object} {}", expect.kind, expect.at),
                expected: shown(expect.is.to_string()),
                seen: shown(error.last),
                at: format!("{} {namespace}/{object}", expect.kind),
                fault: Fault::Mesh,
            });
        }
    }
    Ok(findings)
}

/// The one value that a variable points to, as text; or what was there instead, after the bound.
pub(super) async fn value_at(
    stage: &Stage,
    gvk: &GroupVersionKind,
    namespace: &str,
    reference: &ObjectRef,
) -> Result<Result<String, String>, StepError> {
    let path = JsonPath::parse(&reference.path).map_err(|e| StepError(format!("${{{reference}}}: {e}")))?;
    let value = wait::until(&format!("a value for ${{{reference}}}"), BOUND, || async {
        let found = stage.objects.read(gvk, namespace, Some(&reference.name), None).await.map_err(|e| e.to_string())?;
        let object = found.first().ok_or_else(|| format!("no {} {namespace}/{}", reference.kind, reference.name))?;
        path.query(object).first().map(text).ok_or_else(|| "nothing at that path".to_owned())
    })
    .await;
    Ok(value.map_err(|e| e.last))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The kinds that scenarios look at and that are not in the core group.
fn kind(kind: &str) -> GroupVersionKind {
    let (group, version) = match kind {
        "Deployment" | "ReplicaSet" => ("apps", "v1"),
        "EndpointSlice" => ("discovery.k8s.io", "v1"),
        "ServiceEntry" | "VirtualService" | "DestinationRule" | "Gateway" | "Sidecar" => ("networking.istio.io", "v1"),
        _ => ("", "v1"),
    };
    GroupVersionKind::gvk(group, version, kind)
}

/// Findings of the step's `proxy`.
pub(super) async fn proxies(running: &Running<'_>, expected: &[ProxyExpect]) -> Result<Vec<Finding>, StepError> {
    let mut findings = Vec::new();
    for (n, expect) in expected.iter().enumerate() {
        let proxy = if expect.of == "gateway" {
            running.stage.gateways.first().and_then(|w| w.proxy())
        } else {
            running.client(&expect.of).and_then(|w| w.proxy())
        };
        let proxy = proxy.ok_or_else(|| StepError(format!("proxy[{n}]: {} has no proxy", expect.of)))?;
        let (page, wanted) = match (&expect.listener, &expect.cluster) {
            (Some(listener), _) => ("/listeners?format=json", listener),
            (None, Some(cluster)) => ("/clusters?format=json", cluster),
            (None, None) => return Err(StepError(format!("proxy[{n}] names neither listener nor cluster"))),
        };
        let seen = wait::until(&format!("proxy[{n}]"), BOUND, || async {
            let text = running.stage.gate.envoy_page(&proxy, page).await.map_err(|e| e.to_string())?;
            let names = names_in(&text)?;
            if names.contains(wanted) == expect.present { Ok(()) } else { Err(names.join(", ")) }
        })
        .await;
        if let Err(error) = seen {
            let kind = if expect.listener.is_some() { "listener" } else { "cluster" };
            findings.push(Finding {
                what: format!("proxy[{n}] {kind} {wanted}"),
                expected: if expect.present { "there".into() } else { "not there".into() },
                seen: error.last,
                at: format!("{}/{}", proxy.namespace, proxy.pod),
                fault: Fault::Mesh,
            });
        }
    }
    Ok(findings)
}

/// Every `name` of a listener or cluster in an admin page. (Envoy's `listeners` shows active ones only; its
/// `config_dump` keeps showing those that drain.)
fn names_in(page: &str) -> Result<Vec<String>, String> {
    let page: Value = serde_json::from_str(page).map_err(|e| format!("Envoy's page is no JSON: {e}"))?;
    let list = |key: &str| page[key].as_array().cloned().unwrap_or_default();
    let named = list("listener_statuses").into_iter().chain(list("cluster_statuses"));
    Ok(named.filter_map(|entry| entry["name"].as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_both_pages() {
        let listeners = r#"{"listener_statuses":[{"name":"0.0.0.0_2234"},{"name":"virtualOutbound"}]}"#;
        assert_eq!(names_in(listeners), Ok(vec!["0.0.0.0_2234".to_owned(), "virtualOutbound".to_owned()]));
        let clusters = r#"{"cluster_statuses":[{"name":"outbound|80||httpbin.org"}]}"#;
        assert_eq!(names_in(clusters), Ok(vec!["outbound|80||httpbin.org".to_owned()]));
        assert!(names_in("nope").is_err());
    }
}
