//! Placement of the labels of drawn faces: next to their boxes, without hiding faces or other labels.

use ab_glyph::{Font, FontRef, ScaleFont};
use image::{Rgb, RgbImage};
use imageproc::drawing::{draw_filled_rect_mut, draw_text_mut};
use imageproc::rect::Rect;

use super::paint::{INK, SHADE, bounded};

/// Roboto Medium, reduced to the characters of labels (Apache-2.0, see assets/ROBOTO-LICENSE).
const FONT: &[u8] = include_bytes!("../../../../assets/roboto-labels.ttf");
/// Minimum height of letters in pixels. Smaller letters are illegible.
const MIN_HEIGHT: f32 = 9.0;

/// A rectangle of pixels: first column and row, and the column and row after the last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Area {
    x1: i32,
    y1: i32,
    x2: i32,
    y2: i32,
}

impl Area {
    fn of_box(bbox: [f32; 4]) -> Area {
        let [x1, y1, x2, y2] = bbox.map(bounded);
        Area { x1, y1, x2: x2 + 1, y2: y2 + 1 }
    }

    fn pixels(self) -> i64 {
        i64::from((self.x2 - self.x1).max(0)) * i64::from((self.y2 - self.y1).max(0))
    }

    fn intersection(self, other: Area) -> Area {
        let (x1, y1) = (self.x1.max(other.x1), self.y1.max(other.y1));
        Area { x1, y1, x2: self.x2.min(other.x2), y2: self.y2.min(other.y2) }
    }

    fn overlaps(self, other: Area) -> bool {
        self.intersection(other).pixels() > 0
    }

    fn grown(self, x: i32, y: i32) -> Area {
        Area { x1: self.x1 - x, y1: self.y1 - y, x2: self.x2 + x, y2: self.y2 + y }
    }
}

/// A text with its background.
struct Plate {
    area: Area,
    text: String,
    /// Height of the letters in pixels.
    height: f32,
    /// Margin around the text in pixels.
    pad: i32,
}

/// Placement of the labels of one picture. A label avoids the labels placed before it.
pub(super) struct LabelPlacer {
    font: FontRef<'static>,
    picture: Area,
    /// The parts of the boxes inside the picture.
    faces: Vec<Area>,
    /// Labels placed so far.
    plates: Vec<Area>,
}

impl LabelPlacer {
    /// A placer for a picture of (width, height) pixels with faces in `boxes`. `None` if the font cannot be read.
    pub fn new((width, height): (u32, u32), boxes: impl Iterator<Item = [f32; 4]>) -> Option<LabelPlacer> {
        let picture = Area { x1: 0, y1: 0, x2: width as i32, y2: height as i32 };
        let faces = boxes.map(|b| Area::of_box(b).intersection(picture)).collect();
        Some(LabelPlacer { font: FontRef::try_from_slice(FONT).ok()?, picture, faces, plates: vec![] })
    }

    /// Writes `parts` next to a box in letters of at most `height` pixels. Without room for all parts, it writes the
    /// first part or smaller letters, and nothing if every label would hide a face.
    pub fn draw(&mut self, image: &mut RgbImage, bbox: [f32; 4], parts: &[String], height: f32, color: Rgb<u8>) {
        let Some(Plate { area, text, height, pad }) = self.place(bbox, parts, height) else { return };
        let rows = (area.y2 - area.y1).max(1) as u32;
        let corner = Rect::at(area.x1, area.y1);
        draw_filled_rect_mut(image, corner.of_size((area.x2 - area.x1).max(1) as u32, rows), SHADE);
        draw_filled_rect_mut(image, corner.of_size(pad.max(1) as u32, rows), color);
        draw_text_mut(image, INK, area.x1 + pad + pad / 2, area.y1 + pad / 3, height, &self.font, &text);
    }

    /// Selects text, height and position of a label.
    fn place(&mut self, bbox: [f32; 4], parts: &[String], height: f32) -> Option<Plate> {
        let texts = [parts.join(" "), parts.first()?.clone()];
        let heights = [height, (height * 0.8).max(MIN_HEIGHT).min(height)];
        let mut plates: Vec<Plate> =
            texts.into_iter().flat_map(|text| heights.map(|height| self.plate(&text, height))).collect();
        let own = Area::of_box(bbox).intersection(self.picture);
        // Only near faces and labels can overlap the label.
        let reach = own.grown(2 * plates[0].area.x2 + 4, 2 * plates[0].area.y2 + 4);
        let near = |areas: &[Area]| areas.iter().copied().filter(|a| a.overlaps(reach)).collect::<Vec<Area>>();
        let (faces, taken) = (near(&self.faces), near(&self.plates));
        let free = |at: &Area| !at.overlaps(own) && taken.iter().all(|t| !t.overlaps(*at));
        let hides =
            |at: &Area| faces.iter().map(|f| f.intersection(*at).pixels() * 100 / f.pixels().max(1)).max().unwrap_or(0);
        let best = |plate: &Plate| self.positions(own, plate.area).filter(free).min_by_key(|at| hides(at));
        // First choice: nothing is hidden. Then the corner of a face that fills the picture, then a third of another
        // face.
        let choice = |max_percent: i64| {
            let found = |plate: &Plate| best(plate).filter(|at| hides(at) <= max_percent);
            plates.iter().enumerate().find_map(|(i, plate)| found(plate).map(|at| (i, at)))
        };
        let inside = || {
            let corner = |plate: &Plate| {
                let at = moved(plate.area, own.x1, own.y1);
                let small = at.intersection(own) == at && at.pixels() * 12 <= own.pixels();
                (small && taken.iter().all(|t| !t.overlaps(at))).then_some(at)
            };
            plates.iter().enumerate().find_map(|(i, plate)| corner(plate).map(|at| (i, at)))
        };
        let (index, area) = choice(0).or_else(inside).or_else(|| choice(33))?;
        self.plates.push(area);
        Some(Plate { area, ..plates.swap_remove(index) })
    }

    /// The plate for a text, at the origin.
    fn plate(&self, text: &str, height: f32) -> Plate {
        let pad = (height / 5.0).round().max(1.0) as i32;
        let font = self.font.as_scaled(height);
        let advance: f32 = text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum();
        let area = Area { x1: 0, y1: 0, x2: advance.ceil() as i32 + 2 * pad, y2: height.ceil() as i32 + pad };
        Plate { area, text: text.to_owned(), height, pad }
    }

    /// Positions for a plate next to the box `own` and inside the picture, the best first.
    fn positions(&self, own: Area, plate: Area) -> impl Iterator<Item = Area> {
        let (width, height) = (plate.x2, plate.y2);
        let (last_x, last_y) = (self.picture.x2 - width, self.picture.y2 - height);
        let (above, below) = (own.y1 - height - 1, own.y2 + 1);
        let (left, right) = (own.x1 - width - 1, own.x2 + 1);
        let along_x = [own.x1, own.x2 - width, (own.x1 + own.x2 - width) / 2].map(|x| x.min(last_x).max(0));
        let along_y = [own.y1, own.y2 - height].map(|y| y.min(last_y).max(0));
        let rows = [above, below].into_iter().flat_map(move |y| along_x.map(|x| (x, y)));
        let columns = [right, left].into_iter().flat_map(move |x| along_y.map(|y| (x, y)));
        let inside = move |&(x, y): &(i32, i32)| (0..=last_x).contains(&x) && (0..=last_y).contains(&y);
        rows.chain(columns).filter(inside).map(move |(x, y)| moved(plate, x, y))
    }
}

/// The area of the size of `plate` at (x, y).
fn moved(plate: Area, x: i32, y: i32) -> Area {
    Area { x1: x, y1: y, x2: x + plate.x2, y2: y + plate.y2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(size: (u32, u32), boxes: &[[f32; 4]], height: f32) -> Vec<Option<Plate>> {
        let mut labels = LabelPlacer::new(size, boxes.iter().copied()).unwrap();
        let parts = ["88%".to_owned(), "12px".to_owned()];
        boxes.iter().map(|b| labels.place(*b, &parts, height)).collect()
    }

    #[test]
    fn labels_overlap_neither_faces_nor_labels() {
        // A row of neighbors, a face below another, a face in the corner, a face at the top.
        let boxes = [
            [10.0, 40.0, 24.0, 56.0],
            [30.0, 40.0, 44.0, 56.0],
            [34.0, 58.0, 48.0, 72.0],
            [90.0, 36.0, 104.0, 50.0],
            [140.0, 90.0, 158.0, 109.0],
            [110.0, 0.0, 124.0, 16.0],
        ];
        let plates = place((160, 111), &boxes, 10.0);
        let picture = Area { x1: 0, y1: 0, x2: 160, y2: 111 };
        for (i, plate) in plates.iter().enumerate() {
            let area = plate.as_ref().expect("there is room for all").area;
            assert_eq!(area.intersection(picture), area, "{i} is cut off");
            assert!(boxes.iter().all(|b| !Area::of_box(*b).overlaps(area)), "{i} hides a face");
            let others = plates[..i].iter().flatten();
            assert!(others.clone().all(|p| !p.area.overlaps(area)), "{i} hides a label");
        }
    }

    #[test]
    fn labels_are_shorter_without_room() {
        let of = |size, face| place(size, &[face], 10.0).remove(0).map(|p| (p.text, p.area.y1));
        let (text, top) = of((64, 64), [22.0, 10.0, 34.0, 24.0]).unwrap();
        assert_eq!(text, "88% 12px");
        assert!(top >= 24, "below: no room above");
        assert_eq!(of((32, 35), [2.0, 13.0, 30.0, 34.0]).unwrap(), ("88%".to_owned(), 0), "the size is left out");
        assert_eq!(of((32, 35), [2.0, 2.0, 30.0, 33.0]), None, "the face fills the picture");
        let (_, top) = of((500, 500), [-3.0, -2.0, 503.0, 510.0]).unwrap();
        assert_eq!(top, 0, "in the corner of a large face");
    }

    #[test]
    fn extreme_boxes_do_not_panic() {
        for bbox in [[f32::NAN; 4], [1e30, -1e30, 2.0, 1.0], [9.0, 9.0, 3.0, 3.0], [-1e9; 4]] {
            for size in [(1, 1), (3, 200), (64, 64)] {
                place(size, &[bbox, bbox], 64.0);
            }
        }
    }
}
