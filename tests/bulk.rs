//! Bulk extraction as it goes wrong in life: killed in the middle, resumed, with bad pictures among the good.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::Value;

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/astronaut.jpg");

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ifr"));
    for variable in ["MODELS_DIR", "DET_NAME", "REC_NAME", "MAX_SIZE"] {
        command.env_remove(variable);
    }
    command.arg("extract").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `count` pictures in directories of 50: every third shows a face, every tenth is broken.
fn archive(dir: &Path, count: usize) -> PathBuf {
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

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The record without what differs from run to run.
fn timeless(record: &Value) -> Value {
    let mut record = record.clone();
    record.as_object_mut().unwrap().remove("took_ms");
    record
}

fn count_lines(file: &Path) -> usize {
    std::fs::read(file).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count())
}

/// Waits until `done` says so; kills the process and fails when that takes too long or the process ends first.
fn wait_until(child: &mut Child, mut done: impl FnMut() -> bool) {
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

fn finish(args: &[&str]) -> Output {
    let output = command(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_run_that_is_killed_again_and_again_gives_what_one_run_gives() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path(), 500);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let fast = ["--max-size", "96,96", "--threshold", "0.4", archive.to_str().unwrap()];
    let whole = finish(&fast);
    let whole: Vec<Value> =
        std::str::from_utf8(&whole.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(whole.len(), 500);
    let faces = whole.iter().map(|r| r["faces"].as_array().unwrap().len()).sum::<usize>();
    assert!(faces >= 140, "there are faces to lose");

    for (name, separate) in [("faces.jsonl", true), ("faces.parquet", false)] {
        let (out, failures) = (at(name), at(&format!("{name}.failures.jsonl")));
        let mut args = [&fast[..], &["-o", &out, "--resume"]].concat();
        if separate {
            args.extend(["--failures", &failures]);
        }
        let journal = PathBuf::from(format!("{out}.partial/records.jsonl"));
        // The last kill, too, comes long before the end.
        for stop_at in [30, 90, 150, 210] {
            let mut child = command(&args).spawn().unwrap();
            wait_until(&mut child, || count_lines(&journal) >= stop_at);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!Path::new(&out).exists(), "an unfinished run must not look finished");
            // A kill that hit in the middle of a write.
            let mut text = std::fs::read(&journal).unwrap();
            text.extend_from_slice(br#"{"path":"/half/a/li"#);
            std::fs::write(&journal, text).unwrap();
        }
        let output = finish(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("pictures were done before") && said.contains("50 of 500 inputs failed"), "{said}");
        assert!(said.contains("ifr: 500 pictures, ") && said.contains(&format!(" {faces} faces, 50 failed")), "{said}");
        assert!(!Path::new(&format!("{out}.partial")).exists());

        let (failed, fine): (Vec<Value>, Vec<Value>) =
            whole.iter().map(timeless).partition(|r| separate && r["status"] == "failed");
        if separate {
            assert_eq!(lines(Path::new(&out)).iter().map(timeless).collect::<Vec<_>>(), fine);
            assert_eq!(lines(Path::new(&failures)).iter().map(timeless).collect::<Vec<_>>(), failed);
        } else {
            check_table(Path::new(&out), &fine);
        }
        let again = command(&args).output().unwrap();
        assert_eq!(again.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&again.stderr).contains("nothing to do"));
    }
}

/// Every record's faces are rows of the table, bit for bit, and nothing else is.
fn check_table(file: &Path, records: &[Value]) {
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
fn runs_that_would_lose_or_mix_results_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("faces.parquet").to_str().unwrap().to_owned();
    let refusal = |args: &[&str]| {
        let output = command(args).output().unwrap();
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
    let mut child = command(&args).spawn().unwrap();
    let journal = PathBuf::from(format!("{out}.partial/records.jsonl"));
    wait_until(&mut child, || count_lines(&journal) >= 5);
    // It must not be done before the other one has looked.
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
fn a_run_is_not_continued_with_another_file_of_the_same_model() {
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
    let mut child = command(&args).spawn().unwrap();
    wait_until(&mut child, || count_lines(&journal) >= 5);
    child.kill().unwrap();
    child.wait().unwrap();
    // The same network with a remark in it: another file, and who could tell that it is no other network.
    std::fs::write(&model, [network, b"\x32\x01x"].concat()).unwrap();
    let refused = command(&args).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the file of model 'mine' was another one") && !said.contains("centerface"), "{said}");
    // With the file that it was begun with it goes on.
    std::fs::write(&model, network).unwrap();
    finish(&args);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = std::env::var("IFR_BULK_PICTURES").map_or(2_500, |n| n.parse().unwrap());
    let archive = archive(dir.path(), pictures);
    let out = dir.path().join("faces.jsonl").to_str().unwrap().to_owned();
    let mut child =
        command(&["--max-size", "96,96", "--threshold", "0.4", archive.to_str().unwrap(), "-o", &out]).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let resident = || {
        let text = std::fs::read_to_string(&status).ok()?;
        let field = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        field.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    let journal = PathBuf::from(format!("{out}.partial/records.jsonl"));
    let size = || std::fs::metadata(&journal).map_or(0, |m| m.len());
    // Bytes are cheaper to watch than lines; a line of an embedding is several KiB.
    let mut seen = BTreeMap::new();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if let Some(now) = resident() {
            seen.insert(size(), now);
        }
        if started.elapsed() > Duration::from_secs(3_000) {
            let _ = child.kill();
            panic!("hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count_lines(Path::new(&out)), pictures);
    let last = *seen.keys().last().unwrap();
    let highest = |from: f64, to: f64| {
        let range = (last as f64 * from) as u64..=(last as f64 * to) as u64;
        seen.range(range).map(|(_, &mib)| mib).fold(0.0, f64::max)
    };
    let (early, late) = (highest(0.1, 0.3), highest(0.8, 1.0));
    println!("{pictures} pictures: at most {early:.1} MiB early, {late:.1} MiB late, in {:.1?}", started.elapsed());
    assert!(early > 0.0 && late < early + 16.0, "{early} MiB early, {late} MiB late");
}
