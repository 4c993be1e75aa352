//! The servers that stand for the public names and addresses of a page.
//!
//! What well-known sites answer is known here, as far as tutorials look at it; every other name is a page on the ports that
//! the page asks for. Start at [`world`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use regex::Regex;

use super::manifest;
use super::page::Page;
use crate::scenario::schema::{DestinationSpec, Serves};
use crate::scenario::{World, WorldDestination};

static URL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(https?)://([A-Za-z0-9.-]+)(?::(\d{1,5}))?").expect("a constant pattern"));
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(\d{1,3}(?:\.\d{1,3}){3})\b").expect("a constant pattern"));

/// Hosts that pages fetch files from, and that are no part of what they show.
const NOT_PLAYED: [&str; 4] = ["github.com", "raw.githubusercontent.com", "istio.io", "preliminary.istio.io"];
/// Addresses that Wikipedia's page of the documentation writes.
const WIKIPEDIA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(198, 35, 26, 96), Ipv4Addr::new(208, 80, 153, 224), Ipv4Addr::new(91, 198, 174, 192)];

/// The world of a page: its own `destinations`, and servers for the other public names and addresses in its commands.
#[must_use]
pub fn world(page: &Page) -> World {
    let mut world = World { public: true, ..World::default() };
    for (name, spec) in &page.settings.destinations {
        add(&mut world, name, spec.clone());
    }
    let declared: BTreeSet<String> = page.settings.destinations.values().flat_map(|d| d.hosts.clone()).collect();
    let mut names = names(page);
    names.retain(|host, _| !declared.contains(host));
    let addresses = addresses(page);
    let wikis: BTreeSet<String> = names.keys().filter(|h| is_wikipedia(h)).cloned().collect();
    if !wikis.is_empty() || addresses.iter().any(|a| WIKIPEDIA.contains(a)) {
        wikipedia(&mut world, &wikis);
        names.retain(|host, _| !is_wikipedia(host));
    }
    for (host, ports) in &names {
        site(&mut world, host, ports);
    }
    for address in addresses {
        let machine = if WIKIPEDIA.contains(&address) { Some("wikipedia".to_owned()) } else { machine(&world) };
        if let Some(machine) = machine {
            world.fixed.insert(address, machine);
        }
    }
    world
}

/// Whose a public address is that no site is known to have: the first machine with a port for TLS, else the first.
fn machine(world: &World) -> Option<String> {
    let machines = || world.destinations.iter().filter(|(_, d)| d.spec.beside.is_none());
    machines().find(|(_, d)| d.spec.tls).or_else(|| machines().next()).map(|(name, _)| name.clone())
}

fn is_wikipedia(host: &str) -> bool {
    host == "wikipedia.org" || host.ends_with(".wikipedia.org")
}

fn add(world: &mut World, name: &str, spec: DestinationSpec) {
    world.destinations.insert(name.to_owned(), WorldDestination { spec, declared_by: Vec::new() });
}

fn spec(serves: Serves, port: u16, hosts: &[String]) -> DestinationSpec {
    DestinationSpec {
        serves,
        port,
        tls: false,
        mutual: false,
        hosts: hosts.to_vec(),
        addresses: 1,
        title: None,
        titles: BTreeMap::new(),
        beside: None,
    }
}

/// One machine for every Wikipedia: each answers for all of them, as the real ones do.
fn wikipedia(world: &mut World, named: &BTreeSet<String>) {
    // The domain by itself is what is left of a wildcard.
    let mut hosts: BTreeSet<String> = named.iter().filter(|host| *host != "wikipedia.org").cloned().collect();
    hosts.extend(["www", "en", "de"].map(|language| format!("{language}.wikipedia.org")));
    let hosts: Vec<String> = hosts.into_iter().collect();
    let titles = BTreeMap::from([
        ("en.wikipedia.org".to_owned(), "Wikipedia, the free encyclopedia".to_owned()),
        ("de.wikipedia.org".to_owned(), "Wikipedia – Die freie Enzyklopädie".to_owned()),
    ]);
    let title = Some("Wikipedia".to_owned());
    add(world, "wikipedia", DestinationSpec { tls: true, title, titles, ..spec(Serves::Page, 443, &hosts) });
    let beside = Some("wikipedia".to_owned());
    add(world, "wikipedia-80", DestinationSpec { beside, ..spec(Serves::Redirect, 80, &hosts) });
}

/// Servers for one host: plain HTTP at 80, TLS at 443, and whatever other port is asked for.
fn site(world: &mut World, host: &str, ports: &BTreeSet<(u16, bool)>) {
    let name = host.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "-").to_lowercase();
    let hosts = [host.to_owned()];
    let at_80 = match host {
        "httpbin.org" => Serves::Httpbin,
        "www.google.com" | "google.com" => Serves::Page,
        _ => Serves::Redirect,
    };
    let at_443 = if at_80 == Serves::Httpbin { Serves::Httpbin } else { Serves::Page };
    add(world, &name, DestinationSpec { tls: true, ..spec(at_443, 443, &hosts) });
    let beside = || Some(name.clone());
    add(world, &format!("{name}-80"), DestinationSpec { beside: beside(), ..spec(at_80, 80, &hosts) });
    for (port, tls) in ports.iter().filter(|(port, _)| ![80, 443].contains(port)) {
        let other = DestinationSpec { tls: *tls, beside: beside(), ..spec(Serves::Page, *port, &hosts) };
        add(world, &format!("{name}-{port}"), other);
    }
}

/// The public names in the commands of a page, with the ports that are asked for and whether by TLS.
fn names(page: &Page) -> BTreeMap<String, BTreeSet<(u16, bool)>> {
    let mut found: BTreeMap<String, BTreeSet<(u16, bool)>> = BTreeMap::new();
    for step in &page.steps {
        for url in URL.captures_iter(&step.command) {
            let tls = &url[1] == "https";
            let port = url.get(3).and_then(|p| p.as_str().parse().ok()).unwrap_or(if tls { 443 } else { 80 });
            let host = url[2].trim_end_matches('.').to_lowercase();
            if is_public(&host) {
                found.entry(host).or_default().insert((port, tls));
            }
        }
        for object in manifest::objects(&step.command) {
            let mut hosts = manifest::strings(&object, "/spec/hosts");
            hosts.extend(object.pointer("/spec/externalName").and_then(|n| n.as_str()).map(str::to_owned));
            let declares = matches!(object["kind"].as_str(), Some("ServiceEntry" | "Service"));
            for host in hosts.into_iter().filter(|host| declares && is_public(host)) {
                found.entry(host.trim_start_matches("*.").to_owned()).or_default();
            }
        }
    }
    found
}

fn is_public(host: &str) -> bool {
    let letters = host.rsplit('.').next().is_some_and(|last| last.chars().any(|c| c.is_ascii_alphabetic()));
    let inside = ["local", "internal", "svc", "localhost"].iter().any(|s| host.rsplit('.').next() == Some(s));
    let service = host.contains(".svc.") || host.ends_with(".svc");
    host.contains('.') && letters && !inside && !service && !NOT_PLAYED.contains(&host)
}

/// The public addresses in the commands of a page.
fn addresses(page: &Page) -> BTreeSet<Ipv4Addr> {
    let text = page.steps.iter().map(|step| step.command.as_str());
    let found = text.flat_map(|command| ADDRESS.find_iter(command)).filter_map(|m| m.as_str().parse().ok());
    found.filter(is_public_address).collect()
}

fn is_public_address(address: &Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let special = first == 0 || first >= 224;
    !(address.is_private() || address.is_loopback() || address.is_link_local() || shared || special)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Options, parse};
    use super::*;

    fn world_of(text: &str) -> World {
        world(&parse(Path::new("p.md"), text, &Options { tabs: &[], values: &[], boilerplate: &|_| None }))
    }

    fn names_of(world: &World) -> Vec<(&str, u16)> {
        world.destinations.iter().map(|(n, d)| (n.as_str(), d.spec.port)).collect()
    }

    #[test]
    fn names_of_a_page_become_servers() {
        let world = world_of(
            "```bash\ncurl http://edition.cnn.com/politics https://edition.cnn.com:8443/ http://a.default.svc.cluster.local http://10.0.0.1/ https://github.com/x\nkubectl apply -f - <<EOF\nkind: ServiceEntry\nspec:\n  hosts:\n  - httpbin.org\nEOF\n```\n",
        );
        assert_eq!(
            names_of(&world),
            [
                ("edition-cnn-com", 443),
                ("edition-cnn-com-80", 80),
                ("edition-cnn-com-8443", 8443),
                ("httpbin-org", 443),
                ("httpbin-org-80", 80)
            ]
        );
        assert!(world.public);
        assert_eq!(world.destinations["httpbin-org-80"].spec.serves, Serves::Httpbin);
        assert_eq!(world.destinations["edition-cnn-com-80"].spec.serves, Serves::Redirect);
    }

    #[test]
    fn every_wikipedia_is_on_one_machine_which_has_the_addresses_of_the_page() {
        let world = world_of(
            "```bash\ncurl https://fr.wikipedia.org/\nkubectl apply -f - <<EOF\nkind: Endpoints\nsubsets:\n- addresses:\n  - ip: 198.35.26.96\n  - ip: 192.168.1.1\nEOF\n```\n",
        );
        assert_eq!(names_of(&world), [("wikipedia", 443), ("wikipedia-80", 80)]);
        assert!(world.destinations["wikipedia"].spec.hosts.contains(&"fr.wikipedia.org".to_owned()));
        assert_eq!(world.fixed, BTreeMap::from([(Ipv4Addr::new(198, 35, 26, 96), "wikipedia".to_owned())]));
        let given = world.assign([Ipv4Addr::new(192, 168, 0, 78)]).expect("one machine");
        assert_eq!(given.destinations["wikipedia-80"].len(), 2);
        let dns = world.dns(&given, Ipv4Addr::LOCALHOST);
        assert_eq!(dns["en.wikipedia.org"], [Ipv4Addr::new(192, 168, 0, 78)]);
    }

    #[test]
    fn what_a_page_declares_itself_is_not_made_up() {
        let world = world_of(
            "<!-- tutorial:\ndestinations:\n  mine: {serves: files, port: 1234, hosts: [my.server.com]}\n-->\n```bash\ncurl http://my.server.com:1234/\n```\n",
        );
        assert_eq!(names_of(&world), [("mine", 1234)]);
    }
}
