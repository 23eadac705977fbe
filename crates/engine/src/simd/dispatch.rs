//! Detection of the instruction sets of the CPU, and compilation of functions for each instruction set.
//!
//! Functions have one of two forms:
//!
//! * [`SimdFn`], generic over [`Simd`], for kernels that are written with vectors. `S::call::<F>` is `F` compiled for
//!   `S`; as a function pointer it goes into a table of kernels, and [`Isa::call`] calls it.
//! * [`vectorized!`](crate::vectorized), for plain loops that the compiler vectorizes by itself.
//!
//! Both get their target features from `compiled_for!`. Arguments of `vectorized!` functions are separate parameters,
//! because the compiler then knows that they do not alias; otherwise it would not vectorize most loops.

use std::sync::OnceLock;

use crate::config;
use crate::simd::scalar::Scalar;
use crate::simd::vector::{Simd, SimdFn};

/// An instruction set for which the kernels are compiled. Other crates can get the variants for optional instructions
/// only from [`Isa::detect`] and [`Isa::available`], so the CPU has these instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, for every CPU.
    Scalar,
    /// WebAssembly simd128, if the module was compiled with it.
    Simd128,
    /// NEON, which every aarch64 CPU has.
    Neon,
    /// AVX2 and FMA.
    #[non_exhaustive]
    Avx2,
    /// AVX-512 F, VL, BW and DQ, together with AVX2 and FMA.
    #[non_exhaustive]
    Avx512,
}

impl Isa {
    /// The best instruction set of this CPU. The environment variable `IFR_ISA` (`avx512`, `avx2`, `neon`, `simd128`,
    /// `scalar`) selects another set; a set that the CPU does not have is ignored.
    pub fn detect() -> Isa {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let available = Isa::available();
            let wanted = config::isa().and_then(|name| Isa::from_name(&name));
            wanted.filter(|isa| available.contains(isa)).unwrap_or(available[0])
        })
    }

    /// All instruction sets of this CPU, best first.
    pub fn available() -> Vec<Isa> {
        let mut found = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma");
            if avx2 && has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") {
                found.push(Isa::Avx512);
            }
            if avx2 {
                found.push(Isa::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa::Neon);
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        found.push(Isa::Simd128);
        found.push(Isa::Scalar);
        found
    }

    /// Number of f32 lanes of a vector. Blocks of the channel-blocked layout have this number of channels.
    pub const fn lanes(self) -> usize {
        match self {
            Isa::Scalar | Isa::Simd128 | Isa::Neon => 4,
            Isa::Avx2 => 8,
            Isa::Avx512 => 16,
        }
    }

    /// Whether a CPU with this instruction set has AVX2 and FMA.
    pub fn includes_avx2(self) -> bool {
        matches!(self, Isa::Avx2 | Isa::Avx512)
    }

    /// Name of the instruction set in reports and in `IFR_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Simd128 => "simd128",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The instruction set with this name.
    fn from_name(name: &str) -> Option<Isa> {
        [Isa::Scalar, Isa::Simd128, Isa::Neon, Isa::Avx2, Isa::Avx512].into_iter().find(|i| i.name() == name)
    }

    /// Calls `F`, compiled for this instruction set; plain Rust if this program was not compiled for the set.
    ///
    /// # Safety
    /// The CPU has the instruction set, and the arguments are valid for `F`.
    pub(crate) unsafe fn call<F: SimdFn>(self, args: F::Args<'_>) -> F::Output {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => crate::simd::avx512::Avx512::call::<F>(args),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => crate::simd::avx2::Avx2::call::<F>(args),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => crate::simd::neon::Neon::call::<F>(args),
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                Isa::Simd128 => crate::simd::simd128::Simd128::call::<F>(args),
                _ => Scalar::call::<F>(args),
            }
        }
    }
}

/// Compiles a function of plain loops once for each instruction set.
///
/// Inside this crate, `fn name[LANES](arguments) { … }` defines a function whose first parameter is the [`Isa`]; in the
/// body, the constant in brackets is the number of lanes of a vector. `fn name(arguments) -> Result { … }` defines a
/// function without that parameter, for loops that do not depend on the lanes. It is compiled for AVX2 and for the
/// baseline of the target, and selects one of them at each call.
///
/// ```
/// ifr_engine::simd::vectorized! {
///     /// `sums += weight * row`.
///     fn add_weighted(sums: &mut [f32], row: &[u8], weight: f32) {
///         for (sum, &value) in sums.iter_mut().zip(row) {
///             *sum += weight * f32::from(value);
///         }
///     }
/// }
/// let mut sums = [1.0, 2.0];
/// add_weighted(&mut sums, &[10, 20], 0.5);
/// assert_eq!(sums, [6.0, 12.0]);
/// ```
#[macro_export]
macro_rules! vectorized {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident[$lanes:ident]($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::simd::Isa, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn generic<const $lanes: usize>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            $crate::compiled_for! { Avx512,
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $type),*) $(-> $result)? {
                    generic::<{ $crate::simd::Isa::Avx512.lanes() }>($($arg),*)
                }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::compiled_for! { Avx2,
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) $(-> $result)? {
                    generic::<{ $crate::simd::Isa::Avx2.lanes() }>($($arg),*)
                }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` comes from `Isa::available`, so the CPU has its instructions.
                $crate::simd::Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // The whole program is compiled for the other sets.
                _ => generic::<{ $crate::simd::Isa::Scalar.lanes() }>($($arg),*),
            }
        }
    };
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn generic($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                $crate::compiled_for! { Avx2,
                    #[allow(clippy::too_many_arguments)]
                    fn avx2($($arg: $type),*) $(-> $result)? {
                        generic($($arg),*)
                    }
                }
                if $crate::simd::Isa::detect().includes_avx2() {
                    // SAFETY: the CPU has AVX2 and FMA.
                    return unsafe { avx2($($arg),*) };
                }
            }
            generic($($arg),*)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct CountLanes;

    impl SimdFn for CountLanes {
        type Args<'a> = ();
        type Output = usize;

        unsafe fn run<S: Simd>((): ()) -> usize {
            S::LANES
        }
    }

    #[test]
    fn isa_calls_functions_with_its_number_of_lanes() {
        for isa in Isa::available() {
            // SAFETY: the CPU has the instruction set; the function takes no arguments.
            assert_eq!(unsafe { isa.call::<CountLanes>(()) }, isa.lanes(), "{isa:?}");
        }
    }

    #[test]
    fn isa_detection_returns_an_available_set() {
        let available = Isa::available();
        assert!(available.windows(2).all(|w| w[0] > w[1]));
        assert_eq!(available.last(), Some(&Isa::Scalar));
        assert!(available.contains(&Isa::detect()));
    }
}
