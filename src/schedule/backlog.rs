//! Decoded pictures and cropped faces that wait for a worker, and which of them form the next pass.

use super::networks::BatchKey;
use super::request::{CroppedFace, DecodedImage};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Maximum number of detector passes for which faces wait, so that their batch can fill.
const MAX_PASSES_WAITED: usize = 3;

/// An item that waits for a pass.
pub(crate) trait Batchable {
    /// Items with equal keys may share a pass.
    fn batch_key(&self) -> BatchKey;
    /// The time when the item was added.
    fn since(&self) -> Instant;
    /// True for an image of its own. A face of a photo is part of an image that has already had its turn.
    fn is_image(&self) -> bool;
}

impl Batchable for DecodedImage {
    fn batch_key(&self) -> BatchKey {
        let analysis = &self.request.analysis;
        analysis.networks.detection_batch_key(&analysis.options)
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn is_image(&self) -> bool {
        true
    }
}

impl Batchable for CroppedFace {
    fn batch_key(&self) -> BatchKey {
        let analysis = &self.image.request.analysis;
        let no_networks = BatchKey { networks: [0; 5], options: 0, max_batch: 1 };
        analysis.networks.description_batch_key(&analysis.options).unwrap_or(no_networks)
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn is_image(&self) -> bool {
        self.whole_image.is_some()
    }
}

/// One pass of a worker. Never empty.
#[derive(Debug, PartialEq)]
pub(crate) enum Pass<P, F> {
    /// Detect the faces of pictures.
    Detect(Vec<P>),
    /// Describe faces.
    Describe(Vec<F>),
}

/// Pictures that wait for a detector, and faces that wait for description. Requests take turns.
pub(crate) struct Backlog<P, F> {
    /// No lane is empty. The first one has the next turn.
    lanes: VecDeque<Lane<P, F>>,
    pictures: usize,
    faces: usize,
    /// Number of faces that are images of their own.
    crops: usize,
    /// How long an item may wait for a batch to fill.
    delay: Duration,
}

struct Lane<P, F> {
    request: u64,
    pictures: VecDeque<P>,
    faces: VecDeque<F>,
    /// Detector passes since the faces were added.
    passes_waited: usize,
}

impl<P, F> Lane<P, F> {
    fn is_empty(&self) -> bool {
        self.pictures.is_empty() && self.faces.is_empty()
    }
}

/// Totals of the items with one key.
struct KeyTotals {
    key: BatchKey,
    count: usize,
    oldest: Instant,
}

impl KeyTotals {
    /// The time until which the items wait for more; `None` if they fill a batch, or if the delay is zero.
    fn held_until(&self, delay: Duration) -> Option<Instant> {
        (self.count < self.key.max_batch && !delay.is_zero()).then(|| self.oldest + delay)
    }
}

impl<P, F> Default for Backlog<P, F> {
    fn default() -> Self {
        Backlog::new(Duration::ZERO)
    }
}

impl<P, F> Backlog<P, F> {
    /// An empty backlog. Items that do not fill a batch wait up to `delay` for more; zero starts every pass at once.
    pub fn new(delay: Duration) -> Self {
        Backlog { lanes: VecDeque::new(), pictures: 0, faces: 0, crops: 0, delay }
    }
}

impl<P: Batchable, F: Batchable> Backlog<P, F> {
    /// Adds a picture.
    pub fn push_picture(&mut self, request: u64, picture: P) {
        self.pictures += 1;
        self.lane(request).pictures.push_back(picture);
    }

    /// Adds faces.
    ///
    /// `continued`: they come from a picture whose detection has just ended. Its request then keeps the turn, so that
    /// images are finished in the order of their arrival. The remaining faces of a large group take further turns.
    pub fn push_faces(&mut self, request: u64, faces: impl IntoIterator<Item = F>, continued: bool) {
        let faces: Vec<F> = faces.into_iter().collect();
        self.faces += faces.len();
        self.crops += count_images(&faces);
        self.lane(request).faces.extend(faces);
        if continued
            && let Some(position) = self.lanes.iter().position(|lane| lane.request == request)
            && let Some(lane) = self.lanes.remove(position)
        {
            self.lanes.push_front(lane);
        }
    }

    fn lane(&mut self, request: u64) -> &mut Lane<P, F> {
        let position = self.lanes.iter().position(|lane| lane.request == request).unwrap_or_else(|| {
            let (pictures, faces) = Default::default();
            self.lanes.push_back(Lane { request, pictures, faces, passes_waited: 0 });
            self.lanes.len() - 1
        });
        &mut self.lanes[position]
    }

    /// Removes all items of a request.
    pub fn remove(&mut self, request: u64) -> (VecDeque<P>, VecDeque<F>) {
        let position = self.lanes.iter().position(|lane| lane.request == request);
        let Some(lane) = position.and_then(|position| self.lanes.remove(position)) else {
            return Default::default();
        };
        self.pictures -= lane.pictures.len();
        self.faces -= lane.faces.len();
        self.crops -= count_images(&lane.faces);
        (lane.pictures, lane.faces)
    }

    /// Number of pictures and faces.
    pub fn len(&self) -> usize {
        self.pictures + self.faces
    }

    /// Number of images that wait: pictures, and crops that are images of their own.
    pub fn images(&self) -> usize {
        self.pictures + self.crops
    }

    /// The next pass, for one of `free` idle workers that share the waiting items. Errs if no pass is due, with the
    /// time at which one becomes due if items wait for a fuller batch.
    ///
    /// The faces of a request go before its pictures, so that images are finished before others are started. But while
    /// pictures wait, faces that do not fill a batch wait for more faces, for at most [`MAX_PASSES_WAITED`] passes.
    pub fn take(&mut self, free: usize, now: Instant) -> Result<Pass<P, F>, Option<Instant>> {
        let delay = self.delay;
        let pictures = totals_by_key(self.lanes.iter().map(|lane| &lane.pictures));
        let faces = totals_by_key(self.lanes.iter().map(|lane| &lane.faces));
        let is_due = |totals: &KeyTotals| totals.held_until(delay).is_none_or(|until| until <= now);
        let pictures_are_due = pictures.iter().any(is_due);
        let next = self.lanes.iter().enumerate().find_map(|(position, lane)| {
            let faces_may_wait = pictures_are_due && lane.passes_waited < MAX_PASSES_WAITED;
            let describe =
                |totals: &KeyTotals| is_due(totals) && (!faces_may_wait || totals.count >= totals.key.max_batch);
            if totals_for_head(&faces, &lane.faces).is_some_and(describe) {
                Some((position, true))
            } else {
                totals_for_head(&pictures, &lane.pictures).is_some_and(is_due).then_some((position, false))
            }
        });
        let Some((position, describe)) = next else {
            return Err(pictures.iter().chain(&faces).filter_map(|totals| totals.held_until(delay)).min());
        };
        // A batch that waited until it was full is not divided among workers.
        let free = if delay.is_zero() { free } else { 1 };
        let pass = if describe {
            let faces = take_batch(&mut self.lanes, position, free, |lane| &mut lane.faces);
            self.faces -= faces.len();
            self.crops -= count_images(&faces);
            Pass::Describe(faces)
        } else {
            let pictures = take_batch(&mut self.lanes, position, free, |lane| &mut lane.pictures);
            self.pictures -= pictures.len();
            Pass::Detect(pictures)
        };
        // The request that had its turn moves to the end.
        if let Some(lane) = self.lanes.remove(position) {
            self.lanes.push_back(lane);
        }
        self.lanes.retain(|lane| !lane.is_empty());
        for lane in &mut self.lanes {
            lane.passes_waited = if lane.faces.is_empty() { 0 } else { lane.passes_waited + usize::from(!describe) };
        }
        Ok(pass)
    }
}

fn count_images<'a, T: Batchable + 'a>(items: impl IntoIterator<Item = &'a T>) -> usize {
    items.into_iter().filter(|item| item.is_image()).count()
}

/// Totals of all lanes, by key.
fn totals_by_key<'a, T: Batchable + 'a>(queues: impl Iterator<Item = &'a VecDeque<T>>) -> Vec<KeyTotals> {
    let mut all: Vec<KeyTotals> = Vec::new();
    for queue in queues {
        // All items of a lane belong to one request, so they have the key of the first one, which is the oldest.
        let Some(first) = queue.front() else { continue };
        let (key, oldest, count) = (first.batch_key(), first.since(), queue.len());
        match all.iter_mut().find(|totals| totals.key == key) {
            Some(totals) => (totals.count, totals.oldest) = (totals.count + count, totals.oldest.min(oldest)),
            None => all.push(KeyTotals { key, count, oldest }),
        }
    }
    all
}

/// Totals for the key of the queue's first item.
fn totals_for_head<'a, T: Batchable>(all: &'a [KeyTotals], queue: &VecDeque<T>) -> Option<&'a KeyTotals> {
    let key = queue.front()?.batch_key();
    all.iter().find(|totals| totals.key == key)
}

/// Takes a batch out of the lanes, one item of each in turn, starting with the lane at `position`.
///
/// Its size is a power of two, because a plan is prepared for each size that occurs, and small enough to leave a share
/// for each free worker.
fn take_batch<P, F, T: Batchable>(
    lanes: &mut VecDeque<Lane<P, F>>,
    position: usize,
    free: usize,
    items: impl Fn(&mut Lane<P, F>) -> &mut VecDeque<T>,
) -> Vec<T> {
    lanes.rotate_left(position);
    let Some(key) = lanes.front_mut().and_then(|lane| items(lane).front().map(T::batch_key)) else {
        lanes.rotate_right(position);
        return Vec::new();
    };
    // All items of a lane have the key of its first one.
    let fits = |waiting: &VecDeque<T>| waiting.front().is_some_and(|item| item.batch_key() == key);
    let waiting = |lane: &mut Lane<P, F>| Some(items(lane)).filter(|waiting| fits(waiting)).map_or(0, |w| w.len());
    let all: usize = if key.max_batch == 1 { 1 } else { lanes.iter_mut().map(waiting).sum() };
    let share = all.div_ceil(free.max(1)).clamp(1, key.max_batch.max(1));
    let size = 1 << share.ilog2();
    let mut taken = Vec::with_capacity(size);
    while taken.len() < size {
        let before = taken.len();
        for lane in lanes.iter_mut() {
            let waiting = items(lane);
            if taken.len() < size && fits(waiting) {
                taken.extend(waiting.pop_front());
            }
        }
        if taken.len() == before {
            break;
        }
    }
    lanes.rotate_right(position);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Item(&'static str, usize, Instant);

    /// An item that is added now.
    fn item(name: &'static str, batch: usize) -> Item {
        Item(name, batch, Instant::now())
    }

    impl Batchable for Item {
        fn batch_key(&self) -> BatchKey {
            // Names that start with z are for another network.
            BatchKey { networks: [self.0.starts_with('z').into(), 0, 0, 0, 0], options: 0, max_batch: self.1 }
        }

        fn since(&self) -> Instant {
            self.2
        }

        fn is_image(&self) -> bool {
            !self.0.contains('/')
        }
    }

    fn names(pass: Result<Pass<Item, Item>, Option<Instant>>) -> (&'static str, String) {
        let join = |items: Vec<Item>| items.iter().map(|item| item.0).collect::<Vec<_>>().join(" ");
        match pass {
            Ok(Pass::Detect(items)) => ("detect", join(items)),
            Ok(Pass::Describe(items)) => ("describe", join(items)),
            Err(None) => ("nothing", String::new()),
            Err(Some(_)) => ("held", String::new()),
        }
    }

    #[test]
    fn requests_take_turns_and_finish_started_images() {
        let mut backlog = Backlog::default();
        for name in ["a1", "a2", "a3"] {
            backlog.push_picture(1, item(name, 1));
        }
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a1".into()));
        backlog.push_picture(2, item("b1", 1));
        backlog.push_picture(3, item("c1", 1));
        backlog.push_faces(1, [item("a1/1", 1), item("a1/2", 1)], true);
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "a1/1".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "b1".into()));
        backlog.push_faces(2, [item("b1/1", 1)], true);
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "b1/1".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "c1".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "a1/2".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a2".into()));
        assert_eq!(backlog.len(), 1);
        backlog.take(1, Instant::now()).unwrap();
        assert_eq!(names(backlog.take(1, Instant::now())), ("nothing", String::new()));
    }

    #[test]
    fn batches_span_requests() {
        let mut backlog = Backlog::default();
        for name in ["a1", "a2", "a3", "a4", "a5"] {
            backlog.push_picture(1, item(name, 4));
        }
        backlog.push_picture(2, item("b1", 4));
        backlog.push_picture(3, item("z1", 4));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a1 b1 a2 a3".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "z1".into()));
        // The rest does not wait for a fuller batch.
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a4 a5".into()));
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn free_workers_share_waiting_items() {
        let mut backlog: Backlog<Item, Item> = Backlog::default();
        for name in ["a1", "a2", "a3", "a4", "a5", "a6"] {
            backlog.push_picture(1, item(name, 8));
        }
        // A third each, rounded to sizes that networks are prepared for.
        assert_eq!(names(backlog.take(3, Instant::now())), ("detect", "a1 a2".into()));
        assert_eq!(names(backlog.take(2, Instant::now())), ("detect", "a3 a4".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a5 a6".into()));
    }

    #[test]
    fn faces_wait_for_a_batch_only_while_pictures_wait() {
        let mut backlog = Backlog::default();
        backlog.push_faces(1, [item("a/1", 4), item("a/2", 4)], true);
        backlog.push_picture(2, item("b1", 1));
        backlog.push_picture(2, item("b2", 1));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "b1".into()));
        backlog.push_faces(2, [item("b1/1", 4), item("b1/2", 4)], true);
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "b1/1 a/1 b1/2 a/2".into()));
        backlog.push_faces(2, [item("c/1", 4)], true);
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "b2".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "c/1".into()));
    }

    #[test]
    fn a_request_is_removed_with_all_its_items() {
        let mut backlog = Backlog::default();
        backlog.push_picture(1, item("a1", 1));
        backlog.push_faces(1, [item("a0/1", 1)], true);
        backlog.push_picture(2, item("b1", 1));
        let (pictures, faces) = backlog.remove(1);
        assert_eq!((pictures.len(), faces.len(), backlog.len()), (1, 1, 1));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "b1".into()));
    }

    #[test]
    fn faces_wait_for_a_limited_number_of_passes() {
        // A batch that never fills, together with requests that never end.
        let mut backlog = Backlog::default();
        backlog.push_faces(1, [item("a/1", 64)], true);
        backlog.push_picture(2, item("b", 1));
        for _ in 0..MAX_PASSES_WAITED {
            backlog.push_picture(3, item("c", 1));
            assert_eq!(names(backlog.take(1, Instant::now())).0, "detect");
        }
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "a/1".into()));
        // Faces that come later start to count anew.
        backlog.push_faces(1, [item("a/2", 64)], true);
        assert_eq!(names(backlog.take(1, Instant::now())).0, "detect");
    }

    #[test]
    fn faces_for_other_networks_fill_no_batch() {
        let mut backlog = Backlog::default();
        backlog.push_faces(1, [item("a/1", 4), item("a/2", 4)], true);
        backlog.push_faces(2, [item("z/1", 4), item("z/2", 4)], false);
        backlog.push_picture(3, item("b", 1));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "b".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "a/1 a/2".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "z/1 z/2".into()));
    }

    #[test]
    fn only_a_delay_holds_items_back() {
        let delay = Duration::from_millis(20);
        let (start, mut backlog) = (Instant::now(), Backlog::new(delay));
        let at = |name, ms| Item(name, 4, start + Duration::from_millis(ms));
        backlog.push_picture(1, at("a1", 0));
        backlog.push_picture(2, at("b1", 5));
        let early = backlog.take(2, start + Duration::from_millis(6));
        assert_eq!(early.err(), Some(Some(start + delay)), "due when the first of them has waited long enough");
        // Faces that are due go in the meantime.
        backlog.push_faces(3, [at("c/1", 0)], true);
        assert_eq!(names(backlog.take(2, start + delay)), ("detect", "a1 b1".into()));
        assert_eq!(names(backlog.take(2, start + delay)), ("describe", "c/1".into()));
        // A full batch goes at once, undivided.
        for name in ["a2", "a3", "a4", "a5"] {
            backlog.push_picture(1, at(name, 30));
        }
        assert_eq!(names(backlog.take(2, start + Duration::from_millis(31))), ("detect", "a2 a3 a4 a5".into()));
        assert_eq!(backlog.take(1, start), Err(None));
    }

    #[test]
    fn images_that_wait_are_pictures_and_crops() {
        let mut backlog = Backlog::default();
        backlog.push_picture(1, item("a", 1));
        backlog.push_faces(1, [item("b/1", 1), item("b/2", 1)], true);
        backlog.push_faces(2, [item("crop", 1)], false);
        assert_eq!((backlog.images(), backlog.len()), (2, 4));
        backlog.take(1, Instant::now()).unwrap();
        assert_eq!((backlog.images(), backlog.len()), (2, 3));
        backlog.remove(2);
        assert_eq!((backlog.images(), backlog.len()), (1, 2));
    }
}
