//! Colors and coordinates for boxes and labels.

use image::Rgb;

/// Color of letters.
pub(super) const INK: Rgb<u8> = Rgb([255, 255, 255]);
/// Color of rims and of the background of letters.
pub(super) const SHADE: Rgb<u8> = Rgb([0, 0, 0]);

/// Rounds a coordinate and limits it to a range in which the drawing arithmetic cannot overflow.
pub(super) fn bounded(v: f32) -> i32 {
    if v.is_finite() { v.round().clamp(-10_000.0, 100_000.0) as i32 } else { -10_000 }
}
