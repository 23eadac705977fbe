//! Kernels: convolutions on channel-blocked tensors, one file for each instruction set behind one small trait.
//!
//! [`Conv`] is a convolution with its weights packed and its algorithm chosen; [`Deconv`] its transpose; [`Dense`] a fully connected layer.
//! They know no graph and no tensor type: slices in, slices out.

mod activate;
mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocked;
mod chain;
mod conv;
mod deconv;
mod dense;
mod depthwise;
mod direct;
mod epilogue;
mod first;
mod gather;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod parallel;
mod scalar;
mod separable;
mod simd;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
mod strip;
mod team;
#[cfg(test)]
mod tests;
mod tile;
mod winograd;

pub use aligned::Aligned;
pub use blocked::{Blocked, Halo};
pub use chain::{Chain, ChainSource, Link, LinkShape};
pub use conv::{Conv, ConvParams, ConvSpec};
pub use deconv::Deconv;
pub use dense::Dense;
pub use epilogue::Activation;
pub use first::FirstConv;
pub use gather::{LaneChoice, gather_row};
pub use isa::Isa;
pub use pack::PackCache;
pub(super) use parallel::{each_part, each_row};
pub use separable::Separable;
pub(super) use team::{GLOBAL, threads, together};
