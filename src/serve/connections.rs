//! The open connections: who has how many, and which one goes when there is no place.

use std::collections::HashMap;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::client::ClientAddress;
use super::timed::Gate;

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is one.
    Free,
    /// Every connection is at work; one of them has to end first.
    None,
    /// This address has its share.
    Denied,
}

struct Open {
    client: ClientAddress,
    gate: Gate,
    task: AbortHandle,
}

/// The open connections, at most `most` in all and `most_per_address` of one address.
pub(super) struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    most: usize,
    most_per_address: usize,
}

impl Connections {
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        Self { tasks: JoinSet::new(), open: HashMap::new(), most, most_per_address }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Connections that had to make room and have not closed yet: each still has its file open.
    pub(super) fn leaving(&self) -> usize {
        self.tasks.len().saturating_sub(self.open.len())
    }

    /// Serves a connection, whether there is a place or not.
    pub(super) fn spawn(
        &mut self,
        client: ClientAddress,
        gate: Gate,
        serving: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(serving);
        self.open.insert(task.id(), Open { client, gate, task });
    }

    /// The next connection that has ended; `None` if there is none at all.
    pub(super) async fn ended(&mut self) -> Option<()> {
        let id = match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.open.remove(&id);
        Some(())
    }

    /// Finds a place for a connection from `client`. If there is none, a connection makes room on which no
    /// request is being answered: of the address that has the most, the one that has been quiet for longest.
    /// So an address that opens many connections displaces its own before those of others.
    pub(super) fn place(&mut self, client: ClientAddress) -> Place {
        let mut counts: HashMap<ClientAddress, usize> = HashMap::new();
        if self.open.len() >= self.most.min(self.most_per_address) {
            for open in self.open.values() {
                *counts.entry(open.client).or_default() += 1;
            }
        }
        let is_denied = counts.get(&client).is_some_and(|&count| count >= self.most_per_address);
        if !is_denied && self.open.len() < self.most {
            return Place::Free;
        }
        let quiet =
            self.open.iter().filter_map(|(id, open)| Some((*id, open.client, open.gate.quiet_since()?)));
        // An address with its share makes room of its own alone.
        let quiet = quiet.filter(|(_, other, _)| !is_denied || *other == client);
        let count = |of: ClientAddress| counts.get(&of).copied().unwrap_or(0) + usize::from(of == client);
        let chosen = quiet.max_by_key(|&(_, of, since)| (count(of), std::cmp::Reverse(since)));
        match chosen.and_then(|(id, ..)| self.open.remove(&id)) {
            Some(open) => {
                open.task.abort();
                Place::Free
            }
            None if is_denied => Place::Denied,
            None => Place::None,
        }
    }

    /// Ends all of them.
    pub(super) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn address(n: u8) -> ClientAddress {
        ClientAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)))
    }

    fn open(connections: &mut Connections, n: u8) -> Gate {
        let gate = Gate::default();
        connections.spawn(address(n), gate.clone(), std::future::pending());
        gate
    }

    fn addresses(connections: &Connections) -> Vec<ClientAddress> {
        let mut all: Vec<_> = connections.open.values().map(|open| open.client).collect();
        all.sort();
        all
    }

    #[tokio::test]
    async fn the_address_with_the_most_connections_makes_room_first_and_its_quietest_goes() {
        let mut connections = Connections::new(4, 4);
        let gates: Vec<Gate> = [1, 2, 2, 2].into_iter().map(|n| open(&mut connections, n)).collect();
        // The second of address 2 has been at work, so that it has been quiet for a shorter time than the
        // third.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        drop(gates[1].enter());
        assert_eq!(connections.place(address(3)), Place::Free);
        assert_eq!(addresses(&connections), [address(1), address(2), address(2)]);
        assert!(
            connections.open.values().any(|open| open.gate.quiet_since() == gates[1].quiet_since()),
            "the wrong one went"
        );
    }

    #[tokio::test]
    async fn a_connection_at_work_is_never_displaced() {
        let mut connections = Connections::new(2, 2);
        let gates: Vec<Gate> = [1, 1].into_iter().map(|n| open(&mut connections, n)).collect();
        let mut work: Vec<_> = gates.iter().map(Gate::enter).collect();
        assert_eq!(connections.place(address(2)), Place::None);
        assert_eq!(connections.place(address(1)), Place::Denied);
        work.pop();
        assert_eq!(connections.place(address(2)), Place::Free);
        assert_eq!(connections.len(), 1);
    }

    #[tokio::test]
    async fn an_address_with_its_share_displaces_its_own() {
        let mut connections = Connections::new(10, 2);
        let gates: Vec<Gate> = [1, 2, 2].into_iter().map(|n| open(&mut connections, n)).collect();
        assert_eq!(connections.place(address(1)), Place::Free);
        assert_eq!(connections.len(), 3);
        let _work: Vec<_> = gates[1..2].iter().map(Gate::enter).collect();
        assert_eq!(connections.place(address(2)), Place::Free);
        assert_eq!(addresses(&connections), [address(1), address(2)]);
        connections.abort_all();
        while connections.ended().await.is_some() {}
        assert_eq!(connections.len(), 0);
    }
}
