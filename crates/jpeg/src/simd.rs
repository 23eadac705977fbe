//! Functions compiled for AVX2 and chosen at run time.

/// Whether the CPU has what `compiled_for_avx2!` functions are compiled for.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt")
}

/// Compiles a function twice, for every CPU and for AVX2 and BMI2, and calls the second one where the CPU has them.
///
/// Functions that it calls have to be `#[inline(always)]` to be compiled for AVX2, too.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($life:lifetime),+>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$($life),+>)? ($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain $(<$($life),+>)? ($($arg: $type),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
                #[allow(clippy::too_many_arguments)]
                fn avx2 $(<$($life),+>)? ($($arg: $type),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                if $crate::simd::has_avx2() {
                    // SAFETY: the CPU has the instructions.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use vectorized;
