//! Folding of scales and shifts into the weights of the layers before or after them.

use crate::graph::passes::links::{Links, redirect, take_over};
use crate::graph::{Affine, ConvOp, Graph, Layer, Op};

/// Folds scale and shift into the convolution, matrix product or normalization before them.
pub(crate) fn fold_affine_into_producer(graph: &mut Graph) -> bool {
    let links = Links::new(graph);
    for index in 0..graph.layers.len() {
        let Op::Affine { affine, act } = &graph.layers[index].op else { continue };
        let (affine, act) = (affine.clone(), act.clone());
        let (input, output) = (graph.layers[index].inputs[0], graph.layers[index].outputs[0]);
        if affine.is_identity() && act.is_none() && !graph.outputs.contains(&output) {
            graph.layers.remove(index);
            redirect(graph, output, input);
            return true;
        }
        let Some(before) = links.sole_producer(input) else { continue };
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
    /// Applies an affine map to the output.
    fn scale_output(&mut self, affine: &Affine) {
        let mut channel = 0;
        for part in &mut self.kernel.parts {
            scale_by(&mut part.out_scale, &affine.scale[channel..channel + part.out_channels]);
            channel += part.out_channels;
        }
        scale_bias(&mut self.bias, affine);
    }
}

/// Multiplies optional factors by further factors.
fn scale_by(scale: &mut Option<Vec<f32>>, factors: &[f32]) {
    if factors.iter().all(|&f| f == 1.0) {
        return;
    }
    match scale {
        Some(scale) => scale.iter_mut().zip(factors).for_each(|(s, f)| *s *= f),
        None => *scale = Some(factors.to_vec()),
    }
}

/// Applies an affine map to a bias.
fn scale_bias(bias: &mut [f32], affine: &Affine) {
    for (b, (s, t)) in bias.iter_mut().zip(affine.scale.iter().zip(&affine.shift)) {
        *b = *b * s + t;
    }
}

/// Folds an affine map into the convolutions that read it, if it has no other readers: batch norms of an iresnet,
/// normalization of the picture.
pub(crate) fn fold_affine_into_consumers(graph: &mut Graph) -> bool {
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
