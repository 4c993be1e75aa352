//! The images that run in a cluster: Kubernetes' own (which a node image brings along), and the mesh's.
//!
//! Programs come from the component store, everything else from one Debian root that they share. What is in an image is
//! said here and nowhere else. Start at [`control_plane`], [`mesh`] and [`own`].

use std::path::{Path, PathBuf};

use egress_component::{ProgramName, Programs};

use crate::archive::{Config, Image};
use crate::debian::Root;
use crate::error::Error;
use crate::layer::{Blob, Layer};
use crate::own::OwnPrograms;

/// Where these images claim to come from: a registry that cannot exist, so that a miss fails at once.
pub const HUB: &str = "localhost/egress-conformance";
/// The clients' image, by the name that `fixtures/workloads/client.yaml` has: a stand-in, with Debian's curl.
pub const CLIENT: &str = "docker.io/curlimages/curl:8.16.0";
/// The DNS server's image.
pub const DNS: &str = "localhost/egress-conformance/dns:1";
/// The external servers' image.
pub const SERVER: &str = "localhost/egress-conformance/external-server:1";

/// Below every image that needs more than one static program. catatonit is Debian's pause program.
pub(crate) const BASE: Root = Root {
    name: "base",
    packages: &["iptables", "nftables", "conntrack", "curl", "ca-certificates", "iproute2", "catatonit"],
    script: "ln -s /usr/bin/catatonit usr/local/bin/pause\n",
};

/// Layers written so far, in a folder.
pub(crate) struct Layers {
    pub(crate) dir: PathBuf,
    count: usize,
}

impl Layers {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, count: 0 }
    }

    pub(crate) fn write(&mut self, layer: &Layer) -> Result<Blob, Error> {
        self.count += 1;
        layer.write(&self.dir.join(format!("layer-{}.tar", self.count)))
    }
}

/// The images that kubeadm wants, under the tags in `wanted` (its own list), and the pause image under `pause`.
pub(crate) fn control_plane(
    programs: &Programs,
    base: &Blob,
    (wanted, pause): (&[String], &str),
    layers: &mut Layers,
) -> Result<Vec<Image>, Error> {
    let tag = |name: &str| {
        let found = wanted.iter().find(|reference| {
            reference.rsplit('/').next().and_then(|last| last.split(':').next()).is_some_and(|last| last == name)
        });
        found.cloned().ok_or_else(|| Error::Answer {
            what: "kubeadm config images list".to_owned(),
            expected: format!("an image {name}"),
            seen: wanted.join(", "),
        })
    };
    let mut images = Vec::new();
    for name in [
        ProgramName::KUBE_APISERVER,
        ProgramName::KUBE_CONTROLLER_MANAGER,
        ProgramName::KUBE_SCHEDULER,
        ProgramName::ETCD,
        ProgramName::KUBE_PROXY,
    ] {
        let path = format!("usr/local/bin/{name}");
        let own = layers.write(&Layer::default().program(&path, programs.path(&name)))?;
        // Static, so it needs nothing below it; but kube-proxy calls iptables, nft and conntrack.
        let below = if name == ProgramName::KUBE_PROXY { vec![base.clone()] } else { Vec::new() };
        images.push(Image {
            tags: vec![tag(name.as_str())?],
            layers: below.into_iter().chain([own]).collect(),
            config: Config::new(&[&format!("/{path}")]),
        });
    }
    images.push(Image {
        tags: vec![pause.to_owned()],
        layers: vec![base.clone()],
        config: Config::new(&["/usr/bin/catatonit", "-P"]),
    });
    Ok(images)
}

/// Istio's images under their own names below [`HUB`], and the clients'.
/// What is in Istio's official ones: <https://github.com/istio/istio/tree/master/pilot/docker>.
pub(crate) fn mesh(programs: &Programs, base: &Blob, version: &str, layers: &mut Layers) -> Result<Vec<Image>, Error> {
    let pilot = Layer::default()
        .program("usr/local/bin/pilot-discovery", programs.path(&ProgramName::PILOT_DISCOVERY))
        .folder("var/lib/istio", 0o777, (1337, 1337));
    let proxy = Layer::default()
        .program("usr/local/bin/pilot-agent", programs.path(&ProgramName::PILOT_AGENT))
        .program("usr/local/bin/envoy", programs.path(&ProgramName::ENVOY))
        .file("var/lib/istio/envoy/envoy_bootstrap_tmpl.json", programs.path(&ProgramName::ENVOY_BOOTSTRAP));
    let client = Layer::default().folder("home/curl_user", 0o755, (100, 101));
    let mut image = |name: &str, layer: &Layer, config: Config| -> Result<Image, Error> {
        Ok(Image { tags: vec![name.to_owned()], layers: vec![base.clone(), layers.write(layer)?], config })
    };
    let mut client_config = Config::new(&[]).user("100:101").env("HOME=/home/curl_user");
    client_config.cmd = vec!["curl".to_owned()];
    let mut proxy_config = Config::new(&["/usr/local/bin/pilot-agent"]).user("1337:1337");
    proxy_config = proxy_config.env(&format!("ISTIO_META_ISTIO_VERSION={version}"));
    Ok(vec![
        image(
            &format!("{HUB}/pilot:{version}"),
            &pilot,
            Config::new(&["/usr/local/bin/pilot-discovery"]).user("1337:1337"),
        )?,
        image(&format!("{HUB}/proxyv2:{version}"), &proxy, proxy_config)?,
        image(CLIENT, &client, client_config)?,
    ])
}

/// The DNS server's and the external servers' image: one static program each.
pub(crate) fn own(own: &OwnPrograms, layers: &mut Layers) -> Result<Vec<Image>, Error> {
    let mut image = |name: &str, path: &str, program: &Path| -> Result<Image, Error> {
        let layer = layers.write(&Layer::default().program(path, program).folder("run", 0o755, (0, 0)))?;
        Ok(Image { tags: vec![name.to_owned()], layers: vec![layer], config: Config::new(&[&format!("/{path}")]) })
    };
    Ok(vec![
        image(DNS, "usr/local/bin/egress-dns", &own.dns)?,
        image(SERVER, "usr/local/bin/external-server", &own.server)?,
    ])
}
