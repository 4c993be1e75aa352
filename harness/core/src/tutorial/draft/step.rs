//! Requests of a page as steps of a scenario: the probe, and the path that was seen. Start at `Writer::steps`.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::client_words::Request;
use super::{Recorded, Step, Writer, host};
use crate::path::SeenHop;
use crate::scenario::schema::Serves;

impl Writer<'_> {
    /// The steps of one command: one for each request whose path can be told.
    pub(super) fn steps(&mut self, command: &Recorded) -> Vec<Step> {
        let mut found = Vec::new();
        for sent in &command.sent {
            let line = command.line;
            if !sent.proved {
                self.left_out.insert(format!("line {line}, whose path was not proved"));
                continue;
            }
            let exchanges = exchanges(&sent.hops);
            let follows = sent
                .requests
                .iter()
                .any(|(r, _)| r.arguments.iter().any(|a| matches!(a.as_str(), "-L" | "--location")));
            let each: Vec<Vec<Vec<SeenHop>>> = match sent.requests.len() {
                0 => continue,
                1 => vec![exchanges],
                n if n == exchanges.len() && !follows => exchanges.into_iter().map(|e| vec![e]).collect(),
                _ => {
                    self.left_out.insert(format!("line {line}, whose requests cannot be told apart"));
                    continue;
                }
            };
            for (n, ((request, exit), hops)) in sent.requests.iter().zip(each).enumerate() {
                let ends: Vec<&SeenHop> = hops.iter().filter_map(|e| e.last()).collect();
                let ours = ends.iter().all(|hop| matches!(hop, SeenHop::Destination(_)) || blocked(hop));
                if !ours {
                    self.left_out.insert(format!("line {line}, which leads to a server in the cluster"));
                    continue;
                }
                let number = if sent.requests.len() > 1 { format!(", request {}", n + 1) } else { String::new() };
                found.push(self.step(&format!("line {line}{number}"), sent.meshed, request, *exit, &hops));
            }
        }
        found
    }

    fn step(&self, name: &str, meshed: bool, request: &Request, exit: Option<i32>, exchanges: &[Vec<SeenHop>]) -> Step {
        let mut arguments: Vec<String> = request.arguments.iter().map(|a| self.with_variables(a)).collect();
        // Clients of scenarios do not trust the external servers' authority.
        let tls = arguments.iter().any(|a| a.starts_with("https://")) || exchanges.len() > 1;
        if tls && !arguments.iter().any(|a| matches!(a.as_str(), "-k" | "--insecure")) {
            arguments.insert(0, "-k".to_owned());
        }
        let hops = |exchange: &Vec<SeenHop>| {
            let mut hops: Vec<Value> = exchange.iter().map(|hop| self.hop(hop)).collect();
            hops.extend(exchange.last().and_then(|last| self.through(last, &request.arguments)));
            hops
        };
        let mut expect = match exchanges {
            [] => json!({"path": []}),
            [one] => json!({"path": hops(one)}),
            several => json!({"paths": several.iter().map(hops).collect::<Vec<_>>()}),
        };
        if let Some(exit) = exit.filter(|_| request.direct) {
            // Which of the two a reset becomes is a toss of a coin.
            expect["client"] =
                if [52, 56].contains(&exit) { json!({"exit": {"in": [52, 56]}}) } else { json!({"exit": exit}) };
        }
        let arrives =
            !exchanges.is_empty() && exchanges.iter().all(|e| matches!(e.last(), Some(SeenHop::Destination(_))));
        let from = if meshed { "meshed" } else { "plain" };
        let probe = json!({"from": from, "curl": arguments});
        Step { name: name.to_owned(), probe, expect, arrives, ..Step::default() }
    }

    /// Where a tunnel of a proxy among the servers leads: the server of the URL, which a probe's token shows.
    fn through(&self, last: &SeenHop, arguments: &[String]) -> Option<Value> {
        let SeenHop::Destination(seen) = last else { return None };
        let destinations = &self.source.world.destinations;
        let tunnel = seen.method.as_deref() == Some("CONNECT");
        if !tunnel || destinations.get(&seen.name)?.spec.serves != Serves::Proxy {
            return None;
        }
        let host = host(&json!({"curl": arguments}));
        let of_host = |d: &crate::scenario::WorldDestination| d.spec.tls && d.spec.hosts.contains(&host);
        let (name, _) = destinations.iter().find(|(_, d)| of_host(d))?;
        Some(json!({"destination": {"name": name}}))
    }

    fn hop(&self, hop: &SeenHop) -> Value {
        match hop {
            SeenHop::Destination(seen) => {
                let mut said = json!({"name": seen.name});
                if seen.got != crate::scenario::schema::Got::Request {
                    said["got"] = json!(seen.got);
                }
                json!({"destination": said})
            }
            proxy => {
                let Some(seen) = proxy.proxy() else { return Value::Null };
                let record = &seen.record;
                let mut said = serde_json::Map::new();
                let cluster = record.get("upstream_cluster").map(|c| self.with_variables(c));
                said.insert("cluster".into(), cluster.unwrap_or_else(|| "absent".to_owned()).into());
                let flags: Vec<&str> = record.get("response_flags").into_iter().flat_map(|f| f.split(',')).collect();
                said.insert("flags".into(), if flags.is_empty() { json!("absent") } else { json!(flags) });
                if let Some(upstream) = record.upstream_host().and_then(|host| self.owner(host.ip(), host.port())) {
                    said.insert("upstream".into(), upstream.into());
                }
                if record.is_http()
                    && let Some(code) = record.get("response_code").and_then(|c| c.parse::<u16>().ok())
                {
                    said.insert("code".into(), code.into());
                }
                json!({ (proxy.kind()): said })
            }
        }
    }

    /// Whose an address is: a destination's, or the gateway's.
    fn owner(&self, address: IpAddr, port: u16) -> Option<String> {
        if self.source.gateways.contains(&address) {
            return Some("gateway".to_owned());
        }
        let has = |name: &&String| self.source.addresses.get(*name).is_some_and(|a| a.contains(&address));
        let all = || self.source.world.destinations.iter();
        let exact = all().find(|(name, d)| has(name) && d.spec.port == port);
        exact.map(|(name, _)| name.clone())
    }
}

/// Whether a proxy ended the request itself.
fn blocked(hop: &SeenHop) -> bool {
    hop.proxy().is_some_and(|proxy| proxy.record.upstream_local_address().is_none())
}

/// Hops, split where a client begins anew.
fn exchanges(hops: &[SeenHop]) -> Vec<Vec<SeenHop>> {
    let mut all: Vec<Vec<SeenHop>> = Vec::new();
    for hop in hops {
        let begins = match hop {
            SeenHop::Sidecar(_) => true,
            // Without a sidecar each server is asked by the client itself.
            SeenHop::Destination(_) => {
                all.last().and_then(|e| e.last()).is_some_and(|h| matches!(h, SeenHop::Destination(_)))
            }
            SeenHop::Gateway(_) => false,
        };
        match all.last_mut().filter(|_| !begins) {
            Some(exchange) => exchange.push(hop.clone()),
            None => all.push(vec![hop.clone()]),
        }
    }
    all
}
