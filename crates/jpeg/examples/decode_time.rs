//! Prints the time of decoding a JPEG file: the best of several runs, in milliseconds.
//!
//! `decode_time FILE [RUNS]`

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use ifr_jpeg::Decoder;

fn discard(_: Range<usize>, rows: &[u8]) {
    black_box(rows);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("path of a JPEG file");
    let runs: usize = arguments.next().map_or(20, |runs| runs.parse().expect("number of runs"));
    let bytes = std::fs::read(path).expect("readable file");
    let decoder = Decoder::new(&bytes).expect("JPEG file");
    let header = decoder.header();
    let mut rgb = vec![0; header.pixels() as usize * 3];
    let best = |run: &mut dyn FnMut()| {
        (0..runs).fold(f64::INFINITY, |best, _| {
            let start = Instant::now();
            run();
            best.min(start.elapsed().as_secs_f64() * 1e3)
        })
    };
    println!("rgb {:.2}", best(&mut || drop(black_box(decoder.decode_rgb(&mut rgb)))));
    println!("rgb_fresh {:.2}", best(&mut || drop(black_box(decoder.decode_rgb(&mut vec![0; rgb.len()])))));
    println!("rows {:.2}", best(&mut || drop(black_box(decoder.decode_rows(discard)))));
    let planes_and_rows = &mut || drop(black_box(decoder.decode_planes_and_rows(discard)));
    println!("planes_and_rows {:.2}", best(planes_and_rows));
    println!("planes {:.2}", best(&mut || drop(black_box(decoder.decode_planes()))));
}
