//! Frames of SPDY/3.1 as bytes and back.
//!
//! Header blocks stay compressed here: their compression goes on over all frames of a connection, so it is
//! [`super::headers`]' matter. Start at [`decode`] and [`Frame::encode`].

use axum::body::Bytes;
use tokio_util::bytes::{Buf, BufMut, BytesMut};

/// Set in the first word of a frame that is not data.
const CONTROL: u32 = 1 << 31;
const VERSION: u16 = 3;
const FIN: u8 = 1;
/// Length of the part all frames begin with.
const HEAD: usize = 8;
/// Longest payload: its length has 24 bits.
pub(super) const MAX_PAYLOAD: usize = (1 << 24) - 1;
/// Longest control frame that is taken. Headers of Kubernetes' streams have a few dozen bytes.
const MAX_CONTROL: usize = 64 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a stream is refused: the client broke the protocol.
pub(super) const PROTOCOL_ERROR: u32 = 1;
/// Why a stream is refused: it was not begun.
pub(super) const REFUSED_STREAM: u32 = 3;
/// Why a stream is ended early: nobody needs it any more.
pub(super) const CANCEL: u32 = 5;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Frame {
    /// A stream is opened.
    SynStream { stream: u32, fin: bool, block: Bytes },
    /// The other side takes it.
    SynReply { stream: u32, fin: bool, block: Bytes },
    /// A stream ends at once, in both directions.
    Reset { stream: u32, status: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// No more streams.
    GoAway { last: u32, status: u32 },
    /// More headers of a stream.
    Headers { stream: u32, fin: bool, block: Bytes },
    /// Bytes of a stream; with `fin` its last ones in this direction.
    Data { stream: u32, fin: bool, data: Bytes },
    /// One that means nothing here: settings, windows, credentials.
    Ignored { kind: u16 },
}

/// Why bytes are no frame. The connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum FrameError {
    /// Not SPDY/3.
    #[error("a frame of version {0}; expected {VERSION}")]
    Version(u16),
    /// A control frame beyond what is taken.
    #[error("a control frame of {0} bytes; expected at most {MAX_CONTROL}")]
    TooLong(usize),
    /// Shorter than its kind.
    #[error("a frame of type {kind} with {length} bytes; expected at least {expected}")]
    TooShort { kind: u16, length: usize, expected: usize },
    /// Stream 0 is the connection itself.
    #[error("a frame of type {0} for stream 0")]
    NoStream(u16),
}

/// Takes the next frame from `buffer`, or nothing while it is not whole.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    if buffer.len() < HEAD {
        return Ok(None);
    }
    let mut head = &buffer[..HEAD];
    let (first, second) = (head.get_u32(), head.get_u32());
    let (flags, length) = (second.to_be_bytes()[0], (second & 0x00ff_ffff) as usize);
    let fin = flags & FIN != 0;
    let kind = (first & 0xffff) as u16;
    if first & CONTROL != 0 {
        let version = (first >> 16 & 0x7fff) as u16;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(FrameError::TooLong(length));
        }
    }
    if buffer.len() < HEAD + length {
        buffer.reserve(HEAD + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEAD);
    let payload = buffer.split_to(length).freeze();
    if first & CONTROL == 0 {
        return match first {
            0 => Err(FrameError::NoStream(0)),
            stream => Ok(Some(Frame::Data { stream, fin, data: payload })),
        };
    }
    control(kind, fin, payload).map(Some)
}

fn control(kind: u16, fin: bool, mut payload: Bytes) -> Result<Frame, FrameError> {
    let expected = match kind {
        SYN_STREAM => 10,
        RST_STREAM | GOAWAY => 8,
        SYN_REPLY | PING | HEADERS => 4,
        _ => return Ok(Frame::Ignored { kind }),
    };
    if payload.len() < expected {
        return Err(FrameError::TooShort { kind, length: payload.len(), expected });
    }
    let word = payload.get_u32();
    let stream = word & !CONTROL;
    if stream == 0 && !matches!(kind, PING | GOAWAY) {
        return Err(FrameError::NoStream(kind));
    }
    Ok(match kind {
        SYN_STREAM => {
            // The stream it belongs to, its priority and its slot.
            payload.advance(6);
            Frame::SynStream { stream, fin, block: payload }
        }
        SYN_REPLY => Frame::SynReply { stream, fin, block: payload },
        HEADERS => Frame::Headers { stream, fin, block: payload },
        RST_STREAM => Frame::Reset { stream, status: payload.get_u32() },
        PING => Frame::Ping { id: word },
        _ => Frame::GoAway { last: stream, status: payload.get_u32() },
    })
}

impl Frame {
    /// Appends the frame's bytes. Data and blocks must not be longer than [`MAX_PAYLOAD`] with what precedes them.
    pub(super) fn encode(&self, buffer: &mut BytesMut) {
        let mut control = |kind: u16, fin: bool, words: &[u32], rest: &[u8]| {
            buffer.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
            put_length(buffer, fin, words.len() * 4 + rest.len());
            words.iter().for_each(|word| buffer.put_u32(*word));
            buffer.put_slice(rest);
        };
        match self {
            Self::SynStream { stream, fin, block } => {
                let rest = [&[0, 0], block.as_ref()].concat();
                control(SYN_STREAM, *fin, &[*stream, 0], &rest);
            }
            Self::SynReply { stream, fin, block } => control(SYN_REPLY, *fin, &[*stream], block),
            Self::Headers { stream, fin, block } => control(HEADERS, *fin, &[*stream], block),
            Self::Reset { stream, status } => control(RST_STREAM, false, &[*stream, *status], &[]),
            Self::Ping { id } => control(PING, false, &[*id], &[]),
            Self::GoAway { last, status } => control(GOAWAY, false, &[*last, *status], &[]),
            Self::Ignored { kind } => control(*kind, false, &[], &[]),
            Self::Data { stream, fin, data } => {
                buffer.put_u32(*stream);
                put_length(buffer, *fin, data.len());
                buffer.put_slice(data);
            }
        }
    }
}

fn put_length(buffer: &mut BytesMut, fin: bool, length: usize) {
    debug_assert!(length <= MAX_PAYLOAD, "a payload of {length} bytes");
    let flags = if fin { FIN } else { 0 };
    buffer.put_u32(u32::from(flags) << 24 | length as u32 & 0x00ff_ffff);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let stream = || 1..CONTROL;
        prop_oneof![
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::SynStream { stream, fin, block }),
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::SynReply { stream, fin, block }),
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, block)| Frame::Headers { stream, fin, block }),
            (stream(), any::<bool>(), bytes()).prop_map(|(stream, fin, data)| Frame::Data { stream, fin, data }),
            (stream(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
            (0..CONTROL, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            prop_oneof![Just(4_u16), Just(9), 10..=u16::MAX].prop_map(|kind| Frame::Ignored { kind }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(sent in proptest::collection::vec(frames(), 1..8), cut in 1..40_usize) {
            let mut wire = BytesMut::new();
            sent.iter().for_each(|frame| frame.encode(&mut wire));
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.put_slice(piece);
                while let Some(frame) = decode(&mut buffer).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(wire.as_slice());
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }

    #[test]
    fn a_frame_of_the_specification() {
        // RST_STREAM of stream 1, CANCEL.
        let wire = [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 5];
        let frame = decode(&mut BytesMut::from(wire.as_slice())).unwrap();
        assert_eq!(frame, Some(Frame::Reset { stream: 1, status: CANCEL }));
        let mut buffer = BytesMut::new();
        frame.unwrap().encode(&mut buffer);
        assert_eq!(buffer.as_ref(), wire);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for (wire, error) in [
            (vec![0x80, 2, 0, 1, 0, 0, 0, 0], FrameError::Version(2)),
            (vec![0x80, 3, 0, 1, 0, 1, 0, 1], FrameError::TooLong(65537)),
            (vec![0x80, 3, 0, 6, 0, 0, 0, 0], FrameError::TooShort { kind: PING, length: 0, expected: 4 }),
            (vec![0; 8], FrameError::NoStream(0)),
            (vec![0x80, 3, 0, 8, 0, 0, 0, 4, 0, 0, 0, 0], FrameError::NoStream(HEADERS)),
        ] {
            assert_eq!(decode(&mut BytesMut::from(wire.as_slice())), Err(error));
        }
    }
}
