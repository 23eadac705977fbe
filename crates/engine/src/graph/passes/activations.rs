//! Fusion of activations into the layers before them.

use crate::graph::passes::links::{Links, take_over};
use crate::graph::{Activation, Graph, Layer, Op};

/// Moves activations before reshapes, transposes and concatenations, to layers that can apply them.
pub(crate) fn lift_activations(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let Op::Activate(act) = &graph.layers[index].op else { continue };
        let act = act.clone();
        let Some(before) = links.sole_producer(graph.layers[index].inputs[0]) else { continue };
        match graph.layers[before].op {
            Op::Reshape | Op::Transpose { .. } | Op::Pixels { .. } if act.is_uniform() => {
                let source = graph.layers[before].inputs[0];
                let shape = graph.shape(source).to_vec();
                let activated = graph.add_value(shape);
                let (result, middle) = (graph.layers[index].outputs[0], graph.layers[index].inputs[0]);
                graph.layers[before].outputs = vec![result];
                graph.layers[before].inputs = vec![activated];
                graph.layers[index].inputs = vec![source];
                graph.layers[index].outputs = vec![activated];
                debug_assert_eq!(graph.values[middle].len(), graph.values[result].len());
                let moved = graph.layers.remove(index);
                graph.layers.insert(before, moved);
                return true;
            }
            Op::Concat { axis } if act.is_uniform() || axis == 1 => {
                let operands = graph.layers[before].inputs.clone();
                if !operands
                    .iter()
                    .all(|&v| links.sole_producer(v).is_some_and(|p| takes_activation(&graph.layers[p].op)))
                {
                    continue;
                }
                let layer = graph.layers.remove(index);
                let mut channel = 0;
                for (position, &operand) in operands.iter().enumerate() {
                    let channels = graph.shape(operand)[1];
                    let part = match &act {
                        Activation::PRelu(slopes) => Activation::PRelu(slopes[channel..channel + channels].to_vec()),
                        other => other.clone(),
                    };
                    channel += channels;
                    let activated = graph.add_value(graph.shape(operand).to_vec());
                    let name = format!("{}.{position}", layer.name);
                    let part = Layer { name, op: Op::Activate(part), inputs: vec![operand], outputs: vec![activated] };
                    graph.layers.insert(before + position, part);
                    graph.layers[before + position + 1].inputs[position] = activated;
                }
                graph.layers[before + operands.len()].outputs = layer.outputs;
                return true;
            }
            _ => {}
        }
    }
    false
}

/// Whether the operation can apply an activation and does not have one yet.
fn takes_activation(op: &Op) -> bool {
    match op {
        Op::Conv(c) => c.act.is_none(),
        Op::Deconv(d) => d.act.is_none(),
        Op::Dense(d) => d.act.is_none(),
        Op::GroupNorm(g) => g.act.is_none(),
        Op::Affine { act, .. } | Op::Binary { act, .. } => act.is_none(),
        _ => false,
    }
}

/// Makes activations part of the layers before them, and merges a clip with the clip before it.
pub(crate) fn fuse_activation(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let Op::Activate(act) = &graph.layers[index].op else { continue };
        let act = act.clone();
        let input = graph.layers[index].inputs[0];
        let Some(before) = links.sole_producer(input) else { continue };
        let is_channelwise = act.is_uniform() || graph.shape(input).len() >= 2;
        match &mut graph.layers[before].op {
            Op::Activate(first) => match merge_clips(first, &act) {
                Some(merged) => *first = merged,
                None => continue,
            },
            other => match activation_slot(other) {
                Some(slot @ None) if is_channelwise => *slot = Some(act),
                Some(Some(first)) => match merge_clips(first, &act) {
                    Some(merged) => *first = merged,
                    None => continue,
                },
                _ => continue,
            },
        }
        take_over(graph, before, index);
        return true;
    }
    false
}

/// The activation of an operation; `None` for operations that cannot apply one.
fn activation_slot(op: &mut Op) -> Option<&mut Option<Activation>> {
    match op {
        Op::Conv(c) => Some(&mut c.act),
        Op::Deconv(d) => Some(&mut d.act),
        Op::Dense(d) => Some(&mut d.act),
        Op::GroupNorm(g) => Some(&mut g.act),
        Op::Affine { act, .. } | Op::Binary { act, .. } => Some(act),
        _ => None,
    }
}

/// The clip that is equal to two consecutive clips; `None` for other activations.
fn merge_clips(first: &Activation, second: &Activation) -> Option<Activation> {
    let &Activation::Clip { min: first_min, max: first_max } = first else { return None };
    let &Activation::Clip { min, max } = second else { return None };
    Some(Activation::Clip { min: first_min.max(min).min(max), max: first_max.min(max).max(min) })
}
