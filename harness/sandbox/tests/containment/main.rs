//! Containment: what a hostile pod tries against the host, other pods and the control plane, and that it fails.
//!
//! Needs root or subordinate ids, and the real programs; without them every test here fails and says so. All tries share
//! one sandbox and the pods of [`scene`]. Each has a positive control: the same attempt succeeds where it may, or what it
//! is after is shown to be there.

mod attack;
mod control_plane;
mod files;
mod kernel;
mod network;
mod processes;
mod scene;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::sync::Mutex;

use libtest_mimic::{Arguments, Failed, Trial};
use scene::Scene;

static SCENE: Mutex<Option<Scene>> = Mutex::new(None);

/// A name and what is tried.
type Try = (&'static str, fn(&Scene));

fn main() {
    egress_sandbox::run_if_child();
    match std::env::args().nth(1).as_deref() {
        Some(attack::ATTACK) => attack::main(),
        Some(support::look::LOOK) => support::look::main(),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let tries: [Try; 20] = [
        ("no_file_of_the_host_can_be_written", files::no_file_of_the_host_can_be_written),
        ("no_volume_of_another_pod_is_in_reach", files::no_volume_of_another_pod_is_in_reach),
        ("no_file_of_the_sandbox_is_in_reach", files::no_file_of_the_sandbox_is_in_reach),
        ("no_way_out_of_the_root_folder", files::no_way_out_of_the_root_folder),
        ("no_disk_can_be_read", files::no_disk_can_be_read),
        ("no_descriptor_is_inherited", files::no_descriptor_is_inherited),
        ("no_kept_log_runs_as_root", files::no_kept_log_runs_as_root),
        ("nothing_can_be_mounted", kernel::nothing_can_be_mounted),
        ("nothing_of_the_machine_can_be_set", kernel::nothing_of_the_machine_can_be_set),
        ("no_limit_can_be_raised", kernel::no_limit_can_be_raised),
        ("nothing_without_a_namespace_can_be_used", kernel::nothing_without_a_namespace_can_be_used),
        ("no_process_outside_is_seen", processes::no_process_outside_is_seen),
        ("no_process_outside_can_be_touched", processes::no_process_outside_can_be_touched),
        ("no_other_namespace_can_be_entered", processes::no_other_namespace_can_be_entered),
        ("the_loopback_of_the_host_is_another", network::the_loopback_of_the_host_is_another),
        ("the_loopback_of_the_node_is_closed", network::the_loopback_of_the_node_is_closed),
        ("nothing_outside_is_in_reach", network::nothing_outside_is_in_reach),
        ("the_node_answers_its_api_server_alone", control_plane::the_node_answers_its_api_server_alone),
        ("the_api_server_wants_credentials", control_plane::the_api_server_wants_credentials),
        ("etcd_is_out_of_reach", control_plane::etcd_is_out_of_reach),
    ];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let handle = runtime.handle().clone();
    let trial = |(name, test): Try| {
        let handle = handle.clone();
        Trial::test(name, move || {
            let mut shared = SCENE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if shared.is_none() {
                *shared = Some(handle.block_on(Scene::set()).map_err(Failed::from)?);
            }
            test(shared.as_ref().expect("it was set above"));
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, tries.into_iter().map(trial).collect());
    let shared = SCENE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(scene) = shared {
        let kept = runtime.block_on(scene.end());
        if !arguments.list {
            files::kept_logs_have_no_rights(&kept);
        }
    }
    conclusion.exit();
}
