//! Command operators of an access-log format: `%NAME(ARGUMENTS):LENGTH%`.
//!
//! The operators are Envoy's ("Access logging" in its documentation); the field names are the 24 keys of Istio's JSON
//! access log, the same from Istio 1.9 on (`pilot/pkg/model/telemetry_logging.go`). Start at [`Operator::read`].

/// The keys of Istio's JSON access log.
pub const ISTIO_FIELDS: [&str; 24] = [
    "authority",
    "bytes_received",
    "bytes_sent",
    "connection_termination_details",
    "downstream_local_address",
    "downstream_remote_address",
    "duration",
    "method",
    "path",
    "protocol",
    "request_id",
    "requested_server_name",
    "response_code",
    "response_code_details",
    "response_flags",
    "route_name",
    "start_time",
    "upstream_cluster",
    "upstream_host",
    "upstream_local_address",
    "upstream_service_time",
    "upstream_transport_failure_reason",
    "user_agent",
    "x_forwarded_for",
];

/// One operator of a format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The field that its value goes into.
    pub field: String,
    /// Whether its value is always a number or absent, which helps to tell where it ends.
    pub(super) numeric: bool,
    /// Whether its value is one word: Envoy writes no blank into it.
    pub(super) word: bool,
    /// Whether Envoy may end the value with `;`: clusters have had a statistics name `NAME;` since Istio 1.23, and the
    /// JSON format printed it until 1.23.4, 1.24.2 and 1.25.0.
    pub(super) suffixed: bool,
    /// `:N`: the value is cut to this many bytes.
    pub max_length: Option<usize>,
}

impl Operator {
    /// Reads what stands between two percent signs.
    ///
    /// # Errors
    /// Says what is wrong with the operator.
    pub fn read(text: &str) -> Result<Self, String> {
        let (head, max_length) = match text.rsplit_once(':') {
            Some((head, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                let length = digits.parse().map_err(|_| format!("the length {digits} of %{text}% is too large"))?;
                (head, Some(length))
            }
            _ => (text, None),
        };
        let (name, arguments) = match head.split_once('(') {
            Some((name, rest)) => {
                let inner = rest.strip_suffix(')').ok_or_else(|| format!("%{text}% lacks its closing parenthesis"))?;
                (name, inner)
            }
            None => (head, ""),
        };
        let known = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(known) {
            return Err(format!("%{text}% is no operator: its name is not in capitals"));
        }
        let field = field(name, arguments);
        let prose = ["start_time", "user_agent", "upstream_transport_failure_reason", "x_forwarded_for"];
        Ok(Self {
            word: ISTIO_FIELDS.contains(&field.as_str()) && !prose.contains(&field.as_str()),
            suffixed: name == "UPSTREAM_CLUSTER",
            field,
            numeric: matches!(name, "RESPONSE_CODE" | "BYTES_RECEIVED" | "BYTES_SENT" | "DURATION"),
            max_length,
        })
    }
}

impl Operator {
    /// The operator of this name, without arguments.
    pub(super) fn named(name: &str) -> Self {
        Self {
            field: name.to_ascii_lowercase(),
            numeric: false,
            word: false,
            suffixed: name == "UPSTREAM_CLUSTER",
            max_length: None,
        }
    }

    /// The value without what does not belong to it.
    pub(super) fn clean<'v>(&self, value: &'v str) -> &'v str {
        if self.suffixed { value.strip_suffix(';').unwrap_or(value) } else { value }
    }
}

fn field(name: &str, arguments: &str) -> String {
    let request = |header: &str| match header.to_ascii_lowercase().as_str() {
        ":method" => Some("method"),
        ":path" | "x-envoy-original-path?:path" | "path" => Some("path"),
        ":authority" => Some("authority"),
        "user-agent" => Some("user_agent"),
        "x-request-id" => Some("request_id"),
        "x-forwarded-for" => Some("x_forwarded_for"),
        _ => None,
    };
    let named = match name {
        "REQ" => request(arguments),
        "RESP" if arguments.eq_ignore_ascii_case("x-envoy-upstream-service-time") => Some("upstream_service_time"),
        "START_TIME" => Some("start_time"),
        // Istio 1.23 and later: the name without the statistics prefix.
        "UPSTREAM_CLUSTER_RAW" => Some("upstream_cluster"),
        _ => None,
    };
    if let Some(named) = named {
        return named.to_owned();
    }
    let plain = name.to_ascii_lowercase();
    if arguments.is_empty() {
        return plain;
    }
    let words: String =
        arguments.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    format!("{plain}_{}", words.trim_matches('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_have_the_names_of_istios_json_log() {
        for (text, name) in [
            ("REQ(X-ENVOY-ORIGINAL-PATH?:PATH)", "path"),
            ("REQ(:METHOD)", "method"),
            ("RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)", "upstream_service_time"),
            ("UPSTREAM_CLUSTER", "upstream_cluster"),
            ("UPSTREAM_CLUSTER_RAW", "upstream_cluster"),
            ("START_TIME(%s)", "start_time"),
            ("RESPONSE_FLAGS", "response_flags"),
        ] {
            assert_eq!(Operator::read(text).map(|o| o.field).as_deref(), Ok(name));
            assert!(ISTIO_FIELDS.contains(&name));
        }
    }

    #[test]
    fn others_keep_a_name_of_their_own() {
        assert_eq!(
            Operator::read("DYNAMIC_METADATA(istio.mixer:status)").map(|o| o.field).as_deref(),
            Ok("dynamic_metadata_istio_mixer_status")
        );
        let cut = Operator::read("REQ(X-FOO):12").expect("an operator");
        assert_eq!((cut.field.as_str(), cut.max_length), ("req_x_foo", Some(12)));
    }

    #[test]
    fn what_is_no_operator_is_refused() {
        for wrong in ["", "start_time", "REQ(:METHOD", "REQ METHOD"] {
            assert!(Operator::read(wrong).is_err(), "{wrong}");
        }
    }
}
