//! Greedy non-maximum suppression.

use super::Detection;

/// Keeps the best of overlapping detections and sorts by descending score.
///
/// A detection goes when its IoU with a better one that stayed exceeds `threshold`. Boxes count as inclusive pixel ranges
/// (width = x2 - x1 + 1), as in py-faster-rcnn, which all these detectors were published with. Detections whose score or box is
/// not finite are dropped first.
pub fn nms(detections: &mut Vec<Detection>, threshold: f32) {
    detections.retain(|d| d.score.is_finite() && d.bbox.iter().all(|v| v.is_finite()));
    // Stable: of equal scores the one the network gave first stays.
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut boxes = Boxes::new(detections);
    let mut kept = Vec::with_capacity(detections.len());
    while let Some(index) = boxes.pop_best_and_suppress(threshold) {
        kept.push(detections[index]);
    }
    *detections = kept;
}

/// Boxes as one array per coordinate, so that one box is compared with all others in vector registers.
struct Boxes {
    x1: Vec<f32>,
    y1: Vec<f32>,
    x2: Vec<f32>,
    y2: Vec<f32>,
    area: Vec<f32>,
    index: Vec<usize>,
    overlap: Vec<f32>,
    first: usize,
}

impl Boxes {
    fn new(sorted: &[Detection]) -> Boxes {
        let coordinate = |i: usize| sorted.iter().map(|d| d.bbox[i]).collect::<Vec<f32>>();
        let (x1, y1, x2, y2) = (coordinate(0), coordinate(1), coordinate(2), coordinate(3));
        let area = sorted.iter().map(|d| (d.bbox[2] - d.bbox[0] + 1.0) * (d.bbox[3] - d.bbox[1] + 1.0)).collect();
        Boxes { x1, y1, x2, y2, area, index: (0..sorted.len()).collect(), overlap: vec![0.0; sorted.len()], first: 0 }
    }

    /// Takes the best remaining box, removes those it suppresses, and returns its index.
    fn pop_best_and_suppress(&mut self, threshold: f32) -> Option<usize> {
        let best = *self.index.get(self.first)?;
        let at = self.first;
        let (x1, y1, x2, y2, area) = (self.x1[at], self.y1[at], self.x2[at], self.y2[at], self.area[at]);
        self.first += 1;
        let rest = self.first..self.index.len();
        let overlap = &mut self.overlap[rest.clone()];
        let (bx1, by1, bx2, by2) =
            (&self.x1[rest.clone()], &self.y1[rest.clone()], &self.x2[rest.clone()], &self.y2[rest.clone()]);
        let areas = &self.area[rest.clone()];
        for (((((out, &ox1), &oy1), &ox2), &oy2), &other) in
            overlap.iter_mut().zip(bx1).zip(by1).zip(bx2).zip(by2).zip(areas)
        {
            let w = (x2.min(ox2) - x1.max(ox1) + 1.0).max(0.0);
            let h = (y2.min(oy2) - y1.max(oy1) + 1.0).max(0.0);
            let shared = w * h;
            *out = shared / (area + other - shared);
        }
        self.compact(threshold);
        Some(best)
    }

    /// Moves the boxes that stay together, in order.
    fn compact(&mut self, threshold: f32) {
        let mut to = self.first;
        for from in self.first..self.index.len() {
            // Not `<=`: an IoU that is no number suppresses nothing.
            if self.overlap[from] > threshold {
                continue;
            }
            if to != from {
                for column in [&mut self.x1, &mut self.y1, &mut self.x2, &mut self.y2, &mut self.area] {
                    column[to] = column[from];
                }
                self.index[to] = self.index[from];
            }
            to += 1;
        }
        for column in [&mut self.x1, &mut self.y1, &mut self.x2, &mut self.y2, &mut self.area, &mut self.overlap] {
            column.truncate(to);
        }
        self.index.truncate(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn face(bbox: [f32; 4], score: f32) -> Detection {
        Detection { bbox, landmarks: [[0.0; 2]; 5], score }
    }

    fn iou(a: &Detection, b: &Detection) -> f32 {
        let side = |lo: usize, hi: usize| (a.bbox[hi].min(b.bbox[hi]) - a.bbox[lo].max(b.bbox[lo]) + 1.0).max(0.0);
        let shared = side(0, 2) * side(1, 3);
        let area = |d: &Detection| (d.bbox[2] - d.bbox[0] + 1.0) * (d.bbox[3] - d.bbox[1] + 1.0);
        shared / (area(a) + area(b) - shared)
    }

    /// The textbook loop.
    fn oracle(mut all: Vec<Detection>, threshold: f32) -> Vec<Detection> {
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept: Vec<Detection> = vec![];
        for d in all {
            if kept.iter().all(|k| iou(k, &d) <= threshold) {
                kept.push(d);
            }
        }
        kept
    }

    #[test]
    fn the_better_of_two_stays() {
        let mut faces = vec![
            face([0.0, 0.0, 10.0, 10.0], 0.7),
            face([1.0, 1.0, 11.0, 11.0], 0.9),
            face([50.0, 50.0, 60.0, 60.0], 0.8),
        ];
        nms(&mut faces, 0.4);
        assert_eq!(faces.iter().map(|f| f.score).collect::<Vec<_>>(), [0.9, 0.8]);
    }

    #[test]
    fn broken_numbers_are_dropped() {
        let mut faces = vec![
            face([0.0, f32::NAN, 1.0, 1.0], 0.9),
            face([0.0; 4], f32::NAN),
            face([0.0, 0.0, f32::INFINITY, 1.0], 0.5),
        ];
        nms(&mut faces, 0.4);
        assert!(faces.is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_the_textbook(raw in proptest::collection::vec((0f32..100.0, 0f32..100.0, -5f32..60.0, -5f32..60.0, 0f32..1.0), 0..80),
                                     threshold in 0f32..1.0) {
            let all: Vec<Detection> = raw.iter().map(|&(x, y, w, h, s)| face([x, y, x + w, y + h], s)).collect();
            let mut fast = all.clone();
            nms(&mut fast, threshold);
            prop_assert_eq!(fast, oracle(all, threshold));
        }

        #[test]
        fn survivors_do_not_overlap_and_are_sorted(raw in proptest::collection::vec((0f32..50.0, 0f32..50.0, 1f32..60.0, 1f32..60.0, 0f32..1.0), 0..80)) {
            let mut faces: Vec<Detection> = raw.iter().map(|&(x, y, w, h, s)| face([x, y, x + w, y + h], s)).collect();
            nms(&mut faces, 0.4);
            prop_assert!(faces.windows(2).all(|w| w[0].score >= w[1].score));
            for (i, a) in faces.iter().enumerate() {
                prop_assert!(faces[i + 1..].iter().all(|b| iou(a, b) <= 0.4));
            }
        }
    }
}
