//! Rewrites of concatenations, ranges and shuffles of channels, as ShuffleNet-like networks are full of.
//!
//! All three choose channels; what chooses from a choice is one choice. And a dense convolution does not care in which order
//! its input channels come as long as its weights come in the same: so the order that copies whole runs is taken.

use crate::graph::{ConvOp, Graph, Op, ValueId};

/// Merges chains of channel operations and orders their results for copying.
pub(crate) fn simplify(graph: &mut Graph) {
    shuffles_to_choices(graph);
    while compose(graph) {
        graph.remove_dead();
    }
    sort_for_copying(graph);
}

fn shuffles_to_choices(graph: &mut Graph) {
    for index in 0..graph.layers.len() {
        let Op::Shuffle { groups } = graph.layers[index].op else { continue };
        let channels = graph.shape(graph.layers[index].inputs[0])[1];
        let per_group = channels / groups;
        let map = (0..channels).map(|c| (0, c % groups * per_group + c / groups)).collect();
        graph.layers[index].op = Op::Channels { map };
    }
}

/// For each channel the operand it is from and its place there, and the operands.
type Choice = (Vec<(usize, usize)>, Vec<ValueId>);

/// The choice of channels that the layer computing `value` amounts to, and its operands.
fn choice_of(graph: &Graph, producers: &[Option<usize>], value: ValueId) -> Option<Choice> {
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

/// One step of composition: an operand that is itself a choice is replaced by what it chooses from.
fn compose(graph: &mut Graph) -> bool {
    let producers = graph.producers();
    let is_choice = |v: ValueId| producers[v].is_some_and(|p| matches!(graph.layers[p].op, Op::Channels { .. }));
    for index in 0..graph.layers.len() {
        let layer = &graph.layers[index];
        // Plain concatenations and ranges stay what they are: they may cost nothing.
        let concerned = match &layer.op {
            Op::Channels { .. } => layer.inputs.iter().any(|&v| choice_of(graph, &producers, v).is_some()),
            Op::Concat { axis: 1 } | Op::Slice { axis: 1, .. } => layer.inputs.iter().any(|&v| {
                is_choice(v) || choice_of(graph, &producers, v).is_some_and(|(_, from)| from.into_iter().any(is_choice))
            }),
            _ => false,
        };
        let Some((map, inputs)) = choice_of(graph, &producers, layer.outputs[0]).filter(|_| concerned) else {
            continue;
        };
        let mut sources: Vec<ValueId> = vec![];
        let mut place = |v: ValueId| {
            sources.iter().position(|&s| s == v).unwrap_or_else(|| {
                sources.push(v);
                sources.len() - 1
            })
        };
        let inner: Vec<_> = inputs.iter().map(|&v| choice_of(graph, &producers, v)).collect();
        let map = map
            .into_iter()
            .map(|(source, channel)| match &inner[source] {
                Some((map, from)) => (place(from[map[channel].0]), map[channel].1),
                None => (place(inputs[source]), channel),
            })
            .collect();
        graph.layers[index].op = Op::Channels { map };
        graph.layers[index].inputs = sources;
        return true;
    }
    false
}

fn sort_for_copying(graph: &mut Graph) {
    for index in 0..graph.layers.len() {
        let Op::Channels { map } = &graph.layers[index].op else { continue };
        let output = graph.layers[index].outputs[0];
        let free = |conv: &ConvOp| conv.groups == 1 && conv.input_affine.is_none();
        let dense = graph.layers.iter().filter(|l| l.inputs.contains(&output)).all(|l| match &l.op {
            Op::Conv(conv) => free(conv) && l.inputs[0] == output && l.inputs.get(1) != Some(&output),
            _ => false,
        });
        if !dense || graph.outputs.contains(&output) {
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
