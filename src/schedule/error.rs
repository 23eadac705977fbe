//! Errors of requests and of single images.

use crate::align::CROP_SIDE;
use crate::analyzer::AnalyzeError;
use crate::image::DecodeError;
use std::error::Error;
use std::time::Duration;

/// The reason why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The queue has no room for all images, or they could not be done before the deadline.
    #[error("the queue is full; try again in {} s", .retry_after.as_secs())]
    Full {
        /// Time after which another attempt may succeed.
        retry_after: Duration,
    },
    /// Not all images were done before the deadline.
    #[error("the deadline has passed")]
    DeadlinePassed {
        /// True if a network has run on one of the images.
        started: bool,
    },
    /// The scheduler is being dropped.
    #[error("the scheduler is stopping")]
    Stopping,
}

/// The reason why one image failed. The messages are written for clients.
#[derive(Debug, thiserror::Error)]
pub enum ImageFailure {
    /// The caller could not read the bytes of the image.
    #[error(transparent)]
    Read(Box<dyn Error + Send + Sync>),
    /// The bytes are not a picture, are damaged, or have too many pixels.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Aligned crops have one size only.
    #[error("an aligned face crop has {CROP_SIDE}x{CROP_SIDE} pixels, and this image has {width}x{height}")]
    NotACrop {
        /// Width of the image in pixels.
        width: u32,
        /// Height of the image in pixels.
        height: u32,
    },
    /// A network failed.
    #[error(transparent)]
    Network(#[from] AnalyzeError),
    /// A network returned a wrong number of results.
    #[error("{got} results for {expected} items")]
    ResultCount {
        /// Number of items passed to the network.
        expected: usize,
        /// Number of results that it returned.
        got: usize,
    },
    /// The `finish` function of the caller failed.
    #[error(transparent)]
    Finish(Box<dyn Error + Send + Sync>),
    /// A defect of this program; the log has the message of the panic.
    #[error("an internal error on this image")]
    Panic,
}

/// Classes of [`ImageFailure`], for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The bytes of the image could not be read.
    Read,
    /// The bytes are not a picture, are damaged, or have too many pixels.
    Decode,
    /// The image does not have the size of an aligned crop.
    Crop,
    /// A network, or the step after it, failed.
    Inference,
    /// A defect of this program.
    Panic,
}

impl ImageFailure {
    /// The class it counts as.
    pub fn kind(&self) -> FailureKind {
        match self {
            ImageFailure::Read(_) => FailureKind::Read,
            ImageFailure::Decode(_) => FailureKind::Decode,
            ImageFailure::NotACrop { .. } => FailureKind::Crop,
            ImageFailure::Network(_) | ImageFailure::ResultCount { .. } | ImageFailure::Finish(_) => {
                FailureKind::Inference
            }
            ImageFailure::Panic => FailureKind::Panic,
        }
    }
}
