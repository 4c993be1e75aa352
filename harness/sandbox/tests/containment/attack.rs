//! What a hostile program in a pod tries. The same program runs on the host as its own positive control.
//!
//! One process per [`Attack`], single-threaded. It prints each of its attempts with the operating system's answer and
//! judges nothing. Start at [`main`]; the arguments are plain text, one attack with its words.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Hidden argument of that process; the second is the attack as JSON.
pub(crate) const ATTACK: &str = "__test-attack";
/// Where a pod of these tests has this program.
pub(crate) const PROGRAM: &str = "/attack";

/// An attempt, and the number of the system's error as its name, if there was one.
pub(crate) type Attempt = (String, Result<(), String>);

/// One kind of try. Each gives a list of attempts.
#[derive(Serialize, Deserialize)]
pub(crate) enum Attack {
    /// Make a file in every mounted folder, and open every mounted file for writing.
    WriteToMounts,
    /// Open every file below for writing, without writing to it.
    OpenForWriting(Vec<PathBuf>),
    /// Add and change mounts.
    Mount,
    /// The same in a user namespace of its own, where it has every capability.
    MountAsOwnRoot,
    /// Make these block devices, and look for device files that are there.
    Disks(Vec<(u64, u64)>),
    /// Look for every process up to this number.
    Processes(i32),
    /// Signal, trace and read one process, or (0) a child of its own.
    Process(i32),
    /// Connect to each, by TCP.
    Connect(Vec<SocketAddr>),
    /// Connect to each, by TCP, through `eth0` whatever the address.
    ConnectThroughEth0(Vec<SocketAddr>),
    /// Send a datagram to each, and wait for an answer.
    Datagram(Vec<SocketAddr>),
    /// Look for a file with this name everywhere.
    Find(String),
    /// Read each file.
    Read(Vec<PathBuf>),
    /// Leave the root folder, and look for these files.
    Chroot(Vec<PathBuf>),
    /// List what is open here and in the container's first process.
    Descriptors,
    /// Enter the namespaces of this process.
    Enter(i32),
    /// Change what all of the machine shares.
    Machine,
    /// Raise limits, and write to control groups.
    Limits,
    /// Use what of the kernel has no namespace.
    Unconfined,
    /// Make the own log a program that runs as root.
    OwnLog,
}

/// Runs the attack in the second argument. With a third, first as root of namespaces of its own: the control.
pub(crate) fn main() -> ! {
    let mut arguments = std::env::args().skip(2);
    let attack = arguments.next().expect("the second argument is an attack");
    let attack: Attack = serde_json::from_str(&attack).expect("an attack is JSON");
    if arguments.next().is_some() {
        become_root_of_namespaces();
    }
    let attempts = run(attack);
    let mut out = io::stdout().lock();
    let text = serde_json::to_vec(&attempts).expect("attempts are plain data");
    out.write_all(&text).and_then(|()| out.flush()).expect("someone reads the answer");
    std::process::exit(0)
}

fn become_root_of_namespaces() {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if !uid.is_root() {
        unshare(CloneFlags::CLONE_NEWUSER).expect("a user may make a user namespace");
        fs::write("/proc/self/setgroups", "deny").expect("a new namespace's groups can be fixed");
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).expect("the own id can be mapped");
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).expect("the own group can be mapped");
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).expect("root may make namespaces");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("root may make its mounts private");
}

fn run(attack: Attack) -> Vec<Attempt> {
    match attack {
        Attack::WriteToMounts => mounted().iter().map(|point| write_to(point)).collect(),
        Attack::OpenForWriting(roots) => {
            let mut found = Vec::new();
            for root in roots {
                walk(&root, &mut |path, kind| {
                    // Where nobody may write, the kernel has nothing to write to, whoever opens it.
                    let writable = || fs::symlink_metadata(path).is_ok_and(|found| found.mode() & 0o222 != 0);
                    if kind.is_file() && writable() {
                        let open = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
                        found.push(attempt(path.display(), open));
                    }
                });
            }
            found
        }
        Attack::Mount => mounts(),
        Attack::MountAsOwnRoot => {
            let space = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
            let mut all = vec![attempt("a user namespace", unshare(space))];
            if all[0].1.is_ok() {
                let _ = fs::write("/proc/self/setgroups", "deny");
                all.push(attempt("map 0", fs::write("/proc/self/uid_map", "0 0 1")));
                let only_changes = |(what, _): &Attempt| !what.starts_with("new ");
                all.extend(mounts().into_iter().filter(only_changes));
            }
            all
        }
        Attack::Disks(numbers) => disks(&numbers),
        Attack::Processes(highest) => (1..=highest)
            .map(|pid| attempt(pid, kill(Pid::from_raw(pid), None)))
            .filter(|(_, outcome)| *outcome != Err("ESRCH".to_owned()))
            .collect(),
        Attack::Process(pid) => process(pid),
        Attack::Connect(addresses) => {
            addresses.iter().map(|address| attempt(address, connect(address, None, 10))).collect()
        }
        Attack::ConnectThroughEth0(addresses) => {
            addresses.iter().map(|address| attempt(address, connect(address, Some("eth0"), 1))).collect()
        }
        Attack::Datagram(addresses) => addresses.iter().map(|address| attempt(address, datagram(address))).collect(),
        Attack::Find(name) => find(&name),
        Attack::Read(paths) => paths.iter().map(|path| attempt(path.display(), fs::read(path))).collect(),
        Attack::Chroot(paths) => chroot_away(&paths),
        Attack::Descriptors => descriptors(),
        Attack::Enter(pid) => ["net", "mnt", "pid", "uts", "ipc", "user", "cgroup"]
            .map(|kind| {
                let entered = File::open(format!("/proc/{pid}/ns/{kind}"))
                    .and_then(|space| Ok(setns(space, CloneFlags::empty())?));
                attempt(kind, entered)
            })
            .into(),
        Attack::Machine => machine(),
        Attack::Limits => limits(),
        Attack::Unconfined => unconfined(),
        Attack::OwnLog => {
            let log = Path::new("/proc/1/fd/1");
            let set = |mode| fs::set_permissions(log, fs::Permissions::from_mode(mode));
            vec![attempt("write", OpenOptions::new().append(true).open(log)), attempt("mode 6777", set(0o6777))]
        }
    }
}

/// The outcome of an attempt; errors that are not the system's own are told in words.
fn attempt<T, E: Into<io::Error>>(what: impl ToString, outcome: Result<T, E>) -> Attempt {
    let name = |error: E| {
        let error: io::Error = error.into();
        error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)))
    };
    (what.to_string(), outcome.map(drop).map_err(name))
}

fn mounted() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn write_to(point: &Path) -> Attempt {
    if !point.is_dir() {
        return attempt(point.display(), OpenOptions::new().append(true).open(point));
    }
    let file = point.join(".attack");
    let made = File::create(&file);
    let _ = fs::remove_file(&file);
    attempt(point.display(), made)
}

/// Calls `look` for everything below `root` that can be seen, links not followed.
fn walk(root: &Path, look: &mut dyn FnMut(&Path, fs::FileType)) {
    let Ok(found) = fs::symlink_metadata(root) else { return };
    look(root, found.file_type());
    if found.is_dir() {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            walk(&entry.path(), look);
        }
    }
}

/// What is below `/`, without the kernel's own trees.
fn walk_all(look: &mut dyn FnMut(&Path, fs::FileType)) {
    for entry in fs::read_dir("/").expect("the root can be read").flatten() {
        if !["proc", "sys"].iter().any(|name| entry.file_name() == *name) {
            walk(&entry.path(), look);
        }
    }
}

fn mounts() -> Vec<Attempt> {
    let none = None::<&str>;
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    let mut all = vec![
        attempt("new tmpfs", mount(Some("x"), "/mnt", Some("tmpfs"), MsFlags::empty(), none)),
        attempt("new bind", mount(Some("/usr"), "/mnt", none, MsFlags::MS_BIND, none)),
    ];
    for path in ["/usr", "/proc/sys", "/sys", PROGRAM] {
        all.push(attempt(format!("writable {path}"), mount(none, path, none, remount, none)));
    }
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/usr"] {
        all.push(attempt(format!("without {path}"), umount2(path, MntFlags::MNT_DETACH)));
    }
    for kind in ["proc", "sysfs", "cgroup2", "devtmpfs", "debugfs", "ext4"] {
        let made = mount(Some("x"), "/mnt", Some(kind), MsFlags::empty(), none);
        all.push(attempt(format!("a {kind}"), made));
    }
    all
}

fn disks(numbers: &[(u64, u64)]) -> Vec<Attempt> {
    let path = Path::new("/tmp/attack-device");
    let mode = Mode::from_bits_truncate(0o600);
    let mut all = vec![attempt("a pipe", mknod(path, SFlag::S_IFIFO, mode, 0))];
    let _ = fs::remove_file(path);
    for &(major, minor) in numbers {
        let made = mknod(path, SFlag::S_IFBLK, mode, makedev(major, minor));
        let read = made.map_err(io::Error::from).and_then(|()| File::open(path)?.read_exact(&mut [0; 512]));
        all.push(attempt(format!("disk {major}:{minor}"), read));
        let _ = fs::remove_file(path);
    }
    all.push(attempt("memory", mknod(path, SFlag::S_IFCHR, mode, makedev(1, 1))));
    let _ = fs::remove_file(path);
    walk_all(&mut |path, kind| {
        if kind.is_block_device() || kind.is_char_device() {
            let number = fs::symlink_metadata(path).map_or(0, |found| found.rdev());
            let kind = if kind.is_block_device() { "block" } else { "character" };
            let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
            all.push((format!("{kind} {major}:{minor} {}", path.display()), Ok(())));
        }
    });
    all
}

fn process(pid: i32) -> Vec<Attempt> {
    let mut child = None;
    let pid = if pid > 0 {
        pid
    } else {
        let own = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().expect("a child can be made");
        let pid = own.id();
        child = Some(own);
        i32::try_from(pid).expect("process ids are positive")
    };
    let target = Pid::from_raw(pid);
    let all = vec![
        attempt("signal", kill(target, None)),
        attempt("environment", fs::read(format!("/proc/{pid}/environ"))),
        attempt("root", fs::read_dir(format!("/proc/{pid}/root/"))),
        attempt("trace", nix::sys::ptrace::seize(target, nix::sys::ptrace::Options::empty())),
    ];
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
    all
}

fn connect(address: &SocketAddr, device: Option<&str>, seconds: i64) -> nix::Result<()> {
    let IpAddr::V4(ip) = address.ip() else { return Err(Errno::EAFNOSUPPORT) };
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    // This bounds the attempt to connect, too, which then ends with EINPROGRESS.
    socket::setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
    if let Some(device) = device {
        socket::setsockopt(&socket, sockopt::BindToDevice, &OsString::from(device))?;
    }
    let [a, b, c, d] = ip.octets();
    socket::connect(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, address.port()))
}

fn datagram(address: &SocketAddr) -> io::Result<()> {
    // A question for the name ".": header with id 1 and one question, root, type A, class IN.
    const QUESTION: [u8; 17] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(address)?;
    let mut last = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..2 {
        socket.send(&QUESTION)?;
        last = socket.recv(&mut [0; 512]).map(drop);
        if !matches!(&last, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
    }
    last
}

fn find(name: &str) -> Vec<Attempt> {
    let mut found = Vec::new();
    walk_all(&mut |path, _| {
        if path.file_name().is_some_and(|file| file == name) {
            found.push(attempt(path.display(), fs::read(path)));
        }
    });
    found
}

/// The old way out of a root folder: a second one, and up from a folder that is not below it.
fn chroot_away(paths: &[PathBuf]) -> Vec<Attempt> {
    let away = || -> io::Result<()> {
        fs::create_dir_all("/tmp/attack-root")?;
        std::env::set_current_dir("/")?;
        nix::unistd::chroot("/tmp/attack-root")?;
        for _ in 0..64 {
            std::env::set_current_dir("..")?;
        }
        Ok(nix::unistd::chroot(".")?)
    };
    let mut all = vec![attempt("chroot", away())];
    all.extend(paths.iter().map(|path| attempt(path.display(), fs::read(path))));
    all
}

fn descriptors() -> Vec<Attempt> {
    let listed = |of: &str| {
        let folder = format!("/proc/{of}/fd");
        let entries =
            fs::read_dir(&folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
        let shown = |path: PathBuf| {
            let target = fs::read_link(&path).map_or_else(|e| e.to_string(), |to| to.display().to_string());
            (format!("{} {target}", path.display()), Ok(()))
        };
        entries.unwrap_or_default().into_iter().map(shown).collect::<Vec<Attempt>>()
    };
    let opened = File::open("/etc/hosts").expect("a pod has this file");
    let all = [listed("self"), listed("1")].concat();
    drop(opened);
    all
}

fn machine() -> Vec<Attempt> {
    let own = File::open("/proc/self/exe").expect("this program has a file");
    let clock = nix::time::ClockId::CLOCK_REALTIME;
    let now = nix::time::clock_gettime(clock).expect("there is a clock");
    vec![
        attempt("module", nix::kmod::finit_module(&own, c"", nix::kmod::ModuleInitFlags::empty())),
        attempt("host name", nix::unistd::sethostname("attacked")),
        attempt("clock", nix::time::clock_settime(clock, now)),
        attempt("core pattern", fs::write("/proc/sys/kernel/core_pattern", "core")),
        attempt("key combination", fs::write("/proc/sysrq-trigger", "h")),
        attempt("own name", fs::write("/proc/self/comm", "attack")),
    ]
}

fn limits() -> Vec<Attempt> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    let mut all = vec![
        attempt("raise", setrlimit(Resource::RLIMIT_NOFILE, soft, hard + 1)),
        attempt("lower", setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard - 1), hard - 1)),
        attempt("nicer", fs::write("/proc/self/oom_score_adj", "-1000")),
        attempt("killed first", fs::write("/proc/self/oom_score_adj", "1000")),
        attempt("new group", fs::create_dir("/sys/fs/cgroup/attack")),
    ];
    walk(Path::new("/sys/fs/cgroup"), &mut |path, kind| {
        if kind.is_file() {
            all.push(attempt(path.display(), OpenOptions::new().write(true).open(path)));
        }
    });
    all
}

fn unconfined() -> Vec<Attempt> {
    use linux_keyutils::{KeyRing, KeyRingIdentifier};
    let keyring = |which| {
        KeyRing::from_special_id(which, false)
            .and_then(|ring| ring.add_key("attack", "x"))
            .map_err(|error| io::Error::other(format!("{error:?}")))
    };
    let vsock = socket::socket(AddressFamily::Vsock, SockType::Stream, SockFlag::empty(), None);
    let unix = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None);
    vec![
        attempt("session keys", keyring(KeyRingIdentifier::Session)),
        attempt("user's keys", keyring(KeyRingIdentifier::User)),
        attempt("virtual machine's socket", vsock),
        attempt("local socket", unix),
    ]
}
