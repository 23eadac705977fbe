//! The threads that decode images ahead of the workers, so that a free worker finds a decoded picture.

use super::collector::catch_panic;
use super::error::ImageFailure;
use super::observer::ScheduleStep;
use super::picture_memory::{PictureSlot, Reservation};
use super::request::{CroppedFace, DecodedImage, DetectedImage, EncodedImage, ImageKind, WholeImage};
use super::shared::Shared;
use crate::align::CROP_SIDE;
use crate::attributes::FaceView;
use crate::detect::ImageDetections;
use crate::image::{RgbImage, decode, dimensions};
use std::sync::Arc;
use std::time::Instant;

/// Decodes until the scheduler is closed.
pub(crate) fn run(shared: &Shared) {
    // The slot comes first, so that the next image is selected when there is room for it, not before.
    while let Some(slot) = shared.memory.slot() {
        let Some(image) = shared.next_encoded() else { return };
        if !decode_one(shared, slot, image) {
            return;
        }
    }
}

/// Decodes one image and passes it on. Returns false if the scheduler is closed.
fn decode_one(shared: &Shared, mut slot: PictureSlot, image: EncodedImage) -> bool {
    let EncodedImage { request, index, bytes, since } = image;
    let header = catch_panic(|| Ok(dimensions(&bytes)));
    let pixels = header.ok().flatten().map_or(0, |(w, h)| u64::from(w) * u64::from(h));
    // An image over the limit is refused by `decode`, before it takes memory.
    let pixels = if pixels > shared.limits.max_pixels { 0 } else { pixels };
    if slot.reserve(pixels, || request.abandoned().is_some()) == Reservation::Closed {
        return false;
    }
    let waited = since.elapsed();
    if let Some(reason) = request.abandoned() {
        shared.observer.images_dropped(reason, 1);
        return true;
    }
    let started = Instant::now();
    let decoded = catch_panic(|| Ok(decode(&bytes, &shared.limits)?));
    drop(bytes);
    shared.observer.step_took(ScheduleStep::Decode, started.elapsed());
    request.decoded();
    let since = Instant::now();
    match (decoded, request.analysis.kind) {
        (Ok(picture), ImageKind::Photo) => {
            let frame = Arc::new(slot.hold(picture));
            shared.push_picture(DecodedImage { request, index, frame, waited, since });
        }
        (Ok(crop), ImageKind::AlignedCrop) => match check_crop(&crop) {
            Ok(()) => {
                let size = crop.dimensions();
                let bbox = FaceView::of_crop(&crop).bbox;
                let image = Arc::new(DetectedImage::new(request, index, size, ImageDetections::default(), 1));
                let whole_image = Some(WholeImage { waited, _slot: slot });
                shared.push_faces(vec![CroppedFace { image, number: 0, bbox, crop, whole_image, since }], false);
            }
            Err(failure) => shared.deliver(&request, index, Err(failure)),
        },
        (Err(failure), _) => shared.deliver(&request, index, Err(failure)),
    }
    true
}

fn check_crop(crop: &RgbImage) -> Result<(), ImageFailure> {
    match crop.dimensions() {
        (CROP_SIDE, CROP_SIDE) => Ok(()),
        (width, height) => Err(ImageFailure::NotACrop { width, height }),
    }
}
