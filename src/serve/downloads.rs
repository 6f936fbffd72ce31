//! Translated files until they are fetched: in memory, within a budget, for a while.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;

use super::client::Client;
use super::error::{ApiError, Fault};

/// What a file costs beside its bytes.
const OVERHEAD: usize = 1024;

#[derive(Debug)]
struct File {
    name: String,
    bytes: Bytes,
    client: Client,
    until: Instant,
}

impl File {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    files: VecDeque<File>,
    count: u64,
}

impl Kept {
    fn forget_old(&mut self) {
        let now = Instant::now();
        self.files.retain(|file| file.until > now);
    }

    fn held(&self, of: Option<Client>) -> usize {
        self.files.iter().filter(|file| of.is_none_or(|client| client == file.client)).map(File::cost).sum()
    }
}

/// Files that wait for their readers.
#[derive(Debug)]
pub(super) struct Downloads {
    most: usize,
    lifetime: Duration,
    /// Two keyed hash functions, whose keys the system drew at random: who does not have a name cannot guess it.
    keys: [RandomState; 2],
    kept: Mutex<Kept>,
}

impl Downloads {
    /// - `most`: bytes of all files together.
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Self { most, lifetime, keys: [RandomState::new(), RandomState::new()], kept: Mutex::default() }
    }

    /// Keeps a file and gives the name under which it can be fetched. Where there is no room, the oldest file of the client
    /// that takes the most room goes.
    ///
    /// # Errors
    /// A file that is larger than all files together may be.
    pub(super) fn keep(&self, client: Client, name: &str, bytes: Bytes) -> Result<String, ApiError> {
        let cost = bytes.len() + OVERHEAD;
        if cost > self.most {
            let message = format!("the translated file has {} bytes; {} are kept", bytes.len(), self.most.saturating_sub(OVERHEAD));
            return Err(ApiError::new(Fault::TooLong, message));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_old();
        while kept.held(None) + cost > self.most {
            let greedy = kept.files.iter().map(|file| file.client).max_by_key(|&client| kept.held(Some(client)));
            let oldest = kept.files.iter().position(|file| Some(file.client) == greedy);
            if oldest.and_then(|at| kept.files.remove(at)).is_none() {
                break;
            }
        }
        kept.count += 1;
        let count = kept.count;
        let [high, low] = [0, 1].map(|at: usize| self.keys[at].hash_one(count));
        let name = format!("{high:016x}{low:016x}.{name}");
        kept.files.push_back(File { name: name.clone(), bytes, client, until: Instant::now() + self.lifetime });
        Ok(name)
    }

    /// The file called `name`, if it is still there.
    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_old();
        kept.files.iter().find(|file| file.name == name).map(|file| file.bytes.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_go_after_their_time_and_where_there_is_no_room_the_oldest_of_who_has_most() {
        let client = |last: u8| Client::Address([10, 0, 0, last].into());
        let file = |bytes: usize| Bytes::from(vec![b'x'; bytes]);
        let downloads = Downloads::new(10_000, Duration::from_secs(60));
        let small = downloads.keep(client(1), "a.txt", file(10)).unwrap();
        let large: Vec<String> = (0..4).map(|_| downloads.keep(client(2), "b.txt", file(2500)).unwrap()).collect();
        assert!(downloads.get(&small).is_some(), "who has little keeps it");
        let left: Vec<bool> = large.iter().map(|name| downloads.get(name).is_some()).collect();
        assert_eq!(left, [false, false, true, true]);
        assert!(downloads.keep(client(1), "c.txt", file(10_000)).is_err());
        assert!(small.ends_with(".a.txt") && small.len() == 32 + 6 && downloads.get("a.txt").is_none());
        let brief = Downloads::new(10_000, Duration::ZERO);
        let name = brief.keep(client(1), "a.txt", file(10)).unwrap();
        assert!(brief.get(&name).is_none());
    }
}
