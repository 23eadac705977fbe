#![doc = include_str!("../README.md")]

mod bits;
mod coefficients;
mod color;
#[cfg(target_arch = "x86_64")]
mod color_avx2;
mod decoder;
mod error;
mod header;
mod huffman;
mod idct;
#[cfg(target_arch = "x86_64")]
mod idct_avx2;
mod marker;
mod planes;
mod progressive;
mod restart;
mod samples;
mod scan;
mod sequential;
mod simd;
mod smoothing;
mod tables;
mod transform;
mod upsample;

pub use decoder::{Damage, Decoder, max_scans};
pub use error::{JpegError, MAX_SIDE};
pub use header::{ColorSpace, Component, Header};
pub use marker::MarkerSegment;
pub use planes::{Plane, Planes, RowWork};
