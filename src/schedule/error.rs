//! Why the scheduler refuses a request, and why one image of a request fails.

use crate::align::CROP_SIDE;
use crate::analyzer::AnalyzeError;
use crate::image::DecodeError;
use std::error::Error;
use std::time::Duration;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The queue has no room for all images, or they could not be done before the deadline.
    #[error("the queue is full; try again in {} s", .retry_after.as_secs())]
    Full {
        /// When another attempt may succeed.
        retry_after: Duration,
    },
    /// Not all images were done before the deadline.
    #[error("the deadline has passed")]
    DeadlinePassed {
        /// Whether a network has run on one of the images.
        started: bool,
    },
    /// The scheduler is being dropped.
    #[error("the scheduler is stopping")]
    Stopping,
}

/// Why one image failed. The messages are written for clients.
#[derive(Debug, thiserror::Error)]
pub enum ImageFailure {
    /// The caller could not get its bytes, for the reason given.
    #[error("{0}")]
    Read(String),
    /// Its bytes are not a picture, are damaged, or have too many pixels.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Aligned crops have one size only.
    #[error("an aligned face crop has {CROP_SIDE}x{CROP_SIDE} pixels, and this image has {width}x{height}")]
    NotACrop {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// A network failed.
    #[error(transparent)]
    Network(#[from] AnalyzeError),
    /// A network returned a wrong number of results.
    #[error("{got} results for {expected} items")]
    ResultCount {
        /// Items passed in.
        expected: usize,
        /// Results that came out.
        got: usize,
    },
    /// The caller's `finish` failed.
    #[error(transparent)]
    Finish(Box<dyn Error + Send + Sync>),
    /// A defect of this program; the log has the message of the panic.
    #[error("an internal error on this image")]
    Panic,
}

/// Classes of [`ImageFailure`], for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Not fetched, not below the image directory, or not base64.
    Read,
    /// Not a picture, damaged, or too many pixels.
    Decode,
    /// Not an aligned crop although the request says so.
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
