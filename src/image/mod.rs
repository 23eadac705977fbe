//! Pictures: bytes in, RGB pixels out, and what is done to pixels before a network sees them or a person does.

mod area;
mod bilinear;
mod decode;
mod draw;
mod jpeg;
mod letterbox;
mod planar;
mod warp;

pub use bilinear::resize_bilinear;
pub use decode::{DecodeError, DecodeLimits, decode, dimensions};
pub use draw::{Annotation, DrawOptions, draw_faces};
pub use image::RgbImage;
pub use letterbox::Letterbox;
pub use planar::{ChannelOrder, Normalization};
pub use warp::{Affine, warp_affine};
