//! Any bytes either become a picture of the header's size or an error of one line, and all forms of decoding agree.
#![no_main]

use ifr_jpeg::Decoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decoder = match Decoder::new(bytes) {
        Ok(decoder) => decoder,
        Err(error) => return assert!(!error.to_string().contains('\n')),
    };
    if decoder.header().pixels() > 1 << 18 {
        return;
    }
    let mut rgb = vec![0; decoder.header().pixels() as usize * 3];
    let damage = decoder.decode_rgb(&mut rgb);
    let mut rows = vec![];
    match (damage, decoder.decode_planes_and_rows(|_, row| rows.extend_from_slice(row))) {
        (Ok(damage), Ok((_, same))) => assert!(damage == same && rgb == rows),
        (Err(error), Err(same)) => assert!(error == same && !error.to_string().contains('\n')),
        _ => panic!("one form failed"),
    }
});
