//! Pictures: decoding, resampling, normalization and drawing.

mod area;
mod bilinear;
mod decode;
mod draw;
mod encode;
mod error;
mod jpeg;
mod label;
mod letterbox;
mod paint;
mod palette;
mod planar;
mod png;
mod warp;

pub use bilinear::resize_bilinear;
pub use decode::{decode, dimensions};
pub use draw::{Annotation, DrawOptions, draw_faces};
pub use encode::encode_jpeg;
pub use error::{DecodeError, DecodeLimits, one_line};
pub use image::RgbImage;
pub use letterbox::Letterbox;
pub use planar::{ChannelOrder, Normalization};
pub use warp::{AffineTransform, warp_affine};
