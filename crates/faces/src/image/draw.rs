//! Drawing of boxes, landmarks and labels on a picture.

use image::{Rgb, RgbImage};
use imageproc::drawing::{draw_antialiased_line_segment_mut, draw_filled_circle_mut};
use imageproc::pixelops::interpolate;

use super::label::LabelPlacer;
use super::paint::{SHADE, bounded};

/// A face to draw. Coordinates are in pixels of the picture.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// x1, y1, x2, y2.
    pub bbox: [f32; 4],
    /// Left eye, right eye, nose tip, left and right mouth corner.
    pub landmarks: [[f32; 2]; 5],
    /// Score of the detector, 0 to 1.
    pub prob: f32,
    /// Whether the face wears a mask, which determines the color of the box. `None`: no mask detection.
    pub mask: Option<bool>,
}

/// Parts to draw in addition to the boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawOptions {
    /// Draw the five landmarks.
    pub landmarks: bool,
    /// Write the score of the detector in percent.
    pub scores: bool,
    /// Write the width of the box in pixels.
    pub sizes: bool,
}

impl Default for DrawOptions {
    fn default() -> Self {
        DrawOptions { landmarks: true, scores: true, sizes: true }
    }
}

const GREEN: Rgb<u8> = Rgb([0, 230, 118]);
const AMBER: Rgb<u8> = Rgb([255, 160, 0]);
const RED: Rgb<u8> = Rgb([255, 23, 68]);
/// Colors of left eye, right eye, nose, left and right mouth corner. They show if a face is mirrored.
const POINTS: [Rgb<u8>; 5] =
    [Rgb([66, 165, 245]), Rgb([102, 187, 106]), Rgb([255, 202, 40]), Rgb([239, 83, 80]), Rgb([171, 71, 188])];

/// Draws boxes, landmarks and labels. The widths of strokes and letters depend on the sizes of the picture and of the
/// face, so that they are legible in pictures of any size and do not hide small faces.
pub fn draw_faces(image: &mut RgbImage, faces: &[Annotation], options: &DrawOptions) {
    let side = image.width().min(image.height()) as f32;
    // In ascending order of scores, so that faces with high scores are on top.
    for face in faces.iter().rev() {
        let width = face.bbox[2] - face.bbox[0];
        let stroke = (side / 400.0).min(width / 20.0).clamp(1.0, 12.0).round() as i32;
        let color = box_color(face);
        draw_box(image, face.bbox, stroke, color);
        if options.landmarks {
            // A landmark of a small face is one pixel. The dark rim makes it visible on any skin.
            let radius = if width < 24.0 { 0 } else { (width / 36.0).clamp(1.0, 16.0).round() as i32 };
            for (point, color) in face.landmarks.iter().zip(POINTS) {
                let at = (bounded(point[0]), bounded(point[1]));
                draw_filled_circle_mut(image, at, radius + 1, SHADE);
                draw_filled_circle_mut(image, at, radius, color);
            }
        }
    }
    let Some(mut labels) = LabelPlacer::new(image.dimensions(), faces.iter().map(|f| f.bbox)) else { return };
    for face in faces {
        let height = (side / 36.0).clamp(11.0, 64.0).min(((face.bbox[2] - face.bbox[0]) / 3.0).max(10.0));
        labels.draw(image, face.bbox, &label(face, options), height, box_color(face));
    }
}

/// Parts of the label of a face, the most important first.
fn label(face: &Annotation, options: &DrawOptions) -> Vec<String> {
    let score = options.scores.then(|| format!("{:.0}%", face.prob * 100.0));
    let size = options.sizes.then(|| format!("{:.0}px", face.bbox[2] - face.bbox[0]));
    [score, size].into_iter().flatten().collect()
}

/// As in the original: red for a face without a mask, green for a face with a mask. Without mask detection: from amber
/// for low scores to green for high scores.
fn box_color(face: &Annotation) -> Rgb<u8> {
    match face.mask {
        Some(false) => RED,
        Some(true) => GREEN,
        None => interpolate(GREEN, AMBER, ((face.prob - 0.5) / 0.4).clamp(0.0, 1.0)),
    }
}

fn draw_box(image: &mut RgbImage, bbox: [f32; 4], stroke: i32, color: Rgb<u8>) {
    let [x1, y1, x2, y2] = bbox.map(bounded);
    // A dark outline makes the colored line visible on any background.
    draw_outline(image, [x1 - stroke, y1 - stroke, x2 + stroke, y2 + stroke], (stroke + 1) / 2, SHADE);
    let inset = (stroke + 1) / 2 - stroke;
    draw_outline(image, [x1 + inset, y1 + inset, x2 - inset, y2 - inset], stroke, color);
}

/// Draws the outline of a rectangle. `thickness` in pixels extends inwards from the edge.
fn draw_outline(image: &mut RgbImage, [x1, y1, x2, y2]: [i32; 4], thickness: i32, color: Rgb<u8>) {
    for i in 0..thickness {
        let (l, t, r, b) = ((x1 + i) as f32, (y1 + i) as f32, (x2 - i) as f32, (y2 - i) as f32);
        for (from, to) in [((l, t), (r, t)), ((r, t), (r, b)), ((r, b), (l, b)), ((l, b), (l, t))] {
            let ints = |(x, y): (f32, f32)| (x as i32, y as i32);
            draw_antialiased_line_segment_mut(image, ints(from), ints(to), color, |line, _, _| line);
        }
    }
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
    fn the_outline_is_drawn_and_the_inside_is_unchanged() {
        let mut image = RgbImage::from_pixel(200, 200, Rgb([50, 50, 50]));
        draw_faces(&mut image, &[face([60.0, 60.0, 140.0, 140.0])], &DrawOptions::default());
        assert_ne!(image.get_pixel(60, 100).0, [50; 3]);
        assert_eq!(image.get_pixel(100, 125).0, [50; 3]);
    }

    #[test]
    fn masks_color_the_box() {
        let drawn = |mask: Option<bool>| {
            let mut image = RgbImage::from_pixel(200, 200, Rgb([50, 50, 50]));
            draw_faces(&mut image, &[Annotation { mask, ..face([60.0, 60.0, 140.0, 140.0]) }], &DrawOptions::default());
            *image.get_pixel(60, 100)
        };
        assert_eq!(drawn(Some(false)), RED);
        assert_eq!(drawn(Some(true)), GREEN);
        assert!(![RED, GREEN].contains(&drawn(None)), "between amber and green");
    }

    #[test]
    fn labels_are_above_the_box_or_below_it_without_room_above() {
        for (top, label_rows) in [(60.0, 45..59), (0.0, 142..158)] {
            let mut image = RgbImage::from_pixel(200, 200, Rgb([50, 50, 50]));
            draw_faces(&mut image, &[face([60.0, top, 140.0, 140.0])], &DrawOptions::default());
            let white = |y: u32| (62..140).any(|x| image.get_pixel(x, y).0.iter().all(|&v| v > 200));
            assert!(label_rows.clone().any(white), "no letters in rows {label_rows:?}");
        }
    }

    #[test]
    fn landmarks_of_small_faces_have_a_rim() {
        for width in [12.0, 40.0] {
            let mut image = RgbImage::from_pixel(100, 100, Rgb([224, 172, 140]));
            draw_faces(&mut image, &[face([30.0, 30.0, 30.0 + width, 30.0 + width])], &DrawOptions::default());
            let (x, y) = ((30.0 + width * 0.3).round() as u32, (30.0 + width * 0.4).round() as u32);
            assert_eq!(*image.get_pixel(x, y), POINTS[0]);
            let rim = (1..4).find(|dx| *image.get_pixel(x - dx, y) != POINTS[0]).unwrap();
            assert_eq!(*image.get_pixel(x - rim, y), SHADE, "a face of {width} pixels");
        }
    }

    #[test]
    fn extreme_boxes_do_not_panic() {
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
    fn options_select_the_parts_of_the_label() {
        let options = DrawOptions { landmarks: false, scores: false, sizes: false };
        assert!(label(&face([0.0; 4]), &options).is_empty());
        assert_eq!(label(&face([0.0, 0.0, 41.6, 9.0]), &DrawOptions::default()), ["87%", "42px"]);
    }
}
