//! Alignment of any picture to any landmarks, and crops of any box: no panic.
#![no_main]

use ifr_faces::align::{CROP_SIDE, align};
use ifr_faces::image::{Letterbox, RgbImage, resize_bilinear};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[width, height], rest)) = bytes.split_first_chunk() else { return };
    let (width, height) = (u32::from(width % 64) + 1, u32::from(height % 64) + 1);
    let mut numbers = rest.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    let mut number = || numbers.next().unwrap_or_default();
    let pixels = (0..3 * width * height).map(|i| (i * 97) as u8).collect();
    let image = RgbImage::from_raw(width, height, pixels).expect("as many as there are pixels");
    let landmarks = std::array::from_fn(|_| [f32::from_le_bytes(number()), f32::from_le_bytes(number())]);
    assert_eq!(align(&image, &landmarks).dimensions(), (CROP_SIDE, CROP_SIDE));
    let part = [(); 4].map(|()| u32::from_le_bytes(number()));
    assert_eq!(resize_bilinear(&image, (part[0], part[1], part[2], part[3]), 17, 9).dimensions(), (17, 9));
    let fit = Letterbox::fit((width as usize, height as usize), (64, 32));
    fit.apply(&image, &mut vec![0; 3 * 64 * 32]);
});
