//! A queue in which requests take turns.

use std::collections::VecDeque;

/// Items of several requests. Requests take turns, one item each, however many they have.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    /// No lane is empty. The first one has the next turn.
    lanes: VecDeque<RequestItems<T>>,
    len: usize,
}

#[derive(Debug)]
struct RequestItems<T> {
    request: u64,
    items: VecDeque<T>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue { lanes: VecDeque::new(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Appends items to those of their request. A new request gets the last turn.
    pub fn extend(&mut self, request: u64, items: impl IntoIterator<Item = T>) {
        let mut items: VecDeque<T> = items.into_iter().collect();
        if items.is_empty() {
            return;
        }
        self.len += items.len();
        match self.lanes.iter_mut().find(|lane| lane.request == request) {
            Some(lane) => lane.items.append(&mut items),
            None => self.lanes.push_back(RequestItems { request, items }),
        }
    }

    /// Gives a request the next turn.
    pub fn move_to_front(&mut self, request: u64) {
        let position = self.lanes.iter().position(|lane| lane.request == request);
        if let Some(lane) = position.and_then(|position| self.lanes.remove(position)) {
            self.lanes.push_front(lane);
        }
    }

    /// The next item: the oldest one of the request whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let mut lane = self.lanes.pop_front()?;
        let item = lane.items.pop_front();
        if !lane.items.is_empty() {
            self.lanes.push_back(lane);
        }
        self.len -= usize::from(item.is_some());
        item
    }

    /// Removes all items of a request.
    pub fn remove(&mut self, request: u64) -> VecDeque<T> {
        let Some(position) = self.lanes.iter().position(|lane| lane.request == request) else {
            return VecDeque::new();
        };
        let items = self.lanes.remove(position).map(|lane| lane.items).unwrap_or_default();
        self.len -= items.len();
        items
    }

    /// Number of items of all requests.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Number of items that would come before the last of `count` items of a new request.
    pub fn ahead_of(&self, count: usize) -> usize {
        self.lanes.iter().map(|lane| lane.items.len().min(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn requests_take_turns() {
        let mut queue = FairQueue::default();
        queue.extend(1, ["a1", "a2", "a3", "a4"]);
        assert_eq!(queue.pop(), Some("a1"));
        queue.extend(2, ["b1"]);
        queue.extend(3, ["c1", "c2"]);
        assert_eq!(queue.len(), 6);
        assert_eq!(all(&mut queue), ["a2", "b1", "c1", "a3", "c2", "a4"]);
        assert_eq!((queue.len(), queue.pop()), (0, None));
    }

    #[test]
    fn a_request_can_be_given_the_next_turn() {
        let mut queue = FairQueue::default();
        queue.extend(1, ["a1", "a2"]);
        queue.extend(2, ["b1"]);
        queue.extend(3, ["c1"]);
        queue.move_to_front(3);
        queue.move_to_front(4);
        assert_eq!(all(&mut queue), ["c1", "a1", "b1", "a2"]);
    }

    #[test]
    fn a_request_is_removed_with_all_its_items() {
        let mut queue = FairQueue::default();
        queue.extend(1, ["a1", "a2"]);
        queue.extend(2, ["b1"]);
        queue.extend(1, ["a3"]);
        assert_eq!(queue.remove(1), ["a1", "a2", "a3"]);
        assert!(queue.remove(1).is_empty());
        assert_eq!(queue.len(), 1);
        assert_eq!(all(&mut queue), ["b1"]);
    }

    #[test]
    fn a_new_request_waits_for_at_most_its_own_number_of_items_of_each_other() {
        let mut queue = FairQueue::default();
        queue.extend(1, ["a"; 200]);
        queue.extend(2, ["b"; 3]);
        assert_eq!((queue.ahead_of(0), queue.ahead_of(1), queue.ahead_of(10)), (0, 2, 13));
    }
}
