//! Models that change under load.

use std::time::{Duration, Instant};

use ifr::models::{ModelStore, embedded};
use serde_json::json;

use crate::models_reload::{
    Answer, Changing, cosine, detector, embedding, install, no_errors, recognizer, same, under_load,
};
use crate::support::*;

#[test]
#[ignore = "slow"]
fn ten_changed_files_load_without_an_error() {
    let service = Changing::start_with(|settings| {
        install(settings.models.models_dir.0.as_deref().unwrap(), "seer", detector());
        settings.models.det_name = "seer".into();
    });
    let manifest = |function: &str| {
        let text = json!({"mine": {"function": function}}).to_string();
        let beside = service.dir.path().join("new.json");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, service.dir.path().join("models.json")).unwrap();
    };
    // The functions differ in the order of colors, so the same network gives different embeddings.
    let plain = service.embedding();
    let answers = service.under_load(|| {
        let mut swapped_colours = plain.clone();
        for round in 0..10 {
            let before = service.models.configured();
            // The same network in another file, with an unknown field at its end.
            let another = |bytes: &[u8]| [bytes, &[0xf8, 0x3f, round]].concat();
            match round % 4 {
                0 => manifest("adaface"),
                1 => install(service.dir.path(), "mine", &another(recognizer())),
                2 => manifest("arcface_torch"),
                _ => install(service.dir.path(), "seer", &another(detector())),
            }
            let started = Instant::now();
            while same(&before, &service.models.configured()) != (round % 4 == 3, round % 4 != 3) {
                assert!(started.elapsed() < Duration::from_secs(30), "round {round}: nothing has changed");
                std::thread::sleep(Duration::from_millis(5));
            }
            let now = service.embedding();
            if round == 0 {
                swapped_colours = now.clone();
                assert!(cosine(&now, &plain) < 0.99, "{}", cosine(&now, &plain));
            }
            let expected = if matches!(round, 0 | 1 | 4 | 5 | 8 | 9) { &swapped_colours } else { &plain };
            assert!(cosine(&now, expected) > 0.9999, "round {round}");
            drop(before);
        }
        // Every kind of failure leaves the previous model in place.
        let serving = service.models.configured();
        for bad in [&b"no network"[..], &detector()[..100_000], recognizer()] {
            install(service.dir.path(), "seer", bad);
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(same(&serving, &service.models.configured()), (true, true));
        }
        for bad in [&b"no network"[..], &recognizer()[..100_000], detector()] {
            install(service.dir.path(), "mine", bad);
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(same(&serving, &service.models.configured()), (true, true));
        }
        std::fs::write(service.dir.path().join("models.json"), "{").unwrap();
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(same(&serving, &service.models.configured()), (true, true));
    });
    no_errors(&answers);
    assert!(answers.len() > 20, "only {} requests", answers.len());
}

#[test]
#[ignore = "slow"]
fn requests_do_not_wait_for_a_reload() {
    let service = Changing::start();
    let change = |max_size: &str| {
        let mut models = service.settings.models.clone();
        models.max_size = max_size.parse().unwrap();
        service.runtime.block_on(service.models.change(&models)).unwrap();
    };
    let took = |answer: &Answer| answer.ended - answer.started;
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    // The time of a request while no model is loaded.
    let answers = service.under_load(|| std::thread::sleep(Duration::from_millis(700)));
    no_errors(&answers);
    let baseline = median(answers.iter().map(took).collect());
    // Another canvas prepares every network again. Measured with the larger canvas, because the smaller one is fast.
    let mut windows = vec![];
    let answers = service.under_load(|| {
        for _ in 0..5 {
            let started = Instant::now();
            change("640,640");
            windows.push((started, Instant::now()));
            change("128,128");
        }
    });
    no_errors(&answers);
    let within: Vec<Duration> = answers
        .iter()
        .filter(|a| windows.iter().any(|(from, to)| a.started >= *from && a.started < *to))
        .map(took)
        .collect();
    assert!(!within.is_empty(), "nothing was answered");
    let (count, during) = (within.len(), median(within));
    let loading = median(windows.iter().map(|(from, to)| *to - *from).collect());
    println!("median {baseline:?} alone, {during:?} of {count} that came during loads of {loading:?}");
    // Loading takes cores from requests, but no request may wait for its end.
    let bound = (baseline * 10).max(loading / 3);
    assert!(during < bound, "requests take {during:?} while models are loaded for {loading:?}; {baseline:?} else");
}

#[test]
#[ignore = "slow"]
#[cfg(unix)]
fn broken_model_files_disturb_no_request() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), "mine", recognizer());
    let file = ModelStore::new(Some(dir.path().into())).file("mine").unwrap();
    let (folder, manifest) = (file.parent().unwrap(), dir.path().join("models.json"));
    let settings = [("REC_NAME", "mine"), ("RELOAD", "true"), ("RELOAD_INTERVAL", "0.05")];
    let service = Program::with_models(dir.path(), &settings);
    service.line("ready");
    let address = service.address.to_string();
    let plain = embedding(&address);
    let clean = || {
        let _ = std::fs::remove_dir_all(dir.path().join("onnx"));
        std::fs::create_dir_all(folder).unwrap();
    };
    let backwards: Vec<u8> = recognizer().iter().rev().copied().collect();
    let chaos: [(&str, &dyn Fn()); 9] = [
        ("cut off in place", &|| std::fs::write(&file, &recognizer()[..200_000]).unwrap()),
        ("no network", &|| std::fs::write(&file, &backwards).unwrap()),
        ("empty", &|| std::fs::write(&file, b"").unwrap()),
        ("removed", &|| std::fs::remove_file(&file).unwrap()),
        ("a directory", &|| std::fs::create_dir(&file).unwrap()),
        ("a link to itself", &|| {
            clean();
            std::os::unix::fs::symlink(&file, &file).unwrap();
        }),
        ("a network of another kind", &|| {
            clean();
            std::fs::write(&file, embedded("centerface").unwrap()).unwrap();
        }),
        ("a broken manifest", &|| std::fs::write(&manifest, b"{\"mine\": [").unwrap()),
        ("everything removed", &|| {
            std::fs::remove_file(&manifest).unwrap();
            std::fs::remove_dir_all(dir.path().join("onnx")).unwrap();
        }),
    ];
    let answers = under_load(&address, || {
        for (what, happens) in chaos {
            happens();
            std::thread::sleep(Duration::from_millis(400));
            assert!(cosine(&embedding(&address), &plain) > 0.9999, "{what}");
        }
        // A valid model is loaded again, which another order of the colors shows.
        install(dir.path(), "mine", recognizer());
        std::fs::write(&manifest, json!({"mine": {"function": "adaface"}}).to_string()).unwrap();
        let started = Instant::now();
        while cosine(&embedding(&address), &plain) > 0.99 {
            assert!(started.elapsed() < Duration::from_secs(30), "the change is not taken over");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    no_errors(&answers);
    assert!(answers.len() > 20, "only {} requests", answers.len());
}
