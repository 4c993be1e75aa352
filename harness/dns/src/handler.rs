//! From a DNS question to a DNS message. The store decides what a name means; here it becomes
//! records and a response code. Start at [`reply`], which is pure.

use std::net::IpAddr;
use std::str::FromStr;

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::Dns;
use super::store::Answer;

/// Seconds an answer may be kept. One, not zero: Envoy takes zero for "no opinion" and then waits
/// its own, much longer, interval before it asks again.
const TTL: u32 = 1;

/// What goes into a response.
#[derive(Debug, PartialEq)]
struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    /// Present where there is no answer: it says how long that may be remembered.
    soa: Option<Record>,
}

pub(super) struct Handler {
    dns: Dns,
}

impl Handler {
    pub(super) fn new(dns: Dns) -> Self {
        Handler { dns }
    }

    fn reply_to(&self, request: &Request) -> Reply {
        let code = |code| Reply { code, answers: Vec::new(), soa: None };
        if request.metadata.op_code != OpCode::Query {
            return code(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return code(ResponseCode::FormErr) };
        let name = Name::from(info.query.name().clone());
        let answer = self.dns.read(|store| store.look_up(&name.to_ascii()));
        reply(&name, info.query.query_type(), &answer)
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let reply = self.reply_to(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        metadata.recursion_available = true;
        metadata.response_code = reply.code;
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().max(512));
            builder.edns(&edns);
        }
        let response = builder.build(metadata, &reply.answers, [], &reply.soa, []);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::warn!(%error, "a DNS answer could not be sent");
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(hickory_server::proto::op::Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}

/// The reply to a question of this type, given what the name means. A name that exists without
/// records of that type gets an empty answer, not "no such name": resolvers that ask for A and
/// AAAA at once would else give up on both.
fn reply(name: &Name, kind: RecordType, answer: &Answer) -> Reply {
    let mut answers = Vec::new();
    let mut owner = name.clone();
    for (_, target) in &answer.aliases {
        let Ok(target) = absolute(target) else {
            return Reply { code: ResponseCode::ServFail, answers: Vec::new(), soa: None };
        };
        answers.push(record(&owner, RData::CNAME(CNAME(target.clone()))));
        owner = target;
    }
    if kind == RecordType::CNAME && !answers.is_empty() {
        answers.truncate(1);
        return Reply { code: ResponseCode::NoError, answers, soa: None };
    }
    let before = answers.len();
    answers.extend(answer.addresses.iter().flatten().filter_map(|address| match (address, kind) {
        (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(record(&owner, RData::A(A(*v4)))),
        (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(record(&owner, RData::AAAA(AAAA(*v6)))),
        _ => None,
    }));
    let code = if answer.addresses.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain };
    let soa = (answers.len() == before).then(|| start_of_authority(&owner));
    Reply { code, answers, soa }
}

fn record(owner: &Name, data: RData) -> Record {
    Record::from_rdata(owner.clone(), TTL, data)
}

/// The zone an absent record would be in. Outside the cluster it is the root: nobody is asked.
fn start_of_authority(name: &Name) -> Record {
    let constant = |text: &str| Name::from_str(text).expect("the names here are well formed");
    let cluster = constant("cluster.local.");
    let zone = if cluster.zone_of(name) { cluster } else { Name::root() };
    let (server, mailbox) = (constant("ns.dns.cluster.local."), constant("hostmaster.cluster.local."));
    let seconds = i32::try_from(TTL).expect("the TTL is small");
    record(&zone, RData::SOA(SOA::new(server, mailbox, 1, seconds, seconds, seconds, TTL)))
}

fn absolute(name: &str) -> Result<Name, hickory_server::proto::ProtoError> {
    let mut name = Name::from_str(name)?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(addresses: &[&str]) -> Answer {
        Answer { aliases: vec![], addresses: Some(addresses.iter().map(|a| a.parse().unwrap()).collect()) }
    }

    fn ask(kind: RecordType, answer: &Answer) -> Reply {
        reply(&absolute("bin.default.svc.cluster.local").unwrap(), kind, answer)
    }

    #[test]
    fn a_known_name_has_an_empty_answer_for_the_other_family() {
        let answer = known(&["10.96.1.1"]);
        let v4 = ask(RecordType::A, &answer);
        assert_eq!((v4.code, v4.answers.len(), v4.soa), (ResponseCode::NoError, 1, None));
        let v6 = ask(RecordType::AAAA, &answer);
        assert_eq!((v6.code, v6.answers.len()), (ResponseCode::NoError, 0));
        assert!(v6.soa.is_some());
    }

    #[test]
    fn an_unknown_name_does_not_exist_for_any_type() {
        for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
            let reply = ask(kind, &Answer::default());
            assert_eq!((reply.code, reply.answers.len()), (ResponseCode::NXDomain, 0));
            assert_eq!(reply.soa.unwrap().name.to_ascii(), "cluster.local.");
        }
    }

    #[test]
    fn an_alias_comes_with_the_address_behind_it() {
        let mut answer = known(&["192.168.0.79"]);
        answer.aliases.push(("bin.default.svc.cluster.local".to_owned(), "httpbin.org".to_owned()));
        let reply = ask(RecordType::A, &answer);
        let shown: Vec<_> = reply.answers.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
        assert_eq!(shown, ["bin.default.svc.cluster.local. httpbin.org.", "httpbin.org. 192.168.0.79"]);
        let only = ask(RecordType::CNAME, &answer);
        assert_eq!((only.answers.len(), only.code), (1, ResponseCode::NoError));
    }

    #[test]
    fn an_alias_to_nowhere_says_that_the_target_does_not_exist() {
        let aliases = vec![("bin.default.svc.cluster.local".to_owned(), "nobody.example".to_owned())];
        let reply = ask(RecordType::A, &Answer { aliases, addresses: None });
        assert_eq!((reply.code, reply.answers.len()), (ResponseCode::NXDomain, 1));
        assert_eq!(reply.soa.unwrap().name.to_ascii(), ".");
    }
}
