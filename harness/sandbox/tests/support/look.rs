//! Looks at the network from inside a sandbox, by a process of its own: to enter the user namespace of an ordinary
//! user's sandbox, a process must have one thread only. Start at [`resolve`] and [`connect`]; [`main`] is that process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use hickory_server::proto::op::{Message, MessageType, OpCode, Query};
use hickory_server::proto::rr::{Name, RecordType};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

/// Hidden argument of that process. The second is the job.
pub(crate) const LOOK: &str = "__test-look";

#[derive(Serialize, Deserialize)]
enum Job {
    Resolve { server: Ipv4Addr, name: String, kind: String },
    Connect { address: Ipv4Addr, port: u16 },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// The response code, and each record as text.
    Resolved(String, Vec<String>),
    Connected,
    /// The number of the system's error.
    Failed(i32),
}

/// What DNS says in the network of a process: its response code, and each record as text.
pub(crate) fn resolve(pid: u32, server: Ipv4Addr, name: &str, kind: RecordType) -> (String, Vec<String>) {
    match ask(pid, &Job::Resolve { server, name: name.to_owned(), kind: kind.to_string() }) {
        Answer::Resolved(code, records) => (code, records),
        other => panic!("no answer to {name} {kind}: {other:?}"),
    }
}

/// How a TCP connection attempt from the network of a process ends.
pub(crate) fn connect(pid: u32, address: Ipv4Addr, port: u16) -> io::Result<()> {
    match ask(pid, &Job::Connect { address, port }) {
        Answer::Connected => Ok(()),
        Answer::Failed(number) => Err(io::Error::from_raw_os_error(number)),
        Answer::Resolved(..) => panic!("an answer to another question"),
    }
}

fn ask(pid: u32, job: &Job) -> Answer {
    let output = Command::new(std::env::current_exe().expect("this program has a file"))
        .args([LOOK, &pid.to_string(), &serde_json::to_string(job).expect("a job is plain data")])
        .stderr(Stdio::inherit())
        .output()
        .expect("this program can be run again");
    assert!(output.status.success(), "the look from inside ended with {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the process answers in JSON")
}

/// The other process.
pub(crate) fn main() -> ! {
    let mut arguments = std::env::args().skip(2);
    let pid = arguments.next().expect("the second argument is a pid");
    let job = serde_json::from_str(&arguments.next().expect("the third argument is a job")).expect("a job is JSON");
    let space = |kind: &str| std::fs::File::open(format!("/proc/{pid}/ns/{kind}")).expect("the process lives");
    let network = space("net");
    if !nix::unistd::geteuid().is_root() {
        setns(space("user"), CloneFlags::CLONE_NEWUSER).expect("a user may enter its own user namespace");
    }
    setns(network, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
    let answer = match job {
        Job::Resolve { server, name, kind } => {
            let kind = kind.parse().expect("the kind of a record");
            query(server, &name, kind).expect("the DNS server answers")
        }
        Job::Connect { address, port } => {
            match TcpStream::connect_timeout(&SocketAddr::from((address, port)), Duration::from_secs(10)) {
                Ok(_) => Answer::Connected,
                Err(e) => Answer::Failed(e.raw_os_error().unwrap_or_else(|| panic!("no system error: {e}"))),
            }
        }
    };
    println!("{}", serde_json::to_string(&answer).expect("an answer is plain data"));
    std::process::exit(0)
}

fn query(server: Ipv4Addr, name: &str, kind: RecordType) -> io::Result<Answer> {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).expect("a name of a test"), kind));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect((server, 53))?;
    socket.send(&question.to_vec().map_err(io::Error::other)?)?;
    let mut bytes = [0; 1500];
    let length = socket.recv(&mut bytes)?;
    let answer = Message::from_vec(&bytes[..length]).map_err(io::Error::other)?;
    let records = answer.answers.iter().map(|record| format!("{} {}", record.record_type(), record.data));
    Ok(Answer::Resolved(format!("{:?}", answer.metadata.response_code), records.collect()))
}
