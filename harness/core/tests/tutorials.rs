//! The pages in `fixtures/`: each can be read, and says what a page has to say.

use std::path::{Path, PathBuf};

use egress_core::tutorial::{Options, Page, manifest, parse, world};

fn pages(folder: &str) -> Vec<Page> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(folder);
    let boilerplates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tutorials/boilerplates");
    let boilerplate = |name: &str| {
        let path = boilerplates.join(format!("{name}.md"));
        std::fs::read_to_string(&path).ok().map(|text| (path, text))
    };
    let entries = std::fs::read_dir(&folder).expect("the folder");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.filter(|f| f.extension().is_some_and(|e| e == "md")).collect();
    files.retain(|file| file.file_stem().is_some_and(|s| s != "README"));
    files.sort();
    let values = [("istio_version", "1.31".to_owned())];
    let options = Options { tabs: &[], values: &values, boilerplate: &boilerplate };
    files.iter().map(|file| parse(file, &std::fs::read_to_string(file).expect("a page"), &options)).collect()
}

#[test]
fn our_pages_can_be_read_and_promise_paths() {
    let pages = pages("tutorials");
    assert!(pages.len() >= 8, "{}", pages.len());
    for page in pages {
        let name = page.path.display();
        assert_eq!(page.problems, [], "{name}");
        assert!(page.steps.iter().any(|s| s.expected.is_some()), "{name} shows no output");
        // Each way that a page promises ends at a server of its own, or is ended by a proxy.
        let world = world::world(&page);
        for step in &page.steps {
            let servers = step.promised.iter().flatten().filter(|h| !["sidecar", "gateway"].contains(&h.as_str()));
            for server in servers {
                assert!(world.destinations.contains_key(server), "{}: no server {server}", step.at);
            }
            let asks = step.command.contains("-- curl") || step.command.contains("-- sh -c");
            let prints = step.command.contains("$(kubectl exec");
            assert_eq!(step.promised.is_some(), asks && !prints, "{}: a path for every request", step.at);
        }
        for step in page.steps.iter().filter(|s| s.command.contains("apply -f - <<EOF")) {
            assert!(!manifest::objects(&step.command).is_empty(), "{}: no object can be read", step.at);
        }
    }
}

#[test]
fn the_outdated_page_can_be_read() {
    let pages = pages("outdated-tutorials");
    assert_eq!(pages.len(), 1);
    assert_eq!((pages[0].problems.len(), pages[0].steps.len()), (0, 10));
}
