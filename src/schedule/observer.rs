//! The interface for counts and times that the scheduler reports.

use super::error::FailureKind;
use std::time::Duration;

/// Receives counts and times. Called on the threads of the scheduler, so implementations must be quick and must not
/// panic.
pub trait Observer: Send + Sync {
    /// `step` took `time`.
    fn step_took(&self, step: ScheduleStep, time: Duration);
    /// A network ran on `size` items at once.
    fn batch_ran(&self, kind: PassKind, size: usize);
    /// An image failed.
    fn image_failed(&self, kind: FailureKind);
    /// `images` left the queue before a network ran on them.
    fn images_dropped(&self, reason: DropReason, images: usize);
    /// A request with `images` was refused with [`super::ScheduleError::Full`].
    fn images_refused(&self, images: usize);
}

/// The steps of an image in the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleStep {
    /// An image waits: in the queue, and after decoding for a worker.
    Queue,
    /// A face of a photo waits between detection and description.
    FaceQueue,
    /// An image is decoded.
    Decode,
    /// One pass of the detector over a batch of photos.
    Detect,
    /// The faces of a photo are aligned and cut out.
    Align,
    /// One pass of the recognizer and the attribute networks over a batch of faces.
    Describe,
}

/// The two kinds of passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassKind {
    /// Photos through the detector.
    Detect,
    /// Faces through the recognizer and the attribute networks.
    Describe,
}

/// Why images left the queue before a network ran on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The future that waited for the result was dropped.
    ClientGone,
    /// The deadline of the request has passed.
    Deadline,
}
