//! Drift: text of a page that was right once and is wrong for the version at hand, told from a mesh that is wrong.
//!
//! Each rule knows what changed, and since when; a difference that no rule knows is a failure. Start at [`of_output`] and
//! [`inert_rules`].

use std::collections::BTreeSet;

use serde::Serialize;

use super::manifest;
use super::page::Step;
use super::verify::Mismatch;

/// What runs, as far as it decides what a page may expect.
#[derive(Debug, Clone, Default)]
pub struct Mesh {
    /// Istio's version.
    pub istio: String,
    /// Whether its proxies have Istio's own extensions.
    pub istio_extensions: bool,
}

/// A text of the page that is no longer true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// What is no longer true, and what is instead.
    pub what: String,
    /// Since when, or because of what.
    pub since: String,
}

impl Mesh {
    fn at_least(&self, major: u64, minor: u64) -> bool {
        let mut parts = self.istio.split(['.', '-']).map(|part| part.parse::<u64>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }
}

/// Whether a difference is one that is known to have come with a version or with this data plane.
#[must_use]
pub fn of_output(mesh: &Mesh, step: &Step, mismatch: &Mismatch, seen: &str) -> Option<Drift> {
    let drift = |what: String, since: &str| Some(Drift { what, since: since.to_owned() });
    if mismatch.form_only {
        let what = "the sample line of the access log has another form than the mesh writes; what it says is true";
        return drift(what.to_owned(), "Istio 1.9 added fields, 1.23 changed %UPSTREAM_CLUSTER%");
    }
    if !mesh.istio_extensions && mismatch.expected.contains("X-Envoy-Peer-Metadata") {
        let what = "the header X-Envoy-Peer-Metadata is not sent: it is written by Istio's own build of Envoy";
        return drift(what.to_owned(), "this data plane is upstream's Envoy");
    }
    of_command(mesh, step, seen)
}

/// The same for a command that failed.
#[must_use]
pub fn of_command(mesh: &Mesh, step: &Step, seen: &str) -> Option<Drift> {
    let words: Vec<&str> = step.command.split_whitespace().collect();
    let waits = words.windows(3).any(|w| w[0] == "istioctl" && matches!(w[1], "x" | "experimental") && w[2] == "wait");
    if waits && mesh.at_least(1, 23) && seen.contains("unknown") {
        let what = "`istioctl experimental wait` is no longer there; `kubectl wait --for=create` is nearest";
        return Some(Drift { what: what.to_owned(), since: "Istio 1.23".to_owned() });
    }
    None
}

/// A rule for a host that no proxy knows as a host of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inert {
    /// `DestinationRule NAME`.
    pub object: String,
    /// Its host, whose clusters are to be looked for in the proxies.
    pub host: String,
}

/// DestinationRules of a step whose host is an ExternalName Service of an earlier step (or of its own): since Istio 1.24
/// such a Service is always an alias, and a rule for it has no effect. Whether that is so the proxies show: they have no
/// cluster of that host.
#[must_use]
pub fn inert_rules(mesh: &Mesh, earlier: &[Step], step: &Step) -> Vec<Inert> {
    if !mesh.at_least(1, 21) {
        return Vec::new();
    }
    let text = |object: &serde_json::Value, pointer: &str| {
        object.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let aliases: BTreeSet<String> = earlier
        .iter()
        .chain([step])
        .flat_map(|s| manifest::objects(&s.command))
        .filter(|o| o["kind"] == "Service" && text(o, "/spec/type") == "ExternalName")
        .map(|o| {
            let namespace = text(&o, "/metadata/namespace");
            let namespace = if namespace.is_empty() { "default" } else { &namespace };
            format!("{}.{namespace}.svc.cluster.local", text(&o, "/metadata/name"))
        })
        .collect();
    let rules = manifest::objects(&step.command).into_iter().filter(|o| o["kind"] == "DestinationRule");
    rules
        .map(|o| Inert {
            object: format!("DestinationRule {}", text(&o, "/metadata/name")),
            host: text(&o, "/spec/host"),
        })
        .filter(|rule| aliases.contains(&rule.host))
        .collect()
}

impl Inert {
    /// The drift, once a proxy has shown that it has no cluster of the host.
    #[must_use]
    pub fn drift(&self, proxy: &str) -> Drift {
        Drift {
            what: format!("{} has no effect: {proxy} has no cluster of {}", self.object, self.host),
            since: "ExternalName Services are aliases since Istio 1.21, always since 1.24".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::page::Place;
    use super::*;

    fn step(command: &str) -> Step {
        Step {
            at: Place { file: PathBuf::from("p.md"), line: 1 },
            name: "s_1".into(),
            command: command.into(),
            expected: None,
            promised: None,
        }
    }

    fn mesh(istio: &str) -> Mesh {
        Mesh { istio: istio.into(), istio_extensions: false }
    }

    #[test]
    fn a_rule_for_an_alias_is_inert_since_aliases_are_the_default() {
        let service = step(
            "kubectl apply -f - <<EOF\nkind: Service\nmetadata:\n  name: a\nspec:\n  type: ExternalName\n  externalName: httpbin.org\nEOF",
        );
        let rule = step(
            "kubectl apply -f - <<EOF\nkind: DestinationRule\nmetadata:\n  name: a\nspec:\n  host: a.default.svc.cluster.local\nEOF",
        );
        let found = inert_rules(&mesh("1.31.0"), std::slice::from_ref(&service), &rule);
        assert_eq!(found, [Inert { object: "DestinationRule a".into(), host: "a.default.svc.cluster.local".into() }]);
        assert!(inert_rules(&mesh("1.20.3"), &[service], &rule).is_empty());
        assert!(inert_rules(&mesh("1.31.0"), &[], &rule).is_empty());
    }

    #[test]
    fn only_known_differences_are_drift() {
        let mismatch =
            |expected: &str, form_only| Mismatch { line: 0, expected: expected.into(), seen: String::new(), form_only };
        let any = step("curl x");
        assert!(of_output(&mesh("1.31.0"), &any, &mismatch("[sample]", true), "").is_some());
        assert!(of_output(&mesh("1.31.0"), &any, &mismatch("\"X-Envoy-Peer-Metadata\":", false), "").is_some());
        assert!(of_output(&mesh("1.31.0"), &any, &mismatch("HTTP/2 200", false), "HTTP/2 502").is_none());
        let own = Mesh { istio_extensions: true, ..mesh("1.31.0") };
        assert!(of_output(&own, &any, &mismatch("\"X-Envoy-Peer-Metadata\":", false), "").is_none());
        let wait = step("istioctl experimental wait --for=distribution ServiceEntry x");
        assert!(of_command(&mesh("1.31.0"), &wait, "Error: unknown command").is_some());
        assert!(of_command(&mesh("1.22.0"), &wait, "Error: unknown command").is_none());
    }
}
