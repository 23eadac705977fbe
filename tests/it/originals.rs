//! Recordings of InsightFace-REST 0.9.5 with its models: samples of answers, `/info`, and settings.

use crate::support::*;
use ifr::config::{Setting, Settings};
use serde_json::{Value, json};
use std::path::Path;

fn sample(api: &Path, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(api.join(name)).unwrap()).unwrap()
}

/// The configuration of the original at the time of the recording. Its recognizer is built in here.
fn recorded(settings: &mut Settings) {
    settings.models.max_size = "640,640".parse().unwrap();
    settings.models.models_dir = Setting(reference_file("models"));
    settings.models.det_name = "scrfd_2.5g_gnkps".into();
    settings.models.ga_name = Setting(Some("genderage_v1".into()));
    settings.sources.root_images_dir = Setting(reference_file("images"));
}

#[test]
fn original_samples_are_reproduced() {
    let (Some(api), Some(_), Some(_)) = (reference_file("api"), reference_file("images"), reference_file("models"))
    else {
        return;
    };
    let service = Service::start(recorded);

    let expected = sample(&api, "extract_detect_embed_ga.json");
    let body = json!({
        "images": {"urls": ["Stallone.jpg", "nope.jpg", "t1.jpg"]}, "return_landmarks": true, "verbose_timings": true,
        "extract_ga": true, "limit_faces": 2,
    });
    let answer = service.extract(body);
    assert_eq!(keys(&answer), keys(&expected));
    assert_eq!(keys(&answer["took"]), keys(&expected["took"]));
    assert_eq!(answer["data"].as_array().unwrap().len(), expected["data"].as_array().unwrap().len());
    for (ours, theirs) in answer["data"].as_array().unwrap().iter().zip(expected["data"].as_array().unwrap()) {
        assert_eq!(keys(ours), keys(theirs));
        assert_eq!(ours["status"], theirs["status"]);
        assert_eq!(ours["traceback"], theirs["traceback"]);
        let (ours, theirs) = (ours["faces"].as_array().unwrap(), theirs["faces"].as_array().unwrap());
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            same_face(ours, theirs);
        }
    }

    let expected = sample(&api, "extract_embed_only.json");
    let answer = service.extract(json!({"images": {"urls": ["TH.png"]}, "embed_only": true}));
    assert_eq!(keys(&answer), keys(&expected));
    assert_eq!(answer["status"], expected["status"]);
    let (ours, theirs) = (&answer["data"][0], &expected["data"][0]);
    assert_eq!((keys(ours), &ours["status"], &ours["took_ms"]), (keys(theirs), &theirs["status"], &theirs["took_ms"]));
    let (ours, theirs) = (&ours["faces"][0], &theirs["faces"][0]);
    assert_eq!(keys(ours), keys(theirs));
    for field in ["gender", "age", "mask", "mask_probs", "bbox", "size", "prob", "status"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    assert!((ours["norm"].as_f64().unwrap() - theirs["norm"].as_f64().unwrap()).abs() < 0.05);
    same_vector_start(ours, theirs);

    // The original fails for requests of crops alone, so the recorded request has other fields, too.
    let expected = sample(&api, "extract_face_data_no_embedding.json");
    let body = json!({"images": {"urls": ["Stallone.jpg"]}, "return_face_data": true, "extract_embedding": false});
    let answer = service.extract(body);
    assert_eq!((keys(&answer), keys(&answer["took"])), (keys(&expected), keys(&expected["took"])));
    assert_eq!((&expected["data"][0]["status"], &answer["data"][0]["status"]), (&json!("failed"), &json!("ok")));
    assert!(answer["data"][0].get("traceback").is_none());
    let face = &answer["data"][0]["faces"][0];
    assert_eq!(keys(face), ["bbox", "facedata", "num_det", "prob", "scale", "size"]);
    assert!(face["facedata"].as_str().unwrap().starts_with("/9j/"), "a JPEG");
}

#[test]
fn info_has_the_original_values() {
    let (Some(api), Some(_)) = (reference_file("api"), reference_file("models")) else { return };
    let mut expected = sample(&api, "info.json");
    let mut info: Value = Service::start(recorded).get("/info").json().unwrap();
    // The version differs, and the recognizer has another name.
    for info in [&mut expected, &mut info] {
        info["version"].take();
        info["models"]["rec_name"].take();
    }
    assert_eq!(info, expected);
}

#[cfg(unix)]
#[test]
fn original_variables_are_read() {
    let (Some(images), Some(models)) = (reference_file("images"), reference_file("models")) else { return };
    let (images, models) = (images.to_str().unwrap(), models.to_str().unwrap());
    // No value equals the default.
    let variables = [
        ("LOG_LEVEL", "DEBUG"),
        ("PORT", "0"),
        ("ROOT_IMAGES_DIR", images),
        ("MODELS_DIR", models),
        ("DET_NAME", "mnet_cov2"),
        ("REC_NAME", "mobilefacenet_y1"),
        ("GA_NAME", "genderage_v1"),
        ("MASK_DETECTOR", "None"),
        ("MAX_SIZE", "320,416"),
        ("REC_BATCH_SIZE", "2"),
        ("DET_BATCH_SIZE", "3"),
        ("NUM_WORKERS", "1"),
        ("INFERENCE_BACKEND", "onnx"),
        ("FORCE_FP16", "True"),
        ("TRITON_URI", "localhost:8001"),
        ("DEF_RETURN_FACE_DATA", "True"),
        ("DEF_RETURN_LANDMARKS", "True"),
        ("DEF_EXTRACT_EMBEDDING", "False"),
        ("DEF_EXTRACT_GA", "True"),
        ("DEF_DETECT_MASKS", "True"),
        ("DEF_DET_THRESH", "0.3"),
        ("DEF_IMG_REQ_HEADERS", r#"{"User-Agent": "tested"}"#),
        ("DEF_SSLV3_HACK", "True"),
    ];
    let program = Program::start(&variables);
    let get = |path: &str| client().get(program.url(path)).send().unwrap().json::<Value>().unwrap();
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"), "tensorrt_version": null, "log_level": "DEBUG",
        "models": {
            "inference_backend": "onnx", "det_name": "mnet_cov2", "rec_name": "mobilefacenet_y1", "max_size": [320, 416],
            "ga_name": "genderage_v1", "mask_detector": null, "rec_batch_size": 2, "det_batch_size": 3, "force_fp16": true,
            "triton_uri": null,
        },
        "defaults": {
            "return_face_data": true, "return_landmarks": true, "extract_embedding": false, "extract_ga": true,
            "detect_masks": true, "det_thresh": 0.3, "img_req_headers": {"User-Agent": "tested"}, "sslv3_hack": true,
        },
    });
    assert_eq!(get("/info"), expected);
    let metrics = client().get(program.url("/metrics")).send().unwrap().text().unwrap();
    assert!(metrics.contains("\nifr_workers 1\n"), "{metrics}");
    // Their effects.
    let body = json!({"images": {"urls": ["mask.jpg"]}});
    let answer: Value = client().post(program.url("/extract")).json(&body).send().unwrap().json().unwrap();
    let faces = answer["data"][0]["faces"].as_array().unwrap();
    assert!(faces.iter().any(|face| face["prob"].as_f64().unwrap() < 0.6) || faces.len() >= 4, "{answer}");
    for face in faces {
        assert!(face["facedata"].is_string() && face["landmarks"].is_array() && face["vec"].is_null(), "{face}");
        assert!(face["gender"].is_u64() && face["age"].is_u64() && face["mask"].is_boolean(), "{face}");
    }
}

/// Parity of one face: box and landmarks within one pixel, score within 0.02, and the recorded part of the vector.
fn same_face(ours: &Value, theirs: &Value) {
    assert_eq!(keys(ours), keys(theirs));
    let numbers = |v: &Value| {
        v.as_array()
            .unwrap()
            .iter()
            .flat_map(|v| v.as_array().cloned().unwrap_or(vec![v.clone()]))
            .map(|v| v.as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    for field in ["bbox", "landmarks"] {
        for (a, b) in numbers(&ours[field]).iter().zip(numbers(&theirs[field])) {
            assert!((a - b).abs() <= 1, "{field}: {} and {}", ours[field], theirs[field]);
        }
    }
    let float = |v: &Value, name: &str| v[name].as_f64().unwrap();
    assert!((float(ours, "prob") - float(theirs, "prob")).abs() <= 0.02);
    assert!((float(ours, "scale") - float(theirs, "scale")).abs() < 1e-9);
    assert!((float(ours, "norm") - float(theirs, "norm")).abs() < 0.1);
    assert!((float(ours, "size") - float(theirs, "size")).abs() <= 1.0);
    for field in ["num_det", "gender", "age", "mask", "mask_probs"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    same_vector_start(ours, theirs);
}

fn same_vector_start(ours: &Value, theirs: &Value) {
    for (index, value) in theirs["vec"].as_array().unwrap().iter().enumerate() {
        if let Some(value) = value.as_f64() {
            let own = ours["vec"][index].as_f64().unwrap();
            assert!((own - value).abs() < 0.006, "vec[{index}]: {own} and {value}");
        }
    }
}
