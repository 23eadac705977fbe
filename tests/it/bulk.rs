//! Bulk extraction with failures: kills, resumed runs, bad pictures.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::Value;

/// `ifr extract` with these arguments.
pub fn extract(args: &[&str]) -> Command {
    let mut command = command(&[&["extract"], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A directory tree of `count` pictures, 50 per directory: every third has a face, every tenth is damaged.
pub fn archive(dir: &Path, count: usize) -> PathBuf {
    let root = dir.join("archive");
    let face = dir.join("face.jpg");
    image::open(PICTURE).unwrap().crop_imm(120, 20, 200, 200).save(&face).unwrap();
    let plain = dir.join("plain.png");
    image::RgbImage::from_pixel(60, 40, image::Rgb([90, 120, 40])).save(&plain).unwrap();
    let broken = dir.join("broken.jpg");
    std::fs::write(&broken, b"this is no picture").unwrap();
    for i in 0..count {
        let sub = root.join(format!("{:03}", i / 50));
        if i % 50 == 0 {
            std::fs::create_dir_all(&sub).unwrap();
            std::fs::write(sub.join("notes.txt"), b"not a picture").unwrap();
        }
        let source = if i % 10 == 9 {
            &broken
        } else if i % 3 == 0 {
            &face
        } else {
            &plain
        };
        std::fs::hard_link(source, sub.join(format!("{i:06}.jpg"))).unwrap();
    }
    root
}

pub fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The record without the fields that differ between runs.
pub fn timeless(record: &Value) -> Value {
    let mut record = record.clone();
    record.as_object_mut().unwrap().remove("took_ms");
    record
}

pub fn count_lines(file: &Path) -> usize {
    std::fs::read(file).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count())
}

/// Waits until `done` returns true. Kills the process and fails after 120 s, or if the process ends first.
pub fn wait_until(child: &mut Child, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        let ended = child.try_wait().unwrap();
        if ended.is_some() || started.elapsed() > Duration::from_secs(120) {
            let _ = child.kill();
            panic!("the run ended too early or hangs: {ended:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn finish(args: &[&str]) -> Output {
    let output = extract(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Checks that the rows of the table are exactly the faces of the records, bit for bit.
pub fn check_table(file: &Path, records: &[Value]) {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    let mut rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    for record in records {
        let faces = record["faces"].as_array().unwrap();
        for index in 0..faces.len().max(1) {
            let row = rows.next().unwrap();
            assert_eq!(row.get_string(0).unwrap(), record["path"].as_str().unwrap());
            assert_eq!(row.get_string(1).unwrap(), record["status"].as_str().unwrap());
            if let Some(face) = faces.get(index) {
                assert_eq!(row.get_float(12).unwrap(), face["prob"].as_f64().unwrap() as f32);
                let vec: Vec<f32> =
                    face["vec"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
                let column: Vec<f32> = row
                    .get_list(15)
                    .unwrap()
                    .elements()
                    .iter()
                    .map(|field| match field {
                        parquet::record::Field::Float(value) => *value,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(vec, column);
            }
        }
    }
    assert!(rows.next().is_none());
}

#[test]
fn runs_that_would_overwrite_or_mix_results_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("faces.parquet").to_str().unwrap().to_owned();
    let refusal = |args: &[&str]| {
        let output = extract(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refusal(&[PICTURE, "--resume"]).contains("--output"));
    assert!(refusal(&[PICTURE, "-o", "faces.csv"]).contains(".parquet"));
    assert!(refusal(&[PICTURE, "-o", &out, "--failures", &out]).contains("same file"));
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("precious.jsonl"), "precious").unwrap();
    for to_file in [&["-o", &out][..], &[]] {
        let with = |failures: &str| refusal(&[&[PICTURE, "--failures", failures], to_file].concat());
        assert!(with(&at("precious.jsonl")).contains("precious.jsonl exists already"));
        assert!(with(&at("missing/failures.jsonl")).contains("missing/failures.jsonl"));
    }
    assert_eq!(std::fs::read_to_string(at("precious.jsonl")).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was begun");
    let many = archive(dir.path(), 300);
    let args = [many.to_str().unwrap(), "-o", &out, "--max-size", "96,96"];
    let mut child = extract(&args).spawn().unwrap();
    let journal = PathBuf::from(format!("{out}.partial/records.jsonl"));
    wait_until(&mut child, || count_lines(&journal) >= 5);
    // The first run must still be active when the second one starts.
    #[cfg(unix)]
    assert!(Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap().success());
    assert!(refusal(&[&args[..], &["--resume"]].concat()).contains("another process"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(refusal(&args).contains("--resume"));
    assert!(refusal(&[&args[..], &["--resume", "--threshold", "0.3"]].concat()).contains("threshold 0.6"));
    finish(&[&args[..], &["--resume"]].concat());
    assert!(refusal(&args).contains("exists already"));
}

#[test]
fn resume_refuses_a_changed_model_file() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("models/onnx/mine/mine.onnx");
    std::fs::create_dir_all(model.parent().unwrap()).unwrap();
    let network = ifr::models::embedded("mobilefacenet").unwrap();
    std::fs::write(&model, network).unwrap();
    let archive = archive(dir.path(), 300);
    let (out, models) = (dir.path().join("faces.jsonl"), dir.path().join("models"));
    let args = ["--rec-name", "mine", "--max-size", "96,96", "--jobs", "1", "--resume", "-o", out.to_str().unwrap()];
    let args = [&args[..], &["--models-dir", models.to_str().unwrap(), archive.to_str().unwrap()]].concat();
    let journal = dir.path().join("faces.jsonl.partial/records.jsonl");
    let mut child = extract(&args).spawn().unwrap();
    wait_until(&mut child, || count_lines(&journal) >= 5);
    child.kill().unwrap();
    child.wait().unwrap();
    // The same network in a file with a comment: its hash differs, so it counts as another network.
    std::fs::write(&model, [network, b"\x32\x01x"].concat()).unwrap();
    let refused = extract(&args).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the file of model 'mine' has changed") && !said.contains("centerface"), "{said}");
    // With the first file the run continues.
    std::fs::write(&model, network).unwrap();
    finish(&args);
}
