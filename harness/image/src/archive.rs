//! Docker archives: `manifest.json`, image configurations and layers in one tar, as `docker save` writes it and
//! `docker load`, `kind load image-archive` and `ctr images import` read it.
//!
//! Layers that several images of an archive share are in it once. Format: the image specification of Docker 1.2,
//! <https://github.com/moby/docker-image-spec>. Start at [`write`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use crate::layer::{Blob, TIME, hash_bytes, write_tar};

/// One image: its names, its layers from the lowest, and how its containers run.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// References, `registry/name:tag`.
    pub(crate) tags: Vec<String>,
    pub(crate) layers: Vec<Blob>,
    pub(crate) config: Config,
}

/// The part of an image's configuration that says how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    /// `uid:gid`; empty for root.
    pub(crate) user: String,
    pub(crate) env: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) working_dir: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) stop_signal: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Config {
    pub(crate) fn new(entrypoint: &[&str]) -> Self {
        Self {
            entrypoint: entrypoint.iter().map(|&s| s.to_owned()).collect(),
            working_dir: "/".to_owned(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            labels: BTreeMap::from([("egress-conformance".to_owned(), "image".to_owned())]),
            ..Self::default()
        }
    }

    pub(crate) fn env(mut self, variable: &str) -> Self {
        self.env.push(variable.to_owned());
        self
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }
}

#[derive(Serialize)]
struct Full<'a> {
    architecture: &'a str,
    os: &'a str,
    created: &'a str,
    config: &'a Config,
    rootfs: RootFs,
    history: Vec<History<'a>>,
}

#[derive(Serialize)]
struct RootFs {
    r#type: &'static str,
    diff_ids: Vec<String>,
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// The time that stands in every image, as [`TIME`].
const CREATED: &str = "2024-01-01T00:00:00Z";

/// The architecture as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The references that an archive's `manifest.json` lists.
pub(crate) fn listed(path: &Path) -> Result<Vec<String>, Error> {
    let wrong = |seen: String| Error::Answer {
        what: format!("the image archive {}", path.display()),
        expected:
            "a tar file with a manifest.json, as `docker save` and `egress-conformance components images` write it"
                .to_owned(),
        seen,
    };
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut tar = tar::Archive::new(file);
    for entry in tar.entries_with_seek().map_err(|error| wrong(error.to_string()))? {
        let entry = entry.map_err(|error| wrong(error.to_string()))?;
        if entry.path_bytes().as_ref() == b"manifest.json" {
            let manifests: Vec<Listed> = serde_json::from_reader(entry).map_err(|error| wrong(error.to_string()))?;
            return Ok(manifests.into_iter().flat_map(|manifest| manifest.repo_tags.unwrap_or_default()).collect());
        }
    }
    Err(wrong("no manifest.json".to_owned()))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    repo_tags: Option<Vec<String>>,
}

/// Writes the archive of those images.
pub(crate) fn write(images: &[Image], to: &Path) -> Result<Blob, Error> {
    let mut manifests = Vec::new();
    let mut configs = BTreeMap::new();
    let mut layers = BTreeMap::new();
    for image in images {
        let full = Full {
            architecture: architecture(),
            os: "linux",
            created: CREATED,
            config: &image.config,
            rootfs: RootFs {
                r#type: "layers",
                diff_ids: image.layers.iter().map(|l| format!("sha256:{}", l.sha256)).collect(),
            },
            history: image
                .layers
                .iter()
                .map(|_| History { created: CREATED, created_by: "egress-conformance" })
                .collect(),
        };
        let json = serde_json::to_vec(&full).expect("an image's configuration is plain data");
        let name = format!("{}.json", hash_bytes(&json));
        manifests.push(Manifest {
            config: name.clone(),
            repo_tags: image.tags.clone(),
            layers: image.layers.iter().map(|l| format!("{}.tar", l.sha256)).collect(),
        });
        configs.insert(name, json);
        layers.extend(image.layers.iter().map(|l| (format!("{}.tar", l.sha256), l.path.clone())));
    }
    configs.insert("manifest.json".to_owned(), serde_json::to_vec(&manifests).expect("a manifest is plain data"));
    write_tar(to, |tar| {
        for (name, json) in &configs {
            let mut header = header(json.len() as u64);
            tar.append_data(&mut header, name, json.as_slice())?;
        }
        for (name, path) in &layers {
            let file = File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            let mut header = header(file.metadata()?.len());
            tar.append_data(&mut header, name, file)?;
        }
        Ok(())
    })
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(TIME);
    header.set_size(size);
    header
}

/// All references in a set of images, in order, without doubles.
pub(crate) fn references(images: &[Image]) -> BTreeSet<String> {
    images.iter().flat_map(|image| image.tags.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use std::io::Read;

    #[test]
    fn shared_layers_are_written_once_and_the_manifest_names_all() {
        let dir = tempfile::tempdir().unwrap();
        let base = Layer::default().text("etc/a", "a").write(&dir.path().join("base")).unwrap();
        let own = Layer::default().text("etc/b", "b").write(&dir.path().join("own")).unwrap();
        let image = |tag: &str, layers: &[&Blob]| Image {
            tags: vec![tag.to_owned()],
            layers: layers.iter().map(|&l| l.clone()).collect(),
            config: Config::new(&["/x"]).user("1337:1337"),
        };
        let images = [image("h/one:1", &[&base]), image("h/two:1", &[&base, &own])];
        let archive = write(&images, &dir.path().join("archive.tar")).unwrap();
        let mut files = BTreeMap::new();
        let mut tar = tar::Archive::new(File::open(&archive.path).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(files.insert(entry.path().unwrap().display().to_string(), bytes).is_none(), "a file twice");
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "h/one:1");
        assert_eq!(manifest[1]["Layers"].as_array().unwrap().len(), 2);
        let name = manifest[1]["Config"].as_str().unwrap();
        let config: serde_json::Value = serde_json::from_slice(&files[name]).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][1], format!("sha256:{}", own.sha256));
        assert_eq!(config["config"]["User"], "1337:1337");
        assert_eq!(config["config"]["Entrypoint"][0], "/x");
        // Manifest, two configurations, two layers.
        assert_eq!(files.len(), 5);
        assert_eq!(references(&images).len(), 2);
    }

    #[test]
    fn what_is_listed_is_read_again_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layer = Layer::default().text("etc/a", "a").write(&dir.path().join("layer")).unwrap();
        let image = Image { tags: vec!["h/one:1".to_owned()], layers: vec![layer], config: Config::new(&["/x"]) };
        let whole = dir.path().join("archive.tar");
        write(&[image], &whole).unwrap();
        assert_eq!(listed(&whole).unwrap(), ["h/one:1"]);
        let (cut, other) = (dir.path().join("cut.tar"), dir.path().join("text"));
        std::fs::write(&cut, &std::fs::read(&whole).unwrap()[..700]).unwrap();
        std::fs::write(&other, "no archive").unwrap();
        for path in [cut, other] {
            let message = listed(&path).unwrap_err().to_string();
            assert!(message.contains("docker save") && message.contains(&*path.to_string_lossy()), "{message}");
        }
    }
}
