//! Weights and bias of convolutions in the order that the kernels read.

use crate::kernels::conv::spec::ConvSpec;
use crate::layout::aligned::Aligned;
use crate::layout::pack::pack_groups;

/// Packs weights `[out][in][tap]` to `[group][in block][tap][channel of the block][lanes of the group]`.
pub(crate) fn pack_direct(weights: &[f32], inputs: usize, outputs: usize, taps: usize, lanes: usize) -> Aligned {
    let depth = inputs * taps;
    let mut packed = Aligned::zeros(outputs.div_ceil(lanes) * lanes * depth);
    let order: Vec<usize> = (0..inputs.div_ceil(lanes))
        .flat_map(|block| {
            let channels = block * lanes..((block + 1) * lanes).min(inputs);
            (0..taps).flat_map(move |tap| channels.clone().map(move |c| c * taps + tap))
        })
        .collect();
    pack_groups(outputs, depth, lanes, inputs.is_multiple_of(2), &mut packed, |channel, k| {
        weights[channel * depth + order[k]]
    });
    packed
}

/// The weights of an equal convolution without groups, with zeros between the groups.
pub(crate) fn ungrouped(spec: &ConvSpec, weights: &[f32]) -> Vec<f32> {
    let taps = spec.kernel[0] * spec.kernel[1];
    let (inputs, outputs) = (spec.in_channels / spec.groups, spec.out_channels / spec.groups);
    let mut dense = vec![0.0; spec.out_channels * spec.in_channels * taps];
    for channel in 0..spec.out_channels {
        let from = &weights[channel * inputs * taps..(channel + 1) * inputs * taps];
        let first = (channel * spec.in_channels + channel / outputs * inputs) * taps;
        dense[first..first + from.len()].copy_from_slice(from);
    }
    dense
}

/// Adds the contribution of an input shift to the bias. It includes the border, because the halo contains the negative
/// shift.
pub(crate) fn add_shifted_input(bias: &mut [f32], weights: &[f32], shift: &[f32], inputs: usize, spec: &ConvSpec) {
    let taps = spec.kernel[0] * spec.kernel[1];
    for (channel, (bias, weights)) in bias.iter_mut().zip(weights.chunks_exact(inputs * taps)).enumerate() {
        let first = if spec.is_depthwise() { channel } else { 0 };
        let added: f64 = weights
            .chunks_exact(taps)
            .zip(&shift[first..])
            .map(|(w, s)| w.iter().map(|w| f64::from(*w)).sum::<f64>() * f64::from(*s))
            .sum();
        *bias = (f64::from(*bias) + added) as f32;
    }
}
