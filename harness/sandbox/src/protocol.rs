//! The language between a sandbox and its owner: JSON messages, each behind a four-byte length,
//! over one Unix socket pair. The socket is also the owner's sign of life: when it closes, the
//! sandbox ends. Start at [`ToSandbox`] and [`ToOwner`].

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use egress_dns::Names;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;
use tokio_util::codec::LengthDelimitedCodec;

use crate::events::{ComponentFault, Event};
use crate::options::Options;

/// First message of all, read by the process that enters the namespaces.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) options: Options,
    /// The sandbox's own folder.
    pub(crate) state: PathBuf,
}

/// What the owner asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ToSandbox {
    /// Chosen by the owner; the answer carries it.
    pub(crate) id: u64,
    pub(crate) request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    SetNames(Names),
    SetOutsideAddresses(Vec<Ipv4Addr>),
    /// An authority (PEM) that pods trust beside the machine's own; none: no other.
    Trust(Option<String>),
    /// Writes what etcd holds to the place that the layout names.
    SaveObjects,
    /// Ends pods and components; the sandbox exits after it answered.
    Stop,
}

/// What the sandbox says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToOwner {
    Event(Event),
    Ready,
    /// The start failed; the sandbox exits.
    Failed(StartFailure),
    Answer {
        id: u64,
        result: Result<(), String>,
    },
}

/// Why a start failed, as seen from inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum StartFailure {
    Component(ComponentFault),
    Phase { phase: String, message: String },
}

/// Longest message, in bytes: image maps and name lists are far smaller.
const LONGEST: usize = 16 << 20;

/// The framing, for async ends.
pub(crate) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(4).max_frame_length(LONGEST).new_codec()
}

/// A message as the bytes of a frame's body.
pub(crate) fn encode<T: Serialize>(message: &T) -> Bytes {
    serde_json::to_vec(message).expect("messages are plain data with string keys").into()
}

/// A frame's body as a message.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> std::io::Result<T> {
    serde_json::from_slice(body).map_err(std::io::Error::from)
}

/// Writes one message, blocking: for processes without a runtime.
pub(crate) fn write_blocking<T: Serialize>(to: &mut impl Write, message: &T) -> std::io::Result<()> {
    let body = encode(message);
    let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&body)
}

/// Reads exactly one message, blocking, and nothing behind it.
pub(crate) fn read_blocking<T: DeserializeOwned>(from: &mut impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(std::io::Error::other(format!("a message of {length} bytes is longer than {LONGEST}")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    decode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::bytes::BytesMut;
    use tokio_util::codec::Decoder;

    #[test]
    fn blocking_and_async_ends_frame_alike() {
        let sent = ToSandbox { id: 7, request: Request::SetOutsideAddresses(vec![Ipv4Addr::LOCALHOST]) };
        let mut bytes = Vec::new();
        write_blocking(&mut bytes, &sent).unwrap();
        let body = codec().decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
        let read: ToSandbox = decode(&body).unwrap();
        assert_eq!(read.id, 7);
        let mut rest = &bytes[..];
        let again: ToSandbox = read_blocking(&mut rest).unwrap();
        assert_eq!((again.id, rest.len()), (7, 0));
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_anything_is_allocated() {
        let error = read_blocking::<ToSandbox>(&mut &[0xff; 8][..]).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
