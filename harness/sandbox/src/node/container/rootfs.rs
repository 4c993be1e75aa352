//! The root file system of a container: a tmpfs with read-only views of the host's programs.
//!
//! Runs in the container's own mount namespace, as the first process of its pid namespace. Nothing of the host is
//! writable in it, and after [`build`] nothing of the host's tree is in reach.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};

use super::spec::{ContainerSpec, Mount};
use crate::os::{MountAttributes, set_mount_attributes};

/// Folders of the host that hold programs and libraries.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What of the host's `/etc` programs need: the linker, certificates, protocol names. Never keys.
const ETC: [&str; 15] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/ca-trust",
    "crypto-policies",
    "services",
    "protocols",
    "ethertypes",
    "xtables.conf",
];
/// What a container runtime hides of `/proc` and `/sys`.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
/// What a container runtime makes read-only of `/proc`, and what else there is one for the whole machine.
const READ_ONLY: [&str; 10] = [
    "/proc/bus",
    "/proc/driver",
    "/proc/dynamic_debug",
    "/proc/fs",
    "/proc/irq",
    "/proc/mtrr",
    "/proc/pressure",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/tty",
];
/// The device files of a container.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Says which step failed.
trait Step<T> {
    fn step(self, what: impl std::fmt::Display) -> Result<T, String>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, what: impl std::fmt::Display) -> Result<T, String> {
        self.map_err(|e| format!("{what}: {e}"))
    }
}

/// Builds the root, moves into it, and mounts the volumes.
pub(super) fn build(spec: &ContainerSpec) -> Result<(), String> {
    let root = spec.root.as_path();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).step("private mounts")?;
    // Taken before the host's tree is out of reach, and placed after: no link in a volume can lead to the host.
    let volumes = spec.mounts.iter().map(open_volume).collect::<Result<Vec<_>, _>>()?;
    mount("tmpfs", root, "tmpfs", MountFlags::NODEV, Some(c"mode=0755")).step("root tmpfs")?;
    folders(root)?;
    system(root)?;
    etc(root, spec)?;
    programs(root, spec)?;
    devices(&root.join("dev"))?;
    mount("proc", root.join("proc"), "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .step("/proc")?;
    let sys = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount("sysfs", root.join("sys"), "sysfs", sys, None).step("/sys")?;

    std::env::set_current_dir(root).step("new root")?;
    rustix::process::pivot_root(".", ".").step("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).step("the old root")?;
    std::env::set_current_dir("/").step("/")?;

    mask()?;
    for (tree, mount) in volumes.iter().zip(&spec.mounts) {
        place_volume(tree, &mount.target)?;
    }
    if spec.read_only_root {
        set_mount_attributes(CWD, "/", MountAttributes::READ_ONLY, false).step("read-only root")?;
    }
    Ok(())
}

fn folders(root: &Path) -> Result<(), String> {
    let list = [
        ("etc", 0o755),
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run", 0o755),
        ("run/lock", 0o1777),
        ("tmp", 0o1777),
        ("var", 0o755),
        ("var/lib", 0o755),
        ("var/log", 0o755),
        ("var/cache", 0o755),
        ("var/tmp", 0o1777),
        ("root", 0o700),
        ("home", 0o755),
        ("opt", 0o755),
        ("srv", 0o755),
        ("mnt", 0o755),
    ];
    for (name, mode) in list {
        let path = root.join(name);
        fs::create_dir(&path).step(format_args!("/{name}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).step(format_args!("/{name}"))?;
    }
    symlink("../run", root.join("var/run")).step("/var/run")?;
    symlink("../run/lock", root.join("var/lock")).step("/var/lock")
}

fn system(root: &Path) -> Result<(), String> {
    for name in SYSTEM {
        let host = Path::new("/").join(name);
        let target = root.join(name);
        let Ok(kind) = fs::symlink_metadata(&host) else { continue };
        if kind.is_symlink() {
            let points_to = fs::read_link(&host).step(host.display())?;
            symlink(points_to, &target).step(host.display())?;
        } else {
            fs::create_dir(&target).step(host.display())?;
            bind(&host, &target, MountAttributes::READ_ONLY | MountAttributes::NO_DEVICES)?;
        }
    }
    Ok(())
}

fn etc(root: &Path, spec: &ContainerSpec) -> Result<(), String> {
    let etc = root.join("etc");
    for (name, content) in &spec.etc {
        fs::write(etc.join(name), content).step(format_args!("/etc/{name}"))?;
    }
    for name in ETC {
        let host = Path::new("/etc").join(name);
        let Ok(kind) = fs::metadata(&host) else { continue };
        let target = etc.join(name);
        make_target(&target, kind.is_dir()).step(format_args!("/etc/{name}"))?;
        bind(&host, &target, MountAttributes::READ_ONLY | MountAttributes::NO_DEVICES)?;
    }
    symlink("/proc/self/mounts", etc.join("mtab")).step("/etc/mtab")
}

fn programs(root: &Path, spec: &ContainerSpec) -> Result<(), String> {
    let folder = root.join("usr/local/bin");
    mount("tmpfs", &folder, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, Some(c"mode=0755"))
        .step("tmpfs on /usr/local/bin (the host must have that folder)")?;
    let read_only = MountAttributes::READ_ONLY | MountAttributes::NO_DEVICES;
    for (name, file) in &spec.programs {
        let target = folder.join(name);
        make_target(&target, false).step(target.display())?;
        bind(file, &target, read_only)?;
    }
    set_mount_attributes(CWD, &folder, MountAttributes::READ_ONLY, false).step("/usr/local/bin")?;
    for (path, file) in &spec.files {
        let target = root.join(path.strip_prefix("/").unwrap_or(path));
        make_target(&target, false).step(path.display())?;
        bind(file, &target, read_only)?;
    }
    Ok(())
}

fn devices(dev: &Path) -> Result<(), String> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", dev, "tmpfs", flags, Some(c"mode=0755,size=65536k")).step("/dev")?;
    for name in DEVICES {
        let target = dev.join(name);
        make_target(&target, false).step(format_args!("/dev/{name}"))?;
        // The device can be written to all the same, but its node, which is the host's, cannot be changed.
        bind(&Path::new("/dev").join(name), &target, MountAttributes::READ_ONLY)?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).step(format_args!("/dev/{name}"))?;
    }
    let shm = flags | MountFlags::NODEV;
    mount("shm", dev.join("shm"), "tmpfs", shm, Some(c"mode=1777,size=65536k")).step("/dev/shm")?;
    // Group 5 is tty everywhere; where that id is not mapped the terminals stay with their owner alone.
    let pts = |options| mount("devpts", dev.join("pts"), "devpts", flags, Some(options));
    pts(c"newinstance,ptmxmode=0666,mode=0620,gid=5")
        .or_else(|_| pts(c"newinstance,ptmxmode=0666,mode=0600"))
        .step("/dev/pts")?;
    for (name, points_to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(points_to, dev.join(name)).step(format_args!("/dev/{name}"))?;
    }
    Ok(())
}

/// Hides what a container runtime hides. Works on the new root alone.
fn mask() -> Result<(), String> {
    for path in READ_ONLY {
        if Path::new(path).exists() {
            bind(Path::new(path), Path::new(path), MountAttributes::READ_ONLY)?;
        }
    }
    for path in MASKED {
        let Ok(kind) = fs::metadata(path) else { continue };
        if kind.is_dir() {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("tmpfs", path, "tmpfs", flags, Some(c"size=0k,nr_inodes=1")).step(path)?;
        } else {
            bind(Path::new("/dev/null"), Path::new(path), MountAttributes::READ_ONLY)?;
        }
    }
    Ok(())
}

/// A copy of the mounts at `source`, with these attributes from the beginning, at `target`.
fn bind(source: &Path, target: &Path, attributes: MountAttributes) -> Result<(), String> {
    let what = || format!("{} on {}", source.display(), target.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, source, flags).step(what())?;
    if !attributes.is_empty() {
        set_mount_attributes(&tree, "", attributes, true).step(what())?;
    }
    move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(what())
}

/// Makes an empty folder or file to mount on. An existing one stays.
fn make_target(path: &Path, folder: bool) -> io::Result<()> {
    if folder {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::metadata(path).is_ok() {
        return Ok(());
    }
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path).map(drop)
}

fn open_volume(mount: &Mount) -> Result<OwnedFd, String> {
    let what = format!("volume for {}", mount.target.display());
    let mut place = rustix::fs::open(&mount.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(&what)?;
    if let Some(sub) = &mount.sub_path {
        place = open_below(&place, sub).step(format_args!("{what}: subPath {}", sub.display()))?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&place, "", flags).step(&what)?;
    let mut attributes = MountAttributes::NO_DEVICES;
    if mount.read_only {
        attributes |= MountAttributes::READ_ONLY;
    }
    set_mount_attributes(&tree, "", attributes, true).step(&what)?;
    Ok(tree)
}

/// Opens `sub` inside `base`, making folders that are not there. No link and no `..` leads out of `base`.
fn open_below(base: &OwnedFd, sub: &Path) -> rustix::io::Result<OwnedFd> {
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(base, path, flags, Mode::empty(), stay)
    };
    let mut reached = PathBuf::new();
    let mut parent = open(Path::new("."))?;
    for component in sub.components() {
        reached.push(component);
        parent = match open(&reached) {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&parent, component.as_os_str(), Mode::from_raw_mode(0o755))?;
                open(&reached)?
            }
            other => other?,
        };
    }
    Ok(parent)
}

fn place_volume(tree: &OwnedFd, target: &Path) -> Result<(), String> {
    let what = || format!("mountPath {}", target.display());
    let kind = rustix::fs::fstat(tree).step(what())?;
    let folder = rustix::fs::FileType::from_raw_mode(kind.st_mode).is_dir();
    make_target(target, folder).step(what())?;
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(what())
}
