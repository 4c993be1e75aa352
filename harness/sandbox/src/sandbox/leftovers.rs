//! What a sandbox could leave on the host, looked for after it ended: processes that use its
//! folder, and mounts below it. Reads `/proc` only. Start at [`find`].

use std::path::Path;

/// Whatever still uses this state folder, in words; empty when all is well.
pub(super) fn find(state: &Path) -> Vec<String> {
    let mut found = mounts(state);
    found.extend(processes(state));
    found
}

fn mounts(state: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let below = points.filter(|point| Path::new(point).starts_with(state));
    below.map(|point| format!("mount {point}")).collect()
}

/// Every process of a sandbox has a file of the folder open: its log, at least. That somebody's
/// command line names the folder means nothing: `kubectl --kubeconfig` does.
fn processes(state: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != own)
        .filter(|pid| uses(Path::new("/proc").join(pid).as_path(), state))
        .map(|pid| format!("process {pid}"))
        .collect()
}

fn uses(process: &Path, state: &Path) -> bool {
    std::fs::read_dir(process.join("fd")).is_ok_and(|descriptors| {
        descriptors
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .any(|target| target.starts_with(state))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_holds_a_file_is_found_and_gone_when_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).stdout(log).spawn().unwrap();
        assert_eq!(find(folder.path()), [format!("process {}", child.id())]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(find(folder.path()), Vec::<String>::new());
    }
}
