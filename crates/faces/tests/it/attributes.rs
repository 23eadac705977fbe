//! Scores of published pipelines, computed with ONNX Runtime: liveness, masks, and an SCRFD network without a batch
//! axis.

use ifr_faces::attributes::FaceView;
use ifr_faces::image::RgbImage;
use ifr_faces::models::ModelStore;
use ifr_testing::reference_data;

use crate::pictures::read;

/// Picture, box and mean probability of a live face, as Silent-Face-Anti-Spoofing computes it: its `CropImage`,
/// OpenCV's resize and decoder, and ONNX Runtime, on the boxes of `golden/scrfd_2.5g_gnkps.json`.
const LIVENESS: &[(&str, [f32; 4], f32)] = &[
    ("Stallone.jpg", [87.18, 33.45, 144.32, 110.98], 0.9922),
    ("TH1.jpg", [30.25, 57.71, 219.35, 334.76], 0.0675),
    ("mask.jpg", [18.13, 136.92, 77.63, 211.18], 0.5985),
    ("mask.jpg", [120.75, 135.02, 179.23, 210.21], 0.5152),
    ("mask.jpg", [12.88, 2.72, 69.57, 83.61], 0.5776),
    ("mask.jpg", [113.81, -2.04, 168.72, 82.38], 0.0977),
    ("t1.jpg", [745.16, 343.48, 845.04, 478.74], 0.7851),
    ("t1.jpg", [902.56, 55.85, 1011.89, 204.51], 0.9781),
    ("t1.jpg", [466.40, 266.85, 573.07, 414.73], 0.8538),
    ("t1.jpg", [57.60, 265.93, 166.72, 394.43], 0.9977),
    ("t1.jpg", [1131.72, 271.53, 1225.72, 397.65], 0.9534),
    ("t1.jpg", [270.52, 149.16, 369.39, 267.79], 0.8047),
    ("lumia.jpg", [882.46, 686.40, 995.43, 824.42], 0.9988),
    ("lumia.jpg", [803.40, 536.57, 838.65, 577.36], 0.9959),
    ("lumia.jpg", [359.09, 570.07, 399.83, 618.21], 0.9157),
    ("lumia.jpg", [351.95, 742.73, 409.60, 805.48], 0.9991),
    ("lumia.jpg", [846.98, 515.25, 882.54, 556.94], 0.9996),
    ("lumia.jpg", [840.64, 560.85, 876.57, 606.77], 0.9966),
];

#[test]
fn liveness_scores_equal_the_published_pipeline() {
    let Some(data) = reference_data() else { return };
    let store = ModelStore::new(Some(data.join("models")));
    let networks = store.liveness("2.7_80x80_MiniFASNetV2,4_0_0_80x80_MiniFASNetV1SE", 4).unwrap();
    let mut sum = 0.0;
    for (name, bbox, expected) in LIVENESS {
        let image = read(&data.join("images").join(name));
        let crop = RgbImage::new(112, 112);
        let score = networks.score(&[FaceView { image: &image, bbox: *bbox, crop: &crop }]).unwrap()[0];
        println!("liveness {name} {bbox:?}: {score:.4}, expected {expected}");
        // In the middle of its range the score is steep: a difference of one gray level in the JPEG decoder is visible.
        assert!((score - expected).abs() <= 0.05, "{name} {bbox:?}: {score} for {expected}");
        sum += (score - expected).abs();
    }
    let mean = sum / LIVENESS.len() as f32;
    assert!(mean <= 0.01, "mean difference {mean}");
}

/// Letterboxed picture, box, score and mask score, from mnet_cov2 with ONNX Runtime and the published post-processing.
/// Written by tests/python/mnet_cov2_masks.py.
const MASKS: &[(&str, [f32; 4], f32, f32)] = &[
    ("mask", [207.99, 227.57, 316.71, 370.93], 0.9964, 0.0009),
    ("mask", [25.44, 234.41, 136.85, 380.68], 0.9928, 0.0034),
    ("mask", [19.21, 14.43, 121.95, 144.52], 0.9794, 0.9892),
    ("t1", [452.79, 31.19, 505.70, 103.91], 0.9995, 0.0003),
    ("t1", [230.24, 132.90, 286.08, 205.61], 0.9994, 0.0015),
    ("t1", [371.89, 173.33, 419.89, 236.89], 0.9993, 0.0014),
    ("t1", [25.56, 134.83, 87.60, 201.89], 0.9991, 0.0019),
    ("t1", [564.24, 139.41, 613.22, 201.07], 0.9978, 0.0007),
    ("t1", [131.59, 71.24, 187.29, 135.45], 0.9957, 0.2149),
    ("TH1", [33.58, 93.81, 357.18, 546.45], 0.9529, 0.0070),
    ("Stallone", [139.90, 55.36, 233.07, 182.83], 0.9957, 0.0023),
];

#[test]
fn mask_scores_equal_the_published_pipeline() {
    let Some(data) = reference_data() else { return };
    let detector = ModelStore::new(Some(data.join("models"))).detector("mnet_cov2", (640, 640), 1).unwrap();
    for name in ["mask", "t1", "TH1", "Stallone"] {
        let image = read(&data.join(format!("golden/letterbox/{name}.png")));
        let found = detector.detect(&[&image], 0.6).unwrap().remove(0).detections;
        let expected: Vec<_> = MASKS.iter().filter(|(of, ..)| *of == name).collect();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (face, (_, bbox, score, mask)) in found.iter().zip(expected) {
            let near = face.bbox.iter().zip(bbox).all(|(a, b)| (a - b).abs() < 0.1);
            assert!(near && (face.score - score).abs() < 0.002, "{face:?} for {bbox:?} {score}");
            assert!(face.mask.is_some_and(|m| (m - mask).abs() < 0.005), "{face:?} for a mask score of {mask}");
        }
    }
}

/// Picture, box, score and left eye in the letterboxed picture of 640x640, from the 500 MF network of InsightFace's
/// pack buffalo_s with ONNX Runtime and `scrfd.py`. The outputs of this network have no batch axis.
const SCRFD_500M: &[(&str, [f32; 4], f32, [f32; 2])] = &[
    ("Stallone", [144.51, 54.71, 241.90, 184.64], 0.8281, [159.56, 101.65]),
    ("t1", [372.67, 171.10, 423.64, 240.06], 0.8795, [380.54, 200.05]),
    ("t1", [231.75, 133.24, 286.36, 207.71], 0.8730, [247.80, 160.78]),
    ("t1", [27.80, 130.42, 84.28, 198.97], 0.8722, [41.41, 164.06]),
    ("t1", [453.02, 29.74, 505.55, 103.14], 0.8645, [458.37, 59.39]),
    ("t1", [565.15, 136.41, 613.63, 200.31], 0.8592, [574.65, 162.38]),
    ("t1", [135.01, 72.46, 185.95, 135.14], 0.8228, [142.69, 103.05]),
];

#[test]
fn scrfd_without_a_batch_axis_equals_the_published_pipeline() {
    let Some(data) = reference_data() else { return };
    let store = ModelStore::new(Some(data.join("models")));
    for batch in [1, 4] {
        let detector = store.detector("scrfd_500m_bnkps", (640, 640), batch).unwrap();
        assert_eq!(detector.batch(), 1, "there is no axis to batch on");
        for name in ["Stallone", "t1"] {
            let image = read(&data.join(format!("golden/letterbox/{name}.png")));
            let found = detector.detect(&[&image, &image], 0.5).unwrap();
            assert_eq!(found[0], found[1]);
            let expected: Vec<_> = SCRFD_500M.iter().filter(|(of, ..)| *of == name).collect();
            assert_eq!(found[0].detections.len(), expected.len(), "{name}");
            for (face, (_, bbox, score, eye)) in found[0].detections.iter().zip(expected) {
                let near = face
                    .bbox
                    .iter()
                    .zip(bbox)
                    .chain(face.landmarks[0].iter().zip(eye))
                    .all(|(a, b)| (a - b).abs() < 0.1);
                assert!(near && (face.score - score).abs() < 0.002, "{face:?} for {bbox:?} {score}");
            }
        }
    }
}
