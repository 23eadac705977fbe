//! Fusion: rewrites of the graph that save layers. One file for each subject.
//!
//! Passes preserve the function of the network, up to rounding: scales and shifts are folded into weights, activations
//! and residual additions become the last steps of a convolution, reshapes around normalizations are removed. A pass
//! rewrites one place and returns true, or returns false if it finds nothing to rewrite.

mod activations;
mod affine;
mod channel_order;
mod idioms;
mod links;
mod reshapes;
mod residual;
mod siblings;

use crate::graph::Graph;

/// Rewrites `graph` until nothing changes, then merges sibling convolutions.
pub(crate) fn fuse(graph: &mut Graph, lanes: usize) {
    loop {
        let mut changed = false;
        for rewrite in [
            reshapes::simplify_reshapes,
            reshapes::compose_transposes,
            idioms::recognize_silu,
            idioms::recognize_shuffle,
            idioms::recognize_pixels,
            idioms::recognize_group_norm,
            activations::lift_activations,
            affine::fold_affine_into_producer,
            affine::fold_affine_into_consumers,
            activations::fuse_activation,
            residual::fuse_residual,
        ] {
            while rewrite(graph) {
                changed = true;
                graph.remove_dead();
            }
        }
        if !changed {
            break;
        }
    }
    while siblings::merge(graph, lanes) {
        graph.remove_dead();
    }
    channel_order::simplify(graph);
}
