//! Plain loops compiled twice: for every CPU, and with wide vectors for the CPUs that have them.
//!
//! The baseline of x86-64 has neither vectors over four floats nor a rounding instruction. The hand-written kernels of the
//! engine have their own dispatch; this is for loops the compiler vectorises well by itself.

/// Defines a function whose body is also compiled for AVX2 and FMA; the call picks by what the CPU has.
#[macro_export]
macro_rules! compiled_for_avx2 {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $type),*) $(-> $result)? {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the CPU has just been seen to have AVX2 and FMA, all the function requires.
                    return unsafe { wide($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
