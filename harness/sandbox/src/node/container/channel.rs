//! The child's end of its socket to the node agent: reads the spec, sends reports with descriptors.
//!
//! Blocking and single-threaded. Start at [`Channel::adopt`].

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::de::DeserializeOwned;

use super::spec::Report;
use crate::os;

/// The socket. It is close-on-exec, so its end tells the agent that the program has taken over.
pub(crate) struct Channel(Option<UnixStream>);

impl Channel {
    /// Takes the socket whose number the agent gave as the second argument.
    pub(crate) fn adopt() -> Result<Self, String> {
        let number = std::env::args().nth(2).and_then(|n| n.parse().ok());
        let number = number.ok_or("expected the number of an inherited socket as argument")?;
        let socket = os::adopt(number).map_err(|e| format!("descriptor {number}: {e}"))?;
        Ok(Self(Some(UnixStream::from(socket))))
    }

    /// Reads the spec, to the end of what the agent sends.
    pub(crate) fn spec<T: DeserializeOwned>(&mut self) -> Result<T, String> {
        let mut bytes = Vec::new();
        let socket = self.0.as_mut().ok_or("the socket is closed")?;
        socket.read_to_end(&mut bytes).map_err(|e| format!("reading the spec: {e}"))?;
        serde_json::from_slice(&bytes).map_err(|e| format!("the spec: {e}"))
    }

    /// Sends a report. If the agent is gone nobody needs it.
    pub(crate) fn send(&self, report: &Report, descriptor: Option<&OwnedFd>) {
        let Some(socket) = &self.0 else { return };
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let passed: Option<[BorrowedFd<'_>; 1]> = descriptor.map(|d| [d.as_fd()]);
        if let Some(passed) = &passed {
            control.push(SendAncillaryMessage::ScmRights(passed));
        }
        let _ = rustix::net::sendmsg(socket, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL);
    }

    /// Closes this process's end; the program's process still has its own.
    pub(crate) fn close(&mut self) {
        self.0 = None;
    }
}
