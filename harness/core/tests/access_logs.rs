//! Recorded access-log lines, and lines in every format that Istio has had.

use egress_core::access_log::{Format, FormatError, Record};
use proptest::prelude::*;

const RECORDED: &str = include_str!("../../../fixtures/access-logs/istio-1.31-text.log");
/// One version of each family of default formats (text before and after 1.23, JSON before and after 1.25).
const VERSIONS: [&str; 9] =
    ["1.9.0", "1.12.3", "1.22.8", "1.23.0", "1.23.4", "1.24.1", "1.25.0", "1.31.0-rc.0", "unknown"];

fn records() -> Vec<Record> {
    let format = Format::istio_text("1.31.0").expect("a known version");
    RECORDED.lines().map(|line| format.parse(line).unwrap_or_else(|e| panic!("{e}"))).collect()
}

#[test]
fn every_recorded_line_fits_and_is_written_back_byte_for_byte() {
    let format = Format::istio_text("1.31.0").expect("a known version");
    let records = records();
    assert_eq!(records.len(), 102);
    for (line, record) in RECORDED.lines().zip(&records) {
        assert_eq!(format.render(record), line);
        assert!(record.start_time().is_some(), "{line}");
        assert!(record.downstream_remote_address().is_some(), "{line}");
        assert_eq!(record.is_http(), record.response_code().is_some() || record.has_flag("DC"), "{line}");
    }
}

#[test]
fn recorded_values_are_the_right_ones() {
    let records = records();
    let count = |field: &str, value: &str| records.iter().filter(|r| r.get(field) == Some(value)).count();
    // Counted in the file with other tools.
    assert_eq!(count("upstream_cluster", "BlackHoleCluster"), RECORDED.matches(" BlackHoleCluster ").count());
    assert_eq!(count("route_name", "block_all"), RECORDED.lines().filter(|l| l.ends_with(" block_all")).count());
    assert_eq!(count("response_code", "502"), RECORDED.matches("\" 502 ").count());
    let failed =
        records.iter().find(|r| r.get("upstream_transport_failure_reason").is_some_and(|r| r.contains("CERT")));
    let failed = failed.expect("there is one");
    assert_eq!(failed.flags(), ["URX", "UF"]);
    assert!(failed.get("response_code_details").is_some_and(|d| d.ends_with("TLS_error_end}")));
    assert_eq!(failed.upstream_host().map(|s| s.to_string()).as_deref(), Some("192.168.0.80:443"));
    assert_eq!(failed.upstream_local_address(), None);
    let denied = records.iter().find(|r| r.response_code() == Some(403) && r.get("protocol") == Some("HTTP/2"));
    assert_eq!(
        denied.and_then(|r| r.get("response_code_details")),
        Some("rbac_access_denied_matched_policy[ns[istio-system]-policy[deny-httpbin]-rule[0]]")
    );
}

#[test]
fn recorded_records_survive_every_versions_formats() {
    for version in VERSIONS {
        for format in [Format::istio_text(version), Format::istio_json(version)] {
            let format = format.expect("a known version");
            for record in records() {
                let line = format.render(&record);
                assert_eq!(format.parse(&line).as_ref(), Ok(&record), "{version}: {line}");
            }
        }
    }
}

#[test]
fn a_cluster_is_the_same_before_and_after_the_raw_operator() {
    // Istio 1.23 to 1.24.1 with the JSON format: the statistics name shows.
    let line = r#"{"upstream_cluster":"outbound|80||httpbin.org;","response_code":200,"duration":3,"start_time":null}"#;
    let record = Format::istio_json("1.23.2").expect("known").parse(line).expect("it fits");
    assert_eq!(record.get("upstream_cluster"), Some("outbound|80||httpbin.org"));
    assert_eq!((record.response_code(), record.get("duration"), record.start_time()), (Some(200), Some("3"), None));
}

#[test]
fn formats_of_a_meshs_own() {
    let text = Format::text("%REQ(:METHOD)%|%UPSTREAM_HOST%|%DYNAMIC_METADATA(istio.mixer:status)%|%REQ(X-TEAM):5%")
        .expect("a format");
    let record = text.parse("GET|[::ffff:192.0.2.1]:80|{\"a\":1}|pay-m\n").expect("it fits");
    assert_eq!(record.upstream_host().map(|s| s.to_string()).as_deref(), Some("192.0.2.1:80"));
    assert_eq!(record.get("dynamic_metadata_istio_mixer_status"), Some("{\"a\":1}"));
    assert_eq!(record.get("req_x_team"), Some("pay-m"));

    let json = r#"{"request": {"line": "%REQ(:METHOD)% %PROTOCOL%", "code": "%RESPONSE_CODE%"}, "kind": "egress"}"#;
    let json = Format::json(json).expect("a format");
    let line = r#"{"request":{"line":"GET HTTP/2","code":404},"kind":"egress"}"#;
    let record = json.parse(line).expect("it fits");
    assert_eq!(
        (record.get("method"), record.get("protocol"), record.response_code()),
        (Some("GET"), Some("HTTP/2"), Some(404))
    );
    assert_eq!((record.get("request.line"), record.get("kind")), (Some("GET HTTP/2"), Some("egress")));
    assert_eq!(json.render(&record), line);

    assert!(matches!(Format::istio_text("1.8.6"), Err(FormatError::Version(_))));
    assert!(matches!(Format::json("[1]"), Err(FormatError::NotJson(_))));
}

#[test]
fn a_line_made_to_be_ambiguous_is_given_back_in_bounded_time() {
    let format = Format::istio_text("1.31.0").expect("a known version");
    let line = format!("[x] \"GET / HTTP/1.1\" 200 - - - \"{}", "\" \"".repeat(20_000));
    let unparsed = format.parse(&line).expect_err("it does not end like a line");
    assert_eq!(unparsed.line, line);
}

fn value() -> impl Strategy<Value = String> {
    // What HTTP lets into these headers, quotation marks and blanks included.
    "[!-~]([ -~]{0,20}[!-~])?".prop_filter("a value that stands for none", |v| v != "-")
}

fn address() -> impl Strategy<Value = String> {
    (any::<[u8; 4]>(), 1_u16..).prop_map(|(ip, port)| format!("{}:{port}", std::net::Ipv4Addr::from(ip)))
}

prop_compose! {
    fn http_record()(
        agent in value(), authority in "[a-z.]{1,20}", path in "/[!#-~]{0,20}", reason in "[a-zA-Z_:|{} ]{0,20}[a-z]",
        code in 100_u16..600, flags in prop::sample::subsequence(vec!["UF", "URX", "UH", "NR"], 0..3),
        host in address(), local in address(), remote in address(),
    ) -> Record {
        let mut record = Record::default();
        for (field, value) in [
            ("start_time", "2026-11-21T01:00:29.616Z"), ("method", "GET"), ("protocol", "HTTP/1.1"),
            ("user_agent", &agent), ("authority", &authority), ("path", &path),
            ("upstream_transport_failure_reason", &reason), ("response_code", &code.to_string()),
            ("response_flags", &flags.join(",")), ("upstream_host", &host), ("upstream_local_address", &local),
            ("downstream_local_address", &host), ("downstream_remote_address", &remote), ("bytes_sent", "0"),
            ("request_id", "6a9d173a-fca8"), ("upstream_cluster", "outbound|80|v1|h.example"), ("duration", "12"),
        ] {
            record.set(field, value);
        }
        record
    }
}

proptest! {
    #[test]
    fn a_rendered_json_record_is_read_back(record in http_record()) {
        let format = Format::istio_json("1.31.0").expect("known");
        prop_assert_eq!(format.parse(&format.render(&record)), Ok(record));
    }

    #[test]
    fn a_rendered_text_record_is_read_back(record in http_record()) {
        // Envoy does not escape: a user agent with `" "` can be read in two ways, and one of them is as good.
        prop_assume!(!record.get("user_agent").is_some_and(|a| a.contains('"')));
        let format = Format::istio_text("1.31.0").expect("known");
        prop_assert_eq!(format.parse(&format.render(&record)), Ok(record));
    }

    #[test]
    fn a_quoted_agent_never_moves_the_sockets(record in http_record(), agent in value()) {
        let mut record = record;
        record.set("user_agent", &agent);
        let format = Format::istio_text("1.31.0").expect("known");
        let read = format.parse(&format.render(&record)).expect("it fits");
        for field in ["upstream_host", "upstream_local_address", "downstream_remote_address", "response_code", "upstream_cluster"] {
            prop_assert_eq!(read.get(field), record.get(field), "{}", field);
        }
    }

    #[test]
    fn no_format_and_no_line_makes_it_panic(format in "\\PC{0,60}", operators in "(%[A-Z_]{1,9}(\\([a-z%)]{0,5}\\))?(:[0-9]{1,3})?%|[ \"é]){0,8}", line in "\\PC{0,120}") {
        for format in [format, operators] {
            if let Ok(format) = Format::text(&format) {
                let _ = format.parse(&line);
            }
            if let Ok(format) = Format::json(&serde_json::json!({ "k": format }).to_string()) {
                let _ = format.parse(&line);
                let _ = format.parse(&serde_json::json!({ "k": line }).to_string());
            }
        }
        let _ = Format::istio_text("1.31.0").expect("known").parse(&line);
    }
}
