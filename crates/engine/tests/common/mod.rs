//! Input shapes of the networks in tests.

use ifr_engine::Network;

/// Width and height of the input of networks that accept any size.
const SIDE: usize = 320;

/// An input shape that the network accepts: its declared shape, with [`SIDE`] for open dimensions.
pub fn input_shape(network: &Network, batch: usize) -> Vec<usize> {
    let declared = network.input().shape;
    // Its fully connected layer requires this size, which its declared shape does not contain.
    let side = if network.name() == "seeta6_mask_detector" { 112 } else { SIDE };
    let mut shape: Vec<usize> = declared.iter().map(|d| d.unwrap_or(side)).collect();
    shape[0] = batch;
    if declared[1].is_none() {
        shape[1] = 3;
    }
    shape
}
