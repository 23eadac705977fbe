//! The command line: the real binary with real files, its output and exit codes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::support::*;
use serde_json::Value;

/// The JSON objects on standard output, one per line.
fn records(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn extract_prints_faces_with_embeddings() {
    let output = ifr(&["extract", PICTURE]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let record = &records(&output)[0];
    assert_eq!(record["path"], PICTURE);
    assert_eq!(record["status"], "ok");
    assert_eq!((&record["width"], &record["height"]), (&512.into(), &512.into()));
    assert!(record["took_ms"].as_f64().unwrap() > 0.0);
    let faces = record["faces"].as_array().unwrap();
    assert_eq!(faces.len(), 1);
    let face = &faces[0];
    let bbox: Vec<f64> = face["bbox"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    for (got, want) in bbox.iter().zip([179.7, 62.0, 271.0, 177.8]) {
        assert!((got - want).abs() < 3.0, "{bbox:?}");
    }
    assert_eq!(face["landmarks"].as_array().unwrap().len(), 5);
    assert!(face["prob"].as_f64().unwrap() > 0.8);
    assert!(face["norm"].as_f64().unwrap() > 1.0);
    let vec: Vec<f64> = face["vec"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(vec.len(), 512);
    assert!((vec.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-4);
}

#[test]
fn detection_options_limit_the_faces() {
    let faces = |args: &[&str]| {
        let output = ifr(&[&["extract", PICTURE][..], args].concat());
        records(&output)[0]["faces"].as_array().unwrap().clone()
    };
    let plain = faces(&["--no-embedding"]);
    assert!(plain[0].get("vec").is_none() && plain[0].get("norm").is_none());
    assert!(faces(&["--no-embedding", "--min-face-size", "300"]).is_empty());
    assert!(faces(&["--no-embedding", "--threshold", "0.99"]).is_empty());
    assert!(faces(&["--rec-name", "None"])[0].get("vec").is_none());
    assert_eq!(faces(&["--no-embedding", "--max-size", "320x320"]).len(), 1);
}

#[test]
fn bad_inputs_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let save = |name: &str, width, height| {
        image::RgbImage::from_pixel(width, height, image::Rgb([90, 120, 40])).save(dir.path().join(name)).unwrap();
    };
    let good = std::fs::read(PICTURE).unwrap();
    write("0_empty.jpg", b"");
    write("1_text.jpg", b"this is no picture");
    write("2_truncated.jpg", &good[..200]);
    save("3_one_pixel.png", 1, 1);
    save("4_line.png", 20_000, 1);
    write("5_claims_much.png", &claiming_png());
    save("6_no_face.png", 300, 200);
    write("7_good.jpg", &good);
    let output = ifr(&["extract", dir.path().to_str().unwrap(), "--no-embedding"]);
    let records = records(&output);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let outcome = |i: usize| (records[i]["status"].as_str().unwrap(), records[i]["faces"].as_array().unwrap().len());
    assert_eq!(records.len(), 8);
    for failed in [0, 1, 2, 5] {
        assert_eq!(outcome(failed), ("failed", 0));
        let error = records[failed]["error"].as_str().unwrap();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
    for empty in [3, 4, 6] {
        assert_eq!(outcome(empty), ("ok", 0));
    }
    assert_eq!(outcome(7), ("ok", 1));
    assert!(stderr(&output).contains("4 of 8 inputs failed"), "{}", stderr(&output));
}

/// A PNG with a size of 65000 x 65000 in its header.
fn claiming_png() -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(65_000u32.to_be_bytes());
    png.extend(65_000u32.to_be_bytes());
    png.extend([8, 2, 0, 0, 0]);
    let crc = png[12..].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
    });
    png.extend((!crc).to_be_bytes());
    png.extend(b"\0\0\0\x10IDAT0123456789abcdef");
    png
}

#[test]
fn standard_input_and_missing_files() {
    let mut child = command(&["extract", "-", "/no/such/file.jpg"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(PICTURE).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let records = records(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&records[0]["path"], &records[0]["status"]), (&"-".into(), &"ok".into()));
    assert_eq!(records[1]["status"], "failed");
    assert!(records[1]["error"].as_str().unwrap().contains("No such file"));
}

#[test]
fn usage_errors_exit_with_2() {
    for (args, said) in [
        (&["extract"][..], "INPUT"),
        (&["extract", PICTURE, "--threshold", "1.5"], "from 0 to 1"),
        (&["extract", PICTURE, "--max-size", "10,10"], "640,640"),
        (&["extract", PICTURE, "--det-name", "nope"], "available: centerface, mobilefacenet"),
        (&["extract", PICTURE, "--det-name", "mobilefacenet"], "not a face detector"),
        (&["extract", PICTURE, "--rec-name", "centerface"], "not a recognizer"),
        (&["extract", PICTURE, "--det-name", "../../etc/passwd"], "not a model name"),
        (&["draw", PICTURE, "-o", "faces.xyz"], ".png"),
        (&["draw", PICTURE, "-o", "faces.avif"], ".png"),
        (&["draw", PICTURE, "-o", "/no/such/dir/faces.png"], "/no/such/dir"),
        (&["bench", "--seconds", "nan"], "from 0 to 3600"),
        (&["extract", PICTURE, "--max-megapixels", "nan"], "millions of pixels"),
        (&["bench", "--model", "/no/such.onnx"], "/no/such.onnx"),
    ] {
        let output = ifr(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn broken_model_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/onnx/centerface/centerface.onnx");
    let whole = std::fs::read(pack).unwrap();
    for (name, content) in [("empty", &whole[..0]), ("cut", &whole[..1_000_000]), ("text", b"no model at all")] {
        let file = dir.path().join("onnx").join(name).join(format!("{name}.onnx"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        let output = ifr(&["extract", PICTURE, "--models-dir", dir.path().to_str().unwrap(), "--det-name", name]);
        assert_eq!(output.status.code(), Some(2));
        let message = stderr(&output);
        assert!(message.contains(file.to_str().unwrap()) && message.contains("ONNX"), "{message}");
    }
}

#[test]
fn draw_marks_the_face() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("faces.png");
    let output = ifr(&["draw", PICTURE, "-o", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 face drawn"));
    let (before, after) = (image::open(PICTURE).unwrap().into_rgb8(), image::open(out).unwrap().into_rgb8());
    assert_eq!(before.dimensions(), after.dimensions());
    let changed =
        |x: u32, y: u32| before.get_pixel(x, y).0.iter().zip(after.get_pixel(x, y).0).any(|(a, b)| a.abs_diff(b) > 40);
    assert!((150..200).any(|x| changed(x, 120)), "the box's left edge");
    assert!(!changed(20, 500), "far from the face nothing changes");
    let output = ifr(&["draw", "/no/such.jpg", "-o", dir.path().join("x.png").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn failed_draw_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let line = dir.path().join("line.png");
    image::RgbImage::new(20_000, 1).save(&line).unwrap();
    let out = dir.path().join("line.webp");
    std::fs::write(&out, b"as it was").unwrap();
    // WebP is limited to 16383 pixels per side.
    let output = ifr(&["draw", line.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert_eq!(std::fs::read(&out).unwrap(), b"as it was");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
    // A link is followed to its target.
    let link = dir.path().join("link.png");
    std::os::unix::fs::symlink(&line, &link).unwrap();
    assert_eq!(ifr(&["draw", PICTURE, "-o", link.to_str().unwrap()]).status.code(), Some(0));
    assert!(link.is_symlink());
    assert_eq!(image::image_dimensions(&line).unwrap(), (512, 512));
}

#[test]
fn empty_variables_count_as_unset() {
    let mut command = command(&["extract", PICTURE]);
    for variable in ["MAX_SIZE", "DET_NAME", "MODELS_DIR", "GA_NAME", "MASK_DETECTOR", "LIVENESS_NAME", "REC_NAME"] {
        command.env(variable, "");
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let face = &records(&output)[0]["faces"][0];
    assert!(face["bbox"].is_array() && face.get("vec").is_none(), "an empty REC_NAME is None, as for the service");
    for arguments in [&["bench", "--seconds", "0", "--model", "mobilefacenet"][..], &["models", "list"]] {
        let output = self::command(arguments).env("MODELS_DIR", "").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn empty_directory_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let output = ifr(&["extract", dir.path().to_str().unwrap()]);
    assert!(output.status.success() && stderr(&output).contains("no pictures found"), "{}", stderr(&output));
}

#[test]
fn bench_continues_after_a_failed_model() {
    let output = ifr(&["bench", "--json", "--seconds", "0", "--model", "/no/such.onnx", "--model", "mobilefacenet"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/no/such.onnx"), "{}", stderr(&output));
    assert_eq!(records(&output)[0]["model"], "mobilefacenet");
}

#[test]
fn bench_survives_a_closed_pipe() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(&["bench", "--json", "--seconds", "0", "--model", "mobilefacenet"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn bench_json_has_one_object_per_line() {
    let output = ifr(&[
        "bench",
        "--json",
        "--seconds",
        "0",
        "--model",
        "mobilefacenet",
        "--model",
        "centerface",
        "--max-size",
        "320,320",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let records = records(&output);
    assert_eq!(records[0]["model"], "mobilefacenet");
    assert_eq!(records[0]["shape"], serde_json::json!([1, 3, 112, 112]));
    assert_eq!(records[1]["shape"], serde_json::json!([1, 3, 320, 320]));
    for record in &records {
        assert_eq!((&record["batch"], &record["threads"]), (&1.into(), &1.into()));
        let (median, least) = (record["median_ms"].as_f64().unwrap(), record["min_ms"].as_f64().unwrap());
        assert!(0.0 < least && least <= median);
        assert!(record["runs"].as_u64().unwrap() >= 5);
    }
}

#[test]
fn bench_explains_layers() {
    let explained = |more: &[&str]| {
        let arguments = ["bench", "--explain", "--seconds", "0", "--model", "mobilefacenet"];
        let output = ifr(&[&arguments[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        output
    };
    let text = String::from_utf8(explained(&[]).stdout).unwrap();
    assert!(text.starts_with("mobilefacenet 1x3x112x112 on ") && text.contains("GFLOP/s"), "{text}");
    for threads in [1, 2] {
        let report = records(&explained(&["--json", "--threads", &threads.to_string()])).remove(0);
        assert_eq!(report["threads"], threads, "the limit is real");
        let layers = report["layers"].as_array().unwrap();
        assert!(layers.len() > 20 && layers.iter().any(|l| l["op"] == "conv" && l["gflops"].as_f64() > Some(0.0)));
    }
}

#[test]
fn extract_prints_attributes_of_named_models() {
    let Some(data) = reference_data() else { return };
    let models = data.join("models");
    let live = "2.7_80x80_MiniFASNetV2, 4_0_0_80x80_MiniFASNetV1SE";
    let arguments = ["--models-dir", models.to_str().unwrap(), "--ga-name", "genderage_v1", "--liveness-name", live];
    let output = ifr(&[&["extract", PICTURE, "--no-embedding"], &arguments[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let face = records(&output)[0]["faces"][0].clone();
    assert_eq!(face["gender"], 0, "{face}");
    assert!(face["age"].is_u64() && face["liveness"].as_f64().is_some_and(|l| (0.0..=1.0).contains(&l)), "{face}");
    assert!(face.get("mask").is_none(), "no network tells");
    let absent = ifr(&["extract", PICTURE, "--liveness-name", "absent"]);
    assert!(absent.status.code() == Some(2) && stderr(&absent).contains("'absent'"));
}

#[test]
fn help_lists_every_subcommand() {
    let help = String::from_utf8(ifr(&["--help"]).stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed: Vec<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let command = ifr::cli::command();
    let names: Vec<&str> = command.get_subcommands().map(|subcommand| subcommand.get_name()).collect();
    assert_eq!(listed[..names.len()], names, "{help}");
    assert_eq!(listed[names.len()..], ["help"], "{help}");
    for subcommand in command.get_subcommands() {
        check_help(&[], subcommand);
    }
}

/// Compares the help of a subcommand of `parents` with its definition: each option and each subcommand has a text.
fn check_help(parents: &[&str], command: &clap::Command) {
    let path = [parents, &[command.get_name()]].concat();
    let output = ifr(&[&path[..], &["--help"]].concat());
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{path:?}");
    assert!(help.starts_with(&command.get_about().unwrap().to_string()), "{path:?}: {help}");
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        assert!(argument.get_help().is_some(), "{path:?} {} has no help text", argument.get_id());
        let name = argument.get_long().map_or(argument.get_id().to_string(), |long| format!("--{long}"));
        assert!(argument.get_long().is_none() || help.contains(&name), "{path:?} {name}: {help}");
    }
    for subcommand in command.get_subcommands() {
        assert!(help.contains(&format!("\n  {}", subcommand.get_name())), "{path:?}: {help}");
        check_help(&path, subcommand);
    }
}
