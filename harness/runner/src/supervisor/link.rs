//! A client's end: one connection to a supervisor, which holds one lease at a time.
//!
//! Asks and waits for answers; what is done with a lease is [`crate::schedule`]'s business. Start at [`Link::open`].

use std::pin::Pin;
use std::time::Duration;

use egress_core::scenario::World;
use futures::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::home::{self, Home};
use super::protocol::{self, Aftermath, Fate, Grant, News, Purpose, Start, ToClient, ToSupervisor, Wanted, Welcome};
use crate::cluster::EnvironmentError;
use crate::cluster::objects::Applied;
use crate::progress::Progress;
use crate::schedule::world::World as Deployed;

/// How often a supervisor may end just as we come.
const TRIES: u32 = 5;
/// How long a supervisor of another build may take to end its mesh.
const END: Duration = Duration::from_secs(60);

/// A connection to a supervisor.
pub struct Link {
    home: Home,
    frames: Framed<UnixStream, LengthDelimitedCodec>,
}

impl Link {
    /// Finds a supervisor, or starts one, and waits until its mesh is up. As soon as `broken_off` is over it says goodbye,
    /// and waits for the mesh's end if nobody else wants it.
    ///
    /// # Errors
    /// [`NotJoined`]: what did not come up. Nothing is left then.
    pub async fn open(
        start: &Start,
        purpose: Purpose,
        progress: &dyn Progress,
        mut broken_off: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(Self, Welcome), NotJoined> {
        let mut last = EnvironmentError::new("no supervisor was found or started");
        for _ in 0..TRIES {
            let (home, stream, guard) = home::find_or_start(start).await?;
            let started = guard.is_some();
            let mut link = Self { home, frames: Framed::new(stream, protocol::codec()) };
            // It speaks first, and holds its lock by then.
            let greeted = link.next().await;
            drop(guard);
            match greeted {
                Ok(_) => {
                    let welcomed = tokio::select! {
                        welcomed = link.hello(purpose, progress) => welcomed,
                        () = broken_off.as_mut() => return Err(link.break_off(progress).await),
                    };
                    match welcomed {
                        Ok(welcome) => return Ok((link, welcome)),
                        Err(Hello::Failed(error)) => return Err(error.into()),
                        Err(Hello::Gone(error)) => last = error,
                    }
                }
                Err(error) if started => return Err(error.into()),
                // Found at the very moment of its end.
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// Leaves in the middle of something, and waits for the mesh's end if nobody else wants it.
    pub async fn break_off(self, progress: &dyn Progress) -> NotJoined {
        progress.line("interrupted: leaving the mesh");
        match tokio::time::timeout(END, self.leave()).await {
            Ok(Ok(_)) => NotJoined::BrokenOff,
            Ok(Err(error)) => error.into(),
            Err(_) => EnvironmentError::new(format!("the mesh did not end within {} s", END.as_secs())).into(),
        }
    }

    /// Another connection to the same supervisor.
    ///
    /// # Errors
    /// [`EnvironmentError`] when it is gone.
    pub async fn another(&self) -> Result<Self, EnvironmentError> {
        let stream = UnixStream::connect(self.home.socket()).await;
        let stream = stream.map_err(|e| self.gone(&format!("it takes no more clients ({e})")))?;
        let mut link = Self { home: self.home.clone(), frames: Framed::new(stream, protocol::codec()) };
        match link.hello(Purpose::Run, &crate::progress::Quiet).await {
            Ok(_) => Ok(link),
            Err(Hello::Failed(error) | Hello::Gone(error)) => Err(error),
        }
    }

    async fn hello(&mut self, purpose: Purpose, progress: &dyn Progress) -> Result<Welcome, Hello> {
        self.say(&ToSupervisor::Hello(purpose)).await.map_err(Hello::Gone)?;
        loop {
            match self.next().await.map_err(Hello::Gone)? {
                ToClient::Welcome(welcome) => return Ok(*welcome),
                ToClient::Failed { message, remedy } => {
                    return Err(Hello::Failed(EnvironmentError { message, remedy }));
                }
                ToClient::Progress(news) => show(progress, &news),
                _ => {}
            }
        }
    }

    async fn say(&mut self, message: &ToSupervisor) -> Result<(), EnvironmentError> {
        let sent = self.frames.send(protocol::encode(message)).await;
        sent.map_err(|e| self.gone(&e.to_string()))
    }

    async fn next(&mut self) -> Result<ToClient, EnvironmentError> {
        match self.frames.next().await {
            Some(Ok(frame)) => protocol::decode(&frame).map_err(|e| self.gone(&format!("it said nonsense: {e}"))),
            Some(Err(error)) => Err(self.gone(&error.to_string())),
            None => Err(self.gone("it has ended")),
        }
    }

    fn gone(&self, why: &str) -> EnvironmentError {
        let words = self.home.last_words();
        let words = if words.is_empty() { String::new() } else { format!("; its last messages:{words}") };
        EnvironmentError::new(format!("the mesh's supervisor is gone: {why}{words}"))
    }

    /// The next answer that `wanted` picks; progress is shown, failures end the waiting.
    async fn answer<T>(
        &mut self,
        progress: &dyn Progress,
        wanted: impl Fn(ToClient) -> Option<T>,
    ) -> Result<T, EnvironmentError> {
        loop {
            match self.next().await? {
                ToClient::Progress(news) => show(progress, &news),
                ToClient::Failed { message, remedy } => return Err(EnvironmentError { message, remedy }),
                other => {
                    if let Some(answer) = wanted(other) {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    /// Has these external servers in force as long as this connection is open. Returns their addresses.
    ///
    /// # Errors
    /// [`EnvironmentError`] when they cannot be had.
    pub async fn world(&mut self, world: &World, progress: &dyn Progress) -> Result<Deployed, EnvironmentError> {
        self.say(&ToSupervisor::World(world.clone())).await?;
        self.answer(progress, |answer| match answer {
            ToClient::World(world) => Some(*world),
            _ => None,
        })
        .await
    }

    /// Waits for a lease.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the mesh is of no more use.
    pub async fn lease(&mut self, wanted: Wanted, progress: &dyn Progress) -> Result<Grant, EnvironmentError> {
        self.say(&ToSupervisor::Lease(wanted)).await?;
        self.answer(progress, |answer| match answer {
            ToClient::Granted(grant) => Some(*grant),
            _ => None,
        })
        .await
    }

    /// Waits until the mesh breaks under a lease, and says why; or that the supervisor is gone. It may be broken off.
    pub async fn broken(&mut self) -> EnvironmentError {
        loop {
            match self.next().await {
                Ok(ToClient::Broken(why)) => return EnvironmentError::new(why),
                Ok(ToClient::Failed { message, remedy }) => return EnvironmentError { message, remedy },
                Ok(_) => {}
                Err(gone) => return gone,
            }
        }
    }

    /// Gives the lease back, with what was applied under it and how many requests were sent; waits until all of it is gone.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the supervisor is gone.
    pub async fn release(&mut self, live: Vec<Applied>, probes: u32) -> Result<Aftermath, EnvironmentError> {
        self.say(&ToSupervisor::Release { live, probes }).await?;
        self.answer(&crate::progress::Quiet, |answer| match answer {
            ToClient::Released(aftermath) => Some(aftermath),
            _ => None,
        })
        .await
    }

    /// Says goodbye, and waits for the mesh's end if nobody else wants it.
    ///
    /// # Errors
    /// [`EnvironmentError`] with what was not in order at the end.
    pub async fn leave(mut self) -> Result<Fate, EnvironmentError> {
        self.say(&ToSupervisor::Leave).await?;
        self.last_word().await
    }

    async fn last_word(&mut self) -> Result<Fate, EnvironmentError> {
        let ended = self.answer(&crate::progress::Quiet, |answer| match answer {
            ToClient::Ended { stays, kept, problem } => Some((stays, kept, problem)),
            _ => None,
        });
        match ended.await? {
            (_, _, Some(problem)) => Err(EnvironmentError::new(problem)),
            (true, true, None) => Ok(Fate::Kept),
            (true, false, None) => Ok(Fate::Shared),
            (false, _, None) => {
                // It closes the connection when its folder is gone.
                while self.next().await.is_ok() {}
                Ok(Fate::Ended)
            }
        }
    }
}

/// Why a client has no mesh.
#[derive(Debug)]
pub enum NotJoined {
    /// It did not want one any more.
    BrokenOff,
    /// Something did not come up, or did not end in order.
    Environment(EnvironmentError),
}

impl From<EnvironmentError> for NotJoined {
    fn from(error: EnvironmentError) -> Self {
        Self::Environment(error)
    }
}

enum Hello {
    Failed(EnvironmentError),
    Gone(EnvironmentError),
}

fn show(progress: &dyn Progress, news: &News) {
    match news {
        News::Working(what) => progress.working(what),
        News::Phase(what, took) => progress.phase(what, *took),
        News::Line(text) => progress.line(text),
    }
}

/// Ends every mesh of this user. Returns how many there were.
///
/// # Errors
/// [`EnvironmentError`] when one is in use and `by_force` is not given, or does not end.
pub async fn down(by_force: bool) -> Result<usize, EnvironmentError> {
    let found = home::all().await?;
    let count = found.len();
    for (home, stream) in found {
        let mut link = Link { home, frames: Framed::new(stream, protocol::codec()) };
        let path = link.home.path().display().to_string();
        link.say(&ToSupervisor::Down { by_force }).await?;
        tokio::time::timeout(END, link.last_word()).await.map_err(|_| {
            EnvironmentError::new(format!("the mesh in {path} did not end within {} s", END.as_secs()))
        })??;
    }
    Ok(count)
}
