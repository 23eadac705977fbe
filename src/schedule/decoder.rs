//! The threads that decode, beside inference: the next pictures are ready when a worker is.

use super::Kind;
use super::collector::{Failure, guarded};
use super::job::{CropImage, CutFace, Decoded, Encoded, Looked};
use super::memory::{Room, Slot};
use super::shared::Shared;
use crate::align::CROP_SIDE;
use crate::detect::ImageDetections;
use crate::image::{RgbImage, decode, dimensions};
use crate::server::telemetry::metrics::{FailureKind, Stage};
use std::sync::Arc;
use std::time::Instant;

/// Decodes until the scheduler is closed.
pub(crate) fn run(shared: &Shared) {
    // The slot comes first: whose turn it is is decided when there is room.
    while let Some(slot) = shared.memory.slot() {
        let Some(image) = shared.next_encoded() else { return };
        if !one(shared, slot, image) {
            return;
        }
    }
}

/// Decodes one image and hands it on; false when closed.
fn one(shared: &Shared, mut slot: Slot, image: Encoded) -> bool {
    let Encoded { job, index, bytes, since } = image;
    let header = guarded(FailureKind::Decode, || Ok(dimensions(&bytes)));
    let pixels = header.ok().flatten().map_or(0, |(w, h)| u64::from(w) * u64::from(h));
    // What is larger than allowed is refused before it takes memory.
    let pixels = if pixels > shared.limits.max_pixels { 0 } else { pixels };
    if slot.reserve(pixels, || job.abandoned().is_some()) == Room::Closed {
        return false;
    }
    let waited = since.elapsed();
    if let Some(reason) = job.abandoned() {
        shared.metrics.dropped(reason, 1);
        return true;
    }
    let started = Instant::now();
    let decoded = guarded(FailureKind::Decode, || decode(&bytes, &shared.limits).map_err(|error| error.to_string()));
    drop(bytes);
    shared.metrics.time(Stage::Decode, started.elapsed());
    job.decoded();
    let since = Instant::now();
    let detected = job.question.kind == Kind::Pictures;
    match decoded.and_then(|picture| if detected { Ok(picture) } else { check_crop(picture) }) {
        Ok(picture) if detected => {
            let frame = Arc::new(slot.hold(picture));
            shared.push_picture(Decoded { job, index, frame, waited, since });
        }
        Ok(crop) => {
            let size = crop.dimensions();
            let bbox = crate::attributes::FaceView::of_crop(&crop).bbox;
            let image = Arc::new(Looked::new(job, index, size, ImageDetections::default(), 1));
            let crop_of = Some(CropImage { waited, _slot: slot });
            shared.push_faces(vec![CutFace { image, number: 0, bbox, crop, crop_of, since }], false);
        }
        Err(failure) => {
            if let Some(kind) = job.deliver(index, Err(failure)) {
                shared.metrics.failed(kind);
            }
        }
    }
    true
}

fn check_crop(crop: RgbImage) -> Result<RgbImage, Failure> {
    match crop.dimensions() {
        (CROP_SIDE, CROP_SIDE) => Ok(crop),
        (w, h) => {
            let reason = format!(
                "embed_only needs aligned face crops of {CROP_SIDE}x{CROP_SIDE} pixels, and this image has {w}x{h}"
            );
            Err(Failure { kind: FailureKind::Crop, reason })
        }
    }
}
