//! A probe as somebody would type it.
//!
//! The harness itself sends more (a token, what curl writes down); this is for people. Start at [`command`].

use super::schema::Probe;

/// The `kubectl exec` that sends a probe from a Deployment; variables may stand in it.
#[must_use]
pub fn command(namespace: &str, deployment: &str, probe: &Probe) -> String {
    let exec = || format!("kubectl exec -n {namespace} deploy/{deployment} -c curl --");
    match (&probe.resolve, &probe.tcp) {
        (Some(name), _) => format!("{} getent ahosts {}", exec(), quote(name)),
        (None, Some(tcp)) => {
            let inside = format!("printf %s {} | curl -sSN -m 1 telnet://{}", quote(&tcp.send), tcp.to);
            format!("{} sh -c {}", exec(), quote(&inside))
        }
        (None, None) => {
            let arguments: Vec<_> = probe.curl.iter().map(|argument| quote(argument)).collect();
            format!("{} curl -sS {}", exec(), arguments.join(" "))
        }
    }
}

/// A word as a shell takes it; one that is plain but for variables of a scenario stays readable.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let mut rest = word;
    let mut without = String::new();
    while let Some((before, after)) = rest.split_once("${") {
        without.push_str(before);
        rest = after.split_once('}').map_or("$", |(_, after)| after);
    }
    without.push_str(rest);
    if !word.is_empty() && without.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::schema::TcpProbe;

    #[test]
    fn words_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(quote("http://${my-server.address}:1234/"), "http://${my-server.address}:1234/");
        assert_eq!(quote("Host: a"), "'Host: a'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("${open"), "'${open'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn each_kind_has_its_command() {
        let curl = Probe { curl: vec!["-k".into(), "https://a/".into()], ..Probe::default() };
        assert_eq!(command("n", "meshed", &curl), "kubectl exec -n n deploy/meshed -c curl -- curl -sS -k https://a/");
        let resolve = Probe { resolve: Some("a.b".into()), ..Probe::default() };
        assert_eq!(command("n", "plain", &resolve), "kubectl exec -n n deploy/plain -c curl -- getent ahosts a.b");
        let tcp = TcpProbe { to: "a.b:1".into(), send: "ping\n".into() };
        let tcp = command("n", "meshed", &Probe { tcp: Some(tcp), ..Probe::default() });
        assert!(tcp.starts_with("kubectl exec -n n deploy/meshed -c curl -- sh -c 'printf %s "), "{tcp}");
        assert!(tcp.ends_with("| curl -sSN -m 1 telnet://a.b:1'"), "{tcp}");
    }
}
