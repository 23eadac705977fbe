//! The fields of `POST /extract` as in InsightFace-REST: one test per field, over a real socket.

use crate::support::*;
use ifr::config::Setting;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// A service with a large canvas, which finds the smaller faces of a crowded picture.
fn sharp_eyed() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::start(|settings| settings.models.max_size = "1024,640".parse().unwrap()))
}

fn faces(body: Value) -> Vec<Value> {
    service().extract(body)["data"][0]["faces"].as_array().unwrap().clone()
}

#[test]
fn face_has_an_embedding() {
    let answer = service().extract(json!({"images": data()}));
    assert_eq!(keys(&answer["took"]), ["total_ms"]);
    let image = &answer["data"][0];
    assert_eq!(image["status"], "ok");
    let face = &image["faces"][0];
    assert_eq!(image["faces"].as_array().unwrap().len(), 1);
    assert!(face["prob"].as_f64().unwrap() > 0.6);
    assert!(face["norm"].as_f64().unwrap() > 0.1);
    let vec: Vec<f64> = face["vec"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(vec.len(), 512);
    assert!((vec.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-4);
    let bbox: Vec<i64> = face["bbox"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    assert!(bbox[0] < bbox[2] && bbox[1] < bbox[3]);
    assert!((face["size"].as_i64().unwrap() - (bbox[2] - bbox[0])).abs() <= 1);
    assert!(face["scale"].as_f64().unwrap() > 0.0);
}

#[test]
fn fields_have_the_original_order() {
    let body = json!({"images": data(), "return_landmarks": true, "return_face_data": true, "verbose_timings": true});
    let text = service().post("/extract", &body).text().unwrap();
    assert_eq!(keys_in_order(&text), ["took", "data"]);
    let took = &text[text.find("\"took\":").unwrap() + 7..text.find(",\"data\":").unwrap()];
    assert_eq!(keys_in_order(took), ["total_ms", "read_imgs_ms", "embed_all_ms"]);
    let image = &text[text.find("\"data\":[").unwrap() + 8..text.len() - 2];
    assert_eq!(keys_in_order(image), ["status", "took_ms", "faces"]);
    let face = &image[image.find("\"faces\":[").unwrap() + 9..image.len() - 2];
    let expected = [
        "bbox",
        "landmarks",
        "prob",
        "num_det",
        "scale",
        "facedata",
        "norm",
        "vec",
        "gender",
        "age",
        "mask",
        "mask_probs",
        "size",
    ];
    assert_eq!(keys_in_order(face), expected);

    let crop = crop64();
    let body = json!({"images": {"data": [crop]}, "embed_only": true});
    let text = service().post("/extract", &body).text().unwrap();
    assert_eq!(keys_in_order(&text), ["took_ms", "data", "status"]);
    let image = &text[text.find("\"data\":[").unwrap() + 8..text.rfind(']').unwrap()];
    assert_eq!(keys_in_order(image), ["status", "took_ms", "faces"]);
    let face = &image[image.find("\"faces\":[").unwrap() + 9..image.len() - 2];
    let expected = ["norm", "vec", "gender", "age", "mask", "mask_probs", "bbox", "size", "prob", "status"];
    assert_eq!(keys_in_order(face), expected);
}

/// The aligned crop of the portrait, from the answer to a request.
fn crop64() -> String {
    static CROP: OnceLock<String> = OnceLock::new();
    CROP.get_or_init(|| {
        let faces = faces(json!({"images": data(), "return_face_data": true}));
        faces[0]["facedata"].as_str().unwrap().to_string()
    })
    .clone()
}

#[test]
fn threshold() {
    let count =
        |threshold: f64| faces(json!({"images": data(), "threshold": threshold, "extract_embedding": false})).len();
    assert_eq!(count(0.999), 0);
    assert_eq!(count(0.6), 1);
    for (value, kind) in
        [(json!(1.5), "less_than_equal"), (json!(-0.1), "greater_than_equal"), (json!("x"), "float_parsing")]
    {
        let response = service().post("/extract", &json!({"images": data(), "threshold": value}));
        assert_eq!(response.status(), 422);
        let error = &response.json::<Value>().unwrap()["detail"][0];
        assert_eq!((&error["loc"], &error["type"]), (&json!(["body", "threshold"]), &json!(kind)));
        assert!(error["msg"].is_string());
    }
}

#[test]
fn embed_only() {
    let crop = crop64();
    let answer =
        service().extract(json!({"images": {"data": [crop, "not base64!", portrait64()]}, "embed_only": true}));
    assert_eq!(answer["status"], "ok");
    assert!(answer["took_ms"].as_f64().unwrap() > 0.0);
    let good = &answer["data"][0]["faces"][0];
    assert_eq!(good["bbox"], json!([0, 0, 112, 112]));
    assert_eq!((&good["size"], &good["prob"], &good["status"]), (&json!(112), &json!(1.0), &json!("ok")));
    assert_eq!(good["vec"].as_array().unwrap().len(), 512);
    // A file that is not a crop fails alone. The original reports it in the face.
    for (index, reason) in [(1, "base64"), (2, "112x112")] {
        let face = &answer["data"][index]["faces"][0];
        assert_eq!(face["status"], "failed");
        assert!(face["traceback"].as_str().unwrap().contains(reason), "{face}");
        assert_eq!(answer["data"][index]["status"], "failed");
    }
    // The same face as with detection, except for JPEG compression.
    let detected = faces(json!({"images": data()}));
    assert!(cosine(&good["vec"], &detected[0]["vec"]) > 0.99);
    // Without embeddings the entry of the face has no values.
    let bare = service().extract(json!({"images": {"data": [crop]}, "embed_only": true, "extract_embedding": false}));
    assert!(bare["data"][0]["faces"][0]["vec"].is_null());
}

fn cosine(a: &Value, b: &Value) -> f64 {
    let numbers = |v: &Value| v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    numbers(a).iter().zip(numbers(b)).map(|(a, b)| a * b).sum()
}

#[test]
fn return_face_data() {
    for embedding in [true, false] {
        let faces = faces(json!({"images": data(), "return_face_data": true, "extract_embedding": embedding}));
        let crop =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, faces[0]["facedata"].as_str().unwrap());
        let crop = image::load_from_memory(&crop.unwrap()).unwrap();
        assert_eq!((crop.width(), crop.height()), (112, 112));
        assert_eq!(faces[0].get("vec").is_some(), embedding);
    }
    assert!(faces(json!({"images": data()}))[0].get("facedata").is_none());
}

#[test]
fn return_landmarks() {
    let face = &faces(json!({"images": data(), "return_landmarks": true}))[0];
    let points = face["landmarks"].as_array().unwrap();
    assert_eq!(points.len(), 5);
    let x = |index: usize| points[index][0].as_i64().unwrap();
    let y = |index: usize| points[index][1].as_i64().unwrap();
    assert!(x(0) < x(1) && x(3) < x(4), "left before right: {points:?}");
    assert!(y(0) < y(2) && y(2) < y(3), "eyes, nose, mouth from above: {points:?}");
    assert!(faces(json!({"images": data()}))[0].get("landmarks").is_none());
}

#[test]
fn extract_embedding() {
    let face = &faces(json!({"images": data(), "extract_embedding": false}))[0];
    assert_eq!(keys(face), ["bbox", "num_det", "prob", "scale", "size"]);
}

#[test]
fn attributes_without_models_are_null() {
    for field in ["extract_ga", "detect_masks"] {
        let face = &faces(json!({"images": data(), "extract_embedding": false, field: true}))[0];
        for name in ["norm", "vec", "gender", "age", "mask", "mask_probs"] {
            assert!(face.get(name).is_some_and(Value::is_null), "{field}: {name} in {face}");
        }
    }
}

#[test]
fn liveness_gender_and_age() {
    let Some(models) = reference_file("models") else { return };
    let service = Service::start(|settings| {
        settings.models.models_dir = Setting(Some(models));
        settings.models.ga_name = Setting(Some("genderage_v1".into()));
        settings.models.liveness_name = Setting(Some("2.7_80x80_MiniFASNetV2,4_0_0_80x80_MiniFASNetV1SE".into()));
    });
    let face = |body: Value| service.extract(body)["data"][0]["faces"][0].clone();
    let plain = face(json!({"images": {"data": [portrait64()]}}));
    assert!(plain.get("liveness").is_none(), "clients of the original get what they always got: {plain}");
    assert_eq!(plain["gender"], Value::Null);
    let asked = json!({"images": {"data": [portrait64()]}, "extract_liveness": true, "extract_ga": true,
        "extract_embedding": false});
    let asked = face(asked);
    assert!(asked["liveness"].as_f64().is_some_and(|l| (0.0..=1.0).contains(&l)), "{asked}");
    // Eileen Collins, 1999.
    assert_eq!(asked["gender"], 0);
    assert!(asked["age"].as_u64().is_some_and(|age| (20..60).contains(&age)), "{asked}");
    let crops = json!({"images": {"data": [crop64()]}, "embed_only": true, "extract_liveness": true});
    assert_eq!(service.extract(crops)["data"][0]["status"], "ok");
}

#[test]
fn detect_masks_by_the_detector() {
    let (Some(models), Some(images)) = (reference_file("models"), reference_file("images")) else { return };
    let service = Service::start(|settings| {
        settings.models.models_dir = Setting(Some(models));
        settings.models.det_name = "mnet_cov2".into();
        settings.models.max_size = "640,640".parse().unwrap();
        settings.sources.root_images_dir = Setting(Some(images));
    });
    let masks = |detect: Value| {
        let body = json!({"images": {"urls": ["mask.jpg"]}, "threshold": 0.3, "extract_ga": true,
            "extract_embedding": false, "detect_masks": detect});
        let answer = service.extract(body);
        let faces = answer["data"][0]["faces"].as_array().unwrap().clone();
        faces.iter().map(|face| (face["mask"].clone(), face["mask_probs"].clone())).collect::<Vec<_>>()
    };
    let told = masks(json!(true));
    // Two pairs of pictures: the same two persons with and without a mask.
    for mask in [true, false] {
        assert_eq!(told.iter().filter(|(told, _)| *told == mask).count(), 2, "{told:?}");
    }
    for (mask, probs) in &told {
        let prob = |name: &str| probs[name].as_f64().unwrap();
        assert_eq!(*mask, prob("mask") >= 0.89, "{probs}");
        assert!((prob("mask") + prob("no_mask") - 1.0).abs() < 1e-3, "{probs}");
    }
    assert!(
        masks(json!(false)).iter().chain(&masks(json!(null))).all(|(mask, probs)| mask.is_null() && probs.is_null())
    );
}

#[test]
fn limit_faces_keeps_the_largest() {
    let images = json!({"data": [base64(&three_faces())]});
    let sizes = |limit: u32| {
        let answer = sharp_eyed().extract(json!({"images": images, "limit_faces": limit, "extract_embedding": false}));
        let faces = answer["data"][0]["faces"].as_array().unwrap();
        let mut sizes: Vec<i64> = faces.iter().map(|face| face["size"].as_i64().unwrap()).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes
    };
    let all = sizes(0);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(sizes(2), all[..2]);
    assert_eq!(sizes(1), all[..1]);
    assert_eq!(sizes(100), all);
    assert_eq!(service().post("/extract", &json!({"images": images, "limit_faces": -1})).status(), 422);
}

#[test]
fn min_face_size_applies_to_each_image() {
    let mixed = base64(&three_faces());
    let images = json!({"data": [mixed, portrait64(), base64(&empty_scene()), mixed]});
    let all = sharp_eyed().extract(json!({"images": images, "return_face_data": true}));
    let mut sizes: Vec<i64> =
        all["data"][0]["faces"].as_array().unwrap().iter().map(|f| f["size"].as_i64().unwrap()).collect();
    sizes.sort_unstable();
    let cut = (sizes[1] + sizes[2]) / 2;
    let some = sharp_eyed().extract(json!({"images": images, "min_face_size": cut}));
    let counts: Vec<usize> = (0..4).map(|i| some["data"][i]["faces"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [1, 1, 0, 1]);
    for index in [0, 1, 3] {
        let kept = &some["data"][index]["faces"][0];
        let same = |face: &&Value| face["bbox"] == kept["bbox"];
        let before = all["data"][index]["faces"].as_array().unwrap().iter().find(same).unwrap();
        assert!(cosine(&kept["vec"], &before["vec"]) > 0.9999, "image {index}");
        assert_eq!(kept["num_det"], 0);
    }
    assert_eq!(service().post("/extract", &json!({"images": images, "min_face_size": -5})).status(), 422);
}

#[test]
fn verbose_timings() {
    let took =
        |verbose: Value| service().extract(json!({"images": data(), "verbose_timings": verbose}))["took"].clone();
    assert_eq!(keys(&took(json!(null))), ["total_ms"]);
    let verbose = took(json!(true));
    let ms = |name: &str| verbose[name].as_f64().unwrap();
    assert!(ms("read_imgs_ms") > 0.0 && ms("embed_all_ms") > 0.0);
    assert!(ms("total_ms") >= ms("embed_all_ms"));
}

#[test]
fn msgpack_in_and_out() {
    let service = service();
    let reference = service.extract(json!({"images": data()}));
    // Like the client of the original: raw bytes and both headers.
    let body = rmpv::Value::Map(vec![
        (
            "images".into(),
            rmpv::Value::Map(vec![("data".into(), rmpv::Value::Array(vec![rmpv::Value::Binary(portrait().to_vec())]))]),
        ),
        ("threshold".into(), 0.6.into()),
        ("limit_faces".into(), 0.into()),
        ("msgpack".into(), true.into()),
    ]);
    let mut packed = Vec::new();
    rmpv::encode::write_value(&mut packed, &body).unwrap();
    let request = service.client.post(service.url("/extract")).body(packed);
    let response =
        request.header("content-type", "application/msgpack").header("accept", "application/x-msgpack").send().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-msgpack");
    let bytes = response.bytes().unwrap();
    let answer: Value = rmp_serde::from_slice(&bytes).unwrap();
    let (face, expected) = (&answer["data"][0]["faces"][0], &reference["data"][0]["faces"][0]);
    assert_eq!(face["bbox"], expected["bbox"]);
    assert!(cosine(&face["vec"], &expected["vec"]) > 0.9999);
    // Vectors have 32-bit floats: 512 values of five bytes each instead of nine.
    assert!(bytes.len() < 512 * 5 + 400, "{} bytes", bytes.len());

    for (field, accept, expected) in [
        (json!(true), "application/json", "application/x-msgpack"),
        (json!(false), "application/x-msgpack", "application/x-msgpack"),
        (json!(null), "text/html, application/x-msgpack;q=0.9, */*;q=0.8", "application/x-msgpack"),
        (json!(null), "*/*", "application/json"),
    ] {
        let body = json!({"images": {"data": []}, "msgpack": field});
        let response =
            service.client.post(service.url("/extract")).json(&body).header("accept", accept).send().unwrap();
        assert_eq!(response.headers()["content-type"], expected, "{field} {accept}");
    }
}

#[test]
fn msgpack_with_base64_and_raw_strings() {
    let service = service();
    let with_text = json!({"images": {"data": [portrait64()]}, "extract_embedding": false});
    let mut raw = vec![0x81, 0xa4];
    raw.extend_from_slice(b"data\x91\xdb");
    raw.extend_from_slice(&(portrait().len() as u32).to_be_bytes());
    raw.extend_from_slice(portrait());
    for body in [rmp_serde::to_vec_named(&with_text).unwrap(), raw] {
        let request = service.client.post(service.url("/extract")).body(body);
        let response = request.header("content-type", "application/msgpack; charset=binary").send().unwrap();
        assert_eq!(response.status(), 200);
        let answer: Value = response.json().unwrap();
        assert_eq!(answer["data"][0]["faces"].as_array().unwrap().len(), 1, "{answer}");
    }
}

#[test]
fn base64_forms() {
    let standard = portrait64();
    let url_safe = standard.replace('+', "-").replace('/', "_");
    let wrapped: Vec<&str> = standard.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
    let forms = [
        standard.clone(),
        standard.trim_end_matches('=').to_string(),
        url_safe.clone(),
        url_safe.trim_end_matches('=').to_string(),
        format!("data:image/jpeg;base64,{standard}"),
        wrapped.join("\n"),
    ];
    let answer = service().extract(json!({"images": {"data": forms}, "extract_embedding": false}));
    for index in 0..forms.len() {
        assert_eq!(answer["data"][index]["faces"].as_array().unwrap().len(), 1, "form {index}: {answer}");
    }
}

#[test]
fn img_req_headers_replace_the_defaults() {
    let host = HttpHost::start("127.0.0.1", |request, _, stream| {
        let lower = request.head.to_ascii_lowercase();
        let known = lower.contains("x-token: secret") || lower.contains("user-agent: default-agent");
        respond(stream, if known { "200 OK" } else { "403 Forbidden" }, "", portrait());
    });
    let service = Service::start(|settings| {
        settings.sources.allow_nets = "127.0.0.1".parse().unwrap();
        settings.defaults.img_req_headers = r#"{"User-Agent": "default-agent"}"#.parse().unwrap();
    });
    let status = |headers: Value| {
        let body = json!({"images": {"urls": [host.url()]}, "img_req_headers": headers, "extract_embedding": false});
        service.extract(body)["data"][0]["status"].clone()
    };
    assert_eq!(status(json!({"X-Token": "secret"})), "ok");
    assert_eq!(status(json!({})), "ok");
    assert_eq!(status(json!(null)), "ok");
    assert_eq!(status(json!({"User-Agent": "other"})), "failed");
    for bad in [json!({"Host": "a"}), json!({"a b": "c"}), json!({"a": "b\r\nc: d"}), json!({"a": []}), json!(["a"])] {
        let response = service.post("/extract", &json!({"images": {"urls": []}, "img_req_headers": bad}));
        assert_eq!(response.status(), 422, "{bad}");
    }
}

#[test]
fn urls_win_over_data() {
    let answer = service().extract(json!({"images": {"urls": ["a.jpg", "b.jpg"], "data": [portrait64()]}}));
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(service().extract(json!({"images": {}}))["data"], json!([]));
}

#[test]
fn the_flat_form() {
    let service = service();
    let flat = json!({"data": [portrait64()], "det_name": "centerface", "rec_name": "mobilefacenet"});
    let nested = service.extract(json!({"images": data()}));
    let answer = service.extract(flat);
    assert_eq!(answer["data"][0]["faces"][0]["bbox"], nested["data"][0]["faces"][0]["bbox"]);
    assert_eq!(service.extract(json!({"urls": ["x.jpg"]}))["data"][0]["status"], "failed");
}

#[test]
fn unknown_models_are_400() {
    for (field, configured) in
        [("det_name", "centerface"), ("rec_name", "mobilefacenet"), ("ga_name", "none"), ("mask_detector", "none")]
    {
        let response = service().post("/extract", &json!({"images": data(), field: "../../etc/passwd"}));
        assert_eq!(response.status(), 400, "{field}");
        let detail = response.json::<Value>().unwrap()["detail"].as_str().unwrap().to_string();
        assert!(detail.contains(&format!("configured: {configured}")), "{detail}");
    }
    assert_eq!(service().post("/draw_detections", &json!({"images": data(), "det_name": "x"})).status(), 400);
}

#[test]
fn null_and_unknown_fields() {
    let body = json!({
        "images": {"data": [portrait64()], "urls": null}, "threshold": null, "embed_only": null, "return_face_data": null,
        "return_landmarks": null, "extract_embedding": null, "extract_ga": null, "detect_masks": null,
        "limit_faces": null, "min_face_size": null, "verbose_timings": null, "msgpack": null, "img_req_headers": null,
        "det_name": null, "rec_name": null, "max_size": [640, 480], "api_ver": "2", "unknown": {"a": [1]},
    });
    assert_eq!(faces(body).len(), 1);
}

#[test]
fn defaults_come_from_the_settings() {
    let service = Service::start(|settings| {
        settings.defaults.return_landmarks = true;
        settings.defaults.return_face_data = true;
        settings.defaults.extract_embedding = false;
        settings.defaults.extract_ga = true;
    });
    let face = |body| service.extract(body)["data"][0]["faces"][0].clone();
    let plain = face(json!({"images": data()}));
    assert!(plain.get("landmarks").is_some() && plain.get("facedata").is_some());
    assert!(plain["vec"].is_null() && plain.get("gender").is_some());
    let explicit =
        face(json!({"images": data(), "return_landmarks": false, "return_face_data": false, "extract_ga": false}));
    assert_eq!(keys(&explicit), ["bbox", "num_det", "prob", "scale", "size"]);

    let strict = Service::start(|settings| settings.defaults.det_thresh = 0.999);
    assert_eq!(strict.extract(json!({"images": data()}))["data"][0]["faces"], json!([]));
    let schema: Value = strict.get("/openapi.json").json().unwrap();
    assert_eq!(schema["components"]["schemas"]["BodyExtract"]["properties"]["threshold"]["default"], 0.999);
}

#[test]
fn embeddings_without_a_recognizer_are_null() {
    let service = Service::start(|settings| settings.models.rec_name = ifr::config::Setting(None));
    let answer = service.extract(json!({"images": data()}));
    let face = &answer["data"][0]["faces"][0];
    assert!(face["vec"].is_null() && face["norm"].is_null() && face["prob"].is_number());
    assert_eq!(service.get("/health").status(), 200);
}

#[test]
fn bad_images_of_a_hundred_fail_alone() {
    let mut images = vec![base64(&empty_scene()); 100];
    images[0] = portrait64();
    images[99] = portrait64();
    images[10] = "?".into();
    images[50] = base64(b"GIF89a this is no picture");
    images[90] = base64(&portrait()[..100]);
    let answer = service().extract(json!({"images": {"data": images}, "extract_embedding": false}));
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 100);
    for (index, image) in data.iter().enumerate() {
        let expected = if [10, 50, 90].contains(&index) { "failed" } else { "ok" };
        assert_eq!(image["status"], expected, "{index}: {image}");
        assert_eq!(image.get("traceback").is_some(), expected == "failed");
        let faces = image["faces"].as_array().unwrap().len();
        assert_eq!(faces, usize::from(index == 0 || index == 99), "{index}");
        if let Some(reason) = image.get("traceback") {
            let reason = reason.as_str().unwrap();
            assert!(!reason.contains('\n') && reason.len() < 200, "one sentence: {reason}");
        }
    }
}

#[test]
fn answers_keep_their_shape() {
    let body = json!({"images": {"data": [portrait64(), "!"]}, "return_landmarks": true, "verbose_timings": true});
    insta::assert_json_snapshot!("extract", service().extract(body), {
        ".took.total_ms" => "[ms]",
        ".took.read_imgs_ms" => "[ms]",
        ".took.embed_all_ms" => "[ms]",
        ".data[].took_ms" => "[ms]",
        ".data[].faces[].vec" => insta::dynamic_redaction(|value, _| {
            let insta::internals::Content::Seq(values) = value else { panic!("not a list") };
            format!("[{} values]", values.len())
        }),
        // The parity tests compare the values. In this snapshot they would change with every faster kernel.
        ".data[].faces[].bbox[]" => "[pixels]",
        ".data[].faces[].landmarks[][]" => "[pixels]",
        ".data[].faces[].size" => "[pixels]",
        ".data[].faces[].norm" => "[length]",
        ".data[].faces[].prob" => "[score]",
        ".data[].faces[].scale" => insta::rounded_redaction(4),
    });
    let errors =
        service().post("/extract", &json!({"images": {"data": "x", "urls": [1]}, "threshold": 3, "embed_only": "x"}));
    insta::assert_json_snapshot!("errors", errors.json::<Value>().unwrap());
    let text = service().client.post(service().url("/extract")).body("{\"images\": ").send().unwrap();
    insta::assert_json_snapshot!("no_json", text.json::<Value>().unwrap());
}
