//! How many decoded pictures there are, and how large they are together.

use crate::image::RgbImage;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A decoded picture. Its share of the memory is free again when it is dropped.
pub struct Frame {
    /// The pixels.
    pub picture: RgbImage,
    _slot: Slot,
}

/// Bounds the pictures that are decoded and not yet done with.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Inner>);

struct Inner {
    frames: usize,
    pixels: u64,
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Default)]
struct Held {
    frames: usize,
    pixels: u64,
    closed: bool,
    /// Who waits for pixels, in the order they came: the first has its turn next, or large pictures would wait for ever.
    line: VecDeque<u64>,
    next: u64,
}

/// How waiting for room ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is room, and it is taken.
    Taken,
    /// Nobody wants it any more; nothing is taken.
    GivenUp,
    /// Nothing is decoded any more.
    Closed,
}

/// The right to decode one picture, and what it then takes.
pub(crate) struct Slot {
    memory: Memory,
    pixels: u64,
}

impl Memory {
    /// Up to `frames` pictures, up to `pixels` together; a single one may have more.
    pub fn new(frames: usize, pixels: u64) -> Self {
        Memory(Arc::new(Inner { frames, pixels, held: Mutex::default(), freed: Condvar::new() }))
    }

    /// Waits until another picture may be decoded; None when closed.
    pub fn slot(&self) -> Option<Slot> {
        let mut held = self.wait(|held| held.frames < self.0.frames)?;
        held.frames += 1;
        Some(Slot { memory: self.clone(), pixels: 0 })
    }

    /// Pixels in memory.
    pub fn pixels(&self) -> u64 {
        self.lock().pixels
    }

    /// Pictures that wait for pixels.
    #[cfg(test)]
    pub fn in_line(&self) -> usize {
        self.lock().line.len()
    }

    /// Has all who wait ask again whether they still want it.
    pub fn wake(&self) {
        // Between their question and their waiting they hold the lock.
        drop(self.lock());
        self.0.freed.notify_all();
    }

    /// Lets all who wait go.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, fits: impl Fn(&Held) -> bool) -> Option<MutexGuard<'_, Held>> {
        let held = self.0.freed.wait_while(self.lock(), |held| !held.closed && !fits(held));
        let held = held.unwrap_or_else(PoisonError::into_inner);
        (!held.closed).then_some(held)
    }
}

impl Slot {
    /// Waits until there is room for a picture of so many pixels: first come, first served. Ends early when `given_up` says so, which
    /// is asked when something changes, and after [`Memory::wake`].
    pub fn reserve(&mut self, pixels: u64, given_up: impl Fn() -> bool) -> Room {
        let memory = self.memory.clone();
        let (most, freed) = (memory.0.pixels, &memory.0.freed);
        let mut held = memory.lock();
        let ticket = held.next;
        held.next += 1;
        held.line.push_back(ticket);
        let room = loop {
            let fits =
                pixels == 0 || held.line.front() == Some(&ticket) && (held.pixels == 0 || held.pixels + pixels <= most);
            if held.closed {
                break Room::Closed;
            } else if given_up() {
                break Room::GivenUp;
            } else if fits {
                held.pixels += pixels;
                self.pixels += pixels;
                break Room::Taken;
            }
            held = freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        };
        held.line.retain(|waiting| *waiting != ticket);
        drop(held);
        // There may be room for the next in line, too.
        freed.notify_all();
        room
    }

    /// The decoded picture in its place.
    pub fn hold(self, picture: RgbImage) -> Frame {
        Frame { picture, _slot: self }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.memory.lock();
        held.frames -= 1;
        held.pixels -= self.pixels;
        drop(held);
        self.memory.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn pictures_wait_until_others_are_gone() {
        let memory = Memory::new(3, 100);
        let hold = |pixels| {
            let mut slot = memory.slot().unwrap();
            assert_eq!(slot.reserve(pixels, || false), Room::Taken);
            slot.hold(RgbImage::new(1, 1))
        };
        let (first, second) = (hold(60), hold(40));
        assert_eq!(memory.pixels(), 100);
        let (sender, receiver) = mpsc::channel();
        let waiting = memory.clone();
        let thread = std::thread::spawn(move || {
            let mut slot = waiting.slot().unwrap();
            sender.send("slot").unwrap();
            assert_eq!(slot.reserve(50, || false), Room::Taken);
            sender.send("pixels").unwrap();
        });
        assert_eq!(receiver.recv(), Ok("slot"));
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        drop(second);
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        assert_eq!(receiver.recv(), Ok("pixels"));
        thread.join().unwrap();
        // Alone, a picture may be larger than all together.
        drop(hold(1000));
        assert_eq!(memory.pixels(), 0);
    }

    #[test]
    fn closing_ends_all_waiting() {
        let memory = Memory::new(1, 10);
        let mut slot = memory.slot().unwrap();
        let waiting = memory.clone();
        let thread = std::thread::spawn(move || waiting.slot().is_none());
        memory.close();
        assert!(thread.join().unwrap());
        assert_eq!(slot.reserve(1, || false), Room::Closed);
    }

    #[test]
    fn who_waits_for_much_is_not_overtaken() {
        let memory = Memory::new(10, 100);
        let slot = || memory.slot().unwrap();
        let mut first = slot();
        first.reserve(60, || false);
        let (sender, receiver) = mpsc::channel();
        let wait_for = |pixels: u64| {
            let (sender, mut slot) = (sender.clone(), slot());
            let before = memory.in_line();
            let thread = std::thread::spawn(move || {
                slot.reserve(pixels, || false);
                sender.send(pixels).unwrap();
            });
            while memory.in_line() == before {
                std::thread::sleep(Duration::from_millis(1));
            }
            thread
        };
        let threads = [wait_for(90), wait_for(20), wait_for(30)];
        // There is room for the small ones, but the large one was first.
        assert!(receiver.recv_timeout(Duration::from_millis(30)).is_err());
        drop(first);
        assert_eq!(receiver.recv(), Ok(90));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(receiver.try_iter().count(), 2);
        assert_eq!(memory.pixels(), 0);
    }

    #[test]
    fn who_gives_up_makes_way() {
        let memory = Memory::new(10, 100);
        let mut first = memory.slot().unwrap();
        first.reserve(60, || false);
        let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (told, mut slot) = (gone.clone(), memory.slot().unwrap());
        let thread = std::thread::spawn(move || slot.reserve(90, || told.load(std::sync::atomic::Ordering::SeqCst)));
        while memory.in_line() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        gone.store(true, std::sync::atomic::Ordering::SeqCst);
        memory.wake();
        assert_eq!(thread.join().unwrap(), Room::GivenUp);
        assert_eq!(memory.slot().unwrap().reserve(40, || false), Room::Taken);
        assert_eq!(memory.pixels(), 60);
    }
}
