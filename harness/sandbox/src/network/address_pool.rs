//! Pod addresses: handed out in rotation, so that an address that was just freed comes last.
//!
//! A reused address would let a log line of a dead pod pass for one of a new pod, and would meet
//! stale conntrack entries. Pure; start at [`AddressPool::take`].

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::NetworkError;

#[derive(Debug)]
pub(super) struct AddressPool {
    first: u32,
    count: u32,
    next: u32,
    used: HashSet<u32>,
}

impl AddressPool {
    /// All hosts of a subnet: without its network and broadcast addresses.
    pub(super) fn new((network, length): (Ipv4Addr, u8)) -> Self {
        assert!((1..=30).contains(&length), "a pod range has at least two hosts");
        let size = 1u32 << (32 - u32::from(length));
        let first = (u32::from(network) & !(size - 1)) + 1;
        AddressPool { first, count: size - 2, next: 0, used: HashSet::new() }
    }

    /// The next free address after the one handed out last.
    pub(super) fn take(&mut self) -> Result<Ipv4Addr, NetworkError> {
        for step in 0..self.count {
            let offset = (self.next + step) % self.count;
            if self.used.insert(offset) {
                self.next = (offset + 1) % self.count;
                return Ok(Ipv4Addr::from(self.first + offset));
            }
        }
        Err(NetworkError::Exhausted(self.count as usize))
    }

    /// Marks an address as free. An address that is not of this pool is ignored.
    pub(super) fn give_back(&mut self, address: Ipv4Addr) {
        self.used.remove(&u32::from(address).wrapping_sub(self.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> AddressPool {
        AddressPool::new((Ipv4Addr::new(10, 0, 0, 0), 29))
    }

    #[test]
    fn hands_out_every_host_once_and_then_says_that_it_is_empty() {
        let mut pool = pool();
        let all: Vec<_> = (0..6).map(|_| pool.take().unwrap()).collect();
        let expected: Vec<_> = (1..=6).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        assert_eq!(all, expected);
        assert!(matches!(pool.take(), Err(NetworkError::Exhausted(6))));
    }

    #[test]
    fn a_freed_address_is_the_last_to_be_used_again() {
        let mut pool = pool();
        let first = pool.take().unwrap();
        pool.give_back(first);
        let next: Vec<_> = (0..6).map(|_| pool.take().unwrap()).collect();
        assert_eq!(next[0], Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(next[5], first);
    }
}
