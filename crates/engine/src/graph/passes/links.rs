//! Links between the layers of a graph, and edits that keep them consistent.

use crate::graph::{Graph, ValueId};

/// Producer and number of uses of each value of a graph.
pub(crate) struct Links {
    pub producer: Vec<Option<usize>>,
    pub uses: Vec<usize>,
}

impl Links {
    pub fn new(graph: &Graph) -> Links {
        Links { producer: graph.producers(), uses: graph.use_counts() }
    }

    /// The layer that computes `value`, if `value` has one use.
    pub fn sole_producer(&self, value: ValueId) -> Option<usize> {
        self.producer[value].filter(|_| self.uses[value] == 1)
    }
}

/// Replaces all uses of value `old` by `new`.
pub(crate) fn redirect(graph: &mut Graph, old: ValueId, new: ValueId) {
    let operands = graph.layers.iter_mut().flat_map(|l| &mut l.inputs).chain(&mut graph.outputs);
    operands.filter(|v| **v == old).for_each(|v| *v = new);
}

/// Makes layer `to` compute the outputs of layer `from`, and removes `from`.
pub(crate) fn take_over(graph: &mut Graph, to: usize, from: usize) {
    graph.layers[to].outputs = graph.layers[from].outputs.clone();
    graph.layers.remove(from);
}
