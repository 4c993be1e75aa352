//! Collecting what the witnesses of one probe say: proxies' logs ([`logs`]) and the servers' record ([`servers`]),
//! from a bookmark set just before the probe.

pub mod logs;
pub mod servers;
