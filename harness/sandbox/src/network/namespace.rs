//! Named network namespaces: files under `/run/netns` that `setns` takes.
//!
//! A namespace is made on a thread of its own, because entering one changes the calling thread for
//! good and a runtime's worker must stay where it is. Sysctls are written by a thread inside the
//! namespace: `/proc/sys/net` shows the namespace of whoever opens it. Start at [`create`].

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::net::{TcpSocket, TcpStream};

use super::link::Links;
use super::{NETNS_DIR, NetworkError};

/// An open network namespace with a name.
#[derive(Debug)]
pub(super) struct Namespace {
    /// The file it is bound to.
    pub(super) path: PathBuf,
    /// That file, open.
    pub(super) file: File,
}

/// Where the namespace of this name is bound.
pub(super) fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// Moves the calling thread into the network namespace bound at `path`.
pub(crate) fn enter_file(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
}

/// A connection to `address` from inside the network namespace bound at `path`.
pub(crate) async fn connect(path: &Path, address: SocketAddr) -> std::io::Result<TcpStream> {
    let path = path.to_owned();
    // A socket belongs to the namespace it was made in, whoever connects it.
    let make = move || {
        enter_file(&path).map_err(|e| NetworkError::os(format!("enter {}", path.display()), e))?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        socket.map_err(|e| NetworkError::os("make a socket", e))
    };
    let socket = on_own_thread(make).await.map_err(std::io::Error::other)?;
    socket.connect(address).await
}

/// Makes a namespace with this name, its `lo` down and nothing else in it.
pub(super) async fn create(name: &str) -> Result<Namespace, NetworkError> {
    let path = path_of(name);
    let target = path.clone();
    on_own_thread(move || {
        File::create_new(&target).map_err(|e| NetworkError::os(format!("create {}", target.display()), e))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| NetworkError::os("make a network namespace", e))?;
        apply_pod_sysctls()?;
        mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|e| NetworkError::os(format!("bind a network namespace to {}", target.display()), e))
    })
    .await?;
    let file = File::open(&path).map_err(|e| NetworkError::os(format!("open {}", path.display()), e))?;
    Ok(Namespace { path, file })
}

/// Unbinds a namespace; the kernel frees it when its last process has ended. One that does not
/// exist is fine.
pub(super) fn remove(name: &str) -> Result<(), NetworkError> {
    let path = path_of(name);
    if let Err(e) = umount2(&path, MntFlags::MNT_DETACH)
        && !matches!(e, nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT)
    {
        return Err(NetworkError::os(format!("unmount {}", path.display()), e));
    }
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(NetworkError::os(format!("remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

impl Namespace {
    /// Runs `work` with a netlink connection to this namespace.
    pub(super) async fn configure<F>(&self, work: F) -> Result<(), NetworkError>
    where
        F: AsyncFnOnce(&Links) -> Result<(), NetworkError>,
    {
        let links = self.links().await?;
        work(&links).await
    }

    /// A netlink connection to this namespace, served by the calling runtime.
    pub(super) async fn links(&self) -> Result<Links, NetworkError> {
        let path = self.path.clone();
        let runtime = tokio::runtime::Handle::current();
        // The socket belongs to the namespace it was opened in; only opening needs the thread.
        on_own_thread(move || {
            enter_file(&path).map_err(|e| NetworkError::os(format!("enter {}", path.display()), e))?;
            let _inside = runtime.enter();
            Links::open()
        })
        .await
    }
}

/// Sysctls of the node's namespace. New namespaces copy some values from the host's, so all that
/// matter are set.
pub(super) fn apply_node_sysctls() -> Result<(), NetworkError> {
    sysctl("ip_forward", "1")?;
    for scope in ["all", "default"] {
        // Replies of a Service leave by another veth than requests came in on.
        sysctl(&format!("conf/{scope}/rp_filter"), "0")?;
        sysctl(&format!("conf/{scope}/send_redirects"), "0")?;
    }
    Ok(())
}

/// Sysctls of a pod's namespace, as containerd sets them: any user may bind low ports.
fn apply_pod_sysctls() -> Result<(), NetworkError> {
    sysctl("ip_forward", "0")?;
    sysctl("ip_unprivileged_port_start", "0")?;
    for scope in ["all", "default"] {
        sysctl(&format!("conf/{scope}/rp_filter"), "0")?;
    }
    Ok(())
}

fn sysctl(name: &str, value: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    std::fs::write(&path, value).map_err(|e| NetworkError::os(format!("write {value} to {path}"), e))
}

async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || sender.send(work()).ok())
        .map_err(|e| NetworkError::os("start a thread", e))?;
    receiver
        .await
        .map_err(|_| NetworkError::os("finish work on a namespace thread", std::io::Error::other("it panicked")))?
}
