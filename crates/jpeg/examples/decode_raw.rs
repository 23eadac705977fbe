//! Decodes JPEG files for comparisons with other decoders.
//!
//! Reads paths of files from standard input, one in a line, and writes for each: a line (`ok WIDTH HEIGHT CHANNELS DAMAGE` or
//! `error MESSAGE`), then the pixels, RGB or CMYK. DAMAGE is `none`, `truncated`, `corrupt` or `truncated,corrupt`.

use std::io::{self, BufRead, Write};

use ifr_jpeg::{ColorSpace, Damage, Decoder, JpegError};

fn decode(bytes: &[u8]) -> Result<(String, Vec<u8>), JpegError> {
    let decoder = Decoder::new(bytes)?;
    let header = decoder.header();
    let (width, height) = (header.width as usize, header.height as usize);
    let inks = matches!(header.color, ColorSpace::Cmyk | ColorSpace::Ycck);
    let channels = if inks { 4 } else { 3 };
    let mut pixels = vec![0; width * height * channels];
    let damage = if inks {
        let (planes, damage) = decoder.decode_planes()?;
        let _ = planes.cmyk_rows(0..height, 0..width, &mut planes.row_work(), &mut pixels);
        damage
    } else {
        decoder.decode_rgb(&mut pixels)?
    };
    let damage = match damage {
        Damage { truncated: false, corrupt: false } => "none",
        Damage { truncated: true, corrupt: false } => "truncated",
        Damage { truncated: false, corrupt: true } => "corrupt",
        Damage { truncated: true, corrupt: true } => "truncated,corrupt",
    };
    Ok((format!("ok {width} {height} {channels} {damage}"), pixels))
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for path in io::stdin().lock().lines() {
        match decode(&std::fs::read(path?)?) {
            Ok((line, pixels)) => {
                writeln!(out, "{line}")?;
                out.write_all(&pixels)?;
            }
            Err(error) => writeln!(out, "error {error}")?,
        }
        out.flush()?;
    }
    Ok(())
}
