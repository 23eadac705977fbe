//! Greedy non-maximum suppression.

use super::head::Detection;
use ifr_engine::simd::vectorized;

/// Drops detections that overlap a better detection, and sorts by descending score.
///
/// A detection is dropped if its IoU with a kept detection of a higher score exceeds `threshold`. Boxes are inclusive
/// pixel ranges (width = x2 - x1 + 1), as in py-faster-rcnn, whose suppression the published decoders use. Detections
/// with a score or box that is not finite are dropped first.
pub fn nms(detections: &mut Vec<Detection>, threshold: f32) {
    detections.retain(|d| d.score.is_finite() && d.bbox.iter().all(|v| v.is_finite()));
    // Stable: of equal scores, the first proposal of the network is kept.
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
    index: Vec<u32>,
    /// Not 0 for boxes that a kept box suppresses.
    suppressed: Vec<u32>,
    /// Index of the first box that is not processed yet.
    first: usize,
    /// Number of suppressed boxes from index `first`.
    holes: usize,
}

impl Boxes {
    fn new(sorted: &[Detection]) -> Boxes {
        let coordinate = |i: usize| sorted.iter().map(|d| d.bbox[i]).collect::<Vec<f32>>();
        let (x1, y1, x2, y2) = (coordinate(0), coordinate(1), coordinate(2), coordinate(3));
        let area = sorted.iter().map(|d| (d.bbox[2] - d.bbox[0] + 1.0) * (d.bbox[3] - d.bbox[1] + 1.0)).collect();
        let index = (0..sorted.len() as u32).collect();
        Boxes { x1, y1, x2, y2, area, index, suppressed: vec![0; sorted.len()], first: 0, holes: 0 }
    }

    /// Removes the best remaining box, marks the boxes that it suppresses, and returns its index in the sorted
    /// detections.
    fn pop_best_and_suppress(&mut self, threshold: f32) -> Option<usize> {
        let gap = self.suppressed[self.first..].iter().position(|&s| s == 0)?;
        self.first += gap;
        self.holes -= gap;
        let best = self.index[self.first] as usize;
        self.first += 1;
        self.holes += compare(self, self.first - 1, threshold) as usize;
        // Compacting takes about the time of comparing a few boxes with all others.
        if self.holes * 4 > self.index.len() - self.first {
            self.compact();
        }
        Some(best)
    }

    /// Removes the suppressed boxes from the arrays. Keeps the order.
    fn compact(&mut self) {
        let (_, suppressed) = self.suppressed.split_at(self.first);
        for column in [&mut self.x1, &mut self.y1, &mut self.x2, &mut self.y2, &mut self.area] {
            close_gaps(column, self.first, suppressed);
        }
        close_gaps(&mut self.index, self.first, suppressed);
        self.suppressed.truncate(self.index.len());
        self.suppressed[self.first..].fill(0);
        self.holes = 0;
    }
}

/// Removes the values of `column` from index `first` with a flag that is not 0.
fn close_gaps<T: Copy>(column: &mut Vec<T>, first: usize, suppressed: &[u32]) {
    let values = &mut column[first..];
    let count = values.len().min(suppressed.len());
    let (values, suppressed) = (&mut values[..count], &suppressed[..count]);
    let mut to = 0;
    for (from, &flag) in suppressed.iter().enumerate() {
        // `to` never exceeds `from`; `min` tells the compiler, which then omits the bounds check. Adding the flag
        // avoids a branch.
        let at = to.min(from);
        values[at] = values[from];
        to += usize::from(flag == 0);
    }
    column.truncate(first + to);
}

vectorized! {
    /// Marks the boxes after index `at` that box `at` suppresses. Returns the number of newly marked boxes.
    fn compare(boxes: &mut Boxes, at: usize, threshold: f32) -> u32 {
        let (x1, y1, x2, y2, area) = (boxes.x1[at], boxes.y1[at], boxes.x2[at], boxes.y2[at], boxes.area[at]);
        let rest = at + 1..boxes.index.len();
        let others = boxes.x1[rest.clone()]
            .iter()
            .zip(&boxes.y1[rest.clone()])
            .zip(&boxes.x2[rest.clone()])
            .zip(&boxes.y2[rest.clone()])
            .zip(&boxes.area[rest.clone()]);
        let mut count = 0;
        for (out, ((((&ox1, &oy1), &ox2), &oy2), &other)) in boxes.suppressed[rest].iter_mut().zip(others) {
            let w = (x2.min(ox2) - x1.max(ox1) + 1.0).max(0.0);
            let h = (y2.min(oy2) - y1.max(oy1) + 1.0).max(0.0);
            let shared = w * h;
            // IoU > threshold without a division; false if a value is NaN.
            let over = u32::from(shared > threshold * (area + other - shared)) & !*out;
            count += over;
            *out |= over;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn face(bbox: [f32; 4], score: f32) -> Detection {
        Detection { bbox, landmarks: [[0.0; 2]; 5], score, mask: None }
    }

    fn iou(a: &Detection, b: &Detection) -> f32 {
        let (shared, union) = shared_and_union(a, b);
        shared / union
    }

    fn over(a: &Detection, b: &Detection, threshold: f32) -> bool {
        let (shared, union) = shared_and_union(a, b);
        shared > threshold * union
    }

    fn shared_and_union(a: &Detection, b: &Detection) -> (f32, f32) {
        let side = |lo: usize, hi: usize| (a.bbox[hi].min(b.bbox[hi]) - a.bbox[lo].max(b.bbox[lo]) + 1.0).max(0.0);
        let shared = side(0, 2) * side(1, 3);
        let area = |d: &Detection| (d.bbox[2] - d.bbox[0] + 1.0) * (d.bbox[3] - d.bbox[1] + 1.0);
        (shared, area(a) + area(b) - shared)
    }

    /// The algorithm as published, without optimization.
    fn oracle(mut all: Vec<Detection>, threshold: f32) -> Vec<Detection> {
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept: Vec<Detection> = vec![];
        for d in all {
            if kept.iter().all(|k| !over(k, &d, threshold)) {
                kept.push(d);
            }
        }
        kept
    }

    #[test]
    fn the_higher_score_of_two_overlapping_boxes_is_kept() {
        let mut faces = vec![
            face([0.0, 0.0, 10.0, 10.0], 0.7),
            face([1.0, 1.0, 11.0, 11.0], 0.9),
            face([50.0, 50.0, 60.0, 60.0], 0.8),
        ];
        nms(&mut faces, 0.4);
        assert_eq!(faces.iter().map(|f| f.score).collect::<Vec<_>>(), [0.9, 0.8]);
    }

    #[test]
    fn detections_with_non_finite_numbers_are_dropped() {
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
        fn agrees_with_the_published_algorithm(raw in proptest::collection::vec((0f32..100.0, 0f32..100.0, -5f32..60.0, -5f32..60.0, 0f32..1.0), 0..80),
                                     threshold in 0f32..1.0) {
            let all: Vec<Detection> = raw.iter().map(|&(x, y, w, h, s)| face([x, y, x + w, y + h], s)).collect();
            let mut fast = all.clone();
            nms(&mut fast, threshold);
            prop_assert_eq!(fast, oracle(all, threshold));
        }

        #[test]
        fn kept_boxes_do_not_overlap_and_are_sorted(raw in proptest::collection::vec((0f32..50.0, 0f32..50.0, 1f32..60.0, 1f32..60.0, 0f32..1.0), 0..80)) {
            let mut faces: Vec<Detection> = raw.iter().map(|&(x, y, w, h, s)| face([x, y, x + w, y + h], s)).collect();
            nms(&mut faces, 0.4);
            prop_assert!(faces.windows(2).all(|w| w[0].score >= w[1].score));
            for (i, a) in faces.iter().enumerate() {
                prop_assert!(faces[i + 1..].iter().all(|b| iou(a, b) <= 0.4 + 1e-6));
            }
        }
    }
}
