//! What to do about a failed `go` or `pip`, judged by the last lines of its output.
//!
//! Pure. A guess never hides the output: the error shows both. Start at [`go`] and [`pip`].

const DISK: &str = "the disk is full: free some space, or move the folders to a larger file system \
    (EGRESS_CONFORMANCE_CACHE, and for Go GOCACHE and GOMODCACHE)";

fn says(tail: &[String], any_of: &[&str]) -> bool {
    tail.iter().map(|line| line.to_lowercase()).any(|line| any_of.iter().any(|text| line.contains(text)))
}

/// For a failed `go build` or `go mod download`.
pub(crate) fn go(tail: &[String]) -> &'static str {
    const NETWORK: &[&str] = &[
        "dial tcp",
        "i/o timeout",
        "no such host",
        "connection refused",
        "connection reset",
        "proxyconnect",
        "x509:",
        "tls:",
        "404 not found",
        "403 forbidden",
        "407 proxy",
        "410 gone",
        "429 too many",
        "502 bad gateway",
        "503 service",
        "unknown revision",
        "goproxy",
        "unrecognized import path",
    ];
    if says(tail, &["no space left on device", "disk quota exceeded"]) {
        DISK
    } else if says(tail, &["checksum mismatch", "security error"]) {
        "what was downloaded is not what go.sum pins: `go clean -modcache` and start again; if it stays, the module proxy \
         (GOPROXY) serves other content"
    } else if says(tail, &["missing go.sum entry", "updates to go.mod needed"]) {
        "go.mod and go.sum of the pins do not fit each other: `go mod tidy` is not for tool modules, use \
         `go get -tool PACKAGE@VERSION` in the pins' folder"
    } else if says(tail, NETWORK) {
        "the module proxy cannot be reached or refuses: set GOPROXY to one that this machine reaches \
         (`go env GOPROXY` shows the present one), HTTPS_PROXY where there is a proxy; what is downloaded already is kept"
    } else if says(tail, &["signal: killed", "cannot allocate memory", "out of memory"]) {
        "there was too little memory: stop other programs, or set GOMAXPROCS=1 to compile one package at a time"
    } else {
        "see its last lines; start again after the cause is removed: what is compiled already is kept"
    }
}

/// For a failed `pip download`.
pub(crate) fn pip(tail: &[String]) -> &'static str {
    const NETWORK: &[&str] = &[
        "connection broken",
        "connectionerror",
        "newconnectionerror",
        "max retries exceeded",
        "name resolution",
        "timed out",
        "certificate",
        "proxyerror",
        "403 client error",
        "407 client error",
        "server error",
    ];
    if says(tail, &["no space left on device", "disk quota exceeded"]) {
        DISK
    } else if says(tail, NETWORK) {
        "the package index cannot be reached or refuses: set it with `pip config set global.index-url URL` \
         (`pip config list` shows the present one), HTTPS_PROXY where there is a proxy"
    } else if says(tail, &["from versions: none"]) {
        "the package index has no wheel of it for this machine, or cannot be reached: look with `pip index versions PACKAGE`, \
         set another index with `pip config set global.index-url URL` (`pip config list` shows the present one), \
         HTTPS_PROXY where there is a proxy, and update pip if it is old"
    } else if says(tail, &["no matching distribution", "could not find a version"]) {
        "the package index does not have this version for this machine (the wheel needs x86_64 and a recent glibc): \
         look with `pip index versions PACKAGE`, choose another index with `pip config set global.index-url URL`, \
         and update pip if it is old"
    } else {
        "see its last lines, and start again after the cause is removed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn go_remedies_follow_the_output() {
        assert!(go(&lines("x\ngo: m@v1: Get \"https://p/\": dial tcp: lookup p: no such host")).contains("GOPROXY"));
        assert!(go(&lines("write $WORK/b001: no space left on device")).contains("disk is full"));
        assert!(go(&lines("verifying m@v1: checksum mismatch")).contains("go clean -modcache"));
        assert!(go(&lines("compile: signal: killed")).contains("GOMAXPROCS=1"));
        assert!(go(&lines("main.go:1: syntax error")).contains("last lines"));
    }

    #[test]
    fn pip_remedies_follow_the_output() {
        assert!(pip(&lines("ERROR: No matching distribution found for a==1")).contains("pip index versions"));
        let none = "ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)\n\
            ERROR: No matching distribution found for a==1";
        assert!(pip(&lines(none)).contains("or cannot be reached"));
        let refused = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n\
            ERROR: No matching distribution found for a==1";
        assert!(pip(&lines(refused)).contains("cannot be reached"));
        assert!(pip(&lines("OSError: [Errno 28] No space left on device")).contains("disk is full"));
    }
}
