//! What is ready for the networks, and which of it goes together next.

use super::job::{CutFace, Decoded};
use super::networks::Group;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Passes of a detector that faces may be kept waiting for, so that more of them come together.
const PASSED_OVER: usize = 3;

/// Something that can go into a batch with others of its group.
pub(crate) trait Batched {
    /// With what it may be batched.
    fn group(&self) -> Group;
    /// Since when it waits here.
    fn since(&self) -> Instant;
    /// Whether it is an image that waits for its turn; a face of a photo is a part of one that has had it.
    fn is_image(&self) -> bool;
}

impl Batched for Decoded {
    fn group(&self) -> Group {
        let question = &self.job.question;
        question.networks.detects(&question.options)
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn is_image(&self) -> bool {
        true
    }
}

impl Batched for CutFace {
    fn group(&self) -> Group {
        let question = &self.image.job.question;
        let nobody = Group { networks: [0; 5], question: 0, batch: 1 };
        question.networks.describes(&question.options).unwrap_or(nobody)
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn is_image(&self) -> bool {
        self.crop_of.is_some()
    }
}

/// One pass of a worker. Never empty.
#[derive(Debug, PartialEq)]
pub(crate) enum Task<P, F> {
    /// Find the faces of pictures.
    Detect(Vec<P>),
    /// Describe faces.
    Describe(Vec<F>),
}

/// Pictures that wait for a detector and faces that wait to be described. Requests take turns.
pub(crate) struct Backlog<P, F> {
    /// None of them is empty; the first has its turn next.
    lanes: VecDeque<Lane<P, F>>,
    pictures: usize,
    faces: usize,
    /// Faces that are images of their own.
    crops: usize,
    /// How long what does not fill a batch may be kept waiting for more.
    delay: Duration,
}

struct Lane<P, F> {
    request: u64,
    pictures: VecDeque<P>,
    faces: VecDeque<F>,
    /// Passes of a detector since the faces came.
    passed_over: usize,
}

impl<P, F> Lane<P, F> {
    fn is_empty(&self) -> bool {
        self.pictures.is_empty() && self.faces.is_empty()
    }
}

/// All that waits for the same networks.
struct Gathered {
    group: Group,
    count: usize,
    oldest: Instant,
}

impl Gathered {
    /// Until when more is waited for; None when it fills a batch, or nothing is ever waited for.
    fn held_until(&self, delay: Duration) -> Option<Instant> {
        (self.count < self.group.batch && !delay.is_zero()).then(|| self.oldest + delay)
    }
}

impl<P, F> Default for Backlog<P, F> {
    fn default() -> Self {
        Backlog::new(Duration::ZERO)
    }
}

impl<P, F> Backlog<P, F> {
    /// An empty one. What does not fill a batch waits up to `delay` for more; with zero nothing is held back.
    pub fn new(delay: Duration) -> Self {
        Backlog { lanes: VecDeque::new(), pictures: 0, faces: 0, crops: 0, delay }
    }
}

impl<P: Batched, F: Batched> Backlog<P, F> {
    /// Adds a picture.
    pub fn push_picture(&mut self, request: u64, picture: P) {
        self.pictures += 1;
        self.lane(request).pictures.push_back(picture);
    }

    /// Adds faces.
    ///
    /// `continued` says that they are of a picture that was just looked at. Its turn goes on then: the first of them come next, so
    /// that images leave in the order they came; a crowd's other faces take further turns.
    pub fn push_faces(&mut self, request: u64, faces: impl IntoIterator<Item = F>, continued: bool) {
        let faces: Vec<F> = faces.into_iter().collect();
        self.faces += faces.len();
        self.crops += images(&faces);
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
            self.lanes.push_back(Lane { request, pictures, faces, passed_over: 0 });
            self.lanes.len() - 1
        });
        &mut self.lanes[position]
    }

    /// Takes everything of a request out.
    pub fn remove(&mut self, request: u64) -> (VecDeque<P>, VecDeque<F>) {
        let position = self.lanes.iter().position(|lane| lane.request == request);
        let Some(lane) = position.and_then(|position| self.lanes.remove(position)) else {
            return Default::default();
        };
        self.pictures -= lane.pictures.len();
        self.faces -= lane.faces.len();
        self.crops -= images(&lane.faces);
        (lane.pictures, lane.faces)
    }

    /// Pictures and faces together.
    pub fn len(&self) -> usize {
        self.pictures + self.faces
    }

    /// Images that wait for their turn: pictures, and crops that came as images of their own.
    pub fn images(&self) -> usize {
        self.pictures + self.crops
    }

    /// The next pass, for one of `free` workers that have nothing to do: they share what waits. Errs when there is none, with the
    /// moment at which there will be one if something is held back until then.
    ///
    /// A request's faces go before its pictures, so that images are finished rather than begun; but while there are pictures to
    /// look at, faces that do not fill a batch wait for more, [`PASSED_OVER`] passes at most.
    pub fn take(&mut self, free: usize, now: Instant) -> Result<Task<P, F>, Option<Instant>> {
        let delay = self.delay;
        let pictures = gather(self.lanes.iter().map(|lane| &lane.pictures));
        let faces = gather(self.lanes.iter().map(|lane| &lane.faces));
        let is_due = |all: &Gathered| all.held_until(delay).is_none_or(|until| until <= now);
        let something_to_look_at = pictures.iter().any(is_due);
        let next = self.lanes.iter().enumerate().find_map(|(position, lane)| {
            let patient = something_to_look_at && lane.passed_over < PASSED_OVER;
            let describe = |all: &Gathered| is_due(all) && (!patient || all.count >= all.group.batch);
            if of(&faces, &lane.faces).is_some_and(describe) {
                Some((position, true))
            } else {
                of(&pictures, &lane.pictures).is_some_and(is_due).then_some((position, false))
            }
        });
        let Some((seed, describe)) = next else {
            return Err(pictures.iter().chain(&faces).filter_map(|all| all.held_until(delay)).min());
        };
        // What was held back until it filled a batch is not divided.
        let free = if delay.is_zero() { free } else { 1 };
        let task = if describe {
            let faces = batch(&mut self.lanes, seed, free, |lane| &mut lane.faces);
            self.faces -= faces.len();
            self.crops -= images(&faces);
            Task::Describe(faces)
        } else {
            let pictures = batch(&mut self.lanes, seed, free, |lane| &mut lane.pictures);
            self.pictures -= pictures.len();
            Task::Detect(pictures)
        };
        // Who had a turn is last now.
        if let Some(lane) = self.lanes.remove(seed) {
            self.lanes.push_back(lane);
        }
        self.lanes.retain(|lane| !lane.is_empty());
        for lane in &mut self.lanes {
            lane.passed_over = if lane.faces.is_empty() { 0 } else { lane.passed_over + usize::from(!describe) };
        }
        Ok(task)
    }
}

fn images<'a, T: Batched + 'a>(items: impl IntoIterator<Item = &'a T>) -> usize {
    items.into_iter().filter(|item| item.is_image()).count()
}

/// What waits, by the networks that it waits for.
fn gather<'a, T: Batched + 'a>(queues: impl Iterator<Item = &'a VecDeque<T>>) -> Vec<Gathered> {
    let mut gathered: Vec<Gathered> = Vec::new();
    for queue in queues {
        // All items of a lane are of one request, so its first one, which is the oldest, speaks for them.
        let Some(first) = queue.front() else { continue };
        let (group, oldest, count) = (first.group(), first.since(), queue.len());
        match gathered.iter_mut().find(|all| all.group == group) {
            Some(all) => (all.count, all.oldest) = (all.count + count, all.oldest.min(oldest)),
            None => gathered.push(Gathered { group, count, oldest }),
        }
    }
    gathered
}

/// All that waits for the networks that `queue` waits for.
fn of<'a, T: Batched>(gathered: &'a [Gathered], queue: &VecDeque<T>) -> Option<&'a Gathered> {
    let group = queue.front()?.group();
    gathered.iter().find(|all| all.group == group)
}

/// Takes a batch out of the lanes, one item of each in turn, beginning with `seed`.
///
/// Its size is a power of two, because networks are prepared for each size that occurs, and small enough that every free worker
/// gets some.
fn batch<P, F, T: Batched>(
    lanes: &mut VecDeque<Lane<P, F>>,
    seed: usize,
    free: usize,
    items: impl Fn(&mut Lane<P, F>) -> &mut VecDeque<T>,
) -> Vec<T> {
    lanes.rotate_left(seed);
    let Some(group) = lanes.front_mut().and_then(|lane| items(lane).front().map(T::group)) else {
        lanes.rotate_right(seed);
        return Vec::new();
    };
    // A lane's first item speaks for all of them.
    let fits = |waiting: &VecDeque<T>| waiting.front().is_some_and(|item| item.group() == group);
    let waiting = |lane: &mut Lane<P, F>| Some(items(lane)).filter(|waiting| fits(waiting)).map_or(0, |w| w.len());
    let all: usize = if group.batch == 1 { 1 } else { lanes.iter_mut().map(waiting).sum() };
    let share = all.div_ceil(free.max(1)).clamp(1, group.batch.max(1));
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
    lanes.rotate_right(seed);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Item(&'static str, usize, Instant);

    /// Something that came just now.
    fn item(name: &'static str, batch: usize) -> Item {
        Item(name, batch, Instant::now())
    }

    impl Batched for Item {
        fn group(&self) -> Group {
            // Names that begin with z are for another network.
            Group { networks: [self.0.starts_with('z').into(), 0, 0, 0, 0], question: 0, batch: self.1 }
        }

        fn since(&self) -> Instant {
            self.2
        }

        fn is_image(&self) -> bool {
            !self.0.contains('/')
        }
    }

    fn names(task: Result<Task<Item, Item>, Option<Instant>>) -> (&'static str, String) {
        let join = |items: Vec<Item>| items.iter().map(|item| item.0).collect::<Vec<_>>().join(" ");
        match task {
            Ok(Task::Detect(items)) => ("detect", join(items)),
            Ok(Task::Describe(items)) => ("describe", join(items)),
            Err(None) => ("nothing", String::new()),
            Err(Some(_)) => ("held", String::new()),
        }
    }

    #[test]
    fn requests_take_turns_and_finish_what_they_began() {
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
    fn what_waits_is_batched_across_requests() {
        let mut backlog = Backlog::default();
        for name in ["a1", "a2", "a3", "a4", "a5"] {
            backlog.push_picture(1, item(name, 4));
        }
        backlog.push_picture(2, item("b1", 4));
        backlog.push_picture(3, item("z1", 4));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a1 b1 a2 a3".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "z1".into()));
        // Nobody waits for a fuller batch.
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a4 a5".into()));
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn free_workers_share_what_waits() {
        let mut backlog: Backlog<Item, Item> = Backlog::default();
        for name in ["a1", "a2", "a3", "a4", "a5", "a6"] {
            backlog.push_picture(1, item(name, 8));
        }
        // A third each, and in sizes for which networks are prepared.
        assert_eq!(names(backlog.take(3, Instant::now())), ("detect", "a1 a2".into()));
        assert_eq!(names(backlog.take(2, Instant::now())), ("detect", "a3 a4".into()));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "a5 a6".into()));
    }

    #[test]
    fn faces_wait_for_a_batch_only_while_there_is_something_else_to_do() {
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
    fn a_request_leaves_with_all_it_has() {
        let mut backlog = Backlog::default();
        backlog.push_picture(1, item("a1", 1));
        backlog.push_faces(1, [item("a0/1", 1)], true);
        backlog.push_picture(2, item("b1", 1));
        let (pictures, faces) = backlog.remove(1);
        assert_eq!((pictures.len(), faces.len(), backlog.len()), (1, 1, 1));
        assert_eq!(names(backlog.take(1, Instant::now())), ("detect", "b1".into()));
    }

    #[test]
    fn faces_are_passed_over_a_few_times_and_no_more() {
        // A batch that never fills, beside requests that never end.
        let mut backlog = Backlog::default();
        backlog.push_faces(1, [item("a/1", 64)], true);
        backlog.push_picture(2, item("b", 1));
        for _ in 0..PASSED_OVER {
            backlog.push_picture(3, item("c", 1));
            assert_eq!(names(backlog.take(1, Instant::now())).0, "detect");
        }
        assert_eq!(names(backlog.take(1, Instant::now())), ("describe", "a/1".into()));
        // Who comes later starts anew.
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
    fn only_with_a_delay_is_anything_held_back() {
        let delay = Duration::from_millis(20);
        let (start, mut backlog) = (Instant::now(), Backlog::new(delay));
        let at = |name, ms| Item(name, 4, start + Duration::from_millis(ms));
        backlog.push_picture(1, at("a1", 0));
        backlog.push_picture(2, at("b1", 5));
        let early = backlog.take(2, start + Duration::from_millis(6));
        assert_eq!(early.err(), Some(Some(start + delay)), "due when the first of them has waited long enough");
        // Faces go meanwhile, if they are due.
        backlog.push_faces(3, [at("c/1", 0)], true);
        assert_eq!(names(backlog.take(2, start + delay)), ("detect", "a1 b1".into()));
        assert_eq!(names(backlog.take(2, start + delay)), ("describe", "c/1".into()));
        // A full batch goes at once, and whole.
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
