//! Kernels: convolutions on channel-blocked tensors, one file for each instruction set behind one small trait.
//!
//! [`Conv`] is a convolution with its weights packed and its algorithm chosen; [`Deconv`] its transpose; [`Dense`] a fully connected layer.
//! They know no graph and no tensor type: slices in, slices out.

pub(crate) mod chain;
pub(crate) mod conv;
pub(crate) mod deconv;
pub(crate) mod dense;
pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod epilogue;
pub(crate) mod first;
pub(crate) mod isa;
pub(crate) mod separable;
pub(crate) mod strip;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
pub(crate) mod winograd;
