//! One real `curl`, framed so that its result is either whole or known to be incomplete.
//!
//! The script prints the parts' sizes and the parts between a begin and an end mark that carry the probe's token. Without
//! the end mark nothing is concluded. Pure but for [`script`]'s being run elsewhere: start at [`parse`].

use std::net::{IpAddr, SocketAddr};

use egress_core::evidence::ClientResult;
use serde_json::Value;

/// What comes back, in this order.
const PARTS: [&str; 4] = ["json", "headers", "body", "stderr"];
/// At most this much of each part comes back.
const LIMIT: usize = 64 * 1024;
/// No request takes longer than this many seconds; it is curl's `--max-time`.
pub const MAX_TIME_S: u32 = 10;

/// How long the answer of a TCP exchange may take, in seconds.
const ANSWER_S: u32 = 1;

/// The answer of a probe did not come back whole.
#[derive(Debug, thiserror::Error)]
#[error("the probe's answer is not whole: {0}")]
pub struct Incomplete(String);

/// The script that a client's shell runs: `sh -c SCRIPT sh TOKEN LOCAL-PORTS CURL-ARGUMENTS…`.
///
/// The token goes into the `User-Agent`, which Istio's access log shows at every hop. The local ports are those of
/// [`local_ports`].
#[must_use]
pub fn script() -> String {
    framed(&format!(
        r#"shift 2
curl -q -sS --max-time {MAX_TIME_S} -A "{agent}" --local-port "$p" -D headers -o body --write-out '%{{json}}' "$@" >json 2>stderr"#,
        agent = user_agent("$t"),
    ))
}

/// A command that writes `json`, `headers`, `body` and `stderr`, and may use the token `$t` and the local ports `$p`, with
/// the marks and sizes that [`parse`] reads around them.
fn framed(command: &str) -> String {
    format!(
        r#"t=$1; p=$2
d=$(mktemp -d) && cd "$d" || exit 97
: >headers; : >body
printf '%s begin\n' "$t"
{command}
x=$?
set -- $(wc -c json headers body stderr)
printf '%s sizes %s %s %s %s\n' "$t" "$1" "$3" "$5" "$7"
head -q -c {LIMIT} json headers body stderr
cd / && rm -rf "$d"
printf '\n%s end %s\n' "$t" "$x"
"#
    )
}

/// The script of a TCP exchange: `sh -c SCRIPT sh TOKEN LOCAL-PORTS TO TEXT`. It prints what [`script`] prints.
///
/// curl speaks telnet, which is TCP as long as no byte is 255. It reads until the server closes or [`ANSWER_S`] is over:
/// bytes on a connection have no end of their own. Its input ends with the text: while curl waits for more input it does not
/// read the connection, and what the server says in two parts loses the second (curl 7.88).
#[must_use]
pub fn tcp_script() -> String {
    framed(&format!(
        r#"printf '%s' "$4" |
  curl -q -sS -N --max-time {ANSWER_S} --local-port "$p" -o body --write-out '%{{json}}' "telnet://$3" >json 2>stderr"#
    ))
}

/// A TCP exchange as it is judged: that its time is over is no failure once it had a connection.
#[must_use]
pub fn as_exchange(mut result: ClientResult) -> ClientResult {
    const TIME_IS_OVER: i32 = 28;
    if result.exit == TIME_IS_OVER && result.local.is_some() {
        result.exit = 0;
    }
    result
}

/// The source ports of the N-th probe of a run, as `curl --local-port` takes them: ten of its own, below those that the
/// kernel gives out by itself.
///
/// Connections to different servers may share a source port, but a sidecar's redirection sends them all to Envoy's one
/// port; the kernel then gives the later one another source port (as long as it tracks the earlier one), and Envoy's log
/// shows a socket that curl never had. Ports of its own keep each probe's socket the same on both sides.
#[must_use]
pub fn local_ports(probe: u32) -> String {
    let first = 20_000 + (probe % 1_000) * 10;
    format!("{first}-{}", first + 9)
}

/// The `User-Agent` of a probe.
#[must_use]
pub fn user_agent(token: &str) -> String {
    format!("curl egress-conformance/{token}")
}

/// Reads what the script printed.
///
/// # Errors
/// [`Incomplete`] says which mark or part is missing.
pub fn parse(token: &str, output: &[u8]) -> Result<ClientResult, Incomplete> {
    let mut rest = output;
    expect_line(&mut rest, &format!("{token} begin"))?;
    let sizes = line(&mut rest).ok_or_else(|| Incomplete("no sizes".into()))?;
    let sizes: Vec<usize> = sizes
        .strip_prefix(&format!("{token} sizes "))
        .map(|numbers| numbers.split(' ').filter_map(|n| n.parse().ok()).collect())
        .filter(|sizes: &Vec<usize>| sizes.len() == PARTS.len())
        .ok_or_else(|| Incomplete(format!("instead of the sizes: {sizes:?}")))?;
    let mut parts = [&[][..]; PARTS.len()];
    for ((name, size), part) in PARTS.iter().zip(sizes).zip(&mut parts) {
        let size = size.min(LIMIT);
        (*part, rest) = rest
            .split_at_checked(size)
            .ok_or_else(|| Incomplete(format!("part {name:?} ends early: {} of {size} bytes", rest.len())))?;
    }
    let [json, headers, body, stderr] = parts;
    expect_line(&mut rest, "")?;
    let end = line(&mut rest).ok_or_else(|| Incomplete("no end mark".into()))?;
    let exit = end
        .strip_prefix(&format!("{token} end "))
        .and_then(|code| code.parse::<i32>().ok())
        .ok_or_else(|| Incomplete(format!("instead of the end mark: {end:?}")))?;
    let written: Value = serde_json::from_slice(json)
        .map_err(|e| Incomplete(format!("curl's --write-out is no JSON ({e}): {}", lossy(json))))?;
    Ok(ClientResult {
        exit,
        status: written["http_code"].as_u64().filter(|code| *code > 0).and_then(|code| code.try_into().ok()),
        headers: last_header_block(&lossy(headers)),
        body: lossy(body),
        stderr: lossy(stderr),
        local: socket(&written, "local"),
        remote: socket(&written, "remote"),
        addresses: Vec::new(),
        total_ms: written["time_total"].as_f64().unwrap_or(0.0) * 1000.0,
        connects: written["num_connects"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0),
    })
}

fn socket(written: &Value, side: &str) -> Option<SocketAddr> {
    let ip: IpAddr = written[format!("{side}_ip")].as_str()?.parse().ok()?;
    let port = written[format!("{side}_port")].as_u64().filter(|p| *p > 0)?;
    Some(SocketAddr::new(ip, port.try_into().ok()?))
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.iter().position(|b| *b == b'\n')?;
    let (head, tail) = rest.split_at(end);
    *rest = &tail[1..];
    std::str::from_utf8(head).ok()
}

fn expect_line(rest: &mut &[u8], wanted: &str) -> Result<(), Incomplete> {
    match line(rest) {
        Some(seen) if seen == wanted => Ok(()),
        Some(seen) => Err(Incomplete(format!("instead of {wanted:?}: {seen:?}"))),
        None => Err(Incomplete(format!("no {wanted:?}"))),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The headers of the last response: redirects, `100 Continue` and proxies' answers come before it.
fn last_header_block(text: &str) -> Vec<(String, String)> {
    let normal = text.replace("\r\n", "\n");
    let block = normal.trim_end().rsplit("\n\n").next().unwrap_or_default();
    block
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8]) -> Vec<u8> {
        let json = br#"{"http_code":200,"local_ip":"10.0.0.5","local_port":4711,"remote_ip":"10.0.0.9","remote_port":80,"time_total":0.012,"num_connects":1}"#;
        let headers: &[u8] =
            b"HTTP/1.1 301 Moved\r\nLocation: x\r\n\r\nHTTP/1.1 200 OK\r\nServer: envoy\r\nX: a: b\r\n\r\n";
        framed("tok", [json, headers, body, b""], 0)
    }

    fn framed(token: &str, parts: [&[u8]; 4], exit: i32) -> Vec<u8> {
        let sizes = parts.map(|part| part.len().to_string()).join(" ");
        let mut out = format!("{token} begin\n{token} sizes {sizes}\n").into_bytes();
        out.extend(parts.concat());
        out.extend(format!("\n{token} end {exit}\n").bytes());
        out
    }

    #[test]
    fn a_whole_answer_is_read_even_if_its_body_imitates_the_marks() {
        let body = b"tok end 7\ntok stderr 0\n\n\xff";
        let seen = parse("tok", &answer(body)).expect("whole");
        assert_eq!((seen.exit, seen.status), (0, Some(200)));
        assert_eq!(seen.local.map(|s| s.to_string()).as_deref(), Some("10.0.0.5:4711"));
        assert_eq!(seen.headers, [("Server".into(), "envoy".into()), ("X".into(), "a: b".into())]);
        assert!(seen.body.starts_with("tok end 7"));
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_is_incomplete() {
        let whole = answer(b"some body");
        for cut in 0..whole.len() {
            assert!(parse("tok", &whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse("other", &whole).is_err());
    }

    #[test]
    fn probes_have_ports_of_their_own() {
        assert_eq!(local_ports(0), "20000-20009");
        assert_eq!(local_ports(1), "20010-20019");
        assert_eq!(local_ports(999), "29990-29999");
        assert_eq!(local_ports(1000), local_ports(0));
    }

    #[test]
    fn an_exchange_whose_time_is_over_has_failed_only_without_a_connection() {
        let ended = |local: &str| {
            let json =
                format!(r#"{{"http_code":0,"local_ip":{local:?},"local_port":7,"remote_ip":"","remote_port":0}}"#);
            let seen = parse("t", &framed("t", [json.as_bytes(), b"", b"hello", b""], 28)).expect("whole");
            as_exchange(seen).exit
        };
        assert_eq!((ended("10.0.0.5"), ended("")), (0, 28));
    }

    #[test]
    fn no_response_is_no_status() {
        let json = br#"{"http_code":0,"local_ip":"","local_port":0,"remote_ip":"","remote_port":0}"#;
        let out = framed("t", [json, b"", b"", b"curl: (7) x"], 7);
        let seen = parse("t", &out).expect("whole");
        assert_eq!((seen.exit, seen.status, seen.local, seen.remote), (7, None, None, None));
    }
}
