//! Faces drawn onto their picture, for people.

use crate::analyzer::Face;
use ab_glyph::{Font, FontRef, ScaleFont};
use image::{Rgb, RgbImage};
use imageproc::drawing::{
    draw_antialiased_line_segment_mut, draw_filled_circle_mut, draw_filled_rect_mut, draw_text_mut,
};
use imageproc::pixelops::interpolate;
use imageproc::rect::Rect;

/// Roboto Medium, reduced to what labels need (Apache-2.0, see assets/ROBOTO-LICENSE).
const FONT: &[u8] = include_bytes!("../../assets/roboto-labels.ttf");

/// One face to draw, in pixels of the picture.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// x1, y1, x2, y2.
    pub bbox: [f32; 4],
    pub landmarks: [[f32; 2]; 5],
    pub prob: f32,
    /// Whether the face wears a mask, if that was asked: colours the box.
    pub mask: Option<bool>,
}

impl From<&Face> for Annotation {
    fn from(face: &Face) -> Self {
        Annotation {
            bbox: face.bbox,
            landmarks: face.landmarks,
            prob: face.prob,
            mask: face.mask.map(|result| result.mask),
        }
    }
}

/// What to draw beside the boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawOptions {
    pub landmarks: bool,
    /// The detector's score, as percent.
    pub scores: bool,
    /// The face's width in pixels.
    pub sizes: bool,
}

impl Default for DrawOptions {
    fn default() -> Self {
        DrawOptions { landmarks: true, scores: true, sizes: true }
    }
}

const INK: Rgb<u8> = Rgb([255, 255, 255]);
const SHADE: Rgb<u8> = Rgb([0, 0, 0]);
const GREEN: Rgb<u8> = Rgb([0, 230, 118]);
const AMBER: Rgb<u8> = Rgb([255, 160, 0]);
const RED: Rgb<u8> = Rgb([255, 23, 68]);
/// Left eye, right eye, nose, left and right mouth corner: told apart by colour, so that a mirrored face is seen.
const POINTS: [Rgb<u8>; 5] =
    [Rgb([66, 165, 245]), Rgb([102, 187, 106]), Rgb([255, 202, 40]), Rgb([239, 83, 80]), Rgb([171, 71, 188])];

/// Draws boxes, points and labels; strokes and letters grow with the picture and with the face, so that they are legible on both
/// thumbnails and posters, and do not hide small faces.
pub fn draw_faces(image: &mut RgbImage, faces: &[Annotation], options: &DrawOptions) {
    let side = image.width().min(image.height()) as f32;
    // Worst first, so that the labels of the best lie on top.
    for face in faces.iter().rev() {
        let width = face.bbox[2] - face.bbox[0];
        let stroke = (side / 400.0).min(width / 20.0).clamp(1.0, 12.0).round() as i32;
        let colour = box_colour(face);
        draw_box(image, face.bbox, stroke, colour);
        if options.landmarks {
            let radius = (width / 36.0).clamp(1.0, 16.0).round() as i32;
            for (point, colour) in face.landmarks.iter().zip(POINTS) {
                let at = (bounded(point[0]), bounded(point[1]));
                if radius > 1 {
                    draw_filled_circle_mut(image, at, radius + 1, SHADE);
                }
                draw_filled_circle_mut(image, at, radius, colour);
            }
        }
    }
    for face in faces.iter().rev() {
        let text = label(face, options);
        if !text.is_empty() {
            let height = (side / 36.0).clamp(11.0, 64.0).min(((face.bbox[2] - face.bbox[0]) / 3.0).max(10.0));
            draw_label(image, face.bbox, &text, height, box_colour(face));
        }
    }
}

fn label(face: &Annotation, options: &DrawOptions) -> String {
    let score = options.scores.then(|| format!("{:.0}%", face.prob * 100.0));
    let size = options.sizes.then(|| format!("{:.0}px", face.bbox[2] - face.bbox[0]));
    [score, size].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// As in the original, red for a face without a mask and green for one with; where masks were not asked for, amber for barely found
/// and green for sure.
fn box_colour(face: &Annotation) -> Rgb<u8> {
    match face.mask {
        Some(false) => RED,
        Some(true) => GREEN,
        None => interpolate(GREEN, AMBER, ((face.prob - 0.5) / 0.4).clamp(0.0, 1.0)),
    }
}

/// Coordinates far outside must not overflow the drawing arithmetic.
fn bounded(v: f32) -> i32 {
    if v.is_finite() { v.round().clamp(-10_000.0, 100_000.0) as i32 } else { -10_000 }
}

fn draw_box(image: &mut RgbImage, bbox: [f32; 4], stroke: i32, colour: Rgb<u8>) {
    let [x1, y1, x2, y2] = bbox.map(bounded);
    // A dark line around the coloured one keeps it visible on any background.
    hollow(image, [x1 - stroke, y1 - stroke, x2 + stroke, y2 + stroke], (stroke + 1) / 2, SHADE);
    let inset = (stroke + 1) / 2 - stroke;
    hollow(image, [x1 + inset, y1 + inset, x2 - inset, y2 - inset], stroke, colour);
}

/// A rectangle's outline of the given thickness, inwards from its edge.
fn hollow(image: &mut RgbImage, [x1, y1, x2, y2]: [i32; 4], thickness: i32, colour: Rgb<u8>) {
    for i in 0..thickness {
        let (l, t, r, b) = ((x1 + i) as f32, (y1 + i) as f32, (x2 - i) as f32, (y2 - i) as f32);
        for (from, to) in [((l, t), (r, t)), ((r, t), (r, b)), ((r, b), (l, b)), ((l, b), (l, t))] {
            let ints = |(x, y): (f32, f32)| (x as i32, y as i32);
            draw_antialiased_line_segment_mut(image, ints(from), ints(to), colour, |line, _, _| line);
        }
    }
}

/// A text on its plate: above the box, or inside it where the picture ends.
fn draw_label(image: &mut RgbImage, bbox: [f32; 4], text: &str, height: f32, colour: Rgb<u8>) {
    let Ok(font) = FontRef::try_from_slice(FONT) else { return };
    let pad = (height / 5.0).round().max(1.0) as i32;
    let (text_width, text_height) = (text_width(&font, text, height).ceil() as i32, height.ceil() as i32);
    let (width, height_px) = (text_width + 2 * pad, text_height + pad);
    let x = bounded(bbox[0]).min(image.width() as i32 - width).max(0);
    let above = bounded(bbox[1]) - height_px - 1;
    let y = if above >= 0 { above } else { bounded(bbox[1]).max(0) };
    draw_filled_rect_mut(image, Rect::at(x, y).of_size(width.max(1) as u32, height_px.max(1) as u32), SHADE);
    draw_filled_rect_mut(image, Rect::at(x, y).of_size(pad.max(1) as u32, height_px.max(1) as u32), colour);
    draw_text_mut(image, INK, x + pad + pad / 2, y + pad / 3, height, &font, text);
}

fn text_width(font: &FontRef, text: &str, height: f32) -> f32 {
    let font = font.as_scaled(height);
    text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(bbox: [f32; 4]) -> Annotation {
        let [x1, y1, x2, y2] = bbox;
        let at = |x: f32, y: f32| [x1 + (x2 - x1) * x, y1 + (y2 - y1) * y];
        let landmarks = [at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.8), at(0.65, 0.8)];
        Annotation { bbox, landmarks, prob: 0.87, mask: None }
    }

    #[test]
    fn draws_on_the_box_and_leaves_the_middle_of_it() {
        let mut image = RgbImage::from_pixel(200, 200, Rgb([50, 50, 50]));
        draw_faces(&mut image, &[face([60.0, 60.0, 140.0, 140.0])], &DrawOptions::default());
        assert_ne!(image.get_pixel(60, 100).0, [50; 3]);
        assert_eq!(image.get_pixel(100, 125).0, [50; 3]);
    }

    #[test]
    fn masks_colour_the_box() {
        let drawn = |mask: Option<bool>| {
            let mut image = RgbImage::from_pixel(200, 200, Rgb([50, 50, 50]));
            draw_faces(&mut image, &[Annotation { mask, ..face([60.0, 60.0, 140.0, 140.0]) }], &DrawOptions::default());
            *image.get_pixel(60, 100)
        };
        assert_eq!(drawn(Some(false)), RED);
        assert_eq!(drawn(Some(true)), GREEN);
        assert!(![RED, GREEN].contains(&drawn(None)), "between amber and green, as the score is");
    }

    #[test]
    fn labels_are_written_above_the_box_or_inside_at_the_top() {
        for (top, label_rows) in [(60.0, 45..59), (0.0, 2..14)] {
            let mut image = RgbImage::from_pixel(200, 200, Rgb([50, 50, 50]));
            draw_faces(&mut image, &[face([60.0, top, 140.0, 140.0])], &DrawOptions::default());
            let white = |y: u32| (62..140).any(|x| image.get_pixel(x, y).0.iter().all(|&v| v > 200));
            assert!(label_rows.clone().any(white), "no letters in rows {label_rows:?}");
        }
    }

    #[test]
    fn strange_boxes_do_no_harm() {
        let boxes = [
            [-50.0, -50.0, 500.0, 500.0],
            [f32::NAN; 4],
            [1e30, -1e30, 2.0, 1.0],
            [5.0, 5.0, 5.0, 5.0],
            [9.0, 9.0, 3.0, 3.0],
        ];
        for size in [(1, 1), (3, 200), (64, 64)] {
            let mut image = RgbImage::new(size.0, size.1);
            draw_faces(&mut image, &boxes.map(face), &DrawOptions::default());
        }
    }

    #[test]
    fn nothing_but_boxes_when_asked() {
        let options = DrawOptions { landmarks: false, scores: false, sizes: false };
        assert_eq!(label(&face([0.0; 4]), &options), "");
        assert_eq!(label(&face([0.0, 0.0, 41.6, 9.0]), &DrawOptions::default()), "87% 42px");
    }
}
