//! The external servers' own record, as evidence.
//!
//! Start at [`ServerLog`].

use std::time::Duration;

use egress_core::evidence::{ServerEvent, ServerRecord};
use external_server::client::{ClientError, ControlClient};
use external_server::model::{Event, Record};

/// Reads the record of the external servers from a bookmark on.
pub struct ServerLog {
    control: ControlClient,
    next: u64,
    records: Vec<ServerRecord>,
}

impl ServerLog {
    /// Sets the bookmark at the present end of the record.
    ///
    /// # Errors
    /// [`ClientError`] when the servers' control does not answer.
    pub async fn bookmark(control: ControlClient) -> Result<Self, ClientError> {
        let next = control.records(u64::MAX).await?.end;
        Ok(Self { control, next, records: Vec::new() })
    }

    /// Everything since the bookmark that has been read so far.
    #[must_use]
    pub fn records(&self) -> &[ServerRecord] {
        &self.records
    }

    /// Reads what is new, waiting at most `wait` for something to come.
    ///
    /// # Errors
    /// [`ClientError`] when the servers' control does not answer.
    pub async fn read(&mut self, wait: Duration) -> Result<(), ClientError> {
        let page = self.control.wait_records(self.next, wait).await?;
        self.next = page.next;
        self.records.extend(page.records.into_iter().map(evidence));
        Ok(())
    }
}

fn evidence(record: Record) -> ServerRecord {
    let event = match record.event {
        Event::Connection => ServerEvent::Connection,
        Event::Tls { sni, .. } => ServerEvent::Tls { sni },
        Event::TlsError { sni, message } => ServerEvent::TlsError { sni, message },
        Event::Request { method, path, host, headers, sni, .. } => {
            ServerEvent::Request { method, path, host, headers, sni }
        }
        Event::HttpError { message } => ServerEvent::Data { bytes: 0, preview: message },
        Event::Data { bytes, preview } => ServerEvent::Data { bytes, preview },
        Event::Closed { .. } => ServerEvent::Closed,
    };
    ServerRecord {
        time: record.time,
        destination: record.destination,
        connection: record.connection,
        local: record.local,
        peer: record.peer,
        event,
    }
}
