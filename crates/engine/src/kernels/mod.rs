//! Kernels: the operations that take most of the time of a network, on channel-blocked tensors.
//!
//! [`conv`] has the convolutions with their algorithms and packed weights, [`dense`] the fully connected layer,
//! [`gather`] the selection of channels. [`tile`] is the register kernel that convolutions and dense layers are based
//! on, [`epilogue`] the operations on a sum before it is stored, [`table`] the list of functions that are compiled for
//! each instruction set. Kernels are independent of graphs: they read and write slices.

pub(crate) mod activation;
pub(crate) mod conv;
pub(crate) mod dense;
pub(crate) mod epilogue;
pub(crate) mod gather;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
