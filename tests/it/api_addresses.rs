//! All endpoints of InsightFace-REST except /extract: drawings, information, health and documentation.

use crate::support::*;
use serde_json::{Value, json};

#[test]
fn draw_detections() {
    let service = service();
    let original = image::load_from_memory(portrait()).unwrap().to_rgb8();
    let draw = |body: Value| {
        let response = service.post("/draw_detections", &body);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "image/jpeg");
        image::load_from_memory(&response.bytes().unwrap()).unwrap().to_rgb8()
    };
    let changed = |picture: &image::RgbImage| {
        assert_eq!(picture.dimensions(), original.dimensions());
        let pairs = picture.pixels().zip(original.pixels());
        pairs.filter(|(a, b)| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > 60)).count()
    };
    let all = changed(&draw(json!({"images": data()})));
    let bare = json!({"images": data(), "draw_landmarks": false, "draw_scores": false, "draw_sizes": false});
    let boxes = changed(&draw(bare));
    let nothing = changed(&draw(json!({"images": data(), "threshold": 0.999})));
    assert!(all > boxes && boxes > nothing, "{all} {boxes} {nothing}");
    for (field, value) in [("draw_landmarks", false), ("draw_scores", false), ("draw_sizes", false)] {
        let fewer = changed(&draw(json!({"images": data(), field: value})));
        assert!(fewer < all, "{field}: {fewer} of {all}");
    }
    let limited = changed(&draw(json!({"images": {"data": [portrait64()]}, "min_face_size": 100_000})));
    assert_eq!(limited, nothing);
    // Only boxes, of all faces or of the largest.
    let three = base64(&three_faces());
    let sizes = |limit: Value| {
        let body = json!({"images": {"data": [three]}, "limit_faces": limit, "threshold": 0.4, "draw_landmarks": false,
            "draw_scores": false, "draw_sizes": false});
        let response = service.post("/draw_detections", &body);
        assert_eq!(response.status(), 200);
        differing(&response.bytes().unwrap(), &three_faces())
    };
    let (one, every) = (sizes(json!(1)), sizes(json!(0)));
    assert!(every > one && one > 0, "{every} {one}");
    assert_eq!(sizes(json!(null)), every);

    for body in
        [json!({"images": {"data": []}}), json!({"images": {"urls": ["x"]}}), json!({"images": {"data": ["YQ=="]}})]
    {
        let response = service.post("/draw_detections", &body);
        assert_eq!(response.status(), 400, "{body}");
        assert!(response.json::<Value>().unwrap()["detail"].is_string());
    }
    assert_eq!(service.post("/draw_detections", &json!({"images": data(), "threshold": 2})).status(), 422);
}

/// Number of pixels with a large difference between two encoded pictures.
fn differing(a: &[u8], b: &[u8]) -> usize {
    let [a, b] = [a, b].map(|bytes| image::load_from_memory(bytes).unwrap().to_rgb8());
    assert_eq!(a.dimensions(), b.dimensions());
    a.pixels().zip(b.pixels()).filter(|(a, b)| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > 60)).count()
}

/// As in the original, the box of a face with a mask is green, and that of a face without a mask red.
#[test]
fn drawings_show_masks() {
    use ifr::config::Setting;
    use reqwest::blocking::multipart::{Form, Part};
    let (Some(models), Some(images)) = (reference_file("models"), reference_file("images")) else { return };
    let picture = std::fs::read(images.join("mask.jpg")).unwrap();
    let start = |default: bool| {
        Service::start(|settings| {
            settings.models.models_dir = Setting(Some(models.clone()));
            settings.models.det_name = "mnet_cov2".into();
            settings.models.max_size = "640,640".parse().unwrap();
            settings.defaults.detect_masks = default;
        })
    };
    // Numbers of red and green pixels.
    let count = |bytes: &[u8]| {
        let drawn = image::load_from_memory(bytes).unwrap().to_rgb8();
        let like = |is: fn(u8, u8, u8) -> bool| drawn.pixels().filter(|p| is(p.0[0], p.0[1], p.0[2])).count();
        (like(|r, g, b| r > 180 && g < 90 && b < 120), like(|r, g, b| g > 170 && r < 90 && b < 170))
    };
    let (plain, asking) = (start(false), start(true));
    let json = |service: &Service, detect: Value| {
        let body = json!({"images": {"data": [base64(&picture)]}, "threshold": 0.3, "detect_masks": detect,
            "draw_landmarks": false, "draw_scores": false, "draw_sizes": false});
        let response = service.post("/draw_detections", &body);
        assert_eq!(response.status(), 200);
        count(&response.bytes().unwrap())
    };
    let form = |service: &Service, fields: &[(&'static str, &'static str)]| {
        let form = Form::new().part("file", Part::bytes(picture.clone())).text("threshold", "0.3");
        let form =
            ["draw_landmarks", "draw_scores", "draw_sizes"].iter().fold(form, |form, name| form.text(*name, "0"));
        let form = fields.iter().fold(form, |form, (name, value)| form.text(*name, *value));
        let request = service.client.post(service.url("/multipart/draw_detections")).multipart(form);
        count(&request.send().unwrap().bytes().unwrap())
    };
    let without = json(&plain, json!(false));
    let with = json(&plain, json!(true));
    // Two of the four faces have a mask. Detection scores must not affect the color.
    assert!(with.0 > without.0 + 100, "no red boxes: {with:?} and {without:?}");
    assert!(with.1 > 100, "no green boxes: {with:?}");
    assert_eq!(json(&plain, json!(null)), without);
    assert_eq!((json(&asking, json!(null)), json(&asking, json!(false))), (with, without));
    assert_eq!(form(&plain, &[]), without);
    assert_eq!(form(&plain, &[("detect_masks", "true")]), with);
    assert_eq!((form(&asking, &[]), form(&asking, &[("detect_masks", "false")])), (with, without));
}

#[test]
fn form_fields_have_an_effect() {
    use reqwest::blocking::multipart::{Form, Part};
    let (service, picture) = (service(), three_faces());
    let draw = |fields: &[(&'static str, &'static str)]| {
        let form = Form::new().part("file", Part::bytes(picture.clone()));
        let form = fields.iter().fold(form, |form, (name, value)| form.text(*name, *value));
        let request = service.client.post(service.url("/multipart/draw_detections")).multipart(form);
        let response = request.send().unwrap();
        assert_eq!(response.status(), 200);
        differing(&response.bytes().unwrap(), &picture)
    };
    let all = draw(&[]);
    for field in ["draw_landmarks", "draw_scores", "draw_sizes"] {
        let fewer = draw(&[(field, "false")]);
        assert!(fewer < all, "{field}: {fewer} of {all}");
        assert_eq!(draw(&[(field, "true")]), all, "{field}");
    }
    assert_eq!(draw(&[("threshold", "0.999")]), 0);
    let low = draw(&[("threshold", "0.4")]);
    assert!(low > 0 && draw(&[("threshold", "0.4"), ("limit_faces", "1")]) < low);
}

#[test]
fn draw_detections_from_a_form() {
    use reqwest::blocking::multipart::{Form, Part};
    let service = service();
    let post =
        |form: Form| service.client.post(service.url("/multipart/draw_detections")).multipart(form).send().unwrap();
    let file = || Part::bytes(portrait().to_vec()).file_name("a.jpg").mime_str("image/jpeg").unwrap();
    let response = post(
        Form::new()
            .part("file", file())
            .text("threshold", "0.6")
            .text("draw_scores", "false")
            .text("use_rotation", "true"),
    );
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "image/jpeg");
    assert!(image::load_from_memory(&response.bytes().unwrap()).is_ok());

    let missing = post(Form::new().text("threshold", "0.6"));
    assert_eq!(missing.status(), 422);
    assert_eq!(missing.json::<Value>().unwrap()["detail"][0]["loc"], json!(["body", "file"]));
    assert_eq!(post(Form::new().part("file", file()).text("limit_faces", "-1")).status(), 422);
    assert_eq!(post(Form::new().part("file", Part::bytes(vec![1, 2, 3]))).status(), 400);

    let not_a_form = service
        .client
        .post(service.url("/multipart/draw_detections"))
        .body("x")
        .header("content-type", "text/plain")
        .send();
    assert_eq!(not_a_form.unwrap().status(), 415);
    let broken = service.client.post(service.url("/multipart/draw_detections")).body("--x\r\nrubbish");
    assert_eq!(broken.header("content-type", "multipart/form-data; boundary=x").send().unwrap().status(), 400);
}

#[test]
fn info_has_the_original_fields() {
    let service = service();
    let text = service.get("/info").text().unwrap();
    assert_eq!(keys_in_order(&text), ["version", "tensorrt_version", "log_level", "models", "defaults"]);
    let info: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(info["models"]["inference_backend"], "onnx");
    assert_eq!(info["models"]["max_size"], json!([320, 320]));
    assert_eq!(info["defaults"]["det_thresh"].as_f64().unwrap() as f32, 0.6);
    if let Some(path) = reference_file("api/info.json") {
        let original: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for part in ["models", "defaults"] {
            assert_eq!(keys(&info[part]), keys(&original[part]), "{part}");
        }
        // originals.rs compares the values.
    }
}

#[test]
fn info_hides_credentials() {
    let service = Service::start(|settings| {
        settings.defaults.img_req_headers =
            r#"{"Authorization": "Bearer swordfish", "User-Agent": "x"}"#.parse().unwrap();
    });
    let text = service.get("/info").text().unwrap();
    assert!(!text.contains("swordfish") && text.contains("\"User-Agent\":\"x\""), "{text}");
}

#[test]
fn health_runs_the_networks() {
    let response = service().get("/health");
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().unwrap(), json!({"status": "ok"}));
}

#[test]
fn docs_need_no_internet() {
    let service = service();
    let root = service.get("/");
    assert_eq!((root.status().as_u16(), &root.headers()["location"]), (307, &"/docs".parse().unwrap()));
    let page = service.get("/docs").text().unwrap();
    let assets: Vec<&str> = page
        .split(['"'])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".png"))
        .collect();
    assert!(assets.len() >= 5, "{page}");
    for asset in assets {
        assert!(asset.starts_with("docs/"), "{asset}");
        let response = service.get(&format!("/{asset}"));
        assert_eq!(response.status(), 200, "{asset}");
        assert!(response.bytes().unwrap().len() > 100, "{asset}");
    }
    let initializer = service.get("/docs/swagger-initializer.js").text().unwrap();
    assert!(
        initializer.contains("\"openapi.json\"") && initializer.contains("\"validatorUrl\": \"none\""),
        "{initializer}"
    );
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert_eq!(service.get("/docs/../Cargo.toml").status(), 404);
    assert_eq!(service.get("/docs/nothing.js").status(), 404);
    let slash = service.get("/docs/");
    assert_eq!((slash.status().as_u16(), slash.headers()["location"].to_str().unwrap()), (307, "../docs"));
}

#[test]
fn openapi_covers_the_original() {
    let api: Value = service().get("/openapi.json").json().unwrap();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    insta::assert_json_snapshot!("openapi", api, {".info.version" => "[version]"});
    let Some(path) = reference_file("api/openapi.json") else { return };
    let original: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (path, methods) in original["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let ours = &api["paths"][path][method];
            for field in ["operationId", "tags", "summary"] {
                assert_eq!(ours[field], operation[field], "{method} {path} {field}");
            }
            for content in operation["requestBody"]["content"].as_object().into_iter().flat_map(|c| c.keys()) {
                assert!(ours["requestBody"]["content"].get(content).is_some(), "{path} {content}");
            }
        }
    }
    for schema in ["BodyExtract", "BodyDraw", "Images", "Body_draw_upl_multipart_draw_detections_post"] {
        let ours = &api["components"]["schemas"][schema];
        let theirs = &original["components"]["schemas"][schema];
        assert_eq!(ours["required"], theirs["required"], "{schema}");
        for (field, description) in theirs["properties"].as_object().unwrap() {
            let mine = &ours["properties"][field];
            assert!(!mine.is_null(), "{schema}.{field}");
            if let Some(default) = description.get("default").filter(|default| !default.is_object()) {
                assert_eq!(&mine["default"], default, "{schema}.{field}");
            }
        }
    }
}

#[test]
fn wrong_addresses_and_methods() {
    let service = service();
    assert_eq!(service.get("/nothing").status(), 404);
    assert_eq!(service.get("/nothing").json::<Value>().unwrap(), json!({"detail": "Not Found"}));
    let get = service.get("/extract");
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(service.post("/info", &json!({})).status(), 405);
    let head = service.client.head(service.url("/demo/")).send().unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert_eq!(head.headers()["content-length"], service.get("/demo/").headers()["content-length"]);
    assert!(head.bytes().unwrap().is_empty());
    let slash = service.post("/extract/", &json!({}));
    assert_eq!((slash.status().as_u16(), slash.headers()["location"].to_str().unwrap()), (307, "/extract"));
}
