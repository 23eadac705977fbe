//! Recognition of operations that exporters write as several nodes.

use crate::graph::passes::links::Links;
use crate::graph::{Activation, Affine, BinaryKind, Graph, GroupNormOp, Layer, Op};

/// SiLU, which is exported as `x * sigmoid(x)`.
pub(crate) fn recognize_silu(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let Op::Binary { kind: BinaryKind::Mul, act: None } = graph.layers[index].op else { continue };
        let &[a, b] = graph.layers[index].inputs.as_slice() else { continue };
        for (x, gate) in [(a, b), (b, a)] {
            let sigmoid = links.producer[gate].map(|p| &graph.layers[p]);
            if sigmoid.is_some_and(|l| l.op_is_sigmoid() && l.inputs[0] == x) {
                graph.layers[index].op = Op::Activate(Activation::Silu);
                graph.layers[index].inputs = vec![x];
                return true;
            }
        }
    }
    false
}

impl Layer {
    fn op_is_sigmoid(&self) -> bool {
        matches!(self.op, Op::Activate(Activation::Sigmoid))
    }
}

/// Channel shuffle, which is exported as a reshape of `[n, g*k, h, w]` to `[n, g, k, h, w]`, a transpose to
/// `[n, k, g, h, w]` and a reshape back.
pub(crate) fn recognize_shuffle(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let (Op::Reshape, Some(middle)) = (&graph.layers[index].op, links.sole_producer(graph.layers[index].inputs[0]))
        else {
            continue;
        };
        let Op::Transpose { perm } = &graph.layers[middle].op else { continue };
        let Some(first) = links.sole_producer(graph.layers[middle].inputs[0]) else { continue };
        if !matches!(graph.layers[first].op, Op::Reshape) || perm[..] != [0, 2, 1, 3, 4] {
            continue;
        }
        let source = graph.layers[first].inputs[0];
        let split = graph.shape(graph.layers[first].outputs[0]);
        let shape = graph.shape(source);
        let groups = split[1];
        let splits_channels = shape.len() == 4
            && split.len() == 5
            && shape == graph.shape(graph.layers[index].outputs[0])
            && shape[1] == split[1] * split[2]
            && shape[2..] == split[3..];
        if splits_channels {
            graph.layers[index].op = Op::Shuffle { groups };
            graph.layers[index].inputs = vec![source];
            return true;
        }
    }
    false
}

/// Transposes to channels last, as at the end of detector heads; after a reshape to groups, channels last within each
/// group, as for the anchors of YOLO.
pub(crate) fn recognize_pixels(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let Op::Transpose { perm } = &graph.layers[index].op else { continue };
        let input = graph.layers[index].inputs[0];
        let shape = graph.shape(input);
        // Axes of length 1 do not change the order in memory.
        let order: Vec<usize> = perm.iter().copied().filter(|&axis| shape[axis] != 1).collect();
        let matches = |wanted: &[usize]| order.iter().eq(wanted.iter().filter(|&&axis| shape[axis] != 1));
        if shape.len() == 4 && matches(&[0, 2, 3, 1]) {
            graph.layers[index].op = Op::Pixels { groups: 1 };
            return true;
        }
        let Some(before) = links.producer[input].filter(|&p| matches!(graph.layers[p].op, Op::Reshape)) else {
            continue;
        };
        let source = graph.layers[before].inputs[0];
        let from = graph.shape(source);
        let splits_channels = shape.len() == 5
            && from.len() == 4
            && shape[0] == from[0]
            && shape[3..] == from[2..]
            && matches(&[0, 1, 3, 4, 2]);
        if splits_channels {
            graph.layers[index].op = Op::Pixels { groups: shape[1] };
            graph.layers[index].inputs = vec![source];
            return true;
        }
    }
    false
}

/// GroupNorm, which is exported as an instance normalization between a reshape to groups and the reshape back.
pub(crate) fn recognize_group_norm(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        if !matches!(graph.layers[index].op, Op::Reshape) {
            continue;
        }
        // Between the reshapes: the normalization, and optionally an affine map of each group.
        let mut at = graph.layers[index].inputs[0];
        let mut inner = None;
        if let Some(p) = links.sole_producer(at)
            && let Op::Affine { affine, act: None } = &graph.layers[p].op
        {
            inner = Some(affine.clone());
            at = graph.layers[p].inputs[0];
        }
        let Some(norm) = links.sole_producer(at) else { continue };
        let Op::InstanceNorm { epsilon } = graph.layers[norm].op else { continue };
        let grouped = graph.layers[norm].inputs[0];
        let Some(first) = links.producer[grouped].filter(|&p| matches!(graph.layers[p].op, Op::Reshape)) else {
            continue;
        };
        let source = graph.layers[first].inputs[0];
        let (shape, groups) = (graph.shape(source), graph.shape(grouped)[1]);
        if shape.len() != 4
            || shape != graph.shape(graph.layers[index].outputs[0])
            || shape[0] != graph.shape(grouped)[0]
            || shape[1] % groups != 0
        {
            continue;
        }
        let per_group = shape[1] / groups;
        let affine = match inner {
            Some(inner) => Affine {
                scale: (0..shape[1]).map(|c| inner.scale[c / per_group]).collect(),
                shift: (0..shape[1]).map(|c| inner.shift[c / per_group]).collect(),
            },
            None => Affine::identity(shape[1]),
        };
        graph.layers[index].op = Op::GroupNorm(GroupNormOp { groups, epsilon, affine, act: None });
        graph.layers[index].inputs = vec![source];
        return true;
    }
    false
}
