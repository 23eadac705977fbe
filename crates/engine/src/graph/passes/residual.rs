//! Fusion of residual additions into convolutions.

use crate::graph::passes::links::Links;
use crate::graph::{BinaryKind, Graph, Op, ValueId};

/// Makes the addition of another map the last step of a convolution.
pub(crate) fn fuse_residual(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let Op::Binary { kind: BinaryKind::Add, act } = &graph.layers[index].op else { continue };
        let &[a, b] = graph.layers[index].inputs.as_slice() else { continue };
        if a == b || graph.shape(a) != graph.shape(b) || graph.shape(a).len() != 4 {
            continue;
        }
        if graph.values[a].constant.is_some() || graph.values[b].constant.is_some() {
            continue;
        }
        let convolution = |v: ValueId| {
            links
                .sole_producer(v)
                .filter(|&p| matches!(&graph.layers[p].op, Op::Conv(c) if c.act.is_none() && !c.residual))
        };
        // The later of two convolutions, because that shortens the lifetime of the other map.
        let Some((before, other)) = [(convolution(a), b), (convolution(b), a)]
            .into_iter()
            .filter_map(|(p, other)| p.map(|p| (p, other)))
            .max_by_key(|(p, _)| *p)
        else {
            continue;
        };
        let act = act.clone();
        let mut conv = graph.layers[before].clone();
        if let Op::Conv(op) = &mut conv.op {
            op.residual = true;
            op.act = act;
        }
        conv.inputs.push(other);
        conv.outputs = graph.layers[index].outputs.clone();
        graph.layers[index] = conv;
        graph.layers.remove(before);
        return true;
    }
    false
}
