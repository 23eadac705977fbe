//! What is ready for the networks, and which of it goes together next.

use super::job::{CutFace, Decoded};
use super::networks::Group;
use std::collections::VecDeque;

/// Something that can go into a batch with others of its group.
pub(super) trait Batched {
    /// With what it may be batched.
    fn group(&self) -> Group;
}

impl Batched for Decoded {
    fn group(&self) -> Group {
        let question = &self.job.question;
        question.networks.detects(&question.options)
    }
}

impl Batched for CutFace {
    fn group(&self) -> Group {
        let question = &self.image.job.question;
        let nobody = Group { networks: [0; 5], question: 0, batch: 1 };
        question.networks.describes(&question.options).unwrap_or(nobody)
    }
}

/// One pass of a worker. Never empty.
#[derive(Debug, PartialEq)]
pub(super) enum Task<P, F> {
    /// Find the faces of pictures.
    Detect(Vec<P>),
    /// Describe faces.
    Describe(Vec<F>),
}

/// Pictures that wait for a detector and faces that wait to be described. Requests take turns.
pub(super) struct Backlog<P, F> {
    /// None of them is empty; the first has its turn next.
    lanes: VecDeque<Lane<P, F>>,
    pictures: usize,
    faces: usize,
}

struct Lane<P, F> {
    request: u64,
    pictures: VecDeque<P>,
    faces: VecDeque<F>,
}

impl<P, F> Lane<P, F> {
    fn is_empty(&self) -> bool {
        self.pictures.is_empty() && self.faces.is_empty()
    }
}

impl<P, F> Default for Backlog<P, F> {
    fn default() -> Self {
        Backlog { lanes: VecDeque::new(), pictures: 0, faces: 0 }
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
        let lane = self.lane(request);
        let before = lane.faces.len();
        lane.faces.extend(faces);
        let added = lane.faces.len() - before;
        self.faces += added;
        if continued
            && let Some(position) = self.lanes.iter().position(|lane| lane.request == request)
            && let Some(lane) = self.lanes.remove(position)
        {
            self.lanes.push_front(lane);
        }
    }

    fn lane(&mut self, request: u64) -> &mut Lane<P, F> {
        let position = self.lanes.iter().position(|lane| lane.request == request).unwrap_or_else(|| {
            self.lanes.push_back(Lane { request, pictures: VecDeque::new(), faces: VecDeque::new() });
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
        (lane.pictures, lane.faces)
    }

    /// Pictures and faces together.
    pub fn len(&self) -> usize {
        self.pictures + self.faces
    }

    /// The next pass, for one of `free` workers that have nothing to do: they share what waits.
    ///
    /// A request's faces go before its pictures, so that images are finished rather than begun; but while there are pictures to
    /// look at, faces wait until they fill a batch.
    pub fn take(&mut self, free: usize) -> Option<Task<P, F>> {
        let (seed, describe) = self.lanes.iter().enumerate().find_map(|(position, lane)| {
            let ready = |face: &F| self.pictures == 0 || self.faces >= face.group().batch;
            if lane.faces.front().is_some_and(ready) {
                Some((position, true))
            } else {
                (!lane.pictures.is_empty()).then_some((position, false))
            }
        })?;
        let task = if describe {
            let faces = batch(&mut self.lanes, seed, free, |lane| &mut lane.faces);
            self.faces -= faces.len();
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
        Some(task)
    }
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
    // All items of a lane are of one request, so its first one speaks for them.
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
    struct Item(&'static str, usize);

    impl Batched for Item {
        fn group(&self) -> Group {
            // Names that begin with z are for another network.
            Group { networks: [self.0.starts_with('z').into(), 0, 0, 0, 0], question: 0, batch: self.1 }
        }
    }

    fn names(task: Option<Task<Item, Item>>) -> (&'static str, String) {
        let join = |items: Vec<Item>| items.iter().map(|item| item.0).collect::<Vec<_>>().join(" ");
        match task {
            Some(Task::Detect(items)) => ("detect", join(items)),
            Some(Task::Describe(items)) => ("describe", join(items)),
            None => ("nothing", String::new()),
        }
    }

    #[test]
    fn requests_take_turns_and_finish_what_they_began() {
        let mut backlog = Backlog::default();
        for name in ["a1", "a2", "a3"] {
            backlog.push_picture(1, Item(name, 1));
        }
        assert_eq!(names(backlog.take(1)), ("detect", "a1".into()));
        backlog.push_picture(2, Item("b1", 1));
        backlog.push_picture(3, Item("c1", 1));
        backlog.push_faces(1, [Item("a1/1", 1), Item("a1/2", 1)], true);
        assert_eq!(names(backlog.take(1)), ("describe", "a1/1".into()));
        assert_eq!(names(backlog.take(1)), ("detect", "b1".into()));
        backlog.push_faces(2, [Item("b1/1", 1)], true);
        assert_eq!(names(backlog.take(1)), ("describe", "b1/1".into()));
        assert_eq!(names(backlog.take(1)), ("detect", "c1".into()));
        assert_eq!(names(backlog.take(1)), ("describe", "a1/2".into()));
        assert_eq!(names(backlog.take(1)), ("detect", "a2".into()));
        assert_eq!(backlog.len(), 1);
        backlog.take(1);
        assert_eq!(names(backlog.take(1)), ("nothing", String::new()));
    }

    #[test]
    fn what_waits_is_batched_across_requests() {
        let mut backlog = Backlog::default();
        for name in ["a1", "a2", "a3", "a4", "a5"] {
            backlog.push_picture(1, Item(name, 4));
        }
        backlog.push_picture(2, Item("b1", 4));
        backlog.push_picture(3, Item("z1", 4));
        assert_eq!(names(backlog.take(1)), ("detect", "a1 b1 a2 a3".into()));
        assert_eq!(names(backlog.take(1)), ("detect", "z1".into()));
        // Nobody waits for a fuller batch.
        assert_eq!(names(backlog.take(1)), ("detect", "a4 a5".into()));
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn free_workers_share_what_waits() {
        let mut backlog: Backlog<Item, Item> = Backlog::default();
        for name in ["a1", "a2", "a3", "a4", "a5", "a6"] {
            backlog.push_picture(1, Item(name, 8));
        }
        // A third each, and in sizes for which networks are prepared.
        assert_eq!(names(backlog.take(3)), ("detect", "a1 a2".into()));
        assert_eq!(names(backlog.take(2)), ("detect", "a3 a4".into()));
        assert_eq!(names(backlog.take(1)), ("detect", "a5 a6".into()));
    }

    #[test]
    fn faces_wait_for_a_batch_only_while_there_is_something_else_to_do() {
        let mut backlog = Backlog::default();
        backlog.push_faces(1, [Item("a/1", 4), Item("a/2", 4)], true);
        backlog.push_picture(2, Item("b1", 1));
        backlog.push_picture(2, Item("b2", 1));
        assert_eq!(names(backlog.take(1)), ("detect", "b1".into()));
        backlog.push_faces(2, [Item("b1/1", 4), Item("b1/2", 4)], true);
        assert_eq!(names(backlog.take(1)), ("describe", "b1/1 a/1 b1/2 a/2".into()));
        backlog.push_faces(2, [Item("c/1", 4)], true);
        assert_eq!(names(backlog.take(1)), ("detect", "b2".into()));
        assert_eq!(names(backlog.take(1)), ("describe", "c/1".into()));
    }

    #[test]
    fn a_request_leaves_with_all_it_has() {
        let mut backlog = Backlog::default();
        backlog.push_picture(1, Item("a1", 1));
        backlog.push_faces(1, [Item("a0/1", 1)], true);
        backlog.push_picture(2, Item("b1", 1));
        let (pictures, faces) = backlog.remove(1);
        assert_eq!((pictures.len(), faces.len(), backlog.len()), (1, 1, 1));
        assert_eq!(names(backlog.take(1)), ("detect", "b1".into()));
    }
}
