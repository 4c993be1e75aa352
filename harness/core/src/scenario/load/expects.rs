//! Expectations: whether a step can show what it expects, and whether every name in it is known.
//!
//! A step's own expectation and that of each variant are checked alike. Start at [`check`].

use std::collections::BTreeSet;

use super::did_you_mean;
use super::error::Problem;
use super::matchers::{counts, fault, hop_name, matchers, times, words};
use super::node::Node;
use super::probes::{asked, shows};
use super::references::Names;
use crate::scenario::schema::{Expect, Hop, Source, Step};

/// Reports what is wrong with one expectation of a step; `base` is its JSON pointer.
pub(super) fn check(expect: &Expect, step: &Step, at: (&Node, &str), names: &Names<'_>, problems: &mut Vec<Problem>) {
    let (root, base) = at;
    let mut one = Check { expect, step, root, base, names, problems };
    one.whole();
    one.client();
    one.paths();
    one.objects();
    one.proxies();
    one.matchers();
}

/// Whether a proxy that had no success with one server goes on to another.
fn other_server(before: &Hop, hop: &Hop) -> bool {
    matches!((before, hop), (Hop::Destination(one), Hop::Destination(two)) if one.name != two.name)
}

struct Check<'a, 'p> {
    expect: &'a Expect,
    step: &'a Step,
    root: &'a Node,
    base: &'a str,
    names: &'a Names<'a>,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Check<'a, '_> {
    fn report(&mut self, below: &str, message: String, help: Option<String>) {
        let place = Some(self.root.at(&format!("{}{below}", self.base)).place);
        self.problems.push(Problem { message, help, place });
    }

    fn whole(&mut self) {
        let expect = self.expect;
        if expect.apply.is_some() && self.step.apply.is_empty() {
            self.report("/apply", "`expect.apply` needs something that is applied".into(), None);
        }
        let of_probe =
            [("client", expect.client.is_some()), ("path", expect.path.is_some()), ("paths", expect.paths.is_some())];
        for (key, there) in of_probe {
            if there && self.step.probe.is_none() {
                let help = Some("add a `probe`, or remove it".to_owned());
                self.report(&format!("/{key}"), format!("`expect.{key}` needs a probe"), help);
            }
        }
        if expect.path.is_some() && expect.paths.is_some() {
            let help = Some("`path` for one exchange, `paths` for several".to_owned());
            self.report("/paths", "`path` and `paths` exclude each other".into(), help);
        }
        if expect.paths.as_ref().is_some_and(|paths| paths.len() < 2) {
            let help = Some("write `path`".to_owned());
            self.report("/paths", "`paths` is for several exchanges".into(), help);
        }
    }

    fn client(&mut self) {
        let (Some(client), Some(probe)) = (&self.expect.client, &self.step.probe) else { return };
        let (word, fields) = shows(probe);
        for field in asked(client).filter(|field| !fields.contains(field)) {
            let help = Some(format!("a `{word}` probe shows {}", fields.join(", ")));
            self.report(&format!("/client/{field}"), format!("a `{word}` probe does not show `{field}`"), help);
        }
    }

    fn paths(&mut self) {
        let Some(exchanges) = self.expect.exchanges() else { return };
        if self.step.probe.as_ref().is_some_and(|probe| probe.resolve.is_some()) {
            let key = if self.expect.path.is_some() { "/path" } else { "/paths" };
            return self.report(key, "a `resolve` probe has no path".into(), None);
        }
        if self.expect.paths.is_some() {
            exchanges.iter().enumerate().for_each(|(n, path)| self.path(path, &format!("/paths/{n}")));
        } else {
            exchanges.iter().for_each(|path| self.path(path, "/path"));
        }
    }

    fn path(&mut self, path: &'a [Hop], base: &str) {
        let client = self.step.probe.as_ref().and_then(|p| Some((&p.from, self.names.clients.get(&p.from)?)));
        let rank = |hop: &Hop| match hop {
            Hop::Sidecar(_) => 0,
            Hop::Gateway(_) => 1,
            Hop::Destination(_) => 2,
        };
        for (n, hop) in path.iter().enumerate() {
            let at = format!("{base}/{n}");
            if let Some(before) = n.checked_sub(1).map(|b| &path[b])
                && rank(before) >= rank(hop)
                && !other_server(before, hop)
            {
                let message = format!("a path cannot go from `{}` to `{}`", hop_name(before), hop_name(hop));
                let help = match rank(before) == rank(hop) {
                    true => "a hop that is taken several times in a row says `times`",
                    false => "the order is sidecar, gateway, destination",
                };
                self.report(&at, message, Some(help.into()));
            }
            if let Some(matcher) = times(hop)
                && let Err(message) = counts(matcher)
            {
                self.report(&format!("{at}/{}/times", hop_name(hop)), message, None);
            }
            match hop {
                Hop::Sidecar(_) => {
                    if let Some((name, spec)) = client
                        && !spec.sidecar
                    {
                        let message = format!("the client `{name}` has no sidecar, so no path of it begins there");
                        self.report(&at, message, None);
                    }
                }
                Hop::Gateway(_) => {}
                Hop::Destination(server) => {
                    if let Err((message, help)) = self.names.destination(&server.name) {
                        self.report(&format!("{at}/destination/name"), message, help);
                    }
                    let gateway = path.iter().any(|h| matches!(h, Hop::Gateway(_)));
                    if server.source.is_some_and(|s| (s == Source::Gateway) != gateway) {
                        let message = match gateway {
                            true => "behind a gateway the server sees the gateway's address, not the client's",
                            false => "without a gateway on the path the server cannot see its address",
                        };
                        self.report(&format!("{at}/destination/source"), message.to_owned(), None);
                    }
                }
            }
            self.upstream(hop, &at);
        }
    }

    fn upstream(&mut self, hop: &Hop, at: &str) {
        let (Hop::Sidecar(proxy) | Hop::Gateway(proxy)) = hop else { return };
        for word in proxy.fields.get("upstream").into_iter().flat_map(words) {
            if let Err((message, _)) = self.names.upstream(word) {
                let near = self.names.destinations.keys().map(String::as_str).chain(["gateway"]);
                let help = did_you_mean(word, near)
                    .or_else(|| Some("expected a destination, `gateway`, or an address".to_owned()));
                self.report(&format!("{at}/{}/upstream", hop_name(hop)), message, help);
            }
        }
    }

    fn objects(&mut self) {
        for (n, object) in self.expect.objects.iter().enumerate() {
            let at = format!("/objects/{n}");
            if object.name.is_some() == object.selector.is_some() {
                self.report(&at, "expected either `name` or `selector`".into(), None);
            }
            if let Err(error) = serde_json_path::JsonPath::parse(&object.at) {
                self.report(&format!("{at}/at"), format!("`{}` is no JSON path: {error}", object.at), None);
            }
            let namespace = object.namespace.as_deref().unwrap_or("${namespace}");
            if let Err((message, help)) = super::manifest::namespace(namespace, &BTreeSet::new()) {
                self.report(&format!("{at}/namespace"), message, help);
            }
        }
    }

    fn proxies(&mut self) {
        for (n, proxy) in self.expect.proxy.iter().enumerate() {
            let at = format!("/proxy/{n}");
            if proxy.listener.is_some() == proxy.cluster.is_some() {
                self.report(&at, "expected either `listener` or `cluster`".into(), None);
            }
            if proxy.of == "gateway" {
                continue;
            }
            let clients = || self.names.clients.iter().filter(|(_, spec)| spec.sidecar).map(|(name, _)| name.as_str());
            if !clients().any(|name| name == proxy.of) {
                let message = match self.names.clients.contains_key(&proxy.of) {
                    true => format!("the client `{}` has no sidecar to look at", proxy.of),
                    false => format!("`{}` is neither `gateway` nor a client of this scenario", proxy.of),
                };
                let help = did_you_mean(&proxy.of, clients().chain(["gateway"]));
                self.report(&format!("{at}/of"), message, help);
            }
        }
    }

    fn matchers(&mut self) {
        for (below, matcher) in matchers(self.expect) {
            if let Some(fault) = fault(matcher) {
                self.report(&below, fault, None);
            }
        }
    }
}
