//! Fusion of convolutions that read the same map.

use crate::graph::{Activation, ConvOp, Graph, Layer, Op};

/// Joins convolutions of one map with equal geometry, as in the heads of a detector. Their results become channel
/// ranges of one map. A range must start at a channel block, unless all its readers are copies.
pub(crate) fn merge(graph: &mut Graph, lanes: usize) -> bool {
    for index in 0..graph.layers.len() {
        let Op::Conv(first) = &graph.layers[index].op else { continue };
        if !first.may_merge() {
            continue;
        }
        let input = graph.layers[index].inputs[0];
        let mut members: Vec<usize> = (index..graph.layers.len())
            .filter(|&i| match &graph.layers[i].op {
                Op::Conv(c) if graph.layers[i].inputs[0] == input && c.merges_with(first) => {
                    c.act == first.act || graph.is_only_copied(graph.layers[i].outputs[0])
                }
                _ => false,
            })
            .collect();
        // Results of whole blocks first: the range after them starts at a block, too.
        let channels = |i: usize| graph.shape(graph.layers[i].outputs[0])[1];
        members.sort_by_key(|&i| !channels(i).is_multiple_of(lanes));
        let mut at = 0;
        members.retain(|&i| {
            let fits = at % lanes == 0 || graph.is_only_copied(graph.layers[i].outputs[0]);
            at += if fits { channels(i) } else { 0 };
            fits
        });
        // For results of whole blocks, joining only reduces the number of steps.
        let saves_blocks = members.iter().map(|&i| channels(i).next_multiple_of(lanes)).sum::<usize>() > at;
        if members.len() < 2 || !(saves_blocks || at <= 4 * lanes) {
            continue;
        }
        join(graph, &members, at);
        return true;
    }
    false
}

impl ConvOp {
    /// Whether the convolution can be joined with others.
    fn may_merge(&self) -> bool {
        self.groups == 1 && !self.residual && self.act.as_ref().is_none_or(Activation::is_uniform)
    }

    /// Whether both convolutions have the same geometry and can be joined.
    fn merges_with(&self, other: &ConvOp) -> bool {
        self.may_merge()
            && self.kernel_size == other.kernel_size
            && self.stride == other.stride
            && self.dilation == other.dilation
            && self.pad == other.pad
            && self.input_affine == other.input_affine
    }
}

/// Replaces the convolutions `members` by one with `channels` output channels, and slices of its result.
fn join(graph: &mut Graph, members: &[usize], channels: usize) {
    let parts: Vec<Layer> = members.iter().map(|&m| graph.layers[m].clone()).collect();
    let first = members.iter().copied().min().unwrap_or_default();
    let mut shape = graph.shape(parts[0].outputs[0]).to_vec();
    shape[1] = channels;
    let whole = graph.add_value(shape);
    let mut joined = parts[0].clone();
    joined.name = parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join("+");
    joined.outputs = vec![whole];
    let acts: Vec<Option<Activation>> =
        parts.iter().map(|p| if let Op::Conv(conv) = &p.op { conv.act.clone() } else { None }).collect();
    let one_act = acts.iter().all(|a| *a == acts[0]);
    if let Op::Conv(conv) = &mut joined.op {
        conv.out_channels = channels;
        conv.act = conv.act.take().filter(|_| one_act);
        for part in &parts[1..] {
            if let Op::Conv(other) = &part.op {
                conv.kernel.parts.extend(other.kernel.parts.iter().cloned());
                conv.bias.extend_from_slice(&other.bias);
            }
        }
    }
    let mut layers = vec![joined];
    let mut start = 0;
    for (part, act) in parts.iter().zip(acts) {
        let end = start + graph.shape(part.outputs[0])[1];
        let slice = |outputs| {
            let op = Op::Slice { axis: 1, start, end };
            Layer { name: format!("{}.part", part.name), op, inputs: vec![whole], outputs }
        };
        match act.filter(|_| !one_act) {
            None => layers.push(slice(part.outputs.clone())),
            Some(act) => {
                let sliced = graph.add_value(graph.shape(part.outputs[0]).to_vec());
                layers.push(slice(vec![sliced]));
                let (name, outputs) = (format!("{}.activation", part.name), part.outputs.clone());
                layers.push(Layer { name, op: Op::Activate(act), inputs: vec![sliced], outputs });
            }
        }
        start = end;
    }
    let mut index = 0;
    graph.layers.retain(|_| {
        index += 1;
        !members.contains(&(index - 1))
    });
    graph.layers.splice(first..first, layers);
}
