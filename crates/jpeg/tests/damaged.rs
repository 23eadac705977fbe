//! Damaged files: no panic, and what is intact is decoded. Runs from the repository alone.

use ifr_jpeg::{Decoder, JpegError};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

fn picture(width: u32, height: u32) -> Vec<u8> {
    (0..width * height).flat_map(|i| [(i * 7 % 251) as u8, (i / width * 5) as u8, (i % width * 3) as u8]).collect()
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut file = vec![];
    let encoder = JpegEncoder::new_with_quality(&mut file, 85);
    encoder.write_image(&picture(width, height), width, height, ExtendedColorType::Rgb8).unwrap();
    file
}

fn decode(file: &[u8]) -> Result<(Vec<u8>, bool), JpegError> {
    let decoder = Decoder::new(file)?;
    if decoder.header().pixels() > 1 << 16 {
        return Err(JpegError::NoPicture);
    }
    let mut rgb = vec![0; decoder.header().pixels() as usize * 3];
    let damage = decoder.decode_rgb(&mut rgb)?;
    Ok((rgb, damage.is_none()))
}

/// Numbers without a pattern.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// A progressive file of a flat picture: one scan with the means, then scans that refine nothing.
fn refined(width: u16, height: u16, scans: usize) -> Vec<u8> {
    let segment = |marker: u8, data: &[u8]| {
        let length = (data.len() as u16 + 2).to_be_bytes();
        [&[0xFF, marker], &length[..], data].concat()
    };
    let table = |class: u8, symbol: u8| [&[class, 1][..], &[0; 15], &[symbol]].concat();
    let (h, w) = (height.to_be_bytes(), width.to_be_bytes());
    let mut file = vec![0xFF, 0xD8];
    file.extend(segment(0xDB, &[&[0][..], &[1; 64]].concat()));
    file.extend(segment(0xC2, &[8, h[0], h[1], w[0], w[1], 1, 1, 0x11, 0]));
    file.extend(segment(0xC4, &table(0x00, 0)));
    file.extend(segment(0xC4, &table(0x10, 0)));
    for scan in 0..scans {
        file.extend(segment(0xDA, if scan == 0 { &[1, 1, 0, 0, 0, 0] } else { &[1, 1, 0, 1, 63, 0] }));
        file.extend(vec![0; usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8) / 8 + 1]);
    }
    file.extend([0xFF, 0xD9]);
    file
}

#[test]
fn colors_come_out_close_to_what_went_in() {
    let (rgb, clean) = decode(&jpeg(61, 43)).unwrap();
    assert!(clean);
    let source = picture(61, 43);
    let mean = rgb.iter().zip(&source).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / rgb.len() as f64;
    assert!(mean < 40.0, "{mean}");
}

#[test]
fn every_prefix_gives_its_upper_part_or_an_error() {
    let whole = jpeg(40, 64);
    let (all, _) = decode(&whole).unwrap();
    let mut equal_rows = 0;
    for length in 0..whole.len() {
        let Ok((rgb, clean)) = decode(&whole[..length]) else { continue };
        assert!(!clean || rgb == all, "{length}");
        let rows = rgb.chunks(120).zip(all.chunks(120)).take_while(|(a, b)| a == b).count();
        assert!(rows + 16 >= equal_rows, "longer data, fewer rows: {length}");
        equal_rows = equal_rows.max(rows);
    }
    assert_eq!(equal_rows, 64);
}

#[test]
fn rows_without_data_are_gray() {
    let whole = jpeg(64, 64);
    let (rgb, clean) = decode(&whole[..whole.len() * 2 / 3]).unwrap();
    assert!(!clean && rgb[rgb.len() - 64 * 3..].iter().all(|&v| v == 128));
}

#[test]
fn mutations_do_no_harm() {
    let files = [jpeg(33, 29), refined(40, 40, 5), jpeg(8, 8)];
    let mut state = 7;
    let mut decoded = 0;
    for round in 0..6000 {
        let mut file = files[round % files.len()].clone();
        for _ in 0..1 + random(&mut state) % 4 {
            let at = random(&mut state) % file.len();
            match random(&mut state) % 4 {
                0 => file[at] = random(&mut state) as u8,
                1 => file[at] ^= 1 << (random(&mut state) % 8),
                2 => {
                    file.remove(at);
                }
                _ => file.insert(at, [0xFF, 0, 0xD0, 0xDA][random(&mut state) % 4]),
            }
        }
        decoded += usize::from(decode(&file).is_ok());
    }
    assert!(decoded > 1000, "{decoded}");
}

#[test]
fn processes_that_are_not_supported_are_named() {
    let mut file = jpeg(8, 8);
    let frame = file.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    for (marker, name) in [(0xC9, "arithmetic"), (0xC3, "lossless"), (0xC5, "hierarchical"), (0xCA, "arithmetic")] {
        file[frame + 1] = marker;
        let error = Decoder::new(&file).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("save the picture as"), "{error}");
    }
    file[frame + 1] = 0xC1;
    file[frame + 4] = 12;
    let error = Decoder::new(&file).unwrap_err();
    assert!(matches!(error, JpegError::Precision { bits: 12 }), "{error}");
}

#[test]
fn a_small_file_cannot_keep_a_processor_busy() {
    let file = refined(7000, 7000, 30);
    let error = Decoder::new(&file).unwrap().decode_planes().unwrap_err();
    assert!(matches!(error, JpegError::TooManyScans { limit: 20 }), "{error}");
    let file = refined(64, 48, 100);
    assert!(Decoder::new(&file).unwrap().decode_planes().is_ok());
    let file = refined(64, 48, 101);
    let error = Decoder::new(&file).unwrap().decode_planes().unwrap_err();
    assert!(matches!(error, JpegError::TooManyScans { limit: 100 }), "{error}");
}

#[test]
fn metadata_segments_are_listed() {
    let plain = jpeg(8, 8);
    let exif = b"\xFF\xE1\0\x0AExif\0\0MM";
    let file = [&plain[..2], exif, exif, b"\xFF\xFE\0\x04hi", &plain[2..]].concat();
    let decoder = Decoder::new(&file).unwrap();
    let found: Vec<(u8, &[u8])> = decoder.segments().map(|s| (s.marker, s.data)).collect();
    assert_eq!(found[..3], [(0xE1, &b"Exif\0\0MM"[..]), (0xE1, b"Exif\0\0MM"), (0xFE, b"hi")]);
}
