//! The client's side of SPDY, for tests of the server's.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::bytes::BytesMut;

use super::frame::{self, Frame};
use super::headers::{Compressor, Decompressor, Headers};

/// The client of a connection.
pub(in super::super) struct Client {
    io: DuplexStream,
    buffer: BytesMut,
    packer: Compressor,
    unpacker: Decompressor,
}

impl Client {
    /// The client at this end.
    pub(in super::super) fn new(io: DuplexStream) -> Self {
        let (packer, unpacker) = (Compressor::new().unwrap(), Decompressor::new());
        Self { io, buffer: BytesMut::new(), packer, unpacker }
    }

    /// Sends a frame.
    pub(in super::super) async fn send(&mut self, frame: Frame) {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        self.io.write_all(&wire).await.unwrap();
    }

    /// Opens a stream with these headers.
    pub(in super::super) async fn open(&mut self, stream: u32, fin: bool, headers: &[(&str, &str)]) {
        let headers = Headers(headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let block = self.packer.pack(&headers).unwrap().into();
        self.send(Frame::SynStream { stream, fin, block }).await;
    }

    /// The next frame, or nothing at the end of the connection.
    pub(in super::super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::decode(&mut self.buffer).unwrap() {
                if let Frame::SynReply { block, .. } = &frame {
                    assert_eq!(self.unpacker.unpack(block).unwrap(), Headers::default());
                }
                return Some(frame);
            }
            let read = tokio::time::timeout(Duration::from_secs(10), self.io.read_buf(&mut self.buffer));
            if read.await.expect("the server answers").unwrap() == 0 {
                return None;
            }
        }
    }

    /// Takes the reply to a stream that was opened.
    pub(in super::super) async fn expect_reply(&mut self, number: u32) {
        let frame = self.next().await;
        assert!(matches!(frame, Some(Frame::SynReply { stream, .. }) if stream == number), "{frame:?}");
    }
}
