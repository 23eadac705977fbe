//! Activations of layers.

use crate::simd::exp::exp_minus;
use crate::simd::vector::{Simd, SimdFn};

/// Activation function that is applied to the output of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// `min(max(v, min), max)`; ReLU is 0 to infinity.
    Clip {
        min: f32,
        max: f32,
    },
    /// Multiplies negative values by a slope, one for each channel.
    PRelu(Vec<f32>),
    /// Multiplies negative values by one slope.
    Leaky(f32),
    Sigmoid,
    /// `v * sigmoid(v)`.
    Silu,
}

impl Activation {
    /// Rectified linear unit, `max(v, 0)`.
    #[cfg(test)]
    pub const RELU: Activation = Activation::Clip { min: 0.0, max: f32::INFINITY };

    /// Whether the function is the same for all channels, so that the activation can move over reshapes and transposes.
    pub fn is_uniform(&self) -> bool {
        !matches!(self, Activation::PRelu(_))
    }
}

/// The activations that need an exponential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SmoothActivation {
    Sigmoid,
    Silu,
}

/// Values to which a [`SmoothActivation`] is applied in place.
pub(crate) struct SmoothRow {
    pub values: *mut f32,
    /// A multiple of the lanes.
    pub len: usize,
    pub activation: SmoothActivation,
}

/// Applies the activation to finished rows while they are in the cache.
pub(crate) struct SmoothKernel;

impl SimdFn for SmoothKernel {
    type Args<'a> = &'a SmoothRow;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, and the pointer is valid for `len` floats.
    #[inline(always)]
    unsafe fn run<S: Simd>(row: &SmoothRow) {
        let &SmoothRow { values, len, activation } = row;
        // SAFETY: reads and writes stay within the values, whose validity the caller guarantees.
        unsafe {
            let one = S::splat(1.0);
            let vectors = (0..len).step_by(S::LANES).map(|i| values.add(i));
            match activation {
                SmoothActivation::Sigmoid => {
                    vectors.for_each(|p| S::store(p, S::div(one, S::add(one, exp_minus::<S>(S::load(p))))));
                }
                SmoothActivation::Silu => vectors.for_each(|p| {
                    let v = S::load(p);
                    S::store(p, S::div(v, S::add(one, exp_minus::<S>(v))));
                }),
            }
        }
    }
}
