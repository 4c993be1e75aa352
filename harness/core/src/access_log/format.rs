//! Formats: compiled once, used for every line.
//!
//! Istio's defaults are facts of `pilot/pkg/model/telemetry_logging.go`: the text format is the same from 1.9 on but for
//! the cluster operator (`UPSTREAM_CLUSTER`, from 1.23 on `UPSTREAM_CLUSTER_RAW`), and JSON has the same keys throughout.

use super::json::JsonFormat;
use super::record::{Record, Unparsed};
use super::text::{self, Segment};

const TEXT_BEGIN: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" ";
const TEXT_END: &str = " %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// How a mesh writes its access log.
#[derive(Debug, Clone)]
pub struct Format(Inner);

#[derive(Debug, Clone)]
enum Inner {
    Text(Vec<Segment>),
    Json(JsonFormat),
}

/// A format string that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// An operator or the text around it is wrong.
    #[error("in the access-log format, {0}")]
    Operator(String),
    /// A JSON format that is not a JSON object.
    #[error("the JSON access-log format is no JSON object: {0}")]
    NotJson(String),
    /// No such version, or one older than 1.9.
    #[error("no built-in access-log format for Istio {0:?}: versions from 1.9 on are known")]
    Version(String),
}

impl Format {
    /// Istio's default text format of a version (`1.31.0`, `1.31`).
    ///
    /// # Errors
    /// [`FormatError::Version`].
    pub fn istio_text(version: &str) -> Result<Self, FormatError> {
        let cluster = if minor(version)? < 23 { "%UPSTREAM_CLUSTER%" } else { "%UPSTREAM_CLUSTER_RAW%" };
        Self::text(&format!("{TEXT_BEGIN}{cluster}{TEXT_END}"))
    }

    /// Istio's default JSON format of a version.
    ///
    /// # Errors
    /// [`FormatError::Version`].
    pub fn istio_json(version: &str) -> Result<Self, FormatError> {
        // The cluster's operator was renamed within these versions; reading takes both as the same field.
        minor(version)?;
        Ok(Self(Inner::Json(JsonFormat::istio())))
    }

    /// Compiles a text format string (`meshConfig.accessLogFormat` with `accessLogEncoding: TEXT`).
    ///
    /// # Errors
    /// [`FormatError::Operator`].
    pub fn text(format: &str) -> Result<Self, FormatError> {
        Ok(Self(Inner::Text(text::compile(format).map_err(FormatError::Operator)?)))
    }

    /// Compiles a JSON format (`accessLogEncoding: JSON`): an object of keys and format strings.
    ///
    /// # Errors
    /// [`FormatError::NotJson`], [`FormatError::Operator`].
    pub fn json(format: &str) -> Result<Self, FormatError> {
        Ok(Self(Inner::Json(JsonFormat::compile(format)?)))
    }

    /// Parses one line.
    ///
    /// # Errors
    /// [`Unparsed`] holds the line and says where it stopped to fit.
    pub fn parse(&self, line: &str) -> Result<Record, Unparsed> {
        match &self.0 {
            Inner::Text(segments) => text::parse(segments, line),
            Inner::Json(format) => format.parse(line),
        }
    }

    /// Writes a record as the proxy would: absent fields as `-` (null in JSON), no line break at the end.
    #[must_use]
    pub fn render(&self, record: &Record) -> String {
        match &self.0 {
            Inner::Text(segments) => text::render(segments, record),
            Inner::Json(format) => format.render(record),
        }
    }
}

/// The minor version. A build without a release number (`unknown`, `latest`) counts as newer than all releases.
fn minor(version: &str) -> Result<u32, FormatError> {
    let unknown = || FormatError::Version(version.to_owned());
    if matches!(version, "unknown" | "latest") {
        return Ok(u32::MAX);
    }
    let mut parts = version.trim_start_matches('v').split(['.', '-']);
    match (parts.next(), parts.next().and_then(|m| m.parse().ok())) {
        (Some("1"), Some(minor)) if minor >= 9 => Ok(minor),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: &str = r#"[2026-11-21T01:00:29.616Z] "- - -" 0 - - - "-" 91 191 1 - "-" "-" "-" "-" "10.244.0.4:2234" outbound|2234||istio-egressgateway.istio-system.svc.cluster.local 10.244.0.8:34548 192.168.0.78:1234 10.244.0.8:55270 - -"#;
    const BLOCKED: &str = r#"[2026-11-21T00:59:40.754Z] "GET /headers HTTP/1.1" 502 - direct_response - "-" 0 0 0 - "-" "curl/7.88.1 a b" "6a9d173a" "192.168.0.79" "-" - - 192.168.0.79:80 10.244.0.8:60770 - block_all"#;

    fn istio() -> Format {
        Format::istio_text("1.31.0").expect("a known version")
    }

    #[test]
    fn a_tcp_line_has_its_sockets() {
        let record = istio().parse(TCP).expect("it fits");
        assert_eq!(record.get("upstream_host"), Some("10.244.0.4:2234"));
        assert_eq!(record.socket("downstream_remote_address").map(|s| s.port()), Some(55270));
        assert_eq!((record.response_code(), record.flags(), record.is_http()), (None, vec![], false));
        assert_eq!(record.get("route_name"), None);
    }

    #[test]
    fn an_http_line_has_its_request() {
        let record = istio().parse(BLOCKED).expect("it fits");
        assert_eq!(record.get("user_agent"), Some("curl/7.88.1 a b"));
        assert_eq!(record.get("path"), Some("/headers"));
        assert_eq!((record.response_code(), record.get("route_name")), (Some(502), Some("block_all")));
        assert_eq!(record.get("upstream_cluster"), None);
    }

    #[test]
    fn flags_are_a_list_and_reasons_may_hold_anything() {
        let line = BLOCKED.replace(" 502 - direct_response - \"-\"", " 503 URX,UF a{b|c} - \"TLS_error: \"x\" end\"");
        let record = istio().parse(&line).expect("it fits");
        assert_eq!(record.flags(), ["URX", "UF"]);
        assert_eq!(record.get("upstream_transport_failure_reason"), Some("TLS_error: \"x\" end"));
        assert_eq!(record.get("authority"), Some("192.168.0.79"));
    }

    #[test]
    fn a_line_that_does_not_fit_says_where() {
        let error = istio().parse(&BLOCKED.replace(" 502 ", " five ")).expect_err("no number");
        assert_eq!(error.expected, "a number for response_code");
        assert_eq!(error.at, 51);
        assert!(istio().parse("").is_err());
        assert!(istio().parse(&format!("{TCP} more")).expect_err("too long").line.ends_with("more"));
    }

    #[test]
    fn json_has_the_same_fields() {
        let line = r#"{"response_code":0,"response_flags":"UH","upstream_cluster":"BlackHoleCluster","upstream_host":null,"route_name":"-","duration":3}"#;
        let record = Format::istio_json("1.22").map(|f| f.parse(line).expect("it fits")).expect("known");
        assert_eq!(record.flags(), ["UH"]);
        assert_eq!((record.get("upstream_host"), record.get("route_name")), (None, None));
        assert_eq!(record.get("duration"), Some("3"));
        let custom = Format::json(r#"{"up": "%UPSTREAM_HOST%", "both": "%PROTOCOL% %DURATION%"}"#).expect("a format");
        let record = custom.parse(r#"{"up": "192.0.2.1:80", "both": "HTTP/1.1 3"}"#).expect("it fits");
        assert_eq!((record.get("upstream_host"), record.get("both")), (Some("192.0.2.1:80"), Some("HTTP/1.1 3")));
        assert!(custom.parse("not json").is_err());
        assert!(custom.parse("{}").is_err());
    }

    #[test]
    fn wrong_formats_are_refused() {
        assert!(matches!(Format::text("%START_TIME"), Err(FormatError::Operator(_))));
        assert!(matches!(Format::text("%PROTOCOL%%DURATION%"), Err(FormatError::Operator(_))));
        assert!(matches!(Format::json("[]"), Err(FormatError::NotJson(_))));
        for version in ["1.8", "2.0", "", "x"] {
            assert!(matches!(Format::istio_text(version), Err(FormatError::Version(_))), "{version}");
        }
        assert!(Format::text("100%% %START_TIME(%Y/%m)%").is_ok());
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".{0,300}") {
            let _ = istio().parse(&line);
        }

        #[test]
        fn what_is_written_is_read_back(agent in "[^\"]{1,40}", reason in "[a-zA-Z_:|{} ]{1,60}", code in 100_u16..600) {
            prop_assume!(agent != "-" && reason != "-");
            let line = BLOCKED
                .replace("curl/7.88.1 a b", &agent)
                .replace(" 502 - direct_response - \"-\"", &format!(" {code} - via_upstream - \"{reason}\""));
            let record = istio().parse(&line).expect("it fits");
            prop_assert_eq!(record.get("user_agent"), Some(agent.as_str()));
            prop_assert_eq!(record.get("upstream_transport_failure_reason"), Some(reason.as_str()));
            prop_assert_eq!(record.response_code(), Some(code));
        }
    }
}
