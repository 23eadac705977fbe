//! Kernels: the operations that take most of the time of a network, on channel-blocked tensors.
//!
//! [`conv`] has the convolutions with their weights packed and their algorithm chosen, [`dense`] the fully connected
//! layer, [`gather`] the selection of channels. [`tile`] is the register kernel that convolutions and dense layers are
//! made of, [`epilogue`] what happens to a sum before it is stored, [`table`] the list of functions that are compiled
//! for each instruction set. Kernels know no graph and no tensor type: slices in, slices out.

pub(crate) mod activation;
pub(crate) mod conv;
pub(crate) mod dense;
pub(crate) mod epilogue;
pub(crate) mod gather;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
