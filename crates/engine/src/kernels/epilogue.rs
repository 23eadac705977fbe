//! Operations on a sum before it is stored: bias and activation.

use crate::kernels::activation::{Activation, SmoothActivation};
use crate::layout::aligned::Aligned;
use crate::simd::vector::Simd;

/// The piecewise linear function that kernels apply to a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rectifier {
    /// `v`
    Identity,
    /// `max(v, 0)`
    Relu,
    /// `min(max(v, 0) + slope * min(v, 0), limit)`: leaky, parametric and clipped ReLU. Includes the other two
    /// functions.
    ClippedPRelu,
}

impl Rectifier {
    /// The number of [`Rectifier::Identity`], for kernels with the rectifier as a constant.
    pub const IDENTITY: u8 = Rectifier::Identity as u8;
    /// The number of [`Rectifier::Relu`].
    pub const RELU: u8 = Rectifier::Relu as u8;
    /// The number of [`Rectifier::ClippedPRelu`].
    pub const CLIPPED_PRELU: u8 = Rectifier::ClippedPRelu as u8;
}

/// Applies the rectifier with the number `RECTIFIER` to `v`.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
pub(crate) unsafe fn rectify<S: Simd, const RECTIFIER: u8>(v: S::V, slope: S::V, limit: S::V) -> S::V {
    // SAFETY: arithmetic only.
    unsafe {
        match RECTIFIER {
            Rectifier::IDENTITY => v,
            Rectifier::RELU => S::max(v, S::zero()),
            _ => S::min(S::fma(S::min(v, S::zero()), slope, S::max(v, S::zero())), limit),
        }
    }
}

/// Bias and activation in the form the kernels apply: a rectifier, then possibly a smooth activation.
pub(crate) struct Epilogue {
    /// One value for each channel, padded to whole blocks with zeros.
    pub bias: Aligned,
    /// Factor of negative values for each channel: 1 without activation, 0 for ReLU.
    pub slope: Aligned,
    /// Upper bound of the result.
    pub limit: f32,
    pub rectifier: Rectifier,
    pub smooth: Option<SmoothActivation>,
}

impl Epilogue {
    /// Whether kernels can apply the activation: all activations except clips with a minimum other than 0.
    pub fn supports(activation: Option<&Activation>) -> bool {
        match activation {
            Some(Activation::Clip { min, max }) => *min == 0.0 && *max >= 0.0,
            _ => true,
        }
    }

    /// `padded` is the number of channels in whole groups of blocks. The activation must be
    /// [supported](Epilogue::supports).
    pub fn new(bias: &[f32], activation: Option<&Activation>, padded: usize) -> Epilogue {
        debug_assert!(Epilogue::supports(activation));
        let mut slope = Aligned::zeros(padded);
        let mut limit = f32::INFINITY;
        let (rectifier, smooth) = match activation {
            None => (Rectifier::Identity, None),
            Some(Activation::Sigmoid) => (Rectifier::Identity, Some(SmoothActivation::Sigmoid)),
            Some(Activation::Silu) => (Rectifier::Identity, Some(SmoothActivation::Silu)),
            Some(Activation::Clip { max: f32::INFINITY, .. }) => (Rectifier::Relu, None),
            Some(Activation::Clip { max, .. }) => {
                limit = *max;
                (Rectifier::ClippedPRelu, None)
            }
            Some(Activation::Leaky(factor)) => {
                slope.fill(*factor);
                (Rectifier::ClippedPRelu, None)
            }
            Some(Activation::PRelu(factors)) => {
                slope.iter_mut().zip(factors).for_each(|(s, f)| *s = *f);
                (Rectifier::ClippedPRelu, None)
            }
        };
        if rectifier == Rectifier::Identity {
            slope.fill(1.0);
        }
        let mut padded_bias = Aligned::zeros(padded);
        padded_bias[..bias.len()].copy_from_slice(bias);
        Epilogue { bias: padded_bias, slope, limit, rectifier, smooth }
    }
}
