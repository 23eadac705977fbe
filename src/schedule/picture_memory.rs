//! Limits the number of decoded pictures and the sum of their pixels.

use crate::image::RgbImage;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;

/// A decoded picture. Dropping it returns its share of the memory.
pub struct Frame {
    /// The pixels.
    pub picture: RgbImage,
    _slot: PictureSlot,
}

/// The memory for pictures between decoding and the end of their analysis.
#[derive(Clone)]
pub(crate) struct PictureMemory(Arc<MemoryState>);

struct MemoryState {
    max_frames: usize,
    max_pixels: u64,
    held: Mutex<HeldPictures>,
    freed: Condvar,
}

#[derive(Default)]
struct HeldPictures {
    frames: usize,
    pixels: u64,
    closed: bool,
    /// Tickets that wait for pixels, first come, first served: otherwise small pictures could overtake a large one for
    /// ever.
    line: VecDeque<u64>,
    next: u64,
}

/// How a wait for pixels ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// The pixels are reserved.
    Taken,
    /// The request is gone; nothing is reserved.
    GivenUp,
    /// The scheduler is closed; nothing is reserved.
    Closed,
}

/// The permission to decode one picture, and the pixels reserved for it.
pub(crate) struct PictureSlot {
    memory: PictureMemory,
    pixels: u64,
}

impl PictureMemory {
    /// Room for `max_frames` pictures with `max_pixels` in total; a single picture may have more.
    pub fn new(max_frames: usize, max_pixels: u64) -> Self {
        PictureMemory(Arc::new(MemoryState { max_frames, max_pixels, held: Mutex::default(), freed: Condvar::new() }))
    }

    /// Waits until another picture may be decoded. `None` when closed.
    pub fn slot(&self) -> Option<PictureSlot> {
        let mut held = self.wait(|held| held.frames < self.0.max_frames)?;
        held.frames += 1;
        Some(PictureSlot { memory: self.clone(), pixels: 0 })
    }

    /// Number of reserved pixels.
    pub fn pixels(&self) -> u64 {
        self.lock().pixels
    }

    /// Number of pictures that wait for pixels.
    #[cfg(test)]
    pub fn in_line(&self) -> usize {
        self.lock().line.len()
    }

    /// Wakes all waiting threads, which then check again if their request is gone.
    pub fn wake(&self) {
        // They hold the lock from that question until they wait, so no wake-up is lost.
        drop(self.lock());
        self.0.freed.notify_all();
    }

    /// Ends all waits.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, HeldPictures> {
        self.0.held.lock()
    }

    fn wait(&self, fits: impl Fn(&HeldPictures) -> bool) -> Option<MutexGuard<'_, HeldPictures>> {
        let mut held = self.lock();
        self.0.freed.wait_while(&mut held, |held| !held.closed && !fits(held));
        (!held.closed).then_some(held)
    }
}

impl PictureSlot {
    /// Waits until `pixels` are free: first come, first served. Ends early when `given_up` returns true, which is
    /// called after each change and after [`PictureMemory::wake`].
    pub fn reserve(&mut self, pixels: u64, given_up: impl Fn() -> bool) -> Reservation {
        let memory = self.memory.clone();
        let (max_pixels, freed) = (memory.0.max_pixels, &memory.0.freed);
        let mut held = memory.lock();
        let ticket = held.next;
        held.next += 1;
        held.line.push_back(ticket);
        let reservation = loop {
            let fits = pixels == 0
                || held.line.front() == Some(&ticket) && (held.pixels == 0 || held.pixels + pixels <= max_pixels);
            if held.closed {
                break Reservation::Closed;
            } else if given_up() {
                break Reservation::GivenUp;
            } else if fits {
                held.pixels += pixels;
                self.pixels += pixels;
                break Reservation::Taken;
            }
            freed.wait(&mut held);
        };
        held.line.retain(|waiting| *waiting != ticket);
        drop(held);
        // The next in line may fit, too.
        freed.notify_all();
        reservation
    }

    /// The decoded picture, which now owns the slot.
    pub fn hold(self, picture: RgbImage) -> Frame {
        Frame { picture, _slot: self }
    }
}

impl Drop for PictureSlot {
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
        let memory = PictureMemory::new(3, 100);
        let hold = |pixels| {
            let mut slot = memory.slot().unwrap();
            assert_eq!(slot.reserve(pixels, || false), Reservation::Taken);
            slot.hold(RgbImage::new(1, 1))
        };
        let (first, second) = (hold(60), hold(40));
        assert_eq!(memory.pixels(), 100);
        let (sender, receiver) = mpsc::channel();
        let waiting = memory.clone();
        let thread = std::thread::spawn(move || {
            let mut slot = waiting.slot().unwrap();
            sender.send("slot").unwrap();
            assert_eq!(slot.reserve(50, || false), Reservation::Taken);
            sender.send("pixels").unwrap();
        });
        assert_eq!(receiver.recv(), Ok("slot"));
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        drop(second);
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        assert_eq!(receiver.recv(), Ok("pixels"));
        thread.join().unwrap();
        // A single picture may exceed the limit.
        drop(hold(1000));
        assert_eq!(memory.pixels(), 0);
    }

    #[test]
    fn closing_ends_all_waiting() {
        let memory = PictureMemory::new(1, 10);
        let mut slot = memory.slot().unwrap();
        let waiting = memory.clone();
        let thread = std::thread::spawn(move || waiting.slot().is_none());
        memory.close();
        assert!(thread.join().unwrap());
        assert_eq!(slot.reserve(1, || false), Reservation::Closed);
    }

    #[test]
    fn a_large_picture_is_not_overtaken() {
        let memory = PictureMemory::new(10, 100);
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
        // The small ones would fit, but the large one was first.
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
    fn a_picture_that_gives_up_leaves_the_line() {
        let memory = PictureMemory::new(10, 100);
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
        assert_eq!(thread.join().unwrap(), Reservation::GivenUp);
        assert_eq!(memory.slot().unwrap().reserve(40, || false), Reservation::Taken);
        assert_eq!(memory.pixels(), 60);
    }
}
