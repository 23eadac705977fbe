//! Byte equality with libjpeg-turbo 2.1, on files of every kind and on damaged ones.
//!
//! Needs `pip install -r tests/python/requirements.txt` and Debian's packages libturbojpeg0 and libjpeg-turbo-progs.
//! Without them the test prints that it is skipped, or fails if `IFR_REQUIRE_CLIENTS` is set. `IFR_JPEG_MUTANTS` (500)
//! and `IFR_JPEG_SEED` (13) select other damaged files.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdout, Command, Stdio};

use ifr_jpeg::{ColorSpace, Damage, Decoder, JpegError};

/// A file with libjpeg-turbo's pixels.
struct Case {
    group: String,
    name: String,
    status: String,
    file: Vec<u8>,
    pixels: Vec<u8>,
}

fn next_case(from: &mut BufReader<ChildStdout>) -> Option<Case> {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    let &[group, name, status, _, file, pixels] = fields.as_slice() else { return None };
    let mut read = |length: &str| {
        let mut bytes = vec![0; length.parse().unwrap()];
        from.read_exact(&mut bytes).unwrap();
        bytes
    };
    let (file, pixels) = (read(file), read(pixels));
    Some(Case { group: group.into(), name: name.into(), status: status.into(), file, pixels })
}

/// RGB, or CMYK of files of four components, in every form in which the crate gives it; all have to agree.
fn decode(file: &[u8]) -> Result<(Vec<u8>, Damage), JpegError> {
    let decoder = Decoder::new(file)?;
    let header = decoder.header();
    let (width, height) = (header.width as usize, header.height as usize);
    let mut rgb = vec![0; width * height * 3];
    let damage = decoder.decode_rgb(&mut rgb)?;
    let mut rows = vec![];
    let (planes, planes_damage) = decoder.decode_planes_and_rows(|y, row| {
        assert_eq!(y.start * width * 3, rows.len());
        rows.extend_from_slice(row);
    })?;
    assert!(rows == rgb && planes_damage == damage, "rows of planes");
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut rows = vec![];
    one.install(|| decoder.decode_rows(|_, row| rows.extend_from_slice(row)))?;
    assert!(rows == rgb, "one thread");
    // A part of the picture.
    let (x, y) = (width / 3..width - width / 5, height / 4..height - height / 3);
    let mut part = vec![0; x.len() * y.len() * 3];
    planes.rgb_rows(y.clone(), x.clone(), &mut planes.row_work(), &mut part);
    for (y, row) in y.zip(part.chunks(3 * x.len())) {
        assert!(row == &rgb[(y * width + x.start) * 3..][..3 * x.len()], "part of row {y}");
    }
    if matches!(header.color, ColorSpace::Cmyk | ColorSpace::Ycck) {
        let mut inks = vec![0; width * height * 4];
        planes.cmyk_rows(0..height, 0..width, &mut planes.row_work(), &mut inks).unwrap();
        return Ok((inks, damage));
    }
    Ok((rgb, damage))
}

fn tools_are_ready() -> bool {
    let python = Command::new("python3").args(["-c", "import numpy, turbojpeg; turbojpeg.TurboJPEG()"]).output();
    let program = |name: &str| {
        let run = Command::new(name).arg("-version").stdin(Stdio::null()).output();
        run.is_ok_and(|r| String::from_utf8_lossy(&r.stderr).contains("libjpeg-turbo version 2.1"))
    };
    let ready = python.is_ok_and(|r| r.status.success()) && ["cjpeg", "djpeg", "jpegtran"].into_iter().all(program);
    if !ready {
        assert!(std::env::var_os("IFR_REQUIRE_CLIENTS").is_none(), "PyTurboJPEG or libjpeg-turbo 2.1 is missing");
        let why = "skipped: PyTurboJPEG or libjpeg-turbo 2.1 (libturbojpeg0, libjpeg-turbo-progs) is missing\n";
        let _ = std::io::stderr().write_all(why.as_bytes());
    }
    ready
}

#[test]
fn pixels_are_those_of_libjpeg_turbo() {
    if !tools_are_ready() {
        return;
    }
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference.py");
    let mut python = Command::new("python3")
        .args([script, &setting("IFR_JPEG_MUTANTS", "500"), &setting("IFR_JPEG_SEED", "13")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut cases = BufReader::new(python.stdout.take().unwrap());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = vec![];
    while let Some(case) = next_case(&mut cases) {
        let ours = decode(&case.file);
        let result = match &ours {
            Err(_) => "refused",
            Ok((pixels, _)) if *pixels == case.pixels => "equal",
            Ok(_) => "different",
        };
        *counts.entry(format!("{} {} {result}", case.group, case.status)).or_default() += 1;
        // What libjpeg-turbo does not decode may be decoded here. What it warns of is filled as it does, or refused.
        let fine = match case.status.as_str() {
            "clean" => result == "equal",
            "warned" => result != "different" || ours.is_ok_and(|(_, damage)| damage.corrupt),
            _ => true,
        };
        if !fine {
            wrong.push(case.name);
        }
    }
    assert!(python.wait().unwrap().success());
    eprintln!("{counts:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    let of = |pattern: &str| counts.iter().filter(|(k, _)| k.contains(pattern)).map(|(_, n)| n).sum::<usize>();
    let [mutants, equal] = [of("mutant"), of("mutant clean equal") + of("mutant warned equal")];
    assert!(of("made clean equal") > 1500 && equal * 5 >= mutants * 2, "{counts:#?}");
}
