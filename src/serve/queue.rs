//! Whose turn it is: texts of one client wait behind one another, and clients take turns by the work that
//! they ask for.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng 1996): each client has a virtual time at which its next
//! text starts; the earliest goes first, and moves its client's time on by the work that it asks for. A
//! client that sends much waits for itself; one that sends little is hardly ever behind more than one text of
//! each other client.

use std::collections::VecDeque;

use super::client::Client;

/// What the queue must know of a text.
pub(super) trait Queued {
    /// Who sent it.
    fn client(&self) -> Client;
    /// The request that it is part of; texts of one request come one after the other.
    fn request(&self) -> u64;
    /// The most that it may cost: rows times steps.
    fn cost(&self) -> u64;
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
}

/// Texts that wait, in turns of their clients.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// Clients with a text that waits, in the order in which they came; at most as many as there are texts.
    lanes: Vec<Lane<T>>,
    /// The start of the text that went last.
    now: u64,
}

#[derive(Debug)]
struct Lane<T> {
    client: Client,
    texts: VecDeque<T>,
    /// When the first of them starts, in virtual time.
    start: u64,
    /// Texts of other clients that went first while this one had no room.
    passed: usize,
}

/// Whether a text may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room for any text like it.
    Free,
    /// There is room that is kept for clients without any text under way.
    Kept,
    /// It must wait.
    Full,
}

/// Texts that may pass one that has no room yet; so many more and a text that needs a whole batch would never
/// have one.
const MOST_PASSING: usize = 64;

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { lanes: Vec::new(), now: 0 }
    }
}

impl<T: Queued> FairQueue<T> {
    /// Texts that wait.
    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.texts.len()).sum()
    }

    /// Whether no text waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Adds the texts of one request.
    pub(super) fn push(&mut self, texts: Vec<T>) {
        let Some(client) = texts.first().map(T::client) else { return };
        let at = self.lanes.iter().position(|lane| lane.client == client).unwrap_or_else(|| {
            self.lanes.push(Lane { client, texts: VecDeque::new(), start: self.now, passed: 0 });
            self.lanes.len() - 1
        });
        self.lanes[at].texts.extend(texts);
    }

    /// Takes out what nobody waits for.
    pub(super) fn take_abandoned(&mut self) -> Vec<T> {
        let mut taken = Vec::new();
        for lane in &mut self.lanes {
            let (gone, left) = lane.texts.drain(..).partition::<Vec<T>, _>(T::is_abandoned);
            lane.texts = left.into();
            taken.extend(gone);
        }
        self.lanes.retain(|lane| !lane.texts.is_empty());
        taken
    }

    /// The text whose turn it is, if it has room: a text without room lets others pass for a while, into room
    /// that is kept for clients without any text under way.
    pub(super) fn pop(&mut self, room: impl Fn(&T) -> Room) -> Option<T> {
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by_key(|&at| self.lanes[at].start.max(self.now));
        let mut waits: Option<usize> = None;
        for at in order {
            let Some(first) = self.lanes[at].texts.front() else { continue };
            let goes = match (room(first), waits) {
                (Room::Free | Room::Kept, None) => true,
                // Room that is free and too small for the one before is left to it.
                (Room::Kept, Some(before)) => self.lanes[before].passed < MOST_PASSING,
                (Room::Free, Some(_)) | (Room::Full, _) => false,
            };
            if goes {
                if let Some(before) = waits {
                    self.lanes[before].passed += 1;
                }
                return self.take_first(at);
            }
            waits = waits.or(Some(at));
        }
        None
    }

    fn take_first(&mut self, at: usize) -> Option<T> {
        let lane = &mut self.lanes[at];
        let text = lane.texts.pop_front()?;
        let start = lane.start.max(self.now);
        lane.start = start.saturating_add(text.cost());
        lane.passed = 0;
        self.now = start;
        if lane.texts.is_empty() {
            // Its time is forgotten: a client that has nothing waiting begins anew.
            self.lanes.remove(at);
        }
        if self.lanes.is_empty() {
            self.now = 0;
        }
        Some(text)
    }

    /// Makes room for `count` texts of `client`: takes whole requests, the latest first, out of the longest
    /// line, as long as that is longer than the client's own would become.
    ///
    /// - `most`: texts that may wait.
    pub(super) fn shed(&mut self, client: Client, count: usize, most: usize) -> Vec<T> {
        let mut shed = Vec::new();
        let own =
            self.lanes.iter().find(|lane| lane.client == client).map_or(0, |lane| lane.texts.len()) + count;
        while self.len() + count > most {
            let Some(longest) = self.lanes.iter_mut().max_by_key(|lane| lane.texts.len()) else { break };
            let Some(request) = longest.texts.back().map(T::request) else { break };
            let of_request = longest.texts.iter().rev().take_while(|text| text.request() == request).count();
            if longest.client == client || longest.texts.len() <= own {
                break;
            }
            shed.extend(longest.texts.drain(longest.texts.len() - of_request..));
        }
        self.lanes.retain(|lane| !lane.texts.is_empty());
        shed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Text {
        client: u8,
        request: u64,
        cost: u64,
        gone: bool,
    }

    impl Queued for Text {
        fn client(&self) -> Client {
            Client::of_address([10, 0, 0, self.client].into())
        }
        fn request(&self) -> u64 {
            self.request
        }
        fn cost(&self) -> u64 {
            self.cost
        }
        fn is_abandoned(&self) -> bool {
            self.gone
        }
    }

    fn texts(client: u8, request: u64, cost: u64, count: usize) -> Vec<Text> {
        vec![Text { client, request, cost, gone: false }; count]
    }

    fn clients(queue: &mut FairQueue<Text>, count: usize) -> Vec<u8> {
        std::iter::from_fn(|| queue.pop(|_| Room::Free)).take(count).map(|text| text.client).collect()
    }

    #[test]
    fn clients_take_turns_however_much_each_has_sent() {
        let mut queue = FairQueue::default();
        queue.push(texts(1, 1, 10, 100));
        queue.push(texts(2, 2, 10, 2));
        queue.push(texts(3, 3, 10, 2));
        assert_eq!(clients(&mut queue, 6), [1, 2, 3, 1, 2, 3]);
        assert_eq!(queue.len(), 98);
    }

    #[test]
    fn a_small_text_is_not_behind_the_large_ones_of_others() {
        let mut queue = FairQueue::default();
        for client in 1..=8 {
            queue.push(texts(client, client.into(), 1000, 32));
        }
        // Each has had a turn: the times of all have moved on.
        assert_eq!(clients(&mut queue, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
        queue.push(texts(9, 9, 10, 1));
        assert_eq!(clients(&mut queue, 1), [9]);
        // By work, not by number: five small ones for one large one.
        let mut queue = FairQueue::default();
        queue.push(texts(1, 1, 50, 10));
        queue.push(texts(2, 2, 10, 10));
        assert_eq!(clients(&mut queue, 8), [1, 2, 2, 2, 2, 2, 1, 2]);
    }

    #[test]
    fn a_text_without_room_is_passed_for_a_while_and_then_no_more() {
        let mut queue = FairQueue::default();
        queue.push(texts(1, 1, 1, 1));
        for client in 2..=200 {
            queue.push(texts(client, client.into(), 1, 1));
        }
        let room = |text: &Text| if text.client == 1 { Room::Full } else { Room::Kept };
        let passed = std::iter::from_fn(|| queue.pop(room)).count();
        assert_eq!(passed, MOST_PASSING);
        assert_eq!(queue.pop(|_| Room::Free).map(|text| text.client), Some(1));
        assert!(queue.pop(room).is_some());
    }

    #[test]
    fn a_full_queue_sheds_the_latest_requests_of_whoever_has_most() {
        let mut queue = FairQueue::default();
        queue.push(texts(1, 1, 1, 4));
        queue.push(texts(1, 2, 1, 4));
        queue.push(texts(2, 3, 1, 2));
        let shed = queue.shed(Client::of_address([10, 0, 0, 3].into()), 2, 10);
        assert_eq!(shed, texts(1, 2, 1, 4), "the whole request, the latest");
        assert_eq!(queue.len(), 6);
        assert!(
            queue.shed(Client::of_address([10, 0, 0, 1].into()), 8, 6).is_empty(),
            "never for the client itself"
        );
        assert!(
            queue.shed(Client::of_address([10, 0, 0, 3].into()), 5, 6).is_empty(),
            "not for who would have more"
        );
        assert_eq!(queue.len(), 6);
    }

    #[test]
    fn what_nobody_waits_for_is_taken_out() {
        let mut queue = FairQueue::default();
        let mut gone = texts(1, 1, 1, 2);
        gone.iter_mut().for_each(|text| text.gone = true);
        queue.push(gone);
        queue.push(texts(2, 2, 1, 1));
        assert_eq!(queue.take_abandoned().len(), 2);
        assert_eq!(clients(&mut queue, 9), [2]);
        assert!(queue.is_empty());
    }
}
