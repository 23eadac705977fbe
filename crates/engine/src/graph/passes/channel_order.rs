//! Simplification of concatenations, ranges and shuffles of channels, which ShuffleNet-like networks have many of.
//!
//! All three select channels, and consecutive selections are equal to one selection. A dense convolution accepts its
//! input channels in any order if its weights have the same order, so the order that copies the longest runs is
//! selected.

use crate::graph::{ConvOp, Graph, Op, ValueId};

/// Merges chains of channel operations and orders their results for copying.
pub(crate) fn simplify(graph: &mut Graph) {
    shuffles_to_selections(graph);
    while compose(graph) {
        graph.remove_dead();
    }
    sort_for_copying(graph);
}

fn shuffles_to_selections(graph: &mut Graph) {
    for index in 0..graph.layers.len() {
        let Op::Shuffle { groups } = graph.layers[index].op else { continue };
        let channels = graph.shape(graph.layers[index].inputs[0])[1];
        let per_group = channels / groups;
        let map = (0..channels).map(|c| (0, c % groups * per_group + c / groups)).collect();
        graph.layers[index].op = Op::Channels { map };
    }
}

/// For each channel, the index of its operand and its channel there; and the operands.
type ChannelSelection = (Vec<(usize, usize)>, Vec<ValueId>);

/// The selection of channels that computes `value`; `None` if its layer does anything else.
fn selection_of(graph: &Graph, producers: &[Option<usize>], value: ValueId) -> Option<ChannelSelection> {
    let layer = &graph.layers[producers[value]?];
    if graph.shape(value).len() != 4 {
        return None;
    }
    let map = match &layer.op {
        Op::Channels { map } => map.clone(),
        Op::Slice { axis: 1, start, end } => (*start..*end).map(|c| (0, c)).collect(),
        Op::Concat { axis: 1 } => {
            let channels = layer.inputs.iter().map(|&v| graph.shape(v)[1]);
            channels.enumerate().flat_map(|(source, n)| (0..n).map(move |c| (source, c))).collect()
        }
        _ => return None,
    };
    Some((map, layer.inputs.clone()))
}

/// Replaces operands that are selections by the operands of these selections, in one layer. Returns false if no layer
/// has such operands.
fn compose(graph: &mut Graph) -> bool {
    let producers = graph.producers();
    let is_selection = |v: ValueId| producers[v].is_some_and(|p| matches!(graph.layers[p].op, Op::Channels { .. }));
    for index in 0..graph.layers.len() {
        let layer = &graph.layers[index];
        // Concatenations and ranges of plain operands are not replaced: they may be free.
        let can_compose = match &layer.op {
            Op::Channels { .. } => layer.inputs.iter().any(|&v| selection_of(graph, &producers, v).is_some()),
            Op::Concat { axis: 1 } | Op::Slice { axis: 1, .. } => layer.inputs.iter().any(|&v| {
                is_selection(v)
                    || selection_of(graph, &producers, v).is_some_and(|(_, from)| from.into_iter().any(is_selection))
            }),
            _ => false,
        };
        let Some((map, inputs)) = selection_of(graph, &producers, layer.outputs[0]).filter(|_| can_compose) else {
            continue;
        };
        let mut sources: Vec<ValueId> = vec![];
        let mut index_of = |v: ValueId| {
            sources.iter().position(|&s| s == v).unwrap_or_else(|| {
                sources.push(v);
                sources.len() - 1
            })
        };
        let inner: Vec<_> = inputs.iter().map(|&v| selection_of(graph, &producers, v)).collect();
        let map = map
            .into_iter()
            .map(|(source, channel)| match &inner[source] {
                Some((map, from)) => (index_of(from[map[channel].0]), map[channel].1),
                None => (index_of(inputs[source]), channel),
            })
            .collect();
        graph.layers[index].op = Op::Channels { map };
        graph.layers[index].inputs = sources;
        return true;
    }
    false
}

/// Sorts the selected channels by their source if only dense convolutions read them.
fn sort_for_copying(graph: &mut Graph) {
    for index in 0..graph.layers.len() {
        let Op::Channels { map } = &graph.layers[index].op else { continue };
        let output = graph.layers[index].outputs[0];
        let is_dense = |conv: &ConvOp| conv.groups == 1 && conv.input_affine.is_none();
        let all_dense = graph.layers.iter().filter(|l| l.inputs.contains(&output)).all(|l| match &l.op {
            Op::Conv(conv) => is_dense(conv) && l.inputs[0] == output && l.inputs.get(1) != Some(&output),
            _ => false,
        });
        if !all_dense || graph.outputs.contains(&output) {
            continue;
        }
        let mut order: Vec<usize> = (0..map.len()).collect();
        order.sort_by_key(|&c| map[c]);
        if order.is_sorted() {
            continue;
        }
        let map = order.iter().map(|&c| map[c]).collect();
        graph.layers[index].op = Op::Channels { map };
        for layer in graph.layers.iter_mut().filter(|l| l.inputs.contains(&output)) {
            if let Op::Conv(conv) = &mut layer.op {
                conv.input_order = Some(order.clone());
            }
        }
    }
}
