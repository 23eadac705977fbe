//! Bilinear resizing of whole pictures by `fast_image_resize`, for callers that need no exact parity with OpenCV.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

/// The picture at `width` x `height` pixels; a picture or size without pixels gives black.
///
/// Reducing samples, as OpenCV's `INTER_LINEAR` does. Values differ from OpenCV's by at most 1.
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Interpolation(FilterType::Bilinear));
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3);
    let target = Image::from_slice_u8(width, height, &mut out, PixelType::U8x3);
    if let (Ok(source), Ok(mut target)) = (source, target) {
        // Fails only for different pixel types and for crop boxes outside the source; neither occurs here.
        let _ = Resizer::new().resize(&source, &mut target, &options);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::resize_bilinear;

    #[test]
    fn resized_pictures_are_those_of_opencv_within_one_level() {
        let image = RgbImage::from_fn(112, 112, |x, y| image::Rgb([(x * 2) as u8, (x * y) as u8, (x ^ y) as u8]));
        for (w, h) in [(224, 224), (96, 128), (112, 112), (300, 40), (1, 1)] {
            let exact = resize_bilinear(&image, (0, 0, 112, 112), w, h);
            let ours = resize(&image, w, h);
            assert_eq!(ours.dimensions(), (w, h));
            let worst = ours.as_raw().iter().zip(exact.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(1), "{w}x{h}: {worst:?}");
        }
        assert_eq!(resize(&RgbImage::new(0, 0), 2, 2), RgbImage::new(2, 2));
        assert_eq!(resize(&image, 0, 2).dimensions(), (0, 2));
    }

    #[test]
    #[ignore = "slow: timing"]
    fn time_of_resizing_a_crop_for_the_mask_detector() {
        let image = RgbImage::from_fn(112, 112, |x, y| image::Rgb([(x * 2) as u8, (x * y) as u8, (x ^ y) as u8]));
        let least = |run: &dyn Fn() -> RgbImage| {
            (0..500).map(|_| std::time::Instant::now()).map(|t| (run(), t.elapsed()).1).min().unwrap()
        };
        let (fast, exact) =
            (least(&|| resize(&image, 224, 224)), least(&|| resize_bilinear(&image, (0, 0, 112, 112), 224, 224)));
        println!("112 to 224: fast_image_resize {fast:?}, resize_bilinear {exact:?}");
    }
}
