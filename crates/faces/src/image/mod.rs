//! Pictures: decoding, resampling, normalization and drawing.

mod area;
mod bilinear;
mod decode;
mod draw;
mod encode;
mod jpeg;
mod label;
mod letterbox;
mod paint;
mod palette;
mod planar;
mod png;
mod warp;

pub use bilinear::resize_bilinear;
pub use decode::{DecodeError, DecodeLimits, decode, dimensions, one_line};
pub use draw::{Annotation, DrawOptions, draw_faces};
pub use encode::encode_jpeg;
pub use image::RgbImage;
pub use letterbox::Letterbox;
pub use planar::{ChannelOrder, Normalization};
pub use warp::{AffineTransform, warp_affine};
