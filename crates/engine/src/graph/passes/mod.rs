//! Fusion: what a layer does to its operand's values moves into the layer that computes them.
//!
//! Every rewrite keeps the network's function exactly (up to rounding): scales and shifts fold into weights, activations and
//! residual additions become part of a convolution's last step, reshapes around normalisations disappear.

pub(crate) mod channel_order;
pub(crate) mod siblings;

use crate::graph::*;

/// Rewrites `graph` until nothing changes, then merges sibling convolutions.
pub(crate) fn fuse(graph: &mut Graph, lanes: usize) {
    loop {
        let mut changed = false;
        for rewrite in [
            simplify_reshapes,
            compose_transposes,
            recognise_silu,
            recognise_shuffle,
            recognise_pixels,
            recognise_group_norm,
            lift_activations,
            fold_affine_into_producer,
            fold_affine_into_consumers,
            fuse_activation,
            fuse_residual,
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

/// Who computes and who reads each value, as the graph stands.
struct Links {
    producer: Vec<Option<usize>>,
    uses: Vec<usize>,
}

impl Links {
    fn of(graph: &Graph) -> Links {
        Links { producer: graph.producers(), uses: graph.use_counts() }
    }

    /// The layer that computes `value`, if nobody else reads it.
    fn sole(&self, value: ValueId) -> Option<usize> {
        self.producer[value].filter(|_| self.uses[value] == 1)
    }
}

/// Makes every reader of `old` read `new`.
fn redirect(graph: &mut Graph, old: ValueId, new: ValueId) {
    let operands = graph.layers.iter_mut().flat_map(|l| &mut l.inputs).chain(&mut graph.outputs);
    operands.filter(|v| **v == old).for_each(|v| *v = new);
}

/// Moves the result of layer `from` to layer `to`, which now computes it, and drops `from`.
fn take_over(graph: &mut Graph, to: usize, from: usize) {
    graph.layers[to].outputs = graph.layers[from].outputs.clone();
    graph.layers.remove(from);
}

fn simplify_reshapes(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        let is_reshape = matches!(graph.layers[index].op, Op::Reshape);
        // A range of everything, as networks converted from MXNet crop maps to each other's size.
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

fn compose_transposes(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        let Op::Transpose { perm } = &graph.layers[index].op else { continue };
        let (input, output) = (graph.layers[index].inputs[0], graph.layers[index].outputs[0]);
        // Axes of length 1 may go anywhere: moving them only is a reshape.
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

fn recognise_silu(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
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

/// `[n, g*k, h, w]` seen as `[n, g, k, h, w]`, transposed to `[n, k, g, h, w]` and flattened again.
fn recognise_shuffle(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        let (Op::Reshape, Some(middle)) = (&graph.layers[index].op, links.sole(graph.layers[index].inputs[0])) else {
            continue;
        };
        let Op::Transpose { perm } = &graph.layers[middle].op else { continue };
        let Some(first) = links.sole(graph.layers[middle].inputs[0]) else { continue };
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

/// Channels last, as the heads of detectors end; with a reshape before it, in groups (the anchors of YOLO).
fn recognise_pixels(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        let Op::Transpose { perm } = &graph.layers[index].op else { continue };
        let input = graph.layers[index].inputs[0];
        let shape = graph.shape(input);
        // In memory, axes of length 1 do not matter.
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

/// Instance normalisation between a reshape to groups and the reshape back, as GroupNorm is exported.
fn recognise_group_norm(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        if !matches!(graph.layers[index].op, Op::Reshape) {
            continue;
        }
        // Between the reshapes: the normalisation, and maybe a map that is the same for all groups.
        let mut at = graph.layers[index].inputs[0];
        let mut inner = None;
        if let Some(p) = links.sole(at)
            && let Op::Affine { affine, act: None } = &graph.layers[p].op
        {
            inner = Some(affine.clone());
            at = graph.layers[p].inputs[0];
        }
        let Some(norm) = links.sole(at) else { continue };
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

/// Moves an activation in front of the reshapes, transposes and concatenations it follows, towards the layer that can do it.
fn lift_activations(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        let Op::Activate(act) = &graph.layers[index].op else { continue };
        let act = act.clone();
        let Some(before) = links.sole(graph.layers[index].inputs[0]) else { continue };
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
                if !operands.iter().all(|&v| links.sole(v).is_some_and(|p| takes_activation(&graph.layers[p].op))) {
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

/// Whether an activation can become part of the operation.
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

fn fuse_activation(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        let Op::Activate(act) = &graph.layers[index].op else { continue };
        let act = act.clone();
        let input = graph.layers[index].inputs[0];
        let Some(before) = links.sole(input) else { continue };
        // Two limits are one.
        if let (Op::Activate(Activation::Clip { min, max }), Activation::Clip { min: low, max: high }) =
            (&graph.layers[before].op, &act)
        {
            let act = Activation::Clip { min: min.max(*low).min(*high), max: max.min(*high).max(*low) };
            graph.layers[before].op = Op::Activate(act);
            take_over(graph, before, index);
            return true;
        }
        let rank = graph.shape(input).len();
        if !takes_activation(&graph.layers[before].op) || (!act.is_uniform() && rank < 2) {
            continue;
        }
        match &mut graph.layers[before].op {
            Op::Conv(ConvOp { act: slot, .. })
            | Op::Deconv(DeconvOp { act: slot, .. })
            | Op::Dense(DenseOp { act: slot, .. })
            | Op::GroupNorm(GroupNormOp { act: slot, .. })
            | Op::Affine { act: slot, .. }
            | Op::Binary { act: slot, .. } => *slot = Some(act),
            _ => continue,
        }
        take_over(graph, before, index);
        return true;
    }
    // A limit after a limit that became part of a layer.
    for index in 0..graph.layers.len() {
        let Op::Activate(Activation::Clip { min, max }) = graph.layers[index].op else { continue };
        let Some(before) = links.sole(graph.layers[index].inputs[0]) else { continue };
        let slot = match &mut graph.layers[before].op {
            Op::Conv(ConvOp { act, .. }) | Op::Deconv(DeconvOp { act, .. }) | Op::Dense(DenseOp { act, .. }) => act,
            Op::Affine { act, .. } | Op::Binary { act, .. } => act,
            _ => continue,
        };
        let Some(Activation::Clip { min: low, max: high }) = slot else { continue };
        *slot = Some(Activation::Clip { min: low.max(min).min(max), max: high.min(max).max(min) });
        take_over(graph, before, index);
        return true;
    }
    false
}

/// Scale and shift after a convolution, matrix product or normalisation.
fn fold_affine_into_producer(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
    for index in 0..graph.layers.len() {
        let Op::Affine { affine, act } = &graph.layers[index].op else { continue };
        let (affine, act) = (affine.clone(), act.clone());
        let (input, output) = (graph.layers[index].inputs[0], graph.layers[index].outputs[0]);
        if affine.is_identity() && act.is_none() && !graph.outputs.contains(&output) {
            graph.layers.remove(index);
            redirect(graph, output, input);
            return true;
        }
        let Some(before) = links.sole(input) else { continue };
        let slot = match &mut graph.layers[before].op {
            Op::Conv(conv) if conv.act.is_none() && !conv.residual => {
                conv.scale_output(&affine);
                &mut conv.act
            }
            Op::Deconv(deconv) if deconv.act.is_none() => {
                scale_by(&mut deconv.out_scale, &affine.scale);
                scale_bias(&mut deconv.bias, &affine);
                &mut deconv.act
            }
            Op::Dense(dense) if dense.act.is_none() => {
                dense.affine = dense.affine.then(&affine);
                &mut dense.act
            }
            Op::GroupNorm(norm) if norm.act.is_none() => {
                norm.affine = norm.affine.then(&affine);
                &mut norm.act
            }
            Op::Affine { affine: first, act: slot @ None } => {
                *first = first.then(&affine);
                slot
            }
            _ => continue,
        };
        *slot = act;
        take_over(graph, before, index);
        return true;
    }
    false
}

impl ConvOp {
    fn scale_output(&mut self, affine: &Affine) {
        let mut channel = 0;
        for part in &mut self.kernel.parts {
            scale_by(&mut part.out_scale, &affine.scale[channel..channel + part.out_channels]);
            channel += part.out_channels;
        }
        scale_bias(&mut self.bias, affine);
    }
}

fn scale_by(scale: &mut Option<Vec<f32>>, factors: &[f32]) {
    if factors.iter().all(|&f| f == 1.0) {
        return;
    }
    match scale {
        Some(scale) => scale.iter_mut().zip(factors).for_each(|(s, f)| *s *= f),
        None => *scale = Some(factors.to_vec()),
    }
}

fn scale_bias(bias: &mut [f32], affine: &Affine) {
    for (b, (s, t)) in bias.iter_mut().zip(affine.scale.iter().zip(&affine.shift)) {
        *b = *b * s + t;
    }
}

/// A map in front of convolutions only, such as the batch norms of an iresnet or the normalisation of the picture.
fn fold_affine_into_consumers(graph: &mut Graph) -> bool {
    for index in 0..graph.layers.len() {
        let Op::Affine { affine, act: None } = &graph.layers[index].op else { continue };
        let affine = affine.clone();
        let (input, output) = (graph.layers[index].inputs[0], graph.layers[index].outputs[0]);
        if graph.outputs.contains(&output) || graph.shape(input).len() != 4 {
            continue;
        }
        let takes = |l: &Layer| match &l.op {
            Op::Conv(c) => l.inputs[0] == output && c.input_affine.is_none() && l.inputs.get(1) != Some(&output),
            _ => false,
        };
        if !graph.layers.iter().filter(|l| l.inputs.contains(&output)).all(takes) {
            continue;
        }
        for layer in graph.layers.iter_mut().filter(|l| l.inputs.contains(&output)) {
            if let Op::Conv(conv) = &mut layer.op {
                conv.input_affine = Some(affine.clone());
                layer.inputs[0] = input;
            }
        }
        graph.layers.remove(index);
        return true;
    }
    false
}

/// An addition of a convolution's result and another map becomes the convolution's last step.
fn fuse_residual(graph: &mut Graph) -> bool {
    let links = Links::of(graph);
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
            links.sole(v).filter(|&p| matches!(&graph.layers[p].op, Op::Conv(c) if c.act.is_none() && !c.residual))
        };
        // The later of two convolutions, so that the other map need not wait long.
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
