//! The system calls that no program of a container gets, as container runtimes have it.
//!
//! Namespaces and capabilities hold back the rest. These reach what has no namespace (keyrings, the kernel's log, sockets
//! to the hypervisor), or open much of the kernel to whoever may call them (a user namespace of one's own, `bpf`,
//! `io_uring`). A program for another architecture than the machine's own is killed at its first call.
//! Start at [`forbid`].

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::os;

/// Refused whatever the arguments.
const NEVER: [libc::c_long; 21] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
];

/// Forbids them to this process and to all that come of it, for good. The caller must still have CAP_SYS_ADMIN: without
/// it the kernel would want that no program may gain privileges.
pub(super) fn forbid() -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("system call filter: {e}");
    for program in filters().map_err(|e| failed(&e))? {
        os::filter_system_calls(&program).map_err(|e| failed(&e))?;
    }
    Ok(())
}

fn filters() -> Result<[BpfProgram; 2], BackendError> {
    let first = |mask: u64, value: u64| {
        let is_set = SeccompCmpOp::MaskedEq(mask);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, is_set, value)?])
    };
    let user_namespace = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let hypervisor = u64::from(libc::AF_VSOCK.cast_unsigned());
    let mut refused: BTreeMap<_, _> = NEVER.map(|call| (call, Vec::new())).into();
    refused.insert(libc::SYS_unshare, vec![first(user_namespace, user_namespace)?]);
    refused.insert(libc::SYS_clone, vec![first(user_namespace, user_namespace)?]);
    refused.insert(libc::SYS_socket, vec![first(u64::from(u32::MAX), hypervisor)?]);
    // Its flags lie in memory, where no filter looks; told that there is no such call, programs use `clone`.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([filter(refused, libc::EPERM)?, filter(unknown, libc::ENOSYS)?])
}

fn filter(calls: BTreeMap<libc::c_long, Vec<SeccompRule>>, error: i32) -> Result<BpfProgram, BackendError> {
    let answer = SeccompAction::Errno(error.cast_unsigned());
    let here = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(calls, SeccompAction::Allow, answer, here)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_fit_the_kernel_and_each_call_stands_once() {
        for filter in filters().unwrap() {
            // BPF_MAXINSNS of linux/bpf_common.h.
            assert!(!filter.is_empty() && filter.len() <= 4096, "{}", filter.len());
        }
        let mut calls = NEVER.to_vec();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), NEVER.len());
    }
}
