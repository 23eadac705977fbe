//! Simplification of reshapes and transposes.

use crate::graph::passes::links::{Links, redirect};
use crate::graph::{Graph, Op};

/// Removes reshapes and slices that change nothing, and merges reshapes of reshapes.
pub(crate) fn simplify_reshapes(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let is_reshape = matches!(graph.layers[index].op, Op::Reshape);
        // Networks converted from MXNet crop maps to the size of another map; often the slice has the whole map.
        if !is_reshape && !matches!(graph.layers[index].op, Op::Slice { .. }) {
            continue;
        }
        let (input, output) = (graph.layers[index].inputs[0], graph.layers[index].outputs[0]);
        if graph.shape(input) == graph.shape(output) && !graph.outputs.contains(&output) {
            graph.layers.remove(index);
            redirect(graph, output, input);
            return true;
        }
        if is_reshape
            && let Some(before) = links.producer[input]
            && matches!(graph.layers[before].op, Op::Reshape)
        {
            graph.layers[index].inputs[0] = graph.layers[before].inputs[0];
            return true;
        }
    }
    false
}

/// Merges consecutive transposes; a transpose that moves only axes of length 1 becomes a reshape.
pub(crate) fn compose_transposes(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let Op::Transpose { perm } = &graph.layers[index].op else { continue };
        let (input, output) = (graph.layers[index].inputs[0], graph.layers[index].outputs[0]);
        // Moving axes of length 1 does not move values.
        let shape = graph.shape(input);
        let moved: Vec<usize> = perm.iter().copied().filter(|&axis| shape[axis] != 1).collect();
        if moved.is_sorted() {
            graph.layers[index].op = Op::Reshape;
            return true;
        }
        if let Some(before) = links.producer[input]
            && let Op::Transpose { perm: first } = &graph.layers[before].op
        {
            let perm = perm.iter().map(|&axis| first[axis]).collect();
            let origin = graph.layers[before].inputs[0];
            graph.layers[index].op = Op::Transpose { perm };
            graph.layers[index].inputs[0] = origin;
            debug_assert_eq!(graph.values[origin].len(), graph.values[output].len());
            return true;
        }
    }
    false
}
