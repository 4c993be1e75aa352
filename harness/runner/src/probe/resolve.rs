//! One name, looked up as the client's programs look names up: by its C library's resolver, so through a sidecar's DNS proxy
//! where there is one.
//!
//! Pure but for [`command`]'s being run elsewhere: start at [`parse`].

use std::net::IpAddr;

use egress_core::evidence::ClientResult;

/// The command that looks a name up. It ends with 2 when there is no such name.
#[must_use]
pub fn command(name: &str) -> [&str; 3] {
    ["getent", "ahosts", name]
}

/// Reads what the command printed: each address once, in the order in which programs would try them.
#[must_use]
pub fn parse(exit: i32, stdout: &[u8], stderr: &[u8]) -> ClientResult {
    let text = String::from_utf8_lossy(stdout);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    ClientResult {
        exit,
        status: None,
        headers: Vec::new(),
        body: String::new(),
        stderr: String::from_utf8_lossy(stderr).into_owned(),
        local: None,
        remote: None,
        addresses,
        total_ms: 0.0,
        connects: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_counts_once() {
        let printed =
            b"192.0.2.1       STREAM my.server.com\n192.0.2.1       DGRAM  \n192.0.2.1       RAW    \n2001:db8::1     STREAM \n";
        let seen = parse(0, printed, b"");
        let wanted: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1"].iter().map(|a| a.parse().expect("an address")).collect();
        assert_eq!((seen.exit, seen.addresses), (0, wanted));
        assert_eq!(parse(2, b"", b"").addresses, Vec::<IpAddr>::new());
    }
}
