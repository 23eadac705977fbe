//! Vector instructions: one implementation of the trait `vector::Simd` for each instruction set, and the selection of
//! the instruction set.

pub(crate) mod dispatch;
pub(crate) mod exp;
pub(crate) mod scalar;
pub(crate) mod vector;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) mod simd128;

pub use crate::vectorized;
pub use dispatch::Isa;
