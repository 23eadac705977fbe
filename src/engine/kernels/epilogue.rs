//! What happens to a sum before it is stored.

use super::Aligned;
use super::activate::Curve;

/// Activation of a layer's output.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    None,
    /// `min(max(v, 0), limit)`; ReLU with an infinite limit.
    Relu {
        limit: f32,
    },
    /// Negative values times a factor.
    Leaky(f32),
    /// The same with a factor for each output channel.
    PRelu(Vec<f32>),
    Sigmoid,
    Silu,
}

/// Bias and activation in the form the kernels apply: `min(max(v, 0) + slope * min(v, 0), limit)`, then perhaps a curve.
pub(super) struct Epilogue {
    /// For each channel, padded to whole blocks with zeros.
    pub bias: Aligned,
    pub slope: Aligned,
    pub limit: f32,
    pub curve: Option<Curve>,
}

impl Epilogue {
    /// `padded` is the number of channels in whole groups of blocks.
    pub fn new(bias: &[f32], activation: &Activation, padded: usize) -> Epilogue {
        let mut slope = Aligned::zeros(padded);
        let mut limit = f32::INFINITY;
        let mut curve = None;
        match activation {
            Activation::None => slope.fill(1.0),
            Activation::Relu { limit: l } => limit = *l,
            Activation::Leaky(factor) => slope.fill(*factor),
            Activation::PRelu(factors) => slope.iter_mut().zip(factors).for_each(|(s, f)| *s = *f),
            Activation::Sigmoid => curve = Some(Curve::Sigmoid),
            Activation::Silu => curve = Some(Curve::Silu),
        }
        if curve.is_some() {
            slope.fill(1.0);
        }
        let mut padded_bias = Aligned::zeros(padded);
        padded_bias[..bias.len()].copy_from_slice(bias);
        Epilogue { bias: padded_bias, slope, limit, curve }
    }
}
