//! Bulk extraction: repeated kills, and the memory of a large run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bulk::{archive, check_table, count_lines, extract, finish, lines, timeless, wait_until};

#[test]
#[ignore = "slow"]
fn killed_runs_resume_to_the_same_result() {
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
        // The last kill is long before the end.
        for stop_at in [30, 90, 150, 210] {
            let mut child = extract(&args).spawn().unwrap();
            wait_until(&mut child, || count_lines(&journal) >= stop_at);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!Path::new(&out).exists(), "an unfinished run must not look finished");
            // A kill in the middle of a write.
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
        let again = extract(&args).output().unwrap();
        assert_eq!(again.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&again.stderr).contains("nothing to do"));
    }
}

#[test]
#[ignore = "slow"]
#[cfg(target_os = "linux")]
fn memory_is_constant_over_a_large_archive() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = std::env::var("IFR_BULK_PICTURES").map_or(2_500, |n| n.parse().unwrap());
    let archive = archive(dir.path(), pictures);
    let out = dir.path().join("faces.jsonl").to_str().unwrap().to_owned();
    let mut child =
        extract(&["--max-size", "96,96", "--threshold", "0.4", archive.to_str().unwrap(), "-o", &out]).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let resident = || {
        let text = std::fs::read_to_string(&status).ok()?;
        let field = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        field.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    let journal = PathBuf::from(format!("{out}.partial/records.jsonl"));
    let size = || std::fs::metadata(&journal).map_or(0, |m| m.len());
    // Bytes are counted instead of lines, which is faster; a line with an embedding has several KiB.
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
