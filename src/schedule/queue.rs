//! A queue that takes turns between requests.

use std::collections::VecDeque;

/// Items of several requests. The requests take turns, one item each, however many they have.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    /// None of them is empty; the first has its turn next.
    lanes: VecDeque<Lane<T>>,
    len: usize,
}

#[derive(Debug)]
struct Lane<T> {
    request: u64,
    items: VecDeque<T>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue { lanes: VecDeque::new(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Adds items of a request behind those that it has already; a request that has none has its turn last.
    pub fn extend(&mut self, request: u64, items: impl IntoIterator<Item = T>) {
        let mut items: VecDeque<T> = items.into_iter().collect();
        if items.is_empty() {
            return;
        }
        self.len += items.len();
        match self.lanes.iter_mut().find(|lane| lane.request == request) {
            Some(lane) => lane.items.append(&mut items),
            None => self.lanes.push_back(Lane { request, items }),
        }
    }

    /// The next item: the oldest of the request whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let mut lane = self.lanes.pop_front()?;
        let item = lane.items.pop_front();
        if !lane.items.is_empty() {
            self.lanes.push_back(lane);
        }
        self.len -= usize::from(item.is_some());
        item
    }

    /// Takes all items of a request out.
    pub fn remove(&mut self, request: u64) -> VecDeque<T> {
        let Some(position) = self.lanes.iter().position(|lane| lane.request == request) else {
            return VecDeque::new();
        };
        let items = self.lanes.remove(position).map(|lane| lane.items).unwrap_or_default();
        self.len -= items.len();
        items
    }

    /// All items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Items that come before the last of `count` items of a request that joins now.
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
    fn a_request_leaves_with_all_it_has() {
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
    fn who_joins_waits_for_no_more_images_of_others_than_it_has() {
        let mut queue = FairQueue::default();
        queue.extend(1, ["a"; 200]);
        queue.extend(2, ["b"; 3]);
        assert_eq!((queue.ahead_of(0), queue.ahead_of(1), queue.ahead_of(10)), (0, 2, 13));
    }
}
