//! How many decoded pictures there are, and how large they are together.

use crate::image::RgbImage;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A decoded picture. Its share of the memory is free again when it is dropped.
pub struct Frame {
    /// The pixels.
    pub picture: RgbImage,
    _slot: Slot,
}

/// Bounds the pictures that are decoded and not yet done with.
#[derive(Clone)]
pub(super) struct Memory(Arc<Inner>);

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
}

/// The right to decode one picture, and what it then takes.
pub(super) struct Slot {
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
    /// Waits until there is room for a picture of so many pixels; false when closed.
    pub fn reserve(&mut self, pixels: u64) -> bool {
        let most = self.memory.0.pixels;
        let memory = self.memory.clone();
        let Some(mut held) = memory.wait(|held| held.pixels == 0 || held.pixels + pixels <= most) else {
            return false;
        };
        held.pixels += pixels;
        self.pixels += pixels;
        true
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
            assert!(slot.reserve(pixels));
            slot.hold(RgbImage::new(1, 1))
        };
        let (first, second) = (hold(60), hold(40));
        assert_eq!(memory.pixels(), 100);
        let (sender, receiver) = mpsc::channel();
        let waiting = memory.clone();
        let thread = std::thread::spawn(move || {
            let mut slot = waiting.slot().unwrap();
            sender.send("slot").unwrap();
            assert!(slot.reserve(50));
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
        assert!(!slot.reserve(1));
    }
}
