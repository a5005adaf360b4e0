//! Connections that `MIGRATE` keeps for a while, for the next keys to the same server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::tls::Tls;
use crate::tls::peer::PeerStream;

/// Connections that are kept at a time.
const KEPT_MAX: usize = 64;
/// How long one is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(10);

/// By host and port.
type Place = (String, u16);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Sockets {
    /// What new ones are protected by.
    pub tls: Tls,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With a number that tells which came first.
    streams: BTreeMap<Place, (u64, PeerStream)>,
    next: u64,
}

impl Sockets {
    /// Keeps none yet.
    pub fn new(tls: Tls) -> Sockets {
        Sockets {
            tls,
            kept: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.lock().streams.len()
    }

    /// Takes the connection to a server, if one is kept.
    pub fn take(&self, host: &str, port: u16) -> Option<PeerStream> {
        let found = self.lock().streams.remove(&(host.to_string(), port));
        found.map(|(_, stream)| stream)
    }

    /// Keeps a connection on which nothing is outstanding. The number is for [`expire`](Self::expire), when its time has passed.
    pub fn keep(&self, host: &str, port: u16, stream: PeerStream) -> u64 {
        let mut kept = self.lock();
        let number = kept.next;
        kept.next += 1;
        if kept.streams.len() >= KEPT_MAX {
            let oldest = kept.streams.iter().min_by_key(|(_, (n, _))| *n);
            if let Some(place) = oldest.map(|(place, _)| place.clone()) {
                kept.streams.remove(&place);
            }
        }
        kept.streams
            .insert((host.to_string(), port), (number, stream));
        number
    }

    /// Closes a connection unless it has been used since.
    pub fn expire(&self, number: u64) {
        self.lock().streams.retain(|_, (n, _)| *n != number);
    }
}
