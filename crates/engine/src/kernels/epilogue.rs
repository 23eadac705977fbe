//! What happens to a sum before it is stored.

use crate::layout::aligned::Aligned;
use crate::simd::activate::Curve;
use crate::simd::vector::Simd;

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

/// What is done to a value, from least to most work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bend {
    /// Nothing.
    Straight,
    /// `max(v, 0)`
    Relu,
    /// `min(max(v, 0) + slope * min(v, 0), limit)`, which can be all three.
    Line,
}

/// [`Bend`] as a constant, for kernels that are compiled for each.
pub(crate) const STRAIGHT: u8 = 0;
pub(crate) const RELU: u8 = 1;
pub(crate) const LINE: u8 = 2;

/// Bends `v` as the constant says.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
pub(crate) unsafe fn bend<S: Simd, const BEND: u8>(v: S::V, slope: S::V, limit: S::V) -> S::V {
    // SAFETY: arithmetic only.
    unsafe {
        match BEND {
            STRAIGHT => v,
            RELU => S::max(v, S::zero()),
            _ => S::min(S::fma(S::min(v, S::zero()), slope, S::max(v, S::zero())), limit),
        }
    }
}

/// Bias and activation in the form the kernels apply: a bend, then perhaps a curve.
pub(crate) struct Epilogue {
    /// For each channel, padded to whole blocks with zeros.
    pub bias: Aligned,
    pub slope: Aligned,
    pub limit: f32,
    pub bend: Bend,
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
        let bend = match activation {
            Activation::None | Activation::Sigmoid | Activation::Silu => Bend::Straight,
            Activation::Relu { limit: f32::INFINITY } => Bend::Relu,
            _ => Bend::Line,
        };
        Epilogue { bias: padded_bias, slope, limit, bend, curve }
    }
}
