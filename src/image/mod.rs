//! Pictures: bytes in, RGB pixels out, and what is done to pixels before a network sees them or a person does.

#![deny(missing_docs)]

mod area;
mod bilinear;
mod decode;
mod draw;
mod jpeg;
mod label;
mod letterbox;
mod palette;
mod planar;
mod png;
mod warp;

pub use bilinear::resize_bilinear;
#[cfg(feature = "server")]
pub(crate) use decode::one_line;
pub use decode::{DecodeError, DecodeLimits, decode, dimensions};
pub use draw::{Annotation, DrawOptions, draw_faces};
pub use image::RgbImage;
pub use letterbox::Letterbox;
pub use planar::{ChannelOrder, Normalization};
pub use warp::{Affine, warp_affine};
