//! The agent's ends of an exec's pipes and terminal.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;

use crate::os;

/// One end of a pipe or terminal.
#[derive(Debug)]
pub(super) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self(os::async_descriptor(descriptor)?))
    }

    /// Reads what there is, waiting for it. 0 or an error is the end; a terminal ends with an error.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Reads what there is now.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0.get_ref(), buffer)?)
    }

    /// Writes everything.
    pub(super) async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?)) {
                Ok(result) => data = &data[result?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Tells a terminal its size.
    pub(super) fn resize(&self, width: u16, height: u16) {
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = rustix::termios::tcsetwinsize(self.0.get_ref(), size);
    }
}

/// The agent's ends.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<Arc<Stream>>,
    pub(super) stdout: Option<Arc<Stream>>,
    pub(super) stderr: Option<Arc<Stream>>,
    pub(super) terminal: Option<Arc<Stream>>,
}

impl Streams {
    /// Pipes for the streams that are wanted, and the program's ends of them. With `tty` there are none.
    pub(super) fn pipes(input: bool, output: bool, error: bool, tty: bool) -> io::Result<([Stdio; 3], Self)> {
        let mut theirs = [Stdio::null(), Stdio::null(), Stdio::null()];
        let mut ours = Self::default();
        if tty {
            return Ok((theirs, ours));
        }
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        if input {
            let (reader, writer) = pipe()?;
            theirs[0] = reader.into();
            ours.stdin = Some(Arc::new(Stream::new(writer)?));
        }
        if output {
            let (reader, writer) = pipe()?;
            theirs[1] = writer.into();
            ours.stdout = Some(Arc::new(Stream::new(reader)?));
        }
        if error {
            let (reader, writer) = pipe()?;
            theirs[2] = writer.into();
            ours.stderr = Some(Arc::new(Stream::new(reader)?));
        }
        Ok((theirs, ours))
    }

    /// Uses a terminal for all streams.
    pub(super) fn take_terminal(&mut self, terminal: OwnedFd, input: bool) -> io::Result<()> {
        let terminal = Arc::new(Stream::new(terminal)?);
        self.stdin = input.then(|| terminal.clone());
        self.stdout = Some(terminal.clone());
        self.terminal = Some(terminal);
        Ok(())
    }
}
