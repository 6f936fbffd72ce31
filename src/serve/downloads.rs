//! Translated files until they are fetched: in memory, within a budget, for a while.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
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
    until: Instant,
}

impl File {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// Files of one client.
#[derive(Debug, Default)]
struct Own {
    /// The oldest first.
    files: VecDeque<File>,
    cost: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// By client, so that room is made in a time that does not grow with the number of files.
    clients: HashMap<Client, Own>,
    cost: usize,
    count: u64,
}

impl Kept {
    fn push(&mut self, client: Client, file: File) {
        let own = self.clients.entry(client).or_default();
        own.cost += file.cost();
        self.cost += file.cost();
        own.files.push_back(file);
    }

    /// Forgets the oldest file of a client; whether there was one.
    fn pop(&mut self, client: Client) -> bool {
        let Some(own) = self.clients.get_mut(&client) else { return false };
        let file = own.files.pop_front();
        let cost = file.as_ref().map_or(0, File::cost);
        own.cost -= cost;
        self.cost -= cost;
        if own.files.is_empty() {
            self.clients.remove(&client);
        }
        file.is_some()
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        let old = |own: &Own| own.files.iter().take_while(|file| file.until <= now).count();
        let counts: Vec<(Client, usize)> =
            self.clients.iter().map(|(&client, own)| (client, old(own))).collect();
        for (client, count) in counts {
            for _ in 0..count {
                self.pop(client);
            }
        }
    }
}

/// Files that wait for their readers.
#[derive(Debug)]
pub(super) struct Downloads {
    most: usize,
    lifetime: Duration,
    /// Two keyed hash functions, whose keys the system drew at random: who does not have a name cannot guess
    /// it.
    keys: [RandomState; 2],
    kept: Mutex<Kept>,
}

impl Downloads {
    /// - `most`: bytes of all files together.
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Self { most, lifetime, keys: [RandomState::new(), RandomState::new()], kept: Mutex::default() }
    }

    /// Keeps a file and gives the name under which it can be fetched. Where there is no room, the oldest file
    /// of the client that takes the most room goes.
    ///
    /// # Errors
    /// A file that is larger than all files together may be.
    pub(super) fn keep(&self, client: Client, name: &str, bytes: Bytes) -> Result<String, ApiError> {
        let cost = bytes.len() + OVERHEAD;
        if cost > self.most {
            let message = format!(
                "the translated file has {} bytes; {} are kept",
                bytes.len(),
                self.most.saturating_sub(OVERHEAD)
            );
            return Err(ApiError::new(Fault::TooLong, message));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_old();
        while kept.cost + cost > self.most {
            let greedy = kept.clients.iter().max_by_key(|(_, own)| own.cost).map(|(&client, _)| client);
            if !greedy.is_some_and(|client| kept.pop(client)) {
                break;
            }
        }
        kept.count += 1;
        let count = kept.count;
        let [high, low] = [0, 1].map(|at: usize| self.keys[at].hash_one(count));
        let name = format!("{high:016x}{low:016x}.{name}");
        kept.push(client, File { name: name.clone(), bytes, until: Instant::now() + self.lifetime });
        Ok(name)
    }

    /// The file called `name`, if it is still there.
    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_old();
        let mut files = kept.clients.values().flat_map(|own| &own.files);
        files.find(|file| file.name == name).map(|file| file.bytes.clone())
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
        let large: Vec<String> =
            (0..4).map(|_| downloads.keep(client(2), "b.txt", file(2500)).unwrap()).collect();
        assert!(downloads.get(&small).is_some(), "who has little keeps it");
        let left: Vec<bool> = large.iter().map(|name| downloads.get(name).is_some()).collect();
        assert_eq!(left, [false, false, true, true]);
        assert!(downloads.keep(client(1), "c.txt", file(10_000)).is_err());
        assert!(small.ends_with(".a.txt") && small.len() == 32 + 6 && downloads.get("a.txt").is_none());
        let brief = Downloads::new(10_000, Duration::ZERO);
        let name = brief.keep(client(1), "a.txt", file(10)).unwrap();
        assert!(brief.get(&name).is_none());
    }

    #[test]
    fn room_is_made_in_a_time_that_does_not_grow_with_the_files() {
        let client = |last: u8| Client::Address([10, 0, 0, last].into());
        let downloads = Downloads::new(64 << 20, Duration::from_secs(60));
        // Ten times as many as fit: what is counted again for every file would take minutes.
        let names: Vec<String> = (0..600_000)
            .map(|i| downloads.keep(client((i % 5) as u8), "a.txt", Bytes::from_static(b"x")).unwrap())
            .collect();
        let kept = downloads.kept.lock().unwrap();
        assert!(kept.cost <= 64 << 20 && kept.clients.len() == 5);
        assert_eq!(
            kept.cost,
            kept.clients.values().flat_map(|own| &own.files).map(File::cost).sum::<usize>()
        );
        let newest = kept
            .clients
            .values()
            .filter_map(|own| own.files.back())
            .map(|file| &file.name)
            .collect::<Vec<_>>();
        assert!(names[names.len() - 5..].iter().all(|name| newest.contains(&name)));
    }
}
